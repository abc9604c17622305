"""What all parts of a manifest's fields are made from: how a value is refused, and values that occur in many places.

Used by `manifest_fields`, `manifest_hooks` and `manifest_sockets`. Not in here: which fields there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue, PlainValidator, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from emperorctl.models.durations import format_duration, parse_duration
from emperorctl.models.names import printable

__all__ = [
    "ARGUMENT_MAX",
    "DURATION_SCHEMA",
    "Argument",
    "Fields",
    "Identity",
    "Nothing",
    "Text",
    "argument",
    "command",
    "default",
    "described",
    "duration",
    "expected",
    "octal_mode",
    "refused",
    "schema_of",
    "text",
]

ARGUMENT_MAX = 128 * 1024 - 1
"""The kernel's limit for one argument or one `NAME=value` (MAX_ARG_STRLEN), in bytes, without the final NUL."""
_ID_MAX = 2**31 - 1
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,254}\$?\Z")
_OCTAL = re.compile(r"[0-7]{1,4}\Z")


def described(value: Any, source: str | None = None) -> str:
    """A value as an error message calls it: `the integer 8000`, `a mapping`, `nothing`."""
    match value:
        case None:
            return f"nothing ({source})" if source else "nothing"
        case bool():
            return f"the boolean {source or str(value).lower()}"
        case int():
            return f"the integer {source or value}"
        case float():
            return f"the number {source or value}"
        case str():
            return f'"{printable(value[:60])}{"…" if len(value) > 60 else ""}"'
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return "something else"


def refused(message: str, remedy: str = "", *, key: str | None = None) -> PydanticCustomError:
    """The error to raise in a validator: `message` says what was expected and found, `remedy` what to do;
    `key` is the member of the field that is meant."""
    context = {"message": message, "remedy": remedy}
    return PydanticCustomError("refused", "{message}", context if key is None else {**context, "key": key})


def expected(what: str, value: Any, remedy: str = "") -> PydanticCustomError:
    """The error to raise where something else was expected; what was found is added by itself."""
    return PydanticCustomError("expected", "{what}", {"what": what, "remedy": remedy})


def text(value: Any) -> Any:
    """A string that a process can be given."""
    if isinstance(value, str) and "\0" in value:
        raise refused("holds a NUL character", "remove it")
    return value


def argument(value: Any) -> Any:
    """One word of a command line."""
    if isinstance(value, str) and len(value.encode()) > ARGUMENT_MAX:
        raise refused(f"is longer than {ARGUMENT_MAX} bytes", "pass it in a file")
    return text(value)


def command(value: Any) -> Any:
    """A command line: a list that begins with a program."""
    if isinstance(value, str):
        shown = printable(value.replace("\n", " ")[:60])
        remedy = f'write a list such as [program, argument], or [sh, -c, "{shown}"] to run a shell'
        raise refused(f"expected a list of strings, got one string: {described(value)}", remedy)
    if value == []:
        raise refused("is empty", "name a program")
    if isinstance(value, list) and value[0] == "":
        raise refused("begins with an empty string", "name a program")
    return value


def octal_mode(value: Any) -> int:
    """Permission bits, written in octal and in quotes."""
    if not isinstance(value, str) or not _OCTAL.match(value) or int(value, 8) > 0o777:
        raise expected('an octal number in quotes from "000" to "777"', value, 'such as "022"')
    return int(value, 8)


def _identity(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise expected("a name or a decimal id", value)
    if value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= _ID_MAX:
        if not int(value):
            raise refused("0 is root, which must be named", "write root if that is meant")
        return str(int(value))
    if _USER.match(value):
        return value
    raise expected(f"a name or a decimal id from 1 to {_ID_MAX}", value)


def duration(longest: float) -> Callable[[Any], float]:
    """The reader of a duration of at most `longest` seconds."""

    def read(value: Any) -> float:
        if not isinstance(value, str):
            raise expected("a duration such as 30s", value, "add a unit: ms, s, m, h or d")
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            raise refused(printable(str(error))) from None
        if seconds > longest:
            raise expected(f"at most {format_duration(longest)}", value)
        return seconds

    return read


def schema_of(**parts: Any) -> WithJsonSchema:
    """What the schema says of a field that reads itself."""
    return WithJsonSchema(parts)


def default(written: str) -> dict[str, JsonValue]:
    """For the schema: a default as a person would write it."""
    return {"default": written}


Text = Annotated[str, BeforeValidator(text)]
Argument = Annotated[str, BeforeValidator(argument)]
Identity = Annotated[str, PlainValidator(_identity), schema_of(type=["string", "integer"], minimum=1, maximum=_ID_MAX)]
DURATION_SCHEMA = schema_of(type="string", pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$", examples=["500ms", "1m30s"])


class Fields(BaseModel):
    """Strict, frozen, in camelCase, and nothing unknown is accepted."""

    # Built when first used, and then as a whole: parts are never validated by themselves.
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        hide_input_in_errors=True,
        defer_build=True,
    )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: nobody changes one, and pydantic would copy the defaults for every manifest."""
        return self


class Nothing(Fields):
    """A choice that has no settings: written `{}`."""
