"""uWSGI config files: enough of them to know what they are, list their sections and read their attributes.

Called by the monitors and by `emperorctl validate`. uWSGI itself parses the rest, so this is as lenient as its own
parsers wherever a working file could depend on it (compared with uWSGI 2.0.31 and its source), and strict about what
can't be a config: not text, no syntax, no `uwsgi` section. Not in here: how a config is run (`uwsgi_run`),
what options mean, and uWSGI's magic variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from xml.parsers import expat

from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from emperorctl.models.bounds import UWSGI, decode, refusal, too_deep, too_many
from emperorctl.models.errors import ConfigError
from emperorctl.models.names import printable
from emperorctl.models.suggest import folded
from emperorctl.models.yaml_syntax import next_event, open_events

__all__ = ["EXTENSIONS", "SECTION", "VASSAL_PREFIX", "Pairs", "UwsgiConfig", "bounded", "element_spans", "read_uwsgi"]

EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {".ini": "ini", ".xml": "xml", ".yml": "yaml", ".yaml": "yaml", ".js": "json", ".json": "json"}
)
"""The extensions of uWSGI configs, and the option that reads each."""

SECTION = "uwsgi"
"""The section that uWSGI reads when it is not told otherwise."""
VASSAL_PREFIX = "uwsgi:"
"""What the names of further vassals' sections begin with (see `uwsgi_sections`)."""
_BOM = b"\xef\xbb\xbf"
_SHOWN = 5
# uWSGI replaces these before its YAML parser sees them, or its parser takes them as they are; YAML itself refuses them
# at the beginning of a plain scalar.
_NOT_YAML = re.compile(r"%(?=[A-Za-z0-9%(])|@(?=\()|\*(?=:)")
_JSON_MAGIC = re.compile(r'("(?:[^"\\]|\\.)*+")|%[A-Za-z0-9]')

Pairs = tuple[tuple[str, str], ...]
"""Options and their values, as written, repeats included."""


@dataclass(frozen=True, slots=True)
class UwsgiConfig:
    """What a config holds: its `sections` in order, and each section's options as written, repeats included."""

    sections: tuple[str, ...]
    attributes: Mapping[str, Pairs]

    @property
    def several(self) -> bool:
        """Whether there are sections of further vassals."""
        return any(name.startswith(VASSAL_PREFIX) for name in self.sections)


@dataclass(frozen=True, slots=True)
class _Found:
    """Sections in the making."""

    options: dict[str, list[tuple[str, str]]]

    def section(self, name: str) -> list[tuple[str, str]]:
        return self.options.setdefault(name, [])

    def config(self) -> UwsgiConfig:
        attributes = {name: tuple(pairs) for name, pairs in self.options.items()}
        return UwsgiConfig(tuple(attributes), MappingProxyType(attributes))


def read_uwsgi(data: bytes, ext: str, file: str, *, lenient: bool = False, several: bool = False) -> UwsgiConfig:
    """The config in these bytes; `ext` is a key of EXTENSIONS. Raises ConfigError.

    `lenient`: a config without a `uwsgi` section is accepted (a wrapper may read another one); `several`: sections
    `uwsgi:NAME` will do in its place.
    """
    option = EXTENSIONS[ext]
    text = _xml_text(data, file) if option == "xml" else decode(data, UWSGI, file)
    if data.startswith(_BOM) and option != "xml":
        # uWSGI takes the mark for a part of the first name, and jansson refuses it.
        message = "the file begins with a byte order mark, which uWSGI does not understand"
        raise refusal("ByteOrderMark", message, "save it as UTF-8 without BOM", file=file, at=(1, 1))
    if option == "xml":
        config = _read_xml(data, file)
    else:
        readers: dict[str, Callable[[str, str], UwsgiConfig]] = {
            "ini": _read_ini,
            "yaml": _read_yaml,
            "json": _read_json,
        }
        config = readers[option](text, file)
    if not lenient and SECTION not in config.sections and not (several and config.several):
        raise _no_section(config, option, file)
    return config


def bounded(data: bytes, file: str) -> None:
    """The bounds of a config that is not looked into, whatever its encoding. Raises ConfigError."""
    decode(data.decode("latin-1").encode("ascii", "replace"), UWSGI, file)


def _is_vassals(name: str) -> bool:
    return name == SECTION or name.startswith(VASSAL_PREFIX)


def _no_section(config: UwsgiConfig, option: str, file: str) -> ConfigError:
    what = {"ini": "[uwsgi] section", "xml": "<uwsgi> element"}.get(option, "top-level key uwsgi")
    named = [name for name in config.sections if name]
    message = f"there is no {what}"
    if named:
        message += f", only {', '.join(printable(name[:40]) for name in named[:_SHOWN])}"
    near = next((name for name in named if folded(name.partition(":")[0].strip()) == SECTION), None)
    remedy = f"rename {printable(near[:40])} to uwsgi" if near else f"add the {what}, or remove the file"
    return refusal("NoUwsgiSection", message, remedy, file=file)


def _read_ini(text: str, file: str) -> UwsgiConfig:
    """As uWSGI reads it: a header is a line that begins with [, its name all but the last character; no `=` is an
    option with an empty value; there are no continuations and no inline comments."""
    found, section, empty = _Found({}), "", True
    for raw in text.split("\n"):
        line = raw.strip(" \t\r")
        if not line or line[0] in ";#":
            continue
        empty = False
        if line[0] == "[":
            section = line[1:-1]
            found.section(section)
        else:
            key, _, value = line.partition("=")
            found.section(section).append((key.rstrip(" \t\r"), value.strip(" \t\r")))
    if empty:
        raise _only_comments(file)
    return found.config()


def _only_comments(file: str) -> ConfigError:
    message = "the file holds nothing but comments"
    return refusal("Empty", message, "write a configuration, or remove the file", file=file)


def _xml_text(data: bytes, file: str) -> str:
    """The bounds of an XML file; its encoding is expat's business where it declares one."""
    declared = b"encoding" in data[:200]
    return decode(data.decode("latin-1").encode("ascii", "replace") if declared else data, UWSGI, file)


def _read_xml(data: bytes, file: str) -> UwsgiConfig:
    reader = _XmlReader(file)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        at = (error.lineno, error.offset + 1)
        raise refusal("InvalidSyntax", f"not XML: {expat.ErrorString(error.code)}", file=file, at=at) from None
    except (LookupError, ValueError):
        raise refusal("InvalidSyntax", "not XML: unknown encoding", "save it as UTF-8", file=file) from None
    return reader.found.config()


class _XmlReader:
    """`uwsgi` elements, as the root or in it, and their children as options; an empty element has the value 1."""

    def __init__(self, file: str) -> None:
        self.found = _Found({})
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self.parser.EntityDeclHandler = self._refuse_doctype
        self._file = file
        self._open: list[str] = []
        self._section: tuple[str, int] | None = None
        self._value: list[str] = []
        self._elements = 0
        self.spans: list[tuple[str, int, int]] = []

    def _at(self) -> tuple[int, int]:
        return self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1

    def _refuse_doctype(self, *_: Any) -> None:
        message = "document types and entities are not allowed"
        raise refusal("ForbiddenXml", message, "remove the DOCTYPE", file=self._file, at=self._at())

    def _start(self, name: str, _: Any) -> None:
        self._elements += 1
        if self._elements > UWSGI.nodes:
            raise too_many(UWSGI, self._file, self._at())
        self._open.append(name)
        depth = len(self._open)
        if depth > UWSGI.depth:
            raise too_deep(UWSGI, self._file, self._at())
        if self._section is None and (depth == 1 or _is_vassals(name)) and depth <= 2:
            self.found.section(name)
            self._section = (name, depth) if _is_vassals(name) else None
            if self._section:
                self.spans.append((name, self.parser.CurrentByteIndex, -1))
        elif self._section is not None and depth == self._section[1] + 1:
            self._value = []

    def _text(self, text: str) -> None:
        if self._section is not None and len(self._open) > self._section[1]:
            self._value.append(text)

    def _end(self, name: str) -> None:
        if self._section is not None:
            section, depth = self._section
            if len(self._open) == depth + 1:
                self.found.section(section).append((name, "".join(self._value).strip() or "1"))
            elif len(self._open) == depth:
                self._section = None
                self.spans[-1] = (section, self.spans[-1][1], self.parser.CurrentByteIndex)
        self._open.pop()


def element_spans(data: bytes) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Where the vassals' elements of an XML file that `read_uwsgi` accepted stand: beginning, beginning and end of what
    is in them, end; in bytes."""
    reader = _XmlReader("")
    reader.parser.Parse(data, True)
    found = []
    for name, start, end in reader.spans:
        inner = data.find(b">", start) + 1
        # One without content has no end tag.
        found.append((name, (start, inner, end, data.find(b">", end) + 1) if end > start else (start, *(inner,) * 3)))
    return found


def _read_json(text: str, file: str) -> UwsgiConfig:
    try:
        data = json.loads(text)
    except ValueError:
        # uWSGI replaces magic variables first, outside of strings too: {"processes": %k}
        data = _strict_json(_JSON_MAGIC.sub(lambda match: match[1] or "10", text), file)
    except RecursionError:
        raise too_deep(UWSGI, file) from None
    if not isinstance(data, dict):
        raise refusal("NoUwsgiSection", "expected an object with the key uwsgi", file=file, at=(1, 1))
    return _tables(data, file)


def _strict_json(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = (error.lineno, error.colno)
        raise refusal("InvalidSyntax", f"not JSON: {error.msg}", file=file, at=at) from None
    except RecursionError:
        raise too_deep(UWSGI, file) from None
    except ValueError:
        raise refusal("InvalidNumber", "a number is out of range", file=file) from None


def _tables(data: dict[str, Any], file: str) -> UwsgiConfig:
    found = _Found({})
    for name, table in data.items():
        options = found.section(name)
        if isinstance(table, dict):
            for key, value in table.items():
                values = value if isinstance(value, list) else [value]
                options += [(key, _word(item)) for item in values if not isinstance(item, dict | list)]
        elif _is_vassals(name):
            raise refusal("InvalidSyntax", f"the value of the key {printable(name[:40])} is not an object", file=file)
    return found.config()


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _read_yaml(text: str, file: str) -> UwsgiConfig:
    """By the grammar of YAML, where a key may be given again and every scalar is the text that was written."""
    stand_ins = {mark: chr(0xE000 + index) for index, mark in enumerate("%@*")}
    neutral = _NOT_YAML.sub(lambda match: stand_ins[match[0]], text)
    back = str.maketrans({stand_in: mark for mark, stand_in in stand_ins.items() if stand_in not in text})
    reader = _YamlTree(neutral, file)
    found, empty = _Found({}), True
    for root in reader.roots():
        empty = empty and root in ("", "~", "null")
        for name, table in root if isinstance(root, tuple) else ():
            options = found.section(name.translate(back))
            if isinstance(table, tuple):
                for key, value in table:
                    values = value if isinstance(value, list) else [value]
                    options += [(key.translate(back), item.translate(back)) for item in values if isinstance(item, str)]
            elif _is_vassals(name) and table:
                message = f"the value of the key {printable(name[:40])} is not a mapping"
                raise refusal("InvalidSyntax", message, file=file)
    if empty:
        raise _only_comments(file)
    return found.config()


class _YamlTree:
    """A YAML text as nested tuples of pairs, lists and strings."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._parser = open_events(text)
        self._nodes = 0

    def _next(self) -> Any:
        return next_event(self._parser, self._text, self._file)

    def roots(self) -> list[Any]:
        found = []
        while type(event := self._next()) is not StreamEndEvent:
            if type(event) is DocumentStartEvent:
                found.append(self._node(self._next(), 1))
        return found

    def _node(self, event: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > UWSGI.nodes:
            raise too_many(UWSGI, self._file)
        if depth > UWSGI.depth:
            raise too_deep(UWSGI, self._file, (event.start_mark.line + 1, event.start_mark.column + 1))
        if type(event) is ScalarEvent:
            return str(event.value)
        if type(event) is AliasEvent:
            return f"*{event.anchor}"
        items = []
        if type(event) is SequenceStartEvent:
            while not _ends(event := self._next()):
                items.append(self._node(event, depth + 1))
            return items
        assert type(event) is MappingStartEvent
        while not _ends(event := self._next()):
            key = self._node(event, depth + 1)
            items.append((key if isinstance(key, str) else "", self._node(self._next(), depth + 1)))
        return tuple(items)


def _ends(event: Any) -> bool:
    return type(event).__name__ in ("MappingEndEvent", "SequenceEndEvent")
