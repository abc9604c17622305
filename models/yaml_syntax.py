"""YAML as manifests use it: events of libyaml made into plain data, by the core schema of YAML 1.2, in bounds.

Called by `documents` and, for the events alone, by `uwsgi`. Deliberately not PyYAML's own loader, which reads `no`
as false, `0755` as 493, `1:30` as 90 and a date as an object, keeps the last of two equal keys, and lets
aliases multiply. Here every one of those is the text that was written, and only what YAML 1.2 calls a number,
a boolean or null is one; a number with a leading zero is text as well, since YAML 1.1 and 1.2 disagree on it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from yaml import YAMLError
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from yaml.reader import ReaderError

from emperorctl.models.bounds import Limits, integer, line_and_column, number_too_large, refusal, too_deep, too_many
from emperorctl.models.errors import ConfigError
from emperorctl.models.names import printable

__all__ = ["Places", "YamlReader", "next_event", "open_events", "resolve"]

Places = dict[tuple[str | int, ...], tuple[int | None, int | None, str | None]]
"""Path → line, column, and for a plain scalar its source text."""

# libyaml's events, whose attributes depend on their class: told apart by `type(event)`, for speed.
Event = Any
_CORE = "tag:yaml.org,2002:"
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_KINDS: dict[str, tuple[type, ...]] = {
    _CORE + "int": (int,),
    _CORE + "float": (int, float),
    _CORE + "bool": (bool,),
    _CORE + "null": (type(None),),
}
_MAYBE = frozenset("0123456789+-.~nNtTfF")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_BASED = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


def _at(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def open_events(text: str) -> CParser:
    """A parser over the text, for `next_event`."""
    return CParser(text.encode())


def next_event(parser: CParser, text: str, file: str) -> Event:
    """The next event; what libyaml objects to becomes a ConfigError with line and column."""
    try:
        return parser.get_event()
    except ReaderError as error:
        message = f"the character U+{error.character:04X} is not allowed" if error.character >= 0 else error.reason
        offset = len(text.encode()[: error.position].decode(errors="ignore"))
        raise refusal("InvalidSyntax", message, file=file, at=line_and_column(text, offset)) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = [getattr(error, part, None) for part in ("context", "problem")]
        message = "not YAML: " + (", ".join(str(part) for part in said if part) or str(error))
        at = (mark.line + 1, mark.column + 1) if mark else (None, None)
        # A newer libyaml has a limit of its own on nesting, and meets it in its look ahead, before ours.
        reason = "TooComplex" if "maximum nesting depth" in message else "InvalidSyntax"
        raise refusal(reason, message, file=file, at=at) from None


def resolve(text: str) -> Any:
    """The value of a plain scalar. Raises OverflowError for a number that is not finite or far too large."""
    if text and text[0] not in _MAYBE:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return integer(text)
    if _BASED.match(text):
        return integer(text, 0)
    if _FLOAT.match(text):
        number = float(text)
        if not math.isfinite(number):
            raise OverflowError
        return number
    if _NOT_FINITE.match(text):
        raise OverflowError
    return text


class YamlReader:
    """One pass over a text. With `places`, also notes where everything stands (slower; for error messages)."""

    def __init__(self, text: str, limits: Limits, file: str, places: list[Places] | None = None) -> None:
        self._text = text
        self._limits = limits
        self._file = file
        self._parser = open_events(text)
        self._nodes = 0
        self._all_places = places
        self._places: Places | None = None
        # Anchor → value, how many nodes it stands for, how many levels it has; None while it is still open.
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        self._deepest = 0

    def documents(self) -> Iterator[tuple[Any, int]]:
        """Each document's data and first line; documents that hold nothing are None."""
        while not isinstance(event := self._next(), StreamEndEvent):
            if not isinstance(event, DocumentStartEvent):
                continue
            self._anchors = {}
            root = self._next()
            line, column = _at(root)
            if self._all_places is not None:
                self._places = {(): (line, column, None)}
                self._all_places.append(self._places)
            yield self._value(root, 1, ()), line

    def _next(self) -> Event:
        return next_event(self._parser, self._text, self._file)

    def _refuse(self, event: Event, reason: str, message: str, remedy: str = "") -> ConfigError:
        return refusal(reason, message, remedy, file=self._file, at=_at(event))

    def _value(self, event: Event, depth: int, path: tuple[str | int, ...]) -> Any:
        kind = type(event)
        if kind is AliasEvent:
            return self._alias(event, depth)
        self._nodes += 1
        if self._nodes > self._limits.nodes:
            raise too_many(self._limits, self._file, _at(event))
        if depth > self._limits.depth:
            raise too_deep(self._limits, self._file, _at(event))
        self._deepest = max(self._deepest, depth)
        anchor = event.anchor
        if anchor is None:
            return self._plain_value(event, depth, path)
        before, deepest = self._nodes, self._deepest
        self._anchors[anchor], self._deepest = None, depth
        value = self._plain_value(event, depth, path)
        self._anchors[anchor] = (value, self._nodes - before + 1, self._deepest - depth)
        self._deepest = max(self._deepest, deepest)
        return value

    def _plain_value(self, event: Event, depth: int, path: tuple[str | int, ...]) -> Any:
        if type(event) is ScalarEvent:
            return self._scalar(event)
        tag = event.tag
        if type(event) is MappingStartEvent:
            if tag not in (None, "!", _CORE + "map"):
                raise self._unknown_tag(event)
            return self._mapping(depth, path)
        if tag not in (None, "!", _CORE + "seq"):
            raise self._unknown_tag(event)
        return self._sequence(depth, path)

    def _alias(self, event: Event, depth: int) -> Any:
        anchor = event.anchor
        if anchor not in self._anchors:
            raise self._refuse(event, "InvalidSyntax", f"no anchor &{printable(anchor)} before this alias")
        known = self._anchors[anchor]
        if known is None:
            message = f"the alias *{printable(anchor)} lies inside what it stands for"
            raise self._refuse(event, "RecursiveAlias", message, "write the value out")
        value, nodes, levels = known
        self._nodes += nodes
        if self._nodes > self._limits.nodes:
            raise too_many(self._limits, self._file, _at(event))
        if depth + levels > self._limits.depth:
            raise too_deep(self._limits, self._file, _at(event))
        self._deepest = max(self._deepest, depth + levels)
        return value

    def _scalar(self, event: Event) -> Any:
        tag, text = event.tag, event.value
        try:
            if event.implicit[0]:
                return resolve(text)
            if tag is None or tag in ("!", _CORE + "str"):
                return text
            value = resolve(text)
        except OverflowError:
            raise number_too_large(text, self._file, _at(event)) from None
        wanted = _KINDS.get(tag)
        if wanted is None:
            raise self._unknown_tag(event)
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            message = f'"{printable(text[:40])}" is not a YAML {tag.removeprefix(_CORE)}'
            raise self._refuse(event, "InvalidSyntax", message)
        return value

    def _unknown_tag(self, event: Event) -> ConfigError:
        tag = printable(event.tag[:80].replace(_CORE, "!!", 1))
        return self._refuse(event, "UnknownTag", f"the tag {tag} is not allowed", "remove the tag")

    def _sequence(self, depth: int, path: tuple[str | int, ...]) -> list[Any]:
        out: list[Any] = []
        places = self._places
        while type(event := self._next()) is not SequenceEndEvent:
            if places is None:
                out.append(self._value(event, depth + 1, ()))
                continue
            inner = (*path, len(out))
            places[inner] = (*_at(event), _source(event))
            out.append(self._value(event, depth + 1, inner))
        return out

    def _mapping(self, depth: int, path: tuple[str | int, ...]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        lines: dict[str, Event] = {}
        places = self._places
        merged: list[dict[str, Any]] = []
        while type(event := self._next()) is not MappingEndEvent:
            key = self._key(event)
            if key in lines:
                message = f'the key "{printable(key[:80])}" is given twice, first in line {_at(lines[key])[0]}'
                raise self._refuse(event, "DuplicateKey", message, "keep one of them")
            lines[key] = event
            value_event = self._next()
            inner = (*path, key) if places is not None else ()
            if places is not None:
                places[inner] = (*_at(event), _source(value_event))
            value = self._value(value_event, depth + 1, inner)
            if key == "<<" and type(event) is ScalarEvent and event.implicit[0]:
                merged += self._merge(value_event, value)
            else:
                out[key] = value
        for other in merged:
            for key, value in other.items():
                out.setdefault(key, value)
        return out

    def _merge(self, event: Event, value: Any) -> list[dict[str, Any]]:
        found = value if isinstance(value, list) else [value]
        if not all(isinstance(item, dict) for item in found):
            raise self._refuse(event, "InvalidSyntax", "expected a mapping, or a list of them, after <<")
        return found

    def _key(self, event: Event) -> str:
        if type(event) is ScalarEvent:
            if event.tag not in (None, "!", _CORE + "str"):
                raise self._unknown_tag(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = (event.value, 1, 0)
            return str(event.value)
        if type(event) is AliasEvent and isinstance(key := self._alias(event, 1), str):
            return key
        raise self._refuse(event, "InvalidSyntax", "a key must be a string", "put it in quotes")


def _source(event: Event) -> str | None:
    return str(event.value) if type(event) is ScalarEvent and event.implicit[0] else None
