"""What all native vassals are given, laid under and over what their own manifests say; and which value came from where.

Called by `manifest` for each document. The defaults (`--vassal-defaults`) lie under it, what was set (`--vassal-set`)
over it: mappings are merged, everything else is replaced, `null` removes. Not in here: how the two are read
(`vassal_defaults`, `vassal_set`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from emperorctl.models.documents import Document, Path
from emperorctl.models.errors import ConfigError
from emperorctl.models.manifest_problems import dotted, problem_at
from emperorctl.models.vassal import EMPTY

__all__ = ["CHOICES", "DEFAULT", "NO_LAYERS", "SET", "Layers", "Merged", "Origins", "origins", "overlay"]

SET = "--vassal-set"
DEFAULT = "default"
CHOICES: tuple[Path, ...] = (("spec", "reload"),)
"""Mappings of which only one member may be there: one who chooses replaces what was chosen below."""

Origins = tuple[tuple[str, str], ...]
"""Field → where its value comes from: `FILE:LINE`, `:LINE` for the vassal's own file, `SET` or `DEFAULT`."""


@dataclass(frozen=True, slots=True)
class Layers:
    """What native vassals are merged with: partial manifests, as plain data.

    `defaults` come from `file`, where their fields stand in these `lines`; `given` was set, on the command line say.
    """

    defaults: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    given: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    file: str = ""
    lines: Mapping[Path, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.file or self.given)


NO_LAYERS = Layers()


class Merged(Document):
    """A document with all layers in one. Raises ConfigError for a field with nothing behind it."""

    __slots__ = ("_layers", "_own")

    def __init__(self, own: Document, layers: Layers) -> None:
        _refuse_blanks(own)
        data = overlay(overlay(layers.defaults, own.data), layers.given)
        super().__init__(data, own.line, dict)
        self._own = own
        self._layers = layers

    def line_of(self, path: Path) -> tuple[int | None, int | None]:
        """See `Document`."""
        whose = self._whose(path)
        if whose is self._layers.given:
            return None, None
        if whose is self._layers.defaults:
            return _line(self._layers, path), None
        return self._own.line_of(path)

    def file_of(self, path: Path) -> str:
        """See `Document`."""
        whose = self._whose(path)
        if whose is self._layers.given:
            return SET
        return self._layers.file if whose is self._layers.defaults else ""

    def source_of(self, path: Path) -> str | None:
        """See `Document`."""
        return self._own.source_of(path) if self._whose(path) is self._own.data else None

    def origin_of(self, path: Path) -> str:
        """Where a value comes from; see `Origins`."""
        whose = self._whose(path)
        if whose is self._layers.given:
            return SET
        if whose is self._layers.defaults:
            return sys.intern(f"{self._layers.file}:{_line(self._layers, path)}")
        return sys.intern(f":{self._own.line_of(path)[0]}")

    def _whose(self, path: Path) -> Any:
        """The layer whose word counts for this field; what nobody speaks of is missing in the document itself."""
        given, own, defaults = self._layers.given, self._own.data, self._layers.defaults
        if _leads(given, path, to_a_value=True):
            return given
        if _leads(own, path):
            return own
        for layer in (given, defaults):
            if _leads(layer, path):
                return layer
        return own


def overlay(under: Mapping[str, Any], over: Any, path: Path = ()) -> Any:
    """`over` laid over `under`, as fresh data; whatever is not a mapping replaces it."""
    if not isinstance(over, Mapping):
        return over
    chosen = path in CHOICES and any(value is not None for value in over.values())
    out = {} if chosen else dict(under)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping):
            below = under.get(key)
            out[key] = overlay(below if isinstance(below, Mapping) else {}, value, (*path, key))
        else:
            out[key] = value
    return out


def origins(document: Document) -> Origins:
    """Where each value of a spec, and of labels and annotations, comes from; of a document that was not merged only
    what it leaves to this format's own defaults."""
    spec = document.data.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    unsaid = _unsaid(tuple(_says(spec, field) for field in _DEFAULTED))
    if not isinstance(document, Merged):
        return unsaid
    metadata = document.data.get("metadata")
    parts: list[Path] = [("spec",)]
    if isinstance(metadata, dict):
        parts += [("metadata", name) for name in ("labels", "annotations") if name in metadata]
    found = [
        (sys.intern(dotted(path)), document.origin_of(path))
        for part in parts
        for path in _leaves(_at(document.data, part), part)
    ]
    return (*found, *unsaid)


_DEFAULTED: tuple[tuple[str, ...], ...] = (
    ("reload",),
    ("stop",),
    ("stop", "signal"),
    ("stop", "gracePeriod"),
    ("loyalty",),
    ("loyalty", "after"),
    ("logs",),
    ("logs", "maxSize"),
    ("logs", "maxFiles"),
)


def _says(spec: dict[str, Any], field: tuple[str, ...]) -> bool:
    inner = spec.get(field[0])
    return field[-1] in inner if len(field) == 2 and isinstance(inner, dict) else field[0] in spec


@lru_cache(maxsize=256)
def _unsaid(said: tuple[bool, ...]) -> Origins:
    """The same value for all vassals that leave the same fields out."""
    missing = [field for field, there in zip(_DEFAULTED, said, strict=True) if not there]
    whole = [field for field in missing if field[:1] not in missing or len(field) == 1]
    return tuple((".".join(("spec", *field)), DEFAULT) for field in whole)


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _leads(layer: Any, path: Path, *, to_a_value: bool = False) -> bool:
    """Whether a layer says something of this field, or of one that it is a part of."""
    for key in path:
        if not isinstance(layer, Mapping):
            return True
        if key not in layer:
            return False
        layer = layer[key]
    return not (to_a_value and isinstance(layer, Mapping))


def _line(layers: Layers, path: Path) -> int | None:
    for end in range(len(path), 0, -1):
        if line := layers.lines.get(path[:end]):
            return line
    return None


def _refuse_blanks(document: Document) -> None:
    """`user:` with nothing behind it was most likely not meant to remove the user."""
    for path in _nulls(document.data, ()):
        if document.source_of(path) == "":
            message = "expected a value, got nothing"
            remedy = 'write null to remove what the defaults say, "" for an empty string, or remove the field'
            raise ConfigError(problem_at(document, path, "InvalidValue", message, remedy))


def _nulls(value: Any, path: Path) -> Iterator[Path]:
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nulls(inner, (*path, key))
