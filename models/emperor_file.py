"""The Emperor's own configuration in a file: its bytes into entries, each with its line.

Called by `cli/config_files`, which reads the files and follows what they include. Two forms: uWSGI's (the options of
one section, as written) and the native one (`kind: Emperor`). Not in here: opening a file, and what an option means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from emperorctl.models.bounds import UWSGI, decode, refusal
from emperorctl.models.documents import Document, parse
from emperorctl.models.durations import parse_duration
from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.magic import Place, expand
from emperorctl.models.manifest import API_VERSIONS, FORMATS, recognise
from emperorctl.models.manifest_fields import described
from emperorctl.models.manifest_problems import problem_at
from emperorctl.models.names import printable
from emperorctl.models.settings import OPTIONS, Kind, Option
from emperorctl.models.suggest import nearest
from emperorctl.models.uwsgi import EXTENSIONS, read_uwsgi

__all__ = ["CONFIG_EXTENSIONS", "Entry", "Expansion", "is_native", "native_entries", "uwsgi_entries"]

CONFIG_EXTENSIONS = frozenset({*EXTENSIONS, *FORMATS})
"""What the name of a configuration file ends in."""

_BY_NATIVE: Mapping[str, Option] = MappingProxyType({option.native: option for option in OPTIONS.values()})
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_PART = re.compile(r"%%|\$\((?P<env>[^)]*)\)|%\((?P<name>[^)]*)\)|@\((?P<file>[^)]*)\)|%(?P<letter>[^(%]|$)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One option as a file gives it. `name` is the field of Settings in a native file, else what was written."""

    name: str
    value: Any
    line: int | None


def is_native(data: bytes, ext: str) -> bool:
    """Whether these bytes are a native file, right or wrong. Raises ConfigError where the syntax does not tell."""
    return ext in FORMATS and (ext not in EXTENSIONS or recognise(data, FORMATS[ext]) == "native")


def uwsgi_entries(data: bytes, ext: str, section: str, file: str) -> tuple[Entry, ...]:
    """The options of a section of a uWSGI config, in order and with repeats. Raises ConfigError."""
    config = read_uwsgi(data, ext, file, lenient=section != "uwsgi")
    if section not in config.sections:
        known = ", ".join(printable(name[:40]) for name in config.sections[:5])
        raise refusal("NoSection", f"there is no section {printable(section)}", f"known are {known}", file=file)
    pairs = config.attributes[section]
    lines = _Lines(decode(data, UWSGI, file), EXTENSIONS[ext], section)
    return tuple(Entry(name, value, lines.next(name)) for name, value in pairs)


class _Lines:
    """Where options stand: exact for ini; elsewhere the lines on which the name is a key, in turn."""

    def __init__(self, text: str, form: str, section: str) -> None:
        self._form = form
        self._seen: dict[str, list[int]] = {}
        self._text = text.split("\n")
        self._here = self._section(section) if form == "ini" else [(n, line) for n, line in enumerate(self._text, 1)]

    def _section(self, wanted: str) -> list[tuple[int, str]]:
        found, current = [], ""
        for number, raw in enumerate(self._text, 1):
            line = raw.strip(" \t\r")
            if line[:1] == "[":
                current = line[1:-1]
            elif current == wanted and line[:1] not in ("", ";", "#"):
                found.append((number, line))
        return found

    def next(self, name: str) -> int | None:
        """The line of the next entry of this name."""
        if name not in self._seen:
            word = re.escape(name)
            pattern = {
                "ini": rf"{word}[ \t]*(=|$)",
                "xml": rf".*<{word}[\s/>]",
                "json": rf'.*"{word}"\s*:',
                "yaml": rf'[\s{{,"\']*{word}["\']?\s*:',
            }[self._form]
            look = re.compile(pattern)
            self._seen[name] = [number for number, line in self._here if look.match(line)]
        lines = self._seen[name]
        if not lines:
            return None
        return lines.pop(0) if len(lines) > 1 else lines[0]


@dataclass(frozen=True, slots=True)
class Expansion:
    """What the variables in a uWSGI config stand for.

    `place` is the file itself, `top` the first one, which capitals mean. `names` are the placeholders so far, `env` the
    environment; `content` reads another file.
    """

    place: Place
    top: Place
    section: str
    names: Mapping[str, str]
    env: Mapping[str, str]
    content: Callable[[str], str]

    def apply(self, text: str) -> str:
        """The text with all variables replaced, once. Raises ConfigError, without a place, for an unknown one."""
        return _PART.sub(self._value, text) if any(mark in text for mark in "%$@") else text

    def _value(self, match: re.Match[str]) -> str:
        found = match.groupdict()
        if (name := found["env"]) is not None:
            if name not in self.env:
                raise _missing(f"the environment variable {printable(name)} is not set", "set it, or write the value")
            return self.env[name]
        if (name := found["name"]) is not None:
            if name not in self.names:
                raise _missing(f"the placeholder %({printable(name)}) is not set above", "set it before its first use")
            return self.names[name]
        if (name := found["file"]) is not None:
            return self.content(name)
        letter = found["letter"]
        if letter in ("x", "X"):
            return self.section
        return expand(match[0], self.top if letter and letter in "OPSDENCIJ" else self.place)


def _missing(message: str, remedy: str) -> ConfigError:
    return ConfigError(Problem("UnknownVariable", message, remedy))


def native_entries(data: bytes, ext: str, file: str) -> tuple[Entry, ...]:
    """What a native file says, each value in the unit of its option. Raises ConfigError with line and field."""
    documents = parse(data, FORMATS[ext], file)
    try:
        if len(documents) > 1:
            raise ConfigError(Problem("InvalidValue", "several documents: an Emperor has one", line=documents[1].line))
        return _native(documents[0])
    except ConfigError as error:
        raise ConfigError(error.problem.at(file)) from None


def _native(document: Document) -> tuple[Entry, ...]:
    top = document.data
    if not isinstance(top, dict):
        raise _wrong(document, (), "a mapping", top)
    if (kind := top.get("kind")) != "Emperor":
        remedy = "name the directory that it lies in" if kind == "Vassal" else "write kind: Emperor"
        what = "this describes a vassal, not the Emperor" if kind == "Vassal" else "expected kind: Emperor"
        raise ConfigError(problem_at(document, ("kind",), "InvalidValue", what, remedy))
    if top.get("apiVersion") not in API_VERSIONS:
        raise _wrong(document, ("apiVersion",), " or ".join(API_VERSIONS), top.get("apiVersion"))
    for key in top:
        if key not in _TOP:
            raise _unknown(document, (key,), _TOP)
    spec = top.get("spec", {})
    if not isinstance(spec, dict):
        raise _wrong(document, ("spec",), "a mapping", spec)
    found = []
    for key, value in spec.items():
        option = _BY_NATIVE.get(key)
        if option is None:
            raise _unknown(document, ("spec", key), _BY_NATIVE)
        found.append(Entry(option.field, _converted(document, option, value), document.line_of(("spec", key))[0]))
    return tuple(found)


def _converted(document: Document, option: Option, value: Any) -> Any:
    """A native value as the option takes it. Its range is not looked at here."""
    where = ("spec", option.native)
    wrong = _wrong(document, where, option.expected(native=True), value)
    match option.kind:
        case Kind.FLAG:
            fits = isinstance(value, bool)
        case Kind.NUMBER:
            fits = isinstance(value, int) and not isinstance(value, bool)
        case Kind.LIST:
            value = [value] if isinstance(value, str) else value
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        case Kind.SECONDS | Kind.MILLISECONDS:
            try:
                seconds = parse_duration(value) if isinstance(value, str) else None
            except ValueError as error:
                raise ConfigError(problem_at(document, where, "InvalidValue", str(error))) from None
            fits = seconds is not None
            if seconds is not None and option.kind is Kind.MILLISECONDS:
                value = round(seconds * 1000)
            elif seconds is not None:
                value = seconds
        case _:
            fits = isinstance(value, str)
    if not fits:
        raise wrong
    return value


def _wrong(document: Document, path: tuple[str | int, ...], expected: str, value: Any) -> ConfigError:
    got = described(value, document.source_of(path))
    return ConfigError(problem_at(document, path, "InvalidValue", f"expected {expected}, got {got}"))


def _unknown(document: Document, path: tuple[str | int, ...], known: Any) -> ConfigError:
    near = nearest(str(path[-1]), known)
    remedy = f"did you mean `{near}`?" if near else "docs/options.md lists all fields"
    return ConfigError(problem_at(document, path, "UnknownField", "is not a known field", remedy))
