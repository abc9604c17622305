"""The placeholders in the strings of a manifest's spec: `%n`, `%(name)`, `$(ENV)`, `@(file)`, and their escapes.

Called by `manifest` for each document. What a placeholder stands for is put in as it is, and not looked through again,
but for `spec.vars`, whose strings are themselves expanded. Not in here: what the magic variables mean (`magic`), and
the reading of environment and files, which whoever gives the `Place` brings along.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from emperorctl.models.documents import Document, Path
from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.late import LATE, is_late
from emperorctl.models.magic import Place, value_of
from emperorctl.models.manifest_problems import problem_at
from emperorctl.models.manifest_values import described
from emperorctl.models.names import printable
from emperorctl.models.suggest import nearest

__all__ = ["EXPANSION_MAX", "NAMES", "Expansion", "prepared", "shielded"]

EXPANSION_MAX = 1024 * 1024
"""Characters: what the placeholders of one document come to, all together, has to stay below this."""
FILES_MAX = 64
"""How many files one document may name."""
CHAIN_MAX = 50
"""How many variables may be made of each other, one within the next."""

NAMES: Mapping[str, str] = {
    "vassal.name": "the vassal's name",
    "vassal.monitor": "the address of its source, such as dir:///etc/vassals",
    "vassal.file": "the path of its file as its source gave it",
    "vassal.index": "a small number that no other vassal of this Emperor has at the same time",
    "vassal.uid": "the id of the user it runs as",
    "vassal.gid": "the id of the group it runs as",
}
"""What `%(…)` knows besides `spec.vars`. The last three are known when the vassal is started."""

_ENVIRONMENT = r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)"
_FILE = r"@\(((?:%\([^()]*\)|[^()])*)(\)?)"
_PLACEHOLDER = re.compile(
    rf"%\((?P<name>[^()]*)\)|%(?P<magic>.?)|(?P<literal>[$@])(?P=literal)\(|{_ENVIRONMENT}|{_FILE}", re.DOTALL
)
_READ = re.compile(rf"(?P<literal>[$@])(?P=literal)\(|{_ENVIRONMENT}|{_FILE}", re.DOTALL)
# Where a mark for what is known later may stand.
_LATE_FIELDS = ("command", "env", "workingDir", "hooks", "vars")


class Expansion:
    """One document's spec in the making. `late`: something in it is known only when the vassal is started."""

    def __init__(self, document: Document, place: Place, known: Mapping[str, str]) -> None:
        self.late = False
        self._document = document
        self._place = place
        self._known = {**LATE, **known}
        self._vars: dict[str, str] = {}
        self._open: list[str] = []
        self._files: dict[str, str] = {}
        self._left = EXPANSION_MAX
        spec = document.data.get("spec")
        given = spec.get("vars") if isinstance(spec, dict) else None
        self._given: Mapping[str, Any] = given if isinstance(given, dict) else {}

    def of(self, value: Any, path: Path) -> Any:
        """The same data with its strings expanded; keys stay as they are, null is refused. Raises ConfigError."""
        if isinstance(value, str):
            if "%" not in value and "(" not in value:
                return value
            return self._text(value, path)
        if isinstance(value, dict):
            return {key: self.of(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.of(inner, (*path, index)) for index, inner in enumerate(value)]
        if value is None:
            # `user:` with nothing behind it must not come to mean the Emperor's own user.
            remedy = 'write a value, "" for an empty string, or remove the field'
            raise ConfigError(problem_at(self._document, path, "InvalidValue", "expected a value, got nothing", remedy))
        return value

    def _text(self, text: str, path: Path) -> str:
        name = path[2] if path[:2] == ("spec", "vars") and len(path) == 3 else None
        if isinstance(name, str) and name in self._vars:
            return self._vars[name]
        try:
            out = self._variable(name) if isinstance(name, str) else self._replaced(text)
            if is_late(out) and (len(path) < 2 or path[1] not in _LATE_FIELDS):
                message = "%(vassal.index), %(vassal.uid) and %(vassal.gid) are known only when it is started"
                remedy = "they work in command, env, workingDir and hooks"
                raise ConfigError(Problem("KnownTooLate", message, remedy))
        except ConfigError as error:
            raise ConfigError(self._placed(error.problem, path)) from None
        return out

    def _placed(self, problem: Problem, path: Path) -> Problem:
        """With its place, unless it is in a variable and has that one's."""
        if problem.field:
            return problem
        return problem_at(self._document, path, problem.reason, problem.message, problem.remedy)

    def _replaced(self, text: str) -> str:
        return _substituted(_PLACEHOLDER, self._value, text, self._charge)

    def _charge(self, length: int) -> None:
        self._left -= length
        if self._left <= 0:
            message = f"the placeholders of this document come to {EXPANSION_MAX // 1024**2} MiB or more"
            raise ConfigError(Problem("ExpansionTooLarge", message, "pass large things in files"))

    def _value(self, match: re.Match[str]) -> str:
        name, magic, literal, variable, file, end = match.groups()
        if name is not None:
            return self._named(name)
        if literal is not None:
            return f"{literal}("
        if variable is not None:
            return _environment(variable, self._place)
        if file is not None:
            return self._content(file, ended=bool(end))
        if magic == "(":
            message = "a placeholder %( without its end"
            raise ConfigError(Problem("UnknownVariable", message, "write %(name), or %% for a percent sign"))
        return value_of(magic, self._place)

    def _named(self, name: str) -> str:
        known = self._known.get(name)
        if known is not None:
            self.late = self.late or name in LATE
            return known
        if name in self._given:
            return self._variable(name)
        close = nearest(name, [*self._given, *NAMES])
        remedy = "define it in spec.vars, or write %% for a percent sign"
        if close:
            remedy = f"did you mean `%({printable(close)})`?"
        raise ConfigError(Problem("UnknownVariable", f"the variable %({printable(name[:80])}) is not known", remedy))

    def _variable(self, name: str) -> str:
        """A variable of the manifest's own, worked out once."""
        if name in self._vars:
            return self._vars[name]
        path: Path = ("spec", "vars", name)
        text = self._given[name]
        if not isinstance(text, str):
            source = self._document.source_of(path)
            message = f"expected a string, got {described(text, source)}"
            remedy = f'write "{source}" in quotes' if source else ""
            raise ConfigError(problem_at(self._document, path, "InvalidValue", message, remedy))
        if name in self._open:
            circle = " → ".join(f"%({printable(one)})" for one in (*self._open[self._open.index(name) :], name))
            remedy = "write one of them out"
            raise ConfigError(problem_at(self._document, path, "CyclicVariable", f"refers to itself: {circle}", remedy))
        if len(self._open) == CHAIN_MAX:
            message = f"more than {CHAIN_MAX} variables are made of each other, one within the next"
            raise ConfigError(problem_at(self._document, path, "TooComplex", message, "write some of them out"))
        self._open.append(name)
        try:
            out = self._replaced(text)
        except ConfigError as error:
            raise ConfigError(self._placed(error.problem, path)) from None
        finally:
            self._open.pop()
        self._vars[name] = out
        return out

    def _content(self, written: str, *, ended: bool) -> str:
        name = self._replaced(written) if ended else ""
        if is_late(name):
            message = f"@({printable(written[:80])}) is read before the vassal is started"
            raise ConfigError(Problem("KnownTooLate", message, "a file can't be named by what is known only then"))
        if name not in self._files:
            if len(self._files) == FILES_MAX:
                message = f"more than {FILES_MAX} files are named with @(…)"
                raise ConfigError(Problem("TooComplex", message, "put several values into one"))
            self._files[name] = _file(name, self._place, ended=ended)
        return self._files[name]


def prepared(value: Any, place: Place) -> Any:
    """Data that many vassals take from elsewhere, with what depends on none of them read in: environment and files.

    What was read is written so that it comes out of an expansion as it is. A file whose name holds a variable is left
    to the expansion of each vassal. Raises ConfigError, without a place.
    """
    if isinstance(value, dict):
        return {key: prepared(inner, place) for key, inner in value.items()}
    if isinstance(value, list):
        return [prepared(inner, place) for inner in value]
    if not isinstance(value, str) or "(" not in value:
        return value
    left = EXPANSION_MAX

    def charge(length: int) -> None:
        nonlocal left
        left -= length
        if left <= 0:
            raise ConfigError(Problem("ExpansionTooLarge", "comes to 1 MiB or more", "pass large things in files"))

    def read(match: re.Match[str]) -> str:
        _, variable, file, end = match.groups()
        if variable is not None:
            return shielded(_environment(variable, place)).replace("%", "%%")
        if file is None or "%" in file:
            return match[0]
        return shielded(_file(file, place, ended=bool(end))).replace("%", "%%")

    return _substituted(_READ, read, value, charge)


_TO_SHIELD = re.compile(r"(?<=\$)\$\(|\$\((?=[A-Za-z_][A-Za-z0-9_]*\))|@\(")


def shielded(text: str) -> str:
    """The text, written so that nothing in it is taken for `$(ENV)` or `@(file)`."""
    return _TO_SHIELD.sub(lambda match: match[0][0] + match[0], text) if "(" in text else text


def _substituted(
    pattern: re.Pattern[str], value: Callable[[re.Match[str]], str], text: str, charge: Callable[[int], None]
) -> str:
    """`pattern.sub(value, text)`, which stops as soon as `charge` refuses the length of what was put in."""
    parts, position = [], 0
    for match in pattern.finditer(text):
        piece = value(match)
        charge(len(piece))
        parts += [text[position : match.start()], piece]
        position = match.end()
    parts.append(text[position:])
    return "".join(parts)


def _environment(name: str, place: Place) -> str:
    if place.environment is None:
        message = f"the environment variable $({name}) can't be used here"
        raise ConfigError(Problem("VariableRefused", message, "write the value out, or $$( for a literal $("))
    return place.environment(name)


def _file(name: str, place: Place, *, ended: bool) -> str:
    if not name or not ended:
        message = "@( has to name a file, and end with )"
        raise ConfigError(Problem("InvalidPlaceholder", message, "write @(path), or @@( for a literal @("))
    if place.content is None:
        message = f"the file @({printable(name[:80])}) can't be read here"
        raise ConfigError(Problem("FileRefused", message, "write its content out, or @@( for a literal @("))
    return place.content(name)
