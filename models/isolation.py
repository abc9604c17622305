"""What keeps a vassal apart: namespaces, what it sees of the file system, capabilities; resolved and immutable.

Made by the parsers (`manifest_isolation` for manifests, `uwsgi_run` for uWSGI configs), carried in `Launch`, turned
into an order by `runtime.confinement`. Not in here: how a field is written, and how any of it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from emperorctl.models.capabilities import CAPABILITIES

__all__ = [
    "CGROUP",
    "IPC",
    "MOUNT",
    "NAMESPACES",
    "NET",
    "PID",
    "USER",
    "UTS",
    "Bind",
    "IdMap",
    "Isolation",
    "Network",
    "Port",
    "capability_names",
    "capability_number",
    "for_all",
    "imposed",
    "namespace_flags",
    "namespace_names",
    "raises_rights",
]

MOUNT, CGROUP, UTS, IPC, USER, PID, NET = (
    0x0002_0000,
    0x0200_0000,
    0x0400_0000,
    0x0800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
)
"""The flags of clone(2) for each kind of namespace."""

NAMESPACES: Mapping[str, int] = MappingProxyType(
    {"mount": MOUNT, "net": NET, "ipc": IPC, "pid": PID, "uts": UTS, "user": USER, "cgroup": CGROUP}
)
"""Every kind of namespace by its name."""

_ALIASES = {"fs": "mount", "ns": "mount", "mnt": "mount"}


class Network(StrEnum):
    """What a vassal's network is: the host's, or its own: with nothing but a loopback device, or with a way out by a
    program that runs as the vassal's user."""

    HOST = "host"
    NONE = "none"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Port:
    """A port `inside` that is reached at the host's port `outside` of `address` (empty: all of them). `protocol` is
    tcp or udp."""

    inside: int
    outside: int
    protocol: str = "tcp"
    address: str = ""

    @property
    def where(self) -> str:
        """As people write it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}{':' if host else ''}{self.outside}/{self.protocol.upper()}"

    def clashes(self, other: Port) -> bool:
        """Whether only one of the two can be had."""
        if (self.protocol, self.outside) != (other.protocol, other.outside):
            return False
        every = {"", "0.0.0.0", "::"}  # noqa: S104
        return self.address == other.address or self.address in every or other.address in every


@dataclass(frozen=True, slots=True)
class IdMap:
    """`count` ids from `inside` on stand for those from `outside` on."""

    inside: int
    outside: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host, seen at `target` as well. Both are absolute."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Isolation:
    """How one vassal is kept apart. All paths are absolute, without `.` and `..`; under `chroot` they are seen from
    within it, the source of a bind excepted.

    `namespaces` are flags of clone(2). `init`: in its pid namespace something else is process 1 (otherwise the vassal
    itself is). `proc`: /proc shows its pid namespace alone. `uid_map` and `gid_map` are of its user namespace; empty:
    the vassal's own ids stand for themselves. `capabilities` are the numbers of those it keeps; None: none for a
    user other than root, and what the Emperor has for root. `no_new_privileges`: no program that it runs gains any.
    `root_map`: in its user namespace it is root, and whoever it wants to be. `bound`: what root keeps, where
    `capabilities` is None; None for all. `ports` are published, where the network is the user's.
    """

    namespaces: int = 0
    hostname: str | None = None
    private_tmp: bool = False
    private_devices: bool = False
    proc: bool = False
    chroot: str | None = None
    read_only: tuple[str, ...] = ()
    read_write: tuple[str, ...] = ()
    inaccessible: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    uid_map: tuple[IdMap, ...] = ()
    gid_map: tuple[IdMap, ...] = ()
    capabilities: tuple[int, ...] | None = None
    no_new_privileges: bool = False
    network: Network = Network.HOST
    init: bool = False
    root_map: bool = False
    bound: tuple[int, ...] | None = None
    ports: tuple[Port, ...] = ()


def for_all(flags: int, bound: tuple[int, ...] | None) -> Isolation | None:
    """What uWSGI vassals get where the Emperor is told of namespaces and capabilities for all: as its own Emperor does
    it, the vassal is process 1 of its pid namespace and root in its user namespace, and sees to the rest itself."""
    if not flags and bound is None:
        return None
    return Isolation(flags, bound=bound, root_map=bool(flags & USER))


def imposed(own: Isolation, flags: int, bound: tuple[int, ...] | None) -> Isolation:
    """What a native vassal gets then. It has to be able to live in its namespaces without seeing to anything."""
    if not flags and bound is None:
        return own
    new = flags & ~own.namespaces
    proc = own.proc or bool(new & PID)
    flags |= own.namespaces | (MOUNT if proc else 0)
    network = Network.NONE if flags & NET and own.network is Network.HOST else own.network
    return replace(own, namespaces=flags, proc=proc, network=network, init=bool(flags & PID), bound=bound)


def namespace_flags(words: tuple[str, ...]) -> int:
    """The flags of these namespaces, by their names or uWSGI's. Raises ValueError with the first unknown one."""
    flags = 0
    for word in words:
        name = _ALIASES.get(word, word)
        if name not in NAMESPACES:
            raise ValueError(word)
        flags |= NAMESPACES[name]
    return flags


def namespace_names(flags: int) -> list[str]:
    """The names of these namespaces, in their usual order."""
    return [name for name, flag in NAMESPACES.items() if flags & flag]


def capability_number(word: str) -> int:
    """The number of a capability, in any case and with or without `cap_`. Raises ValueError for an unknown one."""
    number = CAPABILITIES.get(word.lower().removeprefix("cap_"))
    if number is None:
        raise ValueError(word)
    return number


def capability_names(numbers: tuple[int, ...]) -> list[str]:
    """The names of these capabilities, in the order of their numbers."""
    return [name for name, number in CAPABILITIES.items() if number in numbers]


def raises_rights(isolation: Isolation, given: Isolation | None = None) -> str:
    """The field by which a vassal would come to more than its user has by himself; empty where there is none.

    For whoever has to do with files of people that are not trusted. `given` is what the administrator gives it.
    """
    given = given or _NOTHING_GIVEN
    if set(isolation.capabilities or ()) - set(given.capabilities or ()):
        return "isolation.capabilities"
    if not isolation.no_new_privileges and replace(isolation, capabilities=given.capabilities) != given:
        # A program with set-user-id bits would trust files that the vassal has put in place of the host's, which
        # holds for those that it adds to what it is given, too.
        return "isolation.noNewPrivileges"
    if isolation.chroot not in (None, given.chroot):
        # It is entered with root's rights, whatever directories lie around it.
        return "isolation.chroot"
    if isolation.root_map or (isolation.uid_map and isolation.uid_map != given.uid_map):
        return "isolation.uidMap"
    return "isolation.gidMap" if isolation.gid_map and isolation.gid_map != given.gid_map else ""


_NOTHING_GIVEN = Isolation(no_new_privileges=True)
