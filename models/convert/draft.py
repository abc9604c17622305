"""A manifest in the making, and the ledger of what could not be put into it.

Every module of a source format uses this. Its promise is kept here: a setting that was read and neither carried over
nor known to make no difference ends up among the notes, since whatever nobody took is named at the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.expansion import shielded
from emperorctl.models.magic import Place
from emperorctl.models.manifest import read_manifests
from emperorctl.models.manifest_fields import Spec
from emperorctl.models.names import MANIFEST_NAME_MAX, printable

__all__ = [
    "VASSALS_MAX",
    "Conversion",
    "Converted",
    "Draft",
    "Entry",
    "Given",
    "Note",
    "Rules",
    "Section",
    "dns_name",
    "doubled",
    "substituted",
    "wrong",
]

VASSALS_MAX = 256
"""How many vassals one file may come to."""

_SHOWN = 120
_EXPANDED_MAX = 128 * 1024
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9.-]+")
# The order in which a manifest's fields are documented.
_FIELDS = [info.alias or name for name, info in Spec.model_fields.items()]
_TRIAL = Place("trial.json", "/trial/trial.json", "/trial")


@dataclass(frozen=True, slots=True)
class Given:
    """A file as it was given: its bytes, its name as shown to people, and the absolute directory that it lies in
    (empty for standard input)."""

    data: bytes
    file: str
    directory: str = ""

    @property
    def base(self) -> str:
        """The file's name without its directory."""
        return self.file.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Note:
    """One setting that the manifest does not say, and why; `changed`: it says something else in its place."""

    setting: str
    value: str
    why: str
    line: int | None = None
    changed: bool = False

    def sentence(self) -> str:
        """One line for people."""
        value = printable(" ".join(self.value.split()))
        shown = f"{value[:_SHOWN]}…" if len(value) > _SHOWN else value
        text = printable(self.setting[:_SHOWN]) + (f" = {shown}" if shown else "")
        return f"{'changed' if self.changed else 'not carried over'}: {text} ({printable(self.why)})"


@dataclass(frozen=True, slots=True)
class Converted:
    """One vassal: its `manifest` as plain data, where it comes from, and what was left behind."""

    name: str
    origin: str
    line: int | None
    manifest: Mapping[str, Any]
    notes: tuple[Note, ...]

    def renamed(self, name: str, why: str) -> Converted:
        """The same under another name, with a note of it."""
        metadata = {**self.manifest["metadata"], "name": name}
        note = Note("name", self.name, f"{why}: it is {name} here", self.line, changed=True)
        return replace(self, name=name, manifest={**self.manifest, "metadata": metadata}, notes=(note, *self.notes))


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a whole file came to. `notes` belong to no vassal; `problems` are parts that could not be converted."""

    converted: tuple[Converted, ...] = ()
    notes: tuple[Note, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as written, and its line."""

    key: str
    value: str
    line: int | None = None


class Section:
    """A named group of settings. What is taken out of it is somebody's business; the rest can be asked for."""

    def __init__(self, name: str, line: int | None = None) -> None:
        self.name = name
        self.line = line
        self.entries: list[Entry] = []
        self._taken: set[str] = set()

    def take(self, key: str) -> Entry | None:
        """The last setting of this name; earlier ones are left."""
        self._taken.add(key)
        return next((entry for entry in reversed(self.entries) if entry.key == key), None)

    def take_all(self, key: str) -> list[Entry]:
        """Every setting of this name, in order."""
        self._taken.add(key)
        return [entry for entry in self.entries if entry.key == key]

    def rest(self) -> list[Entry]:
        """What nobody has taken."""
        return [entry for entry in self.entries if entry.key not in self._taken]


Rules = Mapping[str, tuple[tuple[str, ...], Callable[[str], Any]]]
"""Setting → field of the spec, and how its text is read: raises ValueError, saying what was expected."""


def doubled(text: str) -> str:
    """The text for a manifest, whose variables begin with a percent sign."""
    return text.replace("%", "%%")


def substituted(pattern: re.Pattern[str], value: Callable[[re.Match[str]], str], text: str) -> str:
    """`pattern.sub(value, text)`, in bounds. Raises ValueError where the result is longer than any argument may be."""
    parts, position, length = [], 0, 0
    for match in pattern.finditer(text):
        parts += [text[position : match.start()], value(match)]
        length += len(parts[-2]) + len(parts[-1])
        if length > _EXPANDED_MAX:
            raise ValueError(f"is longer than {_EXPANDED_MAX // 1024} KiB with its references written out")
        position = match.end()
    return "".join([*parts, text[position:]])


def dns_name(text: str) -> str:
    """The nearest name that a manifest may have."""
    name = _NOT_IN_A_NAME.sub("-", text[: 4 * MANIFEST_NAME_MAX].lower()).strip("-.")
    return name[:MANIFEST_NAME_MAX].rstrip("-.") or "vassal"


def wrong(given: Given, line: int | None, message: str, remedy: str, *, field: str = "") -> ConfigError:
    """The error for a part of a file that can't be converted."""
    return ConfigError(
        Problem("NotConvertible", printable(message), remedy, file=given.file, line=line, field=printable(field))
    )


class Draft:
    """One vassal in the making. `origin` says where it comes from, as people would look for it in the file."""

    def __init__(self, given: Given, wanted: str, origin: str, *, line: int | None = None) -> None:
        self.given = given
        self.name = dns_name(wanted)
        self.origin = origin
        self.line = line
        self.annotations: dict[str, str] = {}
        self._spec: dict[str, Any] = {}
        self._notes: list[Note] = []
        if self.name != wanted:
            why = f"a name is a-z 0-9 . - and at most {MANIFEST_NAME_MAX} characters: it is {self.name} here"
            self._notes.append(Note("name", wanted, why, line, changed=True))

    def command(self, words: list[str], entry: Entry) -> None:
        """Set the command, without which there is nothing to convert: raises ConfigError where it can't be one."""
        words = _shielded(words)
        if problem := _refusal({"command": words}):
            raise wrong(self.given, entry.line, problem.message, problem.remedy, field=entry.key)
        self._spec["command"] = words

    def put(self, path: tuple[str, ...], value: Any, entry: Entry) -> bool:
        """Set a field of the spec; a value that a manifest can't hold becomes a note. Whether it was set."""
        value = _shielded(value)
        inner: Any = value
        for key in reversed(path):
            inner = {key: inner}
        if problem := _refusal({"command": ["x"], **inner}):
            self.note(entry, f"{'.'.join(path)}: {problem.message}")
            return False
        table = self._spec
        for key in path[:-1]:
            table = table.setdefault(key, {})
        table[path[-1]] = value
        return True

    def say(self, path: tuple[str, ...], value: Any) -> None:
        """Set a field that the source's own default gives: nothing is lost where it does not fit."""
        if path[0] not in self._spec or (len(path) == 2 and path[1] not in self._spec[path[0]]):
            self.put(path, value, Entry(path[-1], str(value), self.line))

    def carry(self, section: Section, rules: Rules, expand: Callable[[Entry], Entry] | None = None) -> None:
        """Take and set all that these rules know."""
        for key, (path, read) in rules.items():
            entry = section.take(key)
            if entry is None:
                continue
            self._earlier(section, entry)
            try:
                meant = expand(entry).value if expand else doubled(entry.value)
                value = read(meant)
            except ValueError as error:
                self.note(entry, str(error))
                continue
            self.put(path, value, entry)

    def _earlier(self, section: Section, last: Entry) -> None:
        for entry in section.take_all(last.key):
            if entry is not last:
                self.note(entry, f"given again in line {last.line}")

    def note(self, entry: Entry, why: str) -> None:
        """Name a setting that is not carried over."""
        self._notes.append(Note(entry.key, entry.value, why, entry.line))

    def changed(self, entry: Entry, why: str) -> None:
        """Name a setting that is carried over as something else."""
        self._notes.append(Note(entry.key, entry.value, why, entry.line, changed=True))

    def leave(
        self, entries: Iterable[Entry], why: Mapping[str, str], same: Mapping[str, frozenset[str]], default: str
    ) -> None:
        """Name these settings with their reasons; `same` has the values of settings that make no difference."""
        for entry in entries:
            if entry.value.strip().casefold() not in same.get(entry.key, ()):
                self.note(entry, why.get(entry.key, default))

    def done(self) -> Converted:
        """The finished vassal."""
        metadata: dict[str, Any] = {"name": self.name}
        if self.annotations:
            metadata["annotations"] = dict(self.annotations)
        spec = {field: self._spec[field] for field in _FIELDS if field in self._spec}
        manifest = {"apiVersion": "emperor/v1", "kind": "Vassal", "metadata": metadata, "spec": spec}
        if problem := _refused(manifest):
            message = f"comes to a manifest that is not accepted: {problem.field}: {problem.message}"
            raise wrong(self.given, self.line, message, "make it smaller or simpler", field=self.origin)
        # In the order of the file; what has no line was said by nobody and comes first.
        notes = sorted(self._notes, key=lambda note: note.line or 0)
        return Converted(self.name, self.origin, self.line, manifest, tuple(notes))


def _shielded(value: Any) -> Any:
    """The same with no `$(NAME)` and `@(file)` that the source did not know."""
    if isinstance(value, str):
        return shielded(value)
    if isinstance(value, list):
        return [_shielded(item) for item in value]
    return {key: _shielded(item) for key, item in value.items()} if isinstance(value, dict) else value


def _refusal(spec: dict[str, Any]) -> Problem | None:
    return _refused({"apiVersion": "emperor/v1", "kind": "Vassal", "metadata": {"name": "x"}, "spec": spec})


def _refused(manifest: dict[str, Any]) -> Problem | None:
    """What the Emperor would say against this manifest."""
    return _verdict(json.dumps(manifest).encode())


@lru_cache(maxsize=1024)
def _verdict(data: bytes) -> Problem | None:
    # Many processes of one program differ in little: most of what they are tried with has been tried before.
    try:
        (claim,) = read_manifests(data, "json", file="", stem="x", place=_TRIAL, source="")
    except ConfigError as error:
        return error.problem
    return claim.problem
