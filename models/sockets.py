"""Where an on-demand vassal is reached: addresses as people write them, and how the program gets their sockets.

Used by the parsers (`manifest_sockets`, `uwsgi`), the plan and the runtime's sockets. Pure: nothing is bound or looked
up here; hosts are numbers, never names, so that no name service can hold the Emperor up.
"""

from __future__ import annotations

import ipaddress
import posixpath
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.names import printable

__all__ = ["BACKLOG", "DEFAULT_MODE", "PATH_MAX", "Address", "Family", "OnDemand", "Passing", "parse_address"]

PATH_MAX = 107
"""Bytes of a Unix socket's path (sun_path without its final NUL), and of an abstract name."""
BACKLOG = 1024
"""Connections that may wait in a socket, where nothing else is said; the kernel's somaxconn may allow less."""
DEFAULT_MODE = 0o666
"""Of a Unix socket: everybody may connect, as with uWSGI."""

_ANY = "0.0.0.0"  # noqa: S104
_FORMS = "write 127.0.0.1:8000, [::1]:8000, :8000, the path of a Unix socket, or @NAME"


class Family(StrEnum):
    """The kinds of addresses."""

    INET = "inet"
    INET6 = "inet6"
    UNIX = "unix"
    ABSTRACT = "abstract"


class Passing(StrEnum):
    """How the program gets its sockets: the only one as standard input, or from descriptor 3 on with LISTEN_FDS."""

    STDIN = "stdin"
    LISTEN_FDS = "listenFds"


@dataclass(frozen=True, slots=True)
class Address:
    """One address. `host` and `port` of TCP; `path` of a Unix socket, or the name behind the @ of an abstract one.

    `mode`, `owner` and `group` are of a Unix socket's file (None: the Emperor's own user and group); `backlog` is how
    many connections may wait; `name` is what LISTEN_FDNAMES calls it. `bound_as`: the uid and gid with whose rights its
    file is made and removed (None: the Emperor's own).
    """

    family: Family
    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = DEFAULT_MODE
    owner: str | None = None
    group: str | None = None
    backlog: int = BACKLOG
    name: str = ""
    bound_as: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What makes it the same socket: two of one key can't be bound at once."""
        return self.family, self.host, self.port, self.path

    def __str__(self) -> str:
        match self.family:
            case Family.INET:
                return f"{'' if self.host == _ANY else self.host}:{self.port}"
            case Family.INET6:
                return f"[{self.host}]:{self.port}"
            case Family.ABSTRACT:
                return f"@{printable(self.path)}"
            case Family.UNIX:
                return printable(self.path)

    def overlaps(self, other: Address) -> bool:
        """Whether both can't be bound at once although they differ: one port, on overlapping hosts perhaps."""
        return bool(self.port) and self.port == other.port and self.key != other.key


@dataclass(frozen=True, slots=True)
class OnDemand:
    """The sockets that the Emperor keeps for a vassal, and that start it. `addresses` is never empty.

    `idle` is after how many seconds without an open connection it is put to sleep, None for never.
    """

    addresses: tuple[Address, ...]
    passing: Passing = Passing.STDIN
    idle: float | None = None

    def serves_as(self, other: OnDemand | None) -> bool:
        """Whether a process that was started with `other` has the sockets that this asks for."""
        return (
            other is not None
            and self.passing is other.passing
            and [(one.key, one.name) for one in self.addresses] == [(one.key, one.name) for one in other.addresses]
        )

    def __str__(self) -> str:
        return ", ".join(map(str, self.addresses))


@lru_cache(maxsize=64)
def parse_address(text: str, directory: str | None = None) -> Address:
    """The address in `127.0.0.1:8000`, `[::1]:8000`, `:8000`, `/run/x.sock`, `unix:/run/x.sock` or `@name`.

    `directory` is what a relative path of a Unix socket is relative to (None: it has to be absolute).
    Raises ConfigError.
    """
    if "\0" in text or any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise _refused(text, "holds a NUL character or is not UTF-8")
    if not text:
        raise _refused(text, "is empty")
    if text.startswith("@"):
        return _abstract(text)
    if text.startswith("unix:"):
        return _unix(text, text.removeprefix("unix:").removeprefix("//"), directory)
    if ":" in text and not text.startswith(("/", "./")):
        return _inet(text)
    return _unix(text, text, directory)


def _refused(text: str, message: str, remedy: str = _FORMS, reason: str = "InvalidAddress") -> ConfigError:
    shown = printable(text[:120]) + ("…" if len(text) > 120 else "")
    return ConfigError(Problem(reason, f'the address "{shown}" {message}', remedy))


def _abstract(text: str) -> Address:
    name = text[1:]
    if not name:
        raise _refused(text, "has no name behind its @")
    if len(name.encode()) > PATH_MAX:
        raise _refused(text, f"has a name of more than {PATH_MAX} bytes", "choose a shorter one", "PathTooLong")
    return Address(Family.ABSTRACT, path=name)


def _unix(text: str, path: str, directory: str | None) -> Address:
    if not path.startswith("/"):
        if directory is None or not path:
            raise _refused(text, "is neither HOST:PORT nor an absolute path")
        path = posixpath.join(directory, path)
    path = posixpath.normpath(path)
    size = len(path.encode())
    if size > PATH_MAX:
        message = f"has a path of {size} bytes; the kernel takes {PATH_MAX} at most"
        raise _refused(text, message, "choose a shorter one, such as one in /run", "PathTooLong")
    return Address(Family.UNIX, path=path)


def _inet(text: str) -> Address:
    host, _, digits = text.rpartition(":")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= 65535):
        raise _refused(text, "does not end with a port from 1 to 65535")
    if host in ("", "*"):
        return Address(Family.INET, _ANY, int(digits))
    if host == "localhost":
        return Address(Family.INET, "127.0.0.1", int(digits))
    try:
        if host.startswith("[") and host.endswith("]"):
            six = ipaddress.IPv6Address(host[1:-1])
            if six.scope_id is not None:
                raise _refused(text, "has a scope, which is not supported", "use an address without %")
            return Address(Family.INET6, six.compressed, int(digits))
        return Address(Family.INET, str(ipaddress.IPv4Address(host)), int(digits))
    except ValueError:
        hint = (
            "write an IPv6 address in brackets, [::1]:8000" if ":" in host else "give the number: names are not asked"
        )
        raise _refused(text, f'has a host that is no IP address ("{printable(host[:60])}")', hint) from None
