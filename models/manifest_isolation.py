"""The fields `spec.isolation` and `spec.network` of a native manifest: what keeps a vassal apart.

Used by `manifest_fields` as parts of the spec, and by `manifest`. What goes without saying is filled in here: a
hostname asks for a namespace of its own, a path for another. Not in here: how any of it is done (`runtime.zygote`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from emperorctl.models.capabilities import CAPABILITIES
from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.isolation import (
    MOUNT,
    NAMESPACES,
    NET,
    PID,
    USER,
    UTS,
    Bind,
    IdMap,
    Isolation,
    Network,
    capability_names,
    capability_number,
    imposed,
    namespace_flags,
    namespace_names,
)
from emperorctl.models.manifest_network import NetworkField, NetworkFields
from emperorctl.models.manifest_values import Fields, described, expected, refused, schema_of, text
from emperorctl.models.names import printable
from emperorctl.models.vassal import Vassal

__all__ = ["DEFAULT", "IsolationFields", "NetworkField", "effective", "impose", "meaning"]

_PATHS_MAX = 64
_PATH_MAX = 4095
_MAPS_MAX = 32
_ID_END = 2**32 - 1
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?\Z")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108

DEFAULT = Isolation(no_new_privileges=True)
"""What a manifest means that says nothing."""


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or len(value.encode()) > _PATH_MAX:
        raise expected("an absolute path of at most 4095 bytes", value, "%d is the directory of this file")
    text(value)
    parts = [part for part in value.split("/") if part]
    if "." in parts or ".." in parts:
        raise refused(f"{described(value)} holds . or ..", "write the path itself")
    return "/" + "/".join(parts)


def _below_root(value: Any) -> str:
    path = _path(value)
    if path == "/":
        raise refused("/ can't be meant here", "name what lies in it, or use chroot")
    return path


def _namespace(value: Any) -> str:
    known = ", ".join(NAMESPACES)
    if not isinstance(value, str):
        raise expected(f"one of {known}", value)
    try:
        return namespace_names(namespace_flags((value,)))[0]
    except ValueError:
        raise expected(f"one of {known}", value) from None


def _capability(value: Any) -> str:
    if not isinstance(value, str):
        raise expected("the name of a capability such as net_bind_service", value)
    try:
        number = capability_number(value)
    except ValueError:
        raise expected("the name of a capability such as net_bind_service", value, "see capabilities(7)") from None
    return next(name for name, its in CAPABILITIES.items() if its == number)


def _hostname(value: Any) -> str:
    if not isinstance(value, str) or not _HOSTNAME.match(value):
        raise expected("a host name: up to 64 of A-Z a-z 0-9 - .", value)
    return value


def _short_bind(value: Any) -> Any:
    """`/source`, `/source:/target` and `/source:/target:ro` stand for a mapping."""
    if isinstance(value, str):
        raise refused("expected a list, got a string", "write a list: [" + printable(value[:120]) + "]")
    return [_bind_of(item) if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


def _bind_of(item: str) -> dict[str, Any]:
    source, _, rest = item.partition(":")
    target, _, mode = rest.partition(":")
    if mode not in ("", "ro", "rw") or (item.endswith(":")):
        raise refused(f"{described(item)} is not SOURCE:TARGET or SOURCE:TARGET:ro", "such as /srv/data:/data:ro")
    return {"source": source, "target": target or source, "readOnly": mode == "ro"}


Path = Annotated[str, PlainValidator(_path), schema_of(type="string", pattern="^/")]
PathBelow = Annotated[str, PlainValidator(_below_root), schema_of(type="string", pattern="^/.")]
Paths = Annotated[list[Path], Field(max_length=_PATHS_MAX)]


class BindFields(Fields):
    """A file or directory to be seen in a second place. In its short form it is SOURCE:TARGET, or SOURCE:TARGET:ro."""

    source: PathBelow = Field(description="What is shown: it is opened with the rights of the vassal's user.")
    target: PathBelow = Field(description="Where: this has to exist, unless it lies in a private /tmp.")
    read_only: bool = Field(False, description="Nothing can be changed through it.")


class MapFields(Fields):
    """A range of ids of a user namespace."""

    inside: int = Field(ge=0, le=_ID_END - 1, description="The first id as the vassal sees it.")
    outside: int = Field(ge=0, le=_ID_END - 1, description="The host's id that it stands for.")
    count: int = Field(1, ge=1, le=_ID_END, description="How many ids, from these on.")


Maps = Annotated[list[MapFields], Field(min_length=1, max_length=_MAPS_MAX)]


class IsolationFields(Fields):
    """What the vassal is kept apart from. What a field needs goes without saying: a hostname of its own, for one, asks
    for the namespace `uts`. A change replaces the process."""

    namespaces: Annotated[
        list[Annotated[str, PlainValidator(_namespace), schema_of(type="string", enum=[*NAMESPACES, "fs"])],],
        Field(description="Namespaces of its own: mount (or fs), net, ipc, pid, uts, user, cgroup."),
    ] = Field([])
    hostname: Annotated[str, PlainValidator(_hostname), schema_of(type="string", maxLength=64)] | None = Field(
        None, description="What the host is called within."
    )
    private_tmp: bool = Field(False, description="An empty /tmp and /var/tmp of its own, gone with each launch.")
    private_devices: bool = Field(False, description="A /dev with pseudo-devices (zero, random …), pts and shm alone.")
    proc: bool | None = Field(
        None, description="A /proc that shows its pid namespace alone; if nothing is said, wherever it has one."
    )
    chroot: PathBelow | None = Field(
        None, description="The directory that is / for it, command and workingDir included."
    )
    read_only_paths: Paths = Field(
        [], description="Where it can change nothing, with all below. / spares /dev /proc /sys."
    )
    read_write_paths: Paths = Field([], description="Exceptions below readOnlyPaths.")
    inaccessible_paths: Annotated[list[PathBelow], Field(max_length=_PATHS_MAX)] = Field(
        [], description="In their place it finds something empty that nobody may open."
    )
    bind_paths: Annotated[list[BindFields], BeforeValidator(_short_bind), Field(max_length=_PATHS_MAX)] = Field(
        [], description="Files and directories to be seen in a second place."
    )
    uid_map: Maps | None = Field(
        None, description="Of its user namespace; if nothing is said, ids stand for themselves."
    )
    gid_map: Maps | None = Field(None, description="As uidMap, for groups.")
    capabilities: (
        list[Annotated[str, PlainValidator(_capability), schema_of(type="string", examples=["net_bind_service"])]]
        | None
    ) = Field(
        None,
        description="Those it keeps, whoever it runs as. If nothing is said: none, unless it runs as root.",
    )
    no_new_privileges: bool = Field(
        True, description="No program that it runs gains rights, by set-user-id bits (sudo, ping) or file capabilities."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> IsolationFields:
        self._once()
        for path in self.read_write_paths:
            if not any(_within(path, outer) for outer in self.read_only_paths):
                raise refused(f"{printable(path)} lies below none of readOnlyPaths", "remove it", key="readWritePaths")
        for key, paths in (("readOnlyPaths", self.read_only_paths), ("readWritePaths", self.read_write_paths)):
            for path in paths:
                if any(_within(path, bind.target) for bind in self.bind_paths):
                    message = f"{printable(path)} lies below a target of bindPaths"
                    raise refused(message, "write SOURCE:TARGET:ro in bindPaths", key=key)
        for key, maps in (("uidMap", self.uid_map), ("gidMap", self.gid_map)):
            if maps and _overlap([(one.inside, one.count) for one in maps]):
                raise refused("two ranges overlap within", "give each id one meaning", key=key)
            if maps and _overlap([(one.outside, one.count) for one in maps]):
                raise refused("two ranges overlap outside", "give each id one meaning", key=key)
        return self

    def _once(self) -> None:
        """No place is given two meanings."""
        seen: dict[str, str] = {}
        if self.private_tmp:
            seen |= dict.fromkeys(_TEMPORARY, "privateTmp")
        if self.private_devices:
            seen["/dev"] = "privateDevices"
        lists = {
            "readOnlyPaths": self.read_only_paths,
            "readWritePaths": self.read_write_paths,
            "inaccessiblePaths": self.inaccessible_paths,
            "bindPaths": [bind.target for bind in self.bind_paths],
        }
        for key, paths in lists.items():
            for path in paths:
                if path in seen:
                    where = "twice" if seen[path] == key else f"in {seen[path]} as well"
                    raise refused(f"{printable(path)} is given {where}", "remove one of them", key=key)
                seen[path] = key


def _within(path: str, outer: str) -> bool:
    return path.startswith(outer.rstrip("/") + "/") and path != outer


def _overlap(ranges: list[tuple[int, int]]) -> bool:
    ordered = sorted(ranges)
    return any(first + count > second for (first, count), (second, _) in pairwise(ordered))


def meaning(fields: IsolationFields | None, network: NetworkFields | None) -> Isolation:
    """As everything else knows it. Raises PydanticCustomError for what the two say against each other."""
    if fields is None:
        if network is None or network.host is not None:
            return DEFAULT
        fields = IsolationFields()
    flags = namespace_flags(tuple(fields.namespaces))
    if network is not None and network.host is not None and flags & NET:
        message = "the network is the host's, and isolation.namespaces has one of its own"
        raise refused(message, "write network: none, or remove net from the namespaces", key="network")
    if network is not None and network.host is None:
        flags |= NET
    user = network.user if network is not None else None
    if user is not None:
        # It owns the network: the program that is its way out has rights over it, and over nothing else.
        flags |= USER
    if fields.hostname is not None:
        flags |= UTS
    if fields.uid_map or fields.gid_map:
        flags |= USER
    if fields.proc:
        flags |= PID
    proc = bool(flags & PID) if fields.proc is None else fields.proc
    paths = (fields.read_only_paths, fields.read_write_paths, fields.inaccessible_paths, fields.bind_paths)
    if proc or fields.private_tmp or fields.private_devices or fields.chroot is not None or any(paths):
        flags |= MOUNT
    return Isolation(
        namespaces=flags,
        hostname=fields.hostname,
        private_tmp=fields.private_tmp,
        private_devices=fields.private_devices,
        proc=proc,
        chroot=fields.chroot,
        read_only=tuple(fields.read_only_paths),
        read_write=tuple(fields.read_write_paths),
        inaccessible=tuple(fields.inaccessible_paths),
        binds=tuple(Bind(bind.source, bind.target, bind.read_only) for bind in fields.bind_paths),
        uid_map=_ranges(fields.uid_map),
        gid_map=_ranges(fields.gid_map),
        capabilities=None
        if fields.capabilities is None
        else tuple(sorted({CAPABILITIES[name] for name in fields.capabilities})),
        no_new_privileges=fields.no_new_privileges,
        network=Network.USER if user is not None else Network.NONE if flags & NET else Network.HOST,
        init=bool(flags & PID),
        ports=tuple(one.port for one in user.ports) if user is not None else (),
    )


def _ranges(maps: list[MapFields] | None) -> tuple[IdMap, ...]:
    return tuple(IdMap(one.inside, one.outside, one.count) for one in maps or ())


def impose(vassal: Vassal, flags: int, bound: tuple[int, ...] | None) -> Vassal:
    """The same with what the Emperor was told for all vassals. Raises ConfigError for capabilities beyond that."""
    own = vassal.launch.isolation
    if own is None or (not flags and bound is None):
        return vassal
    beyond = [] if bound is None else [number for number in own.capabilities or () if number not in bound]
    if beyond:
        listed = ", ".join(capability_names(tuple(beyond)))
        message = f"asks for {listed}, which the Emperor keeps from all vassals (--emperor-cap)"
        problem = Problem("Forbidden", message, "remove it", line=vassal.line, field="spec.isolation.capabilities")
        raise ConfigError(problem)
    isolation = imposed(own, flags, bound)
    spec = {**vassal.spec, "isolation": effective(isolation)}
    return replace(vassal, launch=replace(vassal.launch, isolation=isolation), spec=spec)


def effective(isolation: Isolation) -> dict[str, Any]:
    """As it is meant, in the manifest's words, with what goes without saying. Not to be changed: most share one."""
    return _SHOWN if isolation == DEFAULT else _effective(isolation)


def _effective(isolation: Isolation) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if isolation.namespaces:
        out["namespaces"] = namespace_names(isolation.namespaces)
    switches = {
        "privateTmp": isolation.private_tmp,
        "privateDevices": isolation.private_devices,
    }
    out |= {key: True for key, on in switches.items() if on}
    if isolation.namespaces & PID:
        out["proc"] = isolation.proc
    names = {"hostname": isolation.hostname, "chroot": isolation.chroot}
    out |= {key: value for key, value in names.items() if value is not None}
    paths = {
        "readOnlyPaths": isolation.read_only,
        "readWritePaths": isolation.read_write,
        "inaccessiblePaths": isolation.inaccessible,
    }
    out |= {key: list(value) for key, value in paths.items() if value}
    if isolation.binds:
        out["bindPaths"] = [
            {"source": bind.source, "target": bind.target, "readOnly": bind.read_only} for bind in isolation.binds
        ]
    for key, maps in (("uidMap", isolation.uid_map), ("gidMap", isolation.gid_map)):
        if maps:
            out[key] = [{"inside": one.inside, "outside": one.outside, "count": one.count} for one in maps]
    if isolation.capabilities is not None:
        out["capabilities"] = capability_names(isolation.capabilities)
    out["noNewPrivileges"] = isolation.no_new_privileges
    return out


_SHOWN = _effective(DEFAULT)
