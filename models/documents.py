"""Text into plain data: the documents of a YAML, JSON or TOML file, in bounds, with the place of every field.

Called by `manifest` with the bytes a monitor has read. All three formats come out alike: dict, list, str, int,
float, bool and None, with string keys. Not in here: what the fields mean.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from emperorctl.models.bounds import MANIFEST, decode, refusal
from emperorctl.models.json_syntax import json_places, read_json
from emperorctl.models.names import printable
from emperorctl.models.toml_syntax import read_toml, toml_places
from emperorctl.models.yaml_syntax import Places, YamlReader

__all__ = ["Document", "Format", "Path", "parse"]

Format = Literal["yaml", "json", "toml"]
VASSALS = "vassal"
"""The array of tables that are documents of their own in TOML."""
COMMON = ("apiVersion", "kind")
"""What stands at the top for all of them; each may say it itself."""
Path = tuple[str | int, ...]


class Document:
    """One document of a file: its plain `data`, and the `line` it begins in (from 1).

    Where its fields stand is worked out on the first question only: a file without errors never pays for it.
    """

    __slots__ = ("_locate", "_places", "data", "line")

    def __init__(self, data: Any, line: int, locate: Callable[[], Places]) -> None:
        self.data = data
        self.line = line
        self._locate = locate
        self._places: Places | None = None

    def _known(self) -> Places:
        if self._places is None:
            self._places = self._locate()
        return self._places

    def line_of(self, path: Path) -> tuple[int | None, int | None]:
        """Line and column of a field's key (an item's beginning), or of the nearest thing around it that is known."""
        places = self._known()
        for end in range(len(path), -1, -1):
            if place := places.get(path[:end]):
                return place[0], place[1]
        return self.line, None

    def file_of(self, path: Path) -> str:
        """The file that a field comes from, where it is not this document's own; empty for its own."""
        return ""

    def source_of(self, path: Path) -> str | None:
        """An unquoted scalar as it was written; None for anything else."""
        place = self._known().get(path)
        return place[2] if place else None


def parse(data: bytes, format: Format, file: str) -> list[Document]:
    """The documents of a file, at least one; raises ConfigError naming file and, where it can, line and column.

    YAML has several, of which those that hold nothing are left out; TOML has one for each table `[[vassal]]`.
    """
    text = decode(data, MANIFEST, file)
    match format:
        case "yaml":
            documents = _yaml_documents(text, file)
        case "json":
            documents = [Document(read_json(text, MANIFEST, file), 1, lambda: json_places(text))]
        case "toml":
            documents = _toml_documents(text, file)
    if not documents:
        message = "the file holds nothing but comments"
        raise refusal("Empty", message, "write a configuration, or remove the file", file=file)
    return documents


def _yaml_documents(text: str, file: str) -> list[Document]:
    places: list[Places] = []

    def locate(index: int) -> Places:
        # All at once: one after another, a file of many documents would be read as many times.
        if not places:
            for _ in YamlReader(text, MANIFEST, file, places).documents():
                pass
        return places[index]

    return [
        Document(data, line, lambda index=index: locate(index))  # type: ignore[misc]
        for index, (data, line) in enumerate(YamlReader(text, MANIFEST, file).documents())
        if data is not None
    ]


def _toml_documents(text: str, file: str) -> list[Document]:
    table = read_toml(text, MANIFEST, file)
    tables = table.get(VASSALS)
    if not isinstance(tables, list):
        return [Document(table, 1, lambda: toml_places(text))] if table else []
    places = toml_places(text)
    for key in table:
        if key not in COMMON and key != VASSALS:
            message = f"stands beside [[{VASSALS}]]: only {' and '.join(COMMON)} may, for all of them"
            at = places.get((key,), (None, None, None))[:2]
            raise refusal("InvalidValue", f"{printable(key[:40])} {message}", "move it below one", file=file, at=at)
    if not all(isinstance(one, dict) for one in tables):
        at = places.get((VASSALS,), (None, None, None))[:2]
        raise refusal("InvalidValue", f"{VASSALS} is not a list of tables", f"write [[{VASSALS}]]", file=file, at=at)
    common = {key: table[key] for key in COMMON if key in table}

    def locate(index: int) -> Places:
        own = {path[2:]: place for path, place in places.items() if path[:2] == (VASSALS, index)}
        return {**{path: place for path, place in places.items() if path[:1] and path[0] in COMMON}, **own}

    lines = [places.get((VASSALS, index), (None,))[0] or 1 for index in range(len(tables))]
    return [Document({**common, **one}, lines[index], partial(locate, index)) for index, one in enumerate(tables)]
