"""API objects written out as JSON, YAML or names, safe for a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from emperorctl.cli.term import cell

__all__ = ["manifest_text", "one_or_list", "resource_name", "write_json", "write_yaml"]


def one_or_list(items: Sequence[Any], *, single: bool) -> Any:
    """The object alone, or all of them as one List."""
    if single and len(items) == 1:
        return items[0]
    return {"apiVersion": "v1", "items": list(items), "kind": "List", "metadata": {"resourceVersion": ""}}


def resource_name(name: str, kind: str = "vassal") -> str:
    """What `-o name` prints: kind.group/name."""
    return f"{kind}.emperor/{cell(name)}"


def write_json(document: Any) -> None:
    """One document, indented as kubectl does it."""
    text = json.dumps(document, indent=4, ensure_ascii=False)
    if not _harmless(text):
        text = json.dumps(document, indent=4)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_yaml(document: Any, *, separate: bool = False) -> None:
    """One document; `separate` puts the mark of a further one before it."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
    if not _harmless(text):
        text = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=False, default_flow_style=False)
    sys.stdout.write(("---\n" if separate else "") + text)
    sys.stdout.flush()


def manifest_text(manifest: Any) -> str:
    """A manifest as YAML that means the same in YAML 1.1 and in 1.2 (`no`, `1:30`, `1e3`, `0o17`): a string that
    could be anything else is quoted. Nothing that a terminal would obey is left."""
    import yaml

    from emperorctl.models.yaml_syntax import resolve

    class Dumper(yaml.SafeDumper):
        """Quotes what YAML 1.2 would not read as a string; what YAML 1.1 would not, PyYAML quotes by itself."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        try:
            plain = isinstance(resolve(text), str)
        except OverflowError:
            plain = False
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')

    Dumper.add_representer(str, represent)
    for unicode in (True, False):
        text: str = yaml.dump(
            manifest, Dumper=Dumper, sort_keys=False, allow_unicode=unicode, default_flow_style=False, width=110
        )
        if _harmless(text):
            break
    return text


def _harmless(text: str) -> bool:
    return text.isascii() or text.replace("\n", "").isprintable()
