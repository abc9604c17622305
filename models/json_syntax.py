"""JSON as manifests use it: strict, in bounds, without equal keys. Called by `documents` alone."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from emperorctl.models.bounds import Limits, integer, line_and_column, number_too_large, refusal, weigh
from emperorctl.models.names import printable
from emperorctl.models.yaml_syntax import Places

__all__ = ["json_places", "read_json"]

_TOKEN = re.compile(r'[ \t\r\n]*+("(?:[^"\\]|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]++)')
_SURROGATE = re.compile(r"\\u(?:d[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(d[89a-f][0-9a-f]{2}))", re.IGNORECASE)


class _DuplicateError(Exception):
    """Raised out of the decoder, which knows no positions."""


class _NumberError(Exception):
    """The same, for a number that is refused; its argument is the source text."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise _DuplicateError
    return out


def _integer(text: str) -> int:
    try:
        return integer(text)
    except OverflowError:
        raise _NumberError(text) from None


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NumberError(text)
    return number


def _constant(text: str) -> Any:
    raise _NumberError(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def read_json(text: str, limits: Limits, file: str) -> Any:
    """The data of a JSON text; raises ConfigError with line and column."""
    try:
        data = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        at = (error.lineno, error.colno)
        raise refusal("InvalidSyntax", f"not JSON: {error.msg}", file=file, at=at) from None
    except _DuplicateError:
        key, first, second = _duplicate(text)
        message = f'the key "{printable(key[:80])}" is given twice, first in line {line_and_column(text, first)[0]}'
        at = line_and_column(text, second)
        raise refusal("DuplicateKey", message, "keep one of them", file=file, at=at) from None
    except _NumberError as error:
        number = str(error.args[0])
        raise number_too_large(number, file, _find_token(text, number)) from None
    except RecursionError:
        raise refusal("TooComplex", f"nested deeper than {limits.depth} levels", file=file) from None
    # A text with few brackets and commas can't break a limit; typical files are never walked.
    brackets = text.count("[") + text.count("{")
    if brackets > limits.depth or brackets + text.count(",") > limits.nodes - 2:
        weigh(data, limits, file)
    if "\\u" in text and _holds_surrogate(data):
        found = next((match for match in _SURROGATE.finditer(text) if match[1]), None)
        place = line_and_column(text, found.start()) if found else (None, None)
        message = "half of a surrogate pair is not a character"
        raise refusal("NotUtf8", message, "write the whole pair, or the character itself", file=file, at=place)
    return data


def _holds_surrogate(data: Any) -> bool:
    stack = [data]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                return True
        elif isinstance(value, dict):
            stack += value
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return False


def _find_token(text: str, wanted: str) -> tuple[int | None, int | None]:
    for match in _TOKEN.finditer(text):
        if match[1] == wanted:
            return line_and_column(text, match.start(1))
    return None, None


def _duplicate(text: str) -> tuple[str, int, int]:
    """The first key that occurs twice in one object, and both positions."""
    objects: list[dict[str, int]] = []
    previous: re.Match[str] | None = None
    for match in _TOKEN.finditer(text):
        symbol = match[1]
        if symbol in "{[":
            objects.append({})
        elif symbol in "}]":
            objects.pop()
        elif symbol == ":" and previous is not None:
            key = str(json.loads(previous[1]))
            if key in objects[-1]:
                return key, objects[-1][key], previous.start(1)
            objects[-1][key] = previous.start(1)
        previous = match
    return "", 0, 0


def json_places(text: str) -> Places:
    """Where every value of a well-formed JSON text stands: a member's at its key, an item's at itself."""
    places: Places = {}
    path: list[str | int] = []
    kinds: list[str] = []
    key: re.Match[str] | None = None
    previous: re.Match[str] | None = None
    for match in _TOKEN.finditer(text):
        symbol = match[1]
        if symbol in "}]":
            kinds.pop()
            path.pop()
        elif symbol == ":" and previous is not None:
            path[-1], key = str(json.loads(previous[1])), previous
        elif symbol == ",":
            if kinds[-1] == "[":
                path[-1] = int(path[-1]) + 1
        elif not (kinds and kinds[-1] == "{" and key is None):
            plain = symbol not in "{[" and not symbol.startswith('"')
            place = line_and_column(text, (key or match).start(1))
            places[tuple(path)] = (*place, symbol if plain else None)
            key = None
            if symbol in "{[":
                kinds.append(symbol)
                path.append(0)
        previous = match
    return places
