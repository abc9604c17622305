"""`--vassal-set KEY=VALUE` for native manifests: a partial manifest made of fields and their values.

Called by `monitors.defaults`, once at the start, with those that `settings.split_vassal_set` found to be meant for
them. Not in here: how it is merged (`merging`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from emperorctl.models.bounds import MANIFEST
from emperorctl.models.documents import Document, Path
from emperorctl.models.errors import ConfigError, UserError
from emperorctl.models.expansion import prepared
from emperorctl.models.magic import Place
from emperorctl.models.manifest_problems import model_at, problem_among
from emperorctl.models.merging import overlay
from emperorctl.models.names import printable
from emperorctl.models.vassal_defaults import objections
from emperorctl.models.yaml_syntax import YamlReader

__all__ = ["read_settings"]


def read_settings(native: Sequence[str], place: Place) -> dict[str, Any]:
    """A partial manifest of all of them; the last word on a field counts.

    A value is a string where the field takes one, and otherwise read as YAML is. `place` reads environment and files
    for it. Raises UserError: which one, what is wrong with it, what to do.
    """
    out: dict[str, Any] = {}
    for text in native:
        try:
            out = overlay(out, _read(text, place))
        except ConfigError as error:
            problem = error.problem
            remedy = f" ({problem.remedy})" if problem.remedy else ""
            raise UserError(f"--vassal-set {printable(text[:200])}: {problem.message}{remedy}") from None
    return out


def _read(text: str, place: Place) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    path = _path(key)
    if not equals:
        raise UserError(f"--vassal-set {printable(text[:200])}: expected KEY=VALUE, got no = (write {key}=VALUE)")
    if path[:2] == ("metadata", "name"):
        raise UserError(f"--vassal-set {printable(text[:200])}: every vassal has a name of its own (remove it)")
    wrong: list[Any] = []
    for meant in _meanings(value):
        data = _nested(path, meant)
        found = objections(_whole(data))
        if not found:
            return prepared(data, place) if path[0] == "spec" else data
        wrong = found
    raise ConfigError(problem_among(wrong, Document({}, 1, dict)))


def _whole(data: dict[str, Any]) -> dict[str, Any]:
    """A manifest that has nothing wrong with it but this."""
    return {"apiVersion": "emperor/v1", "kind": "Vassal", **data}


def _path(key: str) -> Path:
    """The fields that a key names; where any name may be, such as a variable's, the rest of it is one."""
    parts = key.split(".")
    for end in range(1, len(parts)):
        if model_at(tuple(parts[:end])) is None and _is_mapping(tuple(parts[:end])):
            return (*parts[:end], ".".join(parts[end:]))
    return tuple(parts)


def _is_mapping(path: Path) -> bool:
    above = model_at(path[:-1])
    fields = above.model_fields.items() if above is not None else ()
    kinds = [info.annotation for name, info in fields if (info.alias or name) == path[-1]]
    return any(getattr(kind, "__origin__", kind) is dict for kind in kinds)


def _meanings(value: str) -> Iterable[Any]:
    """What a value can be: the text itself, and what YAML makes of it."""
    yield value
    if not value.strip():
        return
    try:
        documents = [data for data, _ in YamlReader(value, MANIFEST, "").documents()]
    except ConfigError:
        if value.lstrip()[0] in "[{":
            raise
        return
    if len(documents) == 1 and documents[0] is not None and documents[0] != value:
        yield documents[0]


def _nested(path: Path, value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value  # type: ignore[no-any-return]
