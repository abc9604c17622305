"""The hooks of a native manifest: commands around a launch.

Used by `manifest_fields`. Not in here: how and when they are run.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, PlainValidator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from emperorctl.models.manifest_values import (
    DURATION_SCHEMA,
    Argument,
    Fields,
    command,
    default,
    duration,
    expected,
    refused,
)

__all__ = ["HookStep", "Hooks"]

_HOOK_STEPS_MAX = 16


def _hook_timeout(value: Any) -> float:
    seconds = duration(3600.0)(value)
    if seconds < 0.1:
        raise expected("a duration from 100ms to 1h", value)
    return seconds


def _hook_steps(value: Any) -> Any:
    if isinstance(value, dict):
        return [value]
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], str)):
        raise refused("expected {command: [program, …]}, or a list of these", "write {command: [program, argument]}")
    if isinstance(value, list) and not 1 <= len(value) <= _HOOK_STEPS_MAX:
        raise refused(f"expected 1 to {_HOOK_STEPS_MAX} commands, got {len(value)}", "call one script that does it all")
    return value


class HookStep(Fields):
    """One command of a hook. It has the vassal's environment and EMPEROR_HOOK, and runs in its working directory."""

    command: Annotated[
        list[Argument],
        BeforeValidator(command),
        Field(min_length=1, description="The program and its arguments. No shell is involved."),
    ]
    timeout: Annotated[float, PlainValidator(_hook_timeout), DURATION_SCHEMA] = Field(
        30.0,
        description="How long it may take, at most 1h; then it gets SIGKILL, with everything that it started.",
        json_schema_extra=default("30s"),
    )
    as_emperor: bool = Field(False, description="Run it as the Emperor's user rather than the vassal's.")


class _OneOrMany:
    """For the schema: one step, or a list of them."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(core)
        return {"anyOf": [many["items"], {**many, "minItems": 1, "maxItems": _HOOK_STEPS_MAX}]}


_HookSteps = Annotated[list[HookStep], BeforeValidator(_hook_steps), _OneOrMany()]


class Hooks(Fields):
    """Commands around a launch: one, or a list of them, run one after another. A running vassal keeps the hooks that it
    was started with."""

    pre_start: _HookSteps = Field([], description="Before the program is started; where it fails, the start fails.")
    post_start: _HookSteps = Field([], description="Once the program runs; a failure is only reported.")
    pre_stop: _HookSteps = Field(
        [], description="Before the program is told to stop, within its grace period; a failure is only reported."
    )
    post_stop: _HookSteps = Field(
        [], description="Once the program and all it started are gone; a failure is only reported."
    )
