"""The field `spec.network` of a native manifest: whose network the vassal has, and what of its own is published.

Used by `manifest_isolation` and `manifest_fields`. Not in here: what it means for namespaces (`manifest_isolation`),
and how a network comes about (`runtime.zygote.usernet`).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, PlainValidator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from emperorctl.models.isolation import Isolation, Network, Port
from emperorctl.models.manifest_values import Fields, Nothing, described, expected, refused, schema_of
from emperorctl.models.names import printable

__all__ = ["NetworkField", "NetworkFields", "effective_network"]

_PORTS_MAX = 64
_WORDS = ("host", "none", "user")
_SHORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9]+(?:\.[0-9]+){3}):)?"
    r"(?:(?P<host>[0-9]{1,5}):)?(?P<inside>[0-9]{1,5})(?:/(?P<protocol>tcp|udp|TCP|UDP))?\Z"
)


def _address(value: Any) -> str:
    """An address of the host in its usual form; what stands for all of them is the empty string."""
    if not isinstance(value, str):
        raise expected("an IP address such as 127.0.0.1", value)
    if value == "":
        return value
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise expected("an IP address such as 127.0.0.1", value, "leave it out for all addresses") from None
    if "%" in value or found.is_multicast:
        raise refused(f"{described(value)} can't be listened on", "name an address of this host")
    return str(found)


def _ports(value: Any) -> Any:
    """`8080:80`, `127.0.0.1:8080:80/udp` and `80` stand for a mapping."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        raise refused("expected a list of ports", f"write a list: [{printable(str(value)[:120])}]")
    return [_port_of(item) if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


def _port_of(item: str) -> dict[str, Any]:
    match = _SHORT.match(item)
    if match is None:
        raise refused(f"{described(item)} is not HOSTPORT:CONTAINERPORT", 'such as "8080:80" or "127.0.0.1:53:53/udp"')
    inside = int(match["inside"])
    short: dict[str, Any] = {"containerPort": inside, "hostPort": int(match["host"] or inside)}
    if match["ip"]:
        short["hostIP"] = match["ip"].strip("[]")
    if match["protocol"]:
        short["protocol"] = match["protocol"].upper()
    return short


Number = Annotated[int, Field(ge=1, le=65535)]


class PortFields(Fields):
    """A port within, to be reached at one of the host's. In its short form, as for docker, it is "8080:80"."""

    container_port: Number = Field(description="What the vassal listens on.")
    host_port: Number | None = Field(None, description="The host's port; if nothing is said, the same number.")
    protocol: Literal["TCP", "UDP"] = Field("TCP", description="TCP or UDP.")
    host_ip: Annotated[str, PlainValidator(_address), schema_of(type="string", examples=["127.0.0.1"])] = Field(
        "", alias="hostIP", description="The host's address; if nothing is said, all of them."
    )

    @property
    def port(self) -> Port:
        """As everything else knows it."""
        return Port(self.container_port, self.host_port or self.container_port, self.protocol.lower(), self.host_ip)


class UserFields(Fields):
    """A network of its own, with outgoing connections, through a program that is run as the vassal's user."""

    ports: Annotated[list[PortFields], BeforeValidator(_ports), Field(max_length=_PORTS_MAX)] = Field(
        [], description="What is reached from outside."
    )

    @model_validator(mode="after")
    def _once(self) -> UserFields:
        seen: list[Port] = []
        for index, fields in enumerate(self.ports):
            port = fields.port
            if any(port.clashes(other) for other in seen):
                raise refused(f"ports[{index}]: {port.where} is published twice", "remove one of them", key="ports")
            seen.append(port)
        return self


class NetworkFields(Fields):
    """Whose network it has: one of the three, by its name or as a mapping."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    host: Nothing | None = Field(None, description="The host's.")
    none: Nothing | None = Field(None, description="One of its own with nothing but a loopback device.")
    user: UserFields | None = Field(None, description="One of its own, with outgoing connections.")

    @model_validator(mode="after")
    def _exactly_one(self) -> NetworkFields:
        if sum(choice is not None for choice in (self.host, self.none, self.user)) != 1:
            raise refused("expected exactly one of host, none and user", 'such as user: {ports: ["8080:80"]}')
        return self


class _ByName:
    """For the schema: a word, or the mapping."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "enum": list(_WORDS)}, handler(core)]}


def _network(value: Any) -> Any:
    if isinstance(value, str) and value in _WORDS:
        return {value: {}}
    if not isinstance(value, dict):
        raise expected("host, none or user", value)
    return value


NetworkField = Annotated[NetworkFields, BeforeValidator(_network), _ByName()]


def effective_network(isolation: Isolation) -> Any:
    """As it is meant, in the manifest's words; None where the namespaces say it all."""
    if isolation.network is not Network.USER:
        return None
    ports = []
    for port in isolation.ports:
        shown = {"containerPort": port.inside, "hostPort": port.outside, "protocol": port.protocol.upper()}
        ports.append(shown | ({"hostIP": port.address} if port.address else {}))
    return {"user": {"ports": ports}} if ports else "user"
