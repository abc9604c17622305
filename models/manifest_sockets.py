"""The field `spec.onDemand` of a native manifest: addresses, how the program gets their sockets, and when it sleeps.

Used by `manifest_fields` as a part of the spec, and by `manifest`. What an address may look like is in `sockets`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from emperorctl.models.durations import format_duration
from emperorctl.models.errors import ConfigError
from emperorctl.models.manifest_values import (
    DURATION_SCHEMA,
    Fields,
    Identity,
    duration,
    expected,
    octal_mode,
    refused,
    schema_of,
)
from emperorctl.models.sockets import BACKLOG, DEFAULT_MODE, Address, Family, OnDemand, Passing, parse_address

__all__ = ["ADDRESSES_MAX", "OnDemandFields"]

ADDRESSES_MAX = 32
_NAME = re.compile(r"[!-9;-~]{1,255}\Z")
_OF_FILES = ("mode", "owner", "group")


def _address(value: Any) -> str:
    if not isinstance(value, str):
        raise expected("an address such as 127.0.0.1:8000", value)
    try:
        parse_address(value)
    except ConfigError as error:
        raise refused(error.problem.message, error.problem.remedy) from None
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        raise expected("a name of 1 to 255 printable ASCII characters without a colon", value)
    return value


def _short(value: Any) -> Any:
    """An address alone stands for a mapping that says nothing else."""
    if isinstance(value, list):
        return [{"address": item} if isinstance(item, str) else item for item in value]
    if isinstance(value, str):
        raise refused("expected a list of addresses, got a string", "write a list: [" + value[:120] + "]")
    return value


def _idle(value: Any) -> float:
    seconds = duration(86400.0 * 7)(value)
    if seconds < 1:
        raise expected("at least 1s", value)
    return seconds


class SocketFields(Fields):
    """One socket. In its short form it is the address alone."""

    address: Annotated[str, PlainValidator(_address), schema_of(type="string", examples=["127.0.0.1:8000"])] = Field(
        description="127.0.0.1:8000, [::1]:8000, :8000, the absolute path of a Unix socket, or @NAME (abstract)."
    )
    mode: Annotated[int, PlainValidator(octal_mode), schema_of(type="string", pattern="^[0-7]{1,4}$")] | None = Field(
        None, description='The permissions of a Unix socket, in quotes; "666" if nothing is said.'
    )
    owner: Identity | None = Field(None, description="The owner of a Unix socket: a name or a decimal id.")
    group: Identity | None = Field(None, description="The group of a Unix socket: a name or a decimal id.")
    name: Annotated[str, PlainValidator(_name), schema_of(type="string")] | None = Field(
        None, description="What LISTEN_FDNAMES calls it; the vassal's name if nothing is said."
    )

    @model_validator(mode="after")
    def _only_files_have_owners(self) -> SocketFields:
        given = next((key for key in _OF_FILES if getattr(self, key) is not None), None)
        if given is not None and parse_address(self.address).family is not Family.UNIX:
            raise refused("is only for a Unix socket in the file system", "remove it", key=given)
        return self


class OnDemandFields(Fields):
    """Started by the first connection to one of its sockets. The Emperor keeps them, so that none is ever lost."""

    addresses: Annotated[
        list[SocketFields],
        BeforeValidator(_short),
        Field(min_length=1, max_length=ADDRESSES_MAX, description="Where it is reached; at least one address."),
    ]
    passing: Literal["listenFds", "stdin"] = Field(
        "listenFds",
        description="How it gets its sockets: from descriptor 3 on with LISTEN_FDS, as from systemd, or its only one as"
        " standard input, as from uWSGI's Emperor.",
    )
    idle_timeout: Annotated[float, PlainValidator(_idle), DURATION_SCHEMA] | None = Field(
        None,
        description="After how long without an open connection it is stopped and sleeps, 1s to 7d; never if unset.",
    )
    backlog: int = Field(BACKLOG, ge=1, le=65535, description="How many connections may wait in each socket.")

    @model_validator(mode="after")
    def _fits_together(self) -> OnDemandFields:
        if self.passing == "stdin" and len(self.addresses) != 1:
            raise refused("takes exactly one address", "write passing: listenFds, or remove addresses", key="passing")
        seen = set()
        for item in self.addresses:
            key = parse_address(item.address).key
            if key in seen:
                raise refused(f"{item.address} is given twice", "remove one of them", key="addresses")
            seen.add(key)
        return self

    def meaning(self) -> OnDemand:
        """The same, as everything else knows it."""
        return OnDemand(tuple(map(self._socket, self.addresses)), Passing(self.passing), self.idle_timeout)

    def _socket(self, item: SocketFields) -> Address:
        found = parse_address(item.address)
        return Address(
            found.family,
            found.host,
            found.port,
            found.path,
            mode=DEFAULT_MODE if item.mode is None else item.mode,
            owner=item.owner,
            group=item.group,
            backlog=self.backlog,
            name=item.name or "",
        )

    def effective(self) -> dict[str, Any]:
        """As it is meant, in the manifest's words."""
        addresses: list[Any] = []
        for item in self.addresses:
            more: dict[str, Any] = {} if item.mode is None else {"mode": f"{item.mode:03o}"}
            more |= {key: value for key in ("owner", "group", "name") if (value := getattr(item, key)) is not None}
            addresses.append({"address": item.address, **more} if more else item.address)
        out: dict[str, Any] = {"addresses": addresses, "passing": self.passing, "backlog": self.backlog}
        if self.idle_timeout is not None:
            out["idleTimeout"] = format_duration(self.idle_timeout)
        return out
