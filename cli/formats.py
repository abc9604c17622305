"""API objects written out as JSON, YAML or names, safe for a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from emperorctl.cli.term import cell

__all__ = ["one_or_list", "resource_name", "write_json", "write_yaml"]


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


def _harmless(text: str) -> bool:
    return text.isascii() or text.replace("\n", "").isprintable()
