"""The JSON schema (draft 2020-12) of a native manifest, for `emperorctl schema` and for editors.

Derived from the very fields that validate a manifest. It can't say everything: what only the parser knows
(magic variables, the size and depth of a file) is in the descriptions.
"""

from __future__ import annotations

from typing import Any

from emperorctl.models.manifest_fields import Manifest

__all__ = ["manifest_schema"]


def manifest_schema() -> dict[str, Any]:
    """A fresh, JSON-ready schema; every object refuses unknown fields."""
    schema = _tidied(Manifest.model_json_schema(by_alias=True, mode="validation"))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _tidied(node: Any) -> Any:
    """Without what pydantic says of `None` (an optional field is left out, not written as null), without its titles,
    and without the defaults of whole objects, which stand at their fields."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _tidied(value) for key, value in node.items() if not _noise(key, value)}
    choices = out.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        del out["anyOf"]
        out = {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **out}
    return out


def _noise(key: str, value: Any) -> bool:
    return (key == "title" and isinstance(value, str)) or (key == "default" and isinstance(value, dict | None))
