"""What a text written by a stranger may cost, and how its defects are named.

Used by the readers of every format (`yaml_syntax`, `json_syntax`, `toml_syntax`, `uwsgi`), and by nothing else.
Not in here: any format's grammar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emperorctl.models.errors import ConfigError, Problem

__all__ = [
    "MANIFEST",
    "UWSGI",
    "Limits",
    "decode",
    "integer",
    "line_and_column",
    "number_too_large",
    "refusal",
    "too_deep",
    "too_many",
    "weigh",
]

_DIGITS = 20
_REMEDIES = {
    "InvalidSyntax": "correct it; emperorctl validate FILE says when it is right",
    "TooComplex": "write it with less nesting and fewer values, or split it",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """`size` in bytes; `depth` of nesting; `nodes` are values, aliases counted as what they stand for."""

    size: int
    depth: int
    nodes: int


MANIFEST = Limits(size=256 * 1024, depth=32, nodes=10_000)
UWSGI = Limits(size=1024 * 1024, depth=64, nodes=100_000)


def refusal(
    reason: str, message: str, remedy: str = "", *, file: str, at: tuple[int | None, int | None] = (None, None)
) -> ConfigError:
    """The error to raise for a file, `at` a line and column that count from 1; some reasons bring a remedy along."""
    remedy = remedy or _REMEDIES.get(reason, "")
    return ConfigError(Problem(reason, message, remedy, file=file, line=at[0], column=at[1]))


def line_and_column(text: str, position: int) -> tuple[int, int]:
    """Line and column, from 1, of a character position."""
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def decode(data: bytes, limits: Limits, file: str) -> str:
    """The text of a file: UTF-8 without NUL and within the size; one byte order mark is dropped."""
    if len(data) > limits.size:
        raise refusal(
            "TooLarge",
            f"the file is larger than {limits.size // 1024} KiB",
            "keep data out of the configuration",
            file=file,
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line, column = data.count(b"\n", 0, error.start) + 1, error.start - data.rfind(b"\n", 0, error.start)
        message = f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        raise refusal("NotUtf8", message, "save the file as UTF-8", file=file, at=(line, column)) from None
    text = text.removeprefix("\ufeff")
    if text.startswith("\ufeff"):
        raise refusal("InvalidSyntax", "the file begins with two byte order marks", "remove them", file=file, at=(1, 1))
    position = text.find("\0")
    if position >= 0:
        raise refusal(
            "Binary",
            "the file holds a NUL character",
            "this is not a text file",
            file=file,
            at=line_and_column(text, position),
        )
    if not text or text.isspace():
        raise refusal("Empty", "the file is empty", "write a configuration, or remove the file", file=file)
    return text


def integer(digits: str, base: int = 10) -> int:
    """The value of a written integer. Raises OverflowError where it has more than 20 characters."""
    if len(digits) > _DIGITS:
        raise OverflowError
    return int(digits, base)


def number_too_large(text: str, file: str, at: tuple[int | None, int | None] = (None, None)) -> ConfigError:
    """The error for a number that is not finite or has too many digits."""
    message = f"the number {text[:_DIGITS]}{'…' if len(text) > _DIGITS else ''} is out of range"
    return refusal("InvalidNumber", message, "put it in quotes if it is meant as text", file=file, at=at)


def too_deep(limits: Limits, file: str, at: tuple[int | None, int | None] = (None, None)) -> ConfigError:
    """The error for nesting beyond the limit."""
    return refusal("TooComplex", f"nested deeper than {limits.depth} levels", file=file, at=at)


def too_many(limits: Limits, file: str, at: tuple[int | None, int | None] = (None, None)) -> ConfigError:
    """The error for more values than the limit."""
    return refusal("TooComplex", f"more than {limits.nodes} values", file=file, at=at)


def weigh(data: Any, limits: Limits, file: str) -> None:
    """Count the values of plain data and how deep they lie; raises ConfigError beyond the limits."""
    count, stack = 0, [(data, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > limits.depth:
            raise too_deep(limits, file)
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += 1
        if count + len(stack) + len(inner) > limits.nodes:
            raise too_many(limits, file)
        stack.extend((item, depth + 1) for item in inner)
