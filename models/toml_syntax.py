"""TOML as manifests use it: tomllib, behind a guard against keys that cost it seconds. Called by `documents` alone."""

from __future__ import annotations

import math
import re
import tomllib
from typing import Any

from emperorctl.models.bounds import Limits, integer, line_and_column, number_too_large, refusal, too_many, weigh
from emperorctl.models.errors import ConfigError
from emperorctl.models.yaml_syntax import Places

__all__ = ["read_toml", "toml_places"]

_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"""|' + r"'''(?:[^']|'(?!''))*+'''|"
    r'"(?:[^"\\\n]|\\.)*+"|' + r"'[^'\n]*+'|(?P<open>[\"'])|(?P<comment>\#[^\n]*+)"
    r"|[A-Za-z0-9_+-]++|(?P<dot>\.)|(?P<blank>[ \t]++)|(?P<other>.|\n)",
    re.DOTALL,
)
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)\Z", re.DOTALL)
_PART = re.compile(r"""\s*("(?:[^"\\]|\\.)*+"|'[^']*+'|[^.\s"']++)\s*+(\.|\Z)""")


class _NumberError(Exception):
    """A number that is refused; its argument is the source text."""


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NumberError(text)
    return number


def read_toml(text: str, limits: Limits, file: str) -> dict[str, Any]:
    """The data of a TOML text; raises ConfigError, with line and column where tomllib knows them."""
    _guard(text, limits, file)
    try:
        data = tomllib.loads(text, parse_float=_float)
    except tomllib.TOMLDecodeError as error:
        match = _PLACE.match(str(error))
        at = (int(match[2]), int(match[3])) if match and match[2] else line_and_column(text, len(text))
        message = match[1] if match else str(error)
        raise refusal("InvalidSyntax", f"not TOML: {message}", file=file, at=at) from None
    except _NumberError as error:
        number = str(error.args[0])
        raise number_too_large(number, file, _find(text, number)) from None
    except RecursionError:
        raise refusal("TooComplex", f"nested deeper than {limits.depth} levels", file=file) from None
    except ValueError:  # an impossible date, or more digits than int() takes
        raise refusal("InvalidNumber", "a number or date is out of range", file=file) from None
    weigh(data, limits, file)
    _require_plain(data, (), text, file)
    return data


def _find(text: str, wanted: str) -> tuple[int | None, int | None]:
    position = text.find(wanted)
    return line_and_column(text, position) if position >= 0 else (None, None)


def _guard(text: str, limits: Limits, file: str) -> None:
    """Refuse long dotted keys and a flood of keys: tomllib takes time by their product."""
    if text.count("=") > limits.nodes:
        raise too_many(limits, file)
    if text.count(".") < limits.depth // 2:
        return
    dots, most = 0, limits.depth // 2
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "open":
            return  # unterminated: tomllib stops here too, if it comes so far
        if kind == "dot":
            dots += 1
            if dots >= most:
                at = line_and_column(text, match.start())
                message = f"a key of more than {most} parts"
                raise refusal("TooComplex", message, "use fewer levels", file=file, at=at)
        elif kind in ("other", "comment"):
            dots = 0


def _require_plain(value: Any, path: tuple[str | int, ...], text: str, file: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _require_plain(inner, (*path, key), text, file)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _require_plain(inner, (*path, index), text, file)
    elif isinstance(value, int) and not isinstance(value, bool):
        try:
            integer(str(value))
        except (OverflowError, ValueError):
            raise _misplaced("InvalidNumber", "a number is out of range", path, text, file) from None
    elif not isinstance(value, str | float | bool):
        message = f"a manifest has no dates: {value}"
        raise _misplaced("InvalidValue", message, path, text, file)


def _misplaced(reason: str, message: str, path: tuple[str | int, ...], text: str, file: str) -> ConfigError:
    places = toml_places(text)
    known = next((places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in places), (None, None, None))
    return refusal(reason, message, "put it in quotes if it is meant as text", file=file, at=known[:2])


def toml_places(text: str) -> Places:
    """Where tables and keys stand, line by line. What lies inside an inline table or array is not listed."""
    places: Places = {(): (1, 1, None)}
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        column = len(line) - len(line.lstrip()) + 1
        if stripped.startswith("["):
            double = stripped.startswith("[[")
            table = _parts(stripped[2 if double else 1 :].partition("]")[0])
            if double:
                table = (*_indexed(table[:-1], counts), *table[-1:])
                counts[table] = counts.get(table, -1) + 1
                places.setdefault(table, (number, column, None))
                table = (*table, counts[table])
            else:
                table = _indexed(table, counts)
            places.setdefault(table, (number, column, None))
        elif stripped and not stripped.startswith("#") and "=" in stripped:
            left, _, right = stripped.partition("=")
            path = (*table, *_parts(left))
            source = right.partition("#")[0].strip()
            for end in range(len(table) + 1, len(path) + 1):
                places.setdefault(path[:end], (number, column, source if end == len(path) else None))
    return places


def _indexed(path: tuple[str | int, ...], counts: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """The path with the number of the newest table behind the name of each array of tables along it."""
    out: tuple[str | int, ...] = ()
    for part in path:
        out = (*out, part)
        if out in counts:
            out = (*out, counts[out])
    return out


def _parts(text: str) -> tuple[str | int, ...]:
    parts: list[str | int] = []
    position = 0
    while match := _PART.match(text, position):
        part = match[1]
        parts.append(part[1:-1] if part[0] in "\"'" else part)
        position = match.end()
        if not match[2]:
            break
    return tuple(parts)
