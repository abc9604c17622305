"""The Emperor's configuration files: read, with what they include, into values that know where they came from.

Called by `loading`. The syntax is `models/emperor_file`'s. uWSGI's rules hold: names of options with dashes or
underscores, placeholders, variables, files that include others. Not in here: whether a value fits its option.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from emperorctl.models.bounds import UWSGI
from emperorctl.models.emperor_file import (
    CONFIG_EXTENSIONS,
    Entry,
    Expansion,
    is_native,
    native_entries,
    uwsgi_entries,
)
from emperorctl.models.errors import ConfigError, Problem, UserError
from emperorctl.models.magic import Place
from emperorctl.models.names import printable
from emperorctl.models.settings import BY_NAME, OPTIONS, REFUSED, Kind
from emperorctl.models.suggest import nearest
from emperorctl.models.uwsgi_options import argument_of, uwsgi_names

__all__ = ["Given", "Reading", "ignored", "split_section", "unknown"]


_INCLUDES = {"config", "include", "inherit", "ini", "xml", "xmlconfig", "yaml", "yml", "json", "js"}
_SETTERS = {"set", "set-ph", "set-placeholder"}
_LOGIC = re.compile(r"(end-?(if|for)|for(each|-.*)?|if-.*|if(env|exists|plugin|dir|directory))\Z")
_PLACEHOLDER = re.compile(r"%\(([^)]*)\)")
_MOST_FILES = 64


@dataclass(frozen=True, slots=True)
class Given:
    """A value for a field of Settings, and the place that gave it: `emperor.ini:4`."""

    field: str
    value: Any
    origin: str
    file: str = ""
    line: int | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class _Open:
    """A file being read; `chain` are the files that led to it, itself included."""

    path: str
    section: str
    place: Place
    top: Place
    chain: tuple[str, ...]


def split_section(text: str) -> tuple[str, str]:
    """A file and a section of it: `emperor.ini:prod`; without one, `uwsgi`."""
    if os.path.splitext(text)[1].lower() in CONFIG_EXTENSIONS:
        return text, "uwsgi"
    path, colon, section = text.rpartition(":")
    if colon and section and os.path.splitext(path)[1].lower() in CONFIG_EXTENSIONS:
        return path, section
    return text, "uwsgi"


def ignored(name: str) -> str:
    """The warning for an option that means something to uWSGI alone."""
    return f"{printable(name)} means something to uWSGI, but nothing to an Emperor: ignored"


def unknown(name: str) -> str:
    """What is wrong with a name that neither uWSGI nor an Emperor knows, with a suggestion where there is one."""
    near = nearest(name, BY_NAME) or nearest(name, uwsgi_names())
    hint = f" (did you mean {near}?)" if near else " (docs/options.md lists all options)"
    return f"unknown option {printable(name[:60])}{hint}"


@dataclass(slots=True)
class Reading:
    """All files of one command line, read in turn: `given`, in order, and `warnings`."""

    env: Mapping[str, str]
    given: list[Given] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)
    _strange: list[tuple[str, Problem]] = field(default_factory=list)
    _count: int = 0

    def read(self, path: str, section: str = "uwsgi") -> None:
        """One file and what it includes. Raises UserError."""
        place = _place(path)
        self._file(_Open(path, section, place, place, (f"{path}:{section}",)))

    def finish(self) -> None:
        """To be called after the last file: what was neither an option nor used as a placeholder is a mistake."""
        for name, problem in self._strange:
            if name not in self._used:
                raise ConfigError(problem)

    def _file(self, this: _Open) -> None:
        self._count += 1
        if self._count > _MOST_FILES:
            raise UserError(f"{this.path}: more than {_MOST_FILES} configuration files; include fewer")
        ext = os.path.splitext(this.path)[1].lower()
        if ext not in CONFIG_EXTENSIONS:
            known = " ".join(sorted(CONFIG_EXTENSIONS))
            raise UserError(f"{printable(this.path)}: not a configuration file: its name ends in none of {known}")
        data = _bytes(this.path)
        if is_native(data, ext):
            for entry in native_entries(data, ext, this.path):
                self._add(this, entry, entry.name, OPTIONS[entry.name].native, entry.value)
            return
        for entry in uwsgi_entries(data, ext, this.section, this.path):
            try:
                self._entry(this, entry)
            except ConfigError as error:
                raise ConfigError(error.problem.at(this.path, entry.line)) from None

    def _add(self, this: _Open, entry: Entry, name: str, label: str, value: Any) -> None:
        origin = this.path if entry.line is None else f"{this.path}:{entry.line}"
        self.given.append(Given(name, value, origin, this.path, entry.line, label))

    def _entry(self, this: _Open, entry: Entry) -> None:
        name = entry.name.replace("_", "-")
        self._used.update(_PLACEHOLDER.findall(entry.value))
        expansion = Expansion(this.place, this.top, this.section, self._names, self.env, _text)
        value = expansion.apply(entry.value)
        if name in _SETTERS:
            key, equals, value = value.partition("=")
            if not equals:
                raise _problem(this, entry, f"{name}: expected KEY=VALUE, got {printable(key[:60])}", "")
            self._names[key] = value
            self._used.add(key)
            if name != "set" or (argument_of(key) is None and key.replace("_", "-") not in BY_NAME):
                return
            name = key.replace("_", "-")
        elif name in _INCLUDES:
            self._include(this, entry, name, value)
            return
        self._names[entry.name] = value
        option = BY_NAME.get(name)
        if option is not None and not (option.clash and name == option.name):
            if value == "" and option.kind is not Kind.FLAG:
                raise _problem(this, entry, f"{name}: expected {option.expected()}, got nothing", "write a value")
            self._add(this, entry, option.field, name, value)
        else:
            self._foreign(this, entry, name, value)

    def _include(self, this: _Open, entry: Entry, name: str, value: str) -> None:
        if "://" in value or value == "-":
            raise _problem(this, entry, f"{name}: {printable(value)} is not a file", "give the path of a file")
        path, section = split_section(value)
        if value.startswith(":"):
            path, section = this.path, value[1:]
        identity = f"{path}:{section}"
        if any(os.path.realpath(path) == os.path.realpath(_path(link)) and _section(link) == section
               for link in this.chain):  # fmt: skip
            chain = " → ".join(link.removesuffix(":uwsgi") for link in (*this.chain, identity))
            raise _problem(this, entry, f"{name}: the files include each other: {chain}", "remove one of them")
        place = _place(path)
        self._file(replace(this, path=path, section=section, place=place, chain=(*this.chain, identity)))

    def _foreign(self, this: _Open, entry: Entry, name: str, value: str) -> None:
        """An option that is not ours: uWSGI's, a placeholder, or a mistake."""
        if name in REFUSED:
            raise _problem(this, entry, f"{name} is not supported yet", "remove it; nothing would be done for it")
        if argument_of(name) is None:
            self._strange.append((entry.name, _problem(this, entry, unknown(name), "").problem))
            return
        if _LOGIC.match(name):
            raise _problem(this, entry, f"{name}: conditions and loops are not supported", "write out what they give")
        place = this.path if entry.line is None else f"{this.path}:{entry.line}"
        option = BY_NAME.get(name)
        hint = "" if option is None else f" (the Emperor's own is called {option.aliases[0]} here)"
        self.warnings.append(f"{place}: {ignored(name)}{hint}")


def _path(link: str) -> str:
    return link.rpartition(":")[0]


def _section(link: str) -> str:
    return link.rpartition(":")[2]


def _problem(this: _Open, entry: Entry, message: str, remedy: str) -> ConfigError:
    return ConfigError(Problem("InvalidConfig", message, remedy, file=this.path, line=entry.line))


def _bytes(path: str) -> bytes:
    """A regular file's content. Raises UserError; one byte more than the limit is read, for the parser to refuse."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise UserError(f"{printable(path)} is not a regular file: give a configuration file")
            return file.read(UWSGI.size + 1)
    except OSError as error:
        raise UserError(f"can't read the configuration file {printable(path)}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{printable(path)} is not a path") from None


def _text(path: str) -> str:
    """What `@(path)` stands for: the file's content, without the last line's end."""
    return _bytes(path).decode(errors="replace").removesuffix("\n")


def _place(path: str) -> Place:
    """What the magic variables of a file stand for."""
    return Place(
        name=path,
        path=os.path.abspath(path),
        vassals_dir="",
        hostname=socket.gethostname,
        version=_version,
        inode=lambda: str(os.stat(path).st_ino),
        cores=lambda: str(os.cpu_count() or 1),
        uid=str(os.getuid()),
        user=_user,
        gid=str(os.getgid()),
        group=_group,
        time=time.time,
    )


def _version() -> str:
    from importlib.metadata import version

    return version("emperorctl")


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _group() -> str:
    import grp

    try:
        return grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return str(os.getgid())
