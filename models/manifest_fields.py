"""The fields of a native manifest: what each may hold, its default, and the sentence that explains it.

Used by `manifest` to validate and by `schema` to describe. The scalar fields read themselves here (a signal, a
duration, a size …), so that an error names the field. Not in here: how an error is worded (`manifest_problems`).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from emperorctl.models.manifest_hooks import Hooks
from emperorctl.models.manifest_isolation import IsolationFields, NetworkField, meaning
from emperorctl.models.manifest_resources import Resources
from emperorctl.models.manifest_sockets import OnDemandFields
from emperorctl.models.manifest_values import (
    ARGUMENT_MAX,
    DURATION_SCHEMA,
    Argument,
    Fields,
    Identity,
    Nothing,
    Text,
    command,
    default,
    described,
    duration,
    expected,
    octal_mode,
    refused,
    schema_of,
    text,
)
from emperorctl.models.names import is_label_name, is_label_value
from emperorctl.models.signals import signal_number

__all__ = [
    "ARGUMENT_MAX",
    "UNLIMITED",
    "FromFile",
    "LimitPair",
    "Manifest",
    "Metadata",
    "Readiness",
    "Reload",
    "Rlimits",
    "Spec",
    "described",
    "refused",
]

UNLIMITED = "unlimited"
_LIMIT_MAX = 2**63 - 1
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}\Z")
_RESERVED = ("EMPERORCTL_", "UWSGI_EMPEROR_")
_LISTEN_RESERVED = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
_NOTIFY_RESERVED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_SIZE = re.compile(r"([0-9]{1,15})(Ki|Mi|Gi)?\Z")
_UNITS = {None: 1, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}

LimitPair = tuple[int | None, int | None]
"""Soft and hard; None is unlimited."""


def _environment(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    for name, content in value.items():
        if not name or "=" in name or "\0" in name:
            raise refused("is not a name for a variable", "a name is not empty and holds no =", key=name)
        if name.startswith(_RESERVED):
            prefixes = " and ".join(f"{prefix}*" for prefix in _RESERVED)
            raise refused("is a reserved name", f"{prefixes} are set by the Emperor", key=name)
        if isinstance(content, str) and len(name.encode()) + len(content.encode()) + 1 > ARGUMENT_MAX:
            raise refused(f"is longer than {ARGUMENT_MAX} bytes", "pass it in a file", key=name)
    return value


def _variables(value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if not _VARIABLE.match(name):
            raise refused("is not a name for a variable", "use A-Z a-z 0-9 _ - . and begin with a letter", key=name)
        if name.startswith("vassal."):
            raise refused("is a reserved name", "%(vassal.*) is what the Emperor knows of a vassal", key=name)
    return value


@dataclass(frozen=True, slots=True)
class FromFile:
    """The value of a variable that is read from this file when the process starts."""

    file: str


def _variable(value: Any) -> str | FromFile:
    if isinstance(value, str):
        content: str = text(value)
        return content
    if not isinstance(value, dict):
        raise PydanticKnownError("string_type")
    inner = value.get("valueFrom")
    file = inner.get("file") if isinstance(inner, dict) and len(inner) == 1 else None
    if len(value) != 1 or not isinstance(file, str):
        raise refused("expected a string, or a mapping with nothing but a file", "write {valueFrom: {file: /PATH}}")
    if not file.startswith("/") or len(file.encode()) > 4095:
        message = f"valueFrom.file: expected an absolute path of at most 4095 bytes, got {described(file)}"
        raise refused(message, "%d is the directory of this file")
    return FromFile(text(file))


def _directory(value: Any) -> Any:
    if isinstance(value, str) and (not value.startswith("/") or len(value.encode()) > 4095):
        raise expected("an absolute path of at most 4095 bytes", value, "%d is the directory of this file")
    return text(value)


def _signal(value: Any, forbidden: tuple[int, ...]) -> int:
    number = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value if 1 <= value <= 64 else None
    elif isinstance(value, str):
        try:
            number = signal_number(value)
        except ValueError:
            number = None
    if number is None:
        raise expected("a signal such as SIGHUP, HUP or 1", value)
    if number in forbidden:
        raise refused(f"{described(value)} can't be used here", "use a signal that the program answers")
    return number


def _limit(value: Any) -> int | None:
    if value == UNLIMITED:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LIMIT_MAX:
        return value
    raise expected(f"an integer from 0, or {UNLIMITED}", value)


def _limits(value: Any) -> LimitPair:
    if not isinstance(value, dict):
        limit = _limit(value)
        return limit, limit
    if set(value) != {"soft", "hard"}:
        raise refused(f"expected an integer, {UNLIMITED}, or a mapping of soft and hard", "write {soft: …, hard: …}")
    soft, hard = _limit(value["soft"]), _limit(value["hard"])
    if hard is not None and (soft is None or soft > hard):
        raise refused("the soft limit is above the hard one", "raise hard or lower soft")
    return soft, hard


def _size(value: Any) -> int:
    size = -1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.match(value)) and match[1].isascii():
        size = int(match[1]) * _UNITS[match[2]]
    if not 1024 <= size <= 1024**4:
        raise expected("a size from 1Ki to 1024Gi such as 10Mi", value)
    return size


def _labels(value: Any) -> Any:
    for key, content in value.items() if isinstance(value, dict) else ():
        if not is_label_name(key):
            raise refused("is not a label", "use up to 63 of A-Z a-z 0-9 - _ .", key=key)
        if isinstance(content, str) and not is_label_value(content):
            message = f"{described(content)} is not a label's value"
            raise refused(message, "use up to 63 of A-Z a-z 0-9 - _ .", key=key)
    return value


_SIGNAL_SCHEMA = schema_of(type=["string", "integer"], minimum=1, maximum=64, examples=["SIGHUP", "HUP", 1])
ReloadSignal = Annotated[int, PlainValidator(lambda value: _signal(value, (9, 19))), _SIGNAL_SCHEMA]
StopSignal = Annotated[int, PlainValidator(lambda value: _signal(value, (19,))), _SIGNAL_SCHEMA]
Grace = Annotated[float, PlainValidator(duration(3600.0)), DURATION_SCHEMA]
UpToADay = Annotated[float, PlainValidator(duration(86400.0)), DURATION_SCHEMA]
_ONE_LIMIT = {"anyOf": [{"type": "integer", "minimum": 0}, {"const": UNLIMITED}]}
Limit = Annotated[
    LimitPair,
    PlainValidator(_limits),
    schema_of(
        anyOf=[
            *_ONE_LIMIT["anyOf"],
            {
                "type": "object",
                "properties": {"soft": _ONE_LIMIT, "hard": _ONE_LIMIT},
                "required": ["soft", "hard"],
                "additionalProperties": False,
            },
        ]
    ),
]
Size = Annotated[
    int, PlainValidator(_size), schema_of(type=["integer", "string"], pattern="^[0-9]+(Ki|Mi|Gi)?$", minimum=1024)
]
Umask = Annotated[int, PlainValidator(octal_mode), schema_of(type="string", pattern="^[0-7]{1,4}$", examples=["022"])]
Variable = Annotated[
    str | FromFile,
    PlainValidator(_variable),
    schema_of(
        anyOf=[
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "valueFrom": {
                        "type": "object",
                        "properties": {"file": {"type": "string", "pattern": "^[/%]"}},
                        "required": ["file"],
                        "additionalProperties": False,
                    }
                },
                "required": ["valueFrom"],
                "additionalProperties": False,
            },
        ]
    ),
]
Directory = Annotated[str, BeforeValidator(_directory)]


class Reload(Fields):
    """How a running vassal reloads when its file is touched or `emperorctl reload` asks. Exactly one of the three."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    signal: ReloadSignal | None = Field(None, description="Send this signal to the main process.")
    restart: Nothing | None = Field(None, description="Stop the process, then start it again. The default.")
    protocol: Nothing | None = Field(None, description="Send the reload byte of uWSGI's emperor protocol.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Reload:
        if sum(choice is not None for choice in (self.signal, self.restart, self.protocol)) != 1:
            remedy = "write {signal: SIGHUP}, {restart: {}} or {protocol: {}}"
            raise refused("expected exactly one of signal, restart and protocol", remedy)
        return self


class Stop(Fields):
    """How a running vassal is asked to stop."""

    signal: StopSignal = Field(
        int(signal.SIGTERM),
        description="The signal that asks the main process to stop.",
        json_schema_extra=default("SIGTERM"),
    )
    grace_period: Grace = Field(
        30.0,
        description="How long it may take, at most 1h; then everything of the vassal gets SIGKILL.",
        json_schema_extra=default("30s"),
    )


class Notify(Fields):
    """systemd's notification protocol, sd_notify(3): the process finds the socket's path in NOTIFY_SOCKET."""

    access: Literal["main", "all"] = Field(
        "main",
        description="Who is heard: only the main process, or every process of the vassal's user that has the socket.",
    )


class Readiness(Fields):
    """How a vassal says that it is ready. Without it, a vassal that runs is ready."""

    notify: Notify = Field(
        description="It sends READY=1 over NOTIFY_SOCKET; also RELOADING=1, STOPPING=1, STATUS=… and WATCHDOG=1."
    )


class Loyalty(Fields):
    """When a vassal counts as loyal."""

    after: UpToADay = Field(
        10.0, description="How long it must have run, at most 1d.", json_schema_extra=default("10s")
    )


class Logs(Fields):
    """How the captured stdout and stderr are kept."""

    max_size: Size = Field(
        10 * 1024**2,
        description="A file is rotated when it reaches this size, in bytes or Ki Mi Gi.",
        json_schema_extra=default("10Mi"),
    )
    max_files: int = Field(3, ge=0, le=1000, description="How many older files are kept.")


class Rlimits(Fields):
    """Resource limits, each an integer, `unlimited`, or {soft, hard}; see setrlimit(2)."""

    core: Limit | None = Field(None, description="Size of a core file, in bytes.")
    cpu: Limit | None = Field(None, description="CPU time, in seconds.")
    data: Limit | None = Field(None, description="Data segment, in bytes.")
    fsize: Limit | None = Field(None, description="Size of a file it writes, in bytes.")
    locks: Limit | None = Field(None, description="File locks.")
    memlock: Limit | None = Field(None, description="Locked memory, in bytes.")
    msgqueue: Limit | None = Field(None, description="POSIX message queues, in bytes.")
    nice: Limit | None = Field(None, description="Ceiling of the nice value, as 20 - nice.")
    nofile: Limit | None = Field(None, description="Open file descriptors.")
    nproc: Limit | None = Field(None, description="Processes of the user.")
    rss: Limit | None = Field(None, description="Resident set, in bytes (without effect on Linux).")
    rtprio: Limit | None = Field(None, description="Ceiling of the real-time priority.")
    rttime: Limit | None = Field(None, description="Real-time CPU time, in microseconds.")
    sigpending: Limit | None = Field(None, description="Queued signals.")
    stack: Limit | None = Field(None, description="Stack, in bytes.")
    address_space: Limit | None = Field(None, alias="as", description="Address space, in bytes.")

    def given(self) -> Iterator[tuple[str, LimitPair]]:
        """The limits that are set, by name, in order."""
        if not self.model_fields_set:
            return
        for field, info in sorted(type(self).model_fields.items(), key=lambda item: item[1].alias or ""):
            if (pair := getattr(self, field)) is not None:
                yield info.alias or field, pair


class Spec(Fields):
    """What runs, and how. Every string may hold uWSGI's magic variables (%n, %d …), %(name) from vars or such as
    %(vassal.name), $(ENV) and @(file); %%, $$( and @@( are a percent sign, $( and @(."""

    command: Annotated[
        list[Argument],
        BeforeValidator(command),
        Field(min_length=1, description="The program and its arguments. No shell is involved."),
    ]
    env: Annotated[
        dict[str, Variable],
        BeforeValidator(_environment),
        Field(
            description="Environment variables, on top of a short base environment. Values are strings, or with"
            " {valueFrom: {file: PATH}} the content of a file, read by the new process as its own user and never shown."
        ),
    ] = Field({})
    vars: Annotated[
        dict[str, Text],
        BeforeValidator(_variables),
        Field(description="Texts to use as %(name) in any string of spec, also of each other."),
    ] = Field({})
    working_dir: Directory | None = Field(None, description="The directory it starts in; an absolute path.")
    user: Identity | None = Field(None, description="The user it runs as: a name or a decimal id.")
    group: Identity | None = Field(None, description="The group it runs as: a name or a decimal id.")
    umask: Umask | None = Field(None, description='The file mode creation mask: an octal number in quotes, "022".')
    nice: int | None = Field(None, ge=-20, le=19, description="The scheduling priority, -20 to 19.")
    rlimits: Rlimits = Field(Rlimits(), description="Resource limits by name, such as nofile.")
    reload: Reload = Field(Reload(restart=Nothing()), description="How it reloads; {restart: {}} if nothing is said.")
    stop: Stop = Field(Stop(), description="How it is stopped.")
    readiness: Readiness | None = Field(
        None, description="How it says that it is ready; a change replaces the process."
    )
    on_demand: OnDemandFields | None = Field(
        None, description="The sockets that start it, kept by the Emperor; without it, it always runs."
    )
    hooks: Hooks = Field(Hooks(), description="Commands to run before and after its start and its stop.")
    loyalty: Loyalty = Field(Loyalty(), description="When it counts as loyal.")
    logs: Logs = Field(Logs(), description="How its output is kept.")
    suspend: bool = Field(False, description="Hold it down: stopped if it runs, and not started while this is true.")
    resources: Resources = Field(
        Resources(), description="What it and all that it starts may use together, such as memory."
    )
    isolation: IsolationFields | None = Field(
        None, description="What it is kept apart from; without it, nothing but new privileges."
    )
    network: NetworkField | None = Field(
        None,
        description="host (if unset); none: its own, with nothing but loopback; or user: its own, with a way out.",
    )

    @model_validator(mode="after")
    def _kept_apart(self) -> Spec:
        found = meaning(self.isolation, self.network)
        if found.chroot is not None and self.readiness is not None:
            message = "the socket of readiness.notify can't be reached from within a chroot"
            raise refused(message, "remove one of the two", key="isolation")
        return self

    @model_validator(mode="after")
    def _variables_of_the_socket(self) -> Spec:
        taken = next((name for name in _NOTIFY_RESERVED if name in self.env), None)
        if taken is not None and self.readiness is not None:
            raise refused(f"{taken} is set by the Emperor where there is readiness.notify", "remove it", key="env")
        taken = next((name for name in _LISTEN_RESERVED if name in self.env), None)
        if taken is not None and self.on_demand is not None:
            raise refused(f"{taken} is set by the Emperor where there is onDemand", "remove it", key="env")
        return self


class Metadata(Fields):
    """What the vassal is called. A change in here never touches a running process."""

    name: str | None = Field(
        None, description="A DNS-1123 name of at most 63 characters. Defaults to the file's name without extension."
    )
    labels: Annotated[
        dict[str, str], BeforeValidator(_labels), Field(description="Short key-value pairs to select vassals by.")
    ] = Field({})
    annotations: dict[str, Text] = Field({}, description="Free text for people and tools.")


class Manifest(Fields):
    """One vassal: one application that the Emperor keeps running."""

    api_version: Literal["emperor/v1"] = Field(description="The version of this format.")
    kind: Literal["Vassal"] = Field(description="What this document describes.")
    metadata: Metadata = Field(Metadata(), description="Name, labels and annotations.")
    spec: Spec = Field(description="What runs, and how.")
