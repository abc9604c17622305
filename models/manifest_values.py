"""What the fields of a manifest have in common: scalar values that several of them read, and how a refusal is raised.

Used by `manifest_fields` and `manifest_sockets`. Not in here: any field, and the words of an error
(`manifest_problems`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, JsonValue, PlainValidator, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from emperorctl.models.durations import format_duration, parse_duration
from emperorctl.models.names import printable

__all__ = [
    "DURATION_SCHEMA",
    "ID_MAX",
    "Fields",
    "Identity",
    "default",
    "described",
    "duration",
    "expected",
    "identity",
    "octal_mode",
    "refused",
    "schema",
]

ID_MAX = 2**31 - 1
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
    """The error to raise where a value is not what was expected; what was found is said by `manifest_problems`."""
    return PydanticCustomError("expected", "{what}", {"what": what, "remedy": remedy})


def identity(value: Any) -> str:
    """A user or group: a name, or a decimal id."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise expected("a name or a decimal id", value)
    if value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= ID_MAX:
        return str(int(value))
    if _USER.match(value):
        return value
    raise expected(f"a name or a decimal id from 0 to {ID_MAX}", value)


def octal_mode(value: Any) -> int:
    """Permission bits, written in octal and in quotes."""
    if not isinstance(value, str) or not _OCTAL.match(value) or int(value, 8) > 0o777:
        raise expected('an octal number in quotes from "000" to "777"', value, 'such as "022"')
    return int(value, 8)


def duration(longest: float) -> Callable[[Any], float]:
    """A reader of durations of at most `longest` seconds."""

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


def schema(**parts: Any) -> WithJsonSchema:
    """What the published schema says of a field that reads itself."""
    return WithJsonSchema(parts)


def default(written: str) -> dict[str, JsonValue]:
    """For the schema: a default as a person would write it."""
    return {"default": written}


class Fields(BaseModel):
    """The base of every mapping in a manifest: unknown fields are errors, and nothing is converted silently."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True
    )


DURATION_SCHEMA = schema(type="string", pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$", examples=["500ms", "1m30s"])
Identity = Annotated[str, PlainValidator(identity), schema(type=["string", "integer"], minimum=0, maximum=ID_MAX)]
