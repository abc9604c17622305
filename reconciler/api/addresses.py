"""Where a server listens, as people write it: `host:port`, `[::1]:port`, `:port`, or the path of a Unix socket.

Called by the command line before anything is started, so that a mistake costs nothing. Not in here: binding
(`listener`).
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass

from emperorctl.models.errors import UserError
from emperorctl.models.names import printable

__all__ = ["Address", "Exposure", "TcpAddress", "UnixAddress", "parse_address"]

_FORMS = "expected 127.0.0.1:PORT, [::1]:PORT, or the path of a Unix socket"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket; `path` is absolute."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port of this machine; `host` is a numeric address, of IPv6 where it holds a colon."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = UnixAddress | TcpAddress


@dataclass(frozen=True, slots=True)
class Exposure:
    """The option that is being read, and the one that allows an address which other machines can reach.

    `public` is whether the latter was given.
    """

    option: str
    allowance: str
    public: bool = False


def parse_address(text: str, exposure: Exposure) -> Address:
    """The address that `text` writes. Raises UserError: not an address, or one that other machines can reach.

    A host name is looked up, and has to mean this machine alone; of its addresses the first one is taken.
    """
    wrong = f"{exposure.option}: "
    if not text or "\0" in text:
        raise UserError(f"{wrong}the address is empty; {_FORMS}")
    if text.startswith("@"):
        raise UserError(f"{wrong}{printable(text)} is an abstract socket, open to everyone; {_FORMS}")
    if text.isdecimal():
        raise UserError(f"{wrong}{printable(text)} is a port without an address: write 127.0.0.1:{printable(text)}")
    if text.startswith(("/", "./", "../")) or ":" not in text:
        return UnixAddress(os.path.abspath(text))
    host, _, digits = text.rpartition(":")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 5 and 0 < int(digits) < 65536):
        raise UserError(f'{wrong}"{printable(digits)}" is not a port (1 to 65535) in {printable(text)}; {_FORMS}')
    port = int(digits)
    if host in {"", "*"}:
        if not exposure.public:
            raise UserError(
                f"{wrong}{printable(text)} listens on all interfaces, where other machines can reach it:"
                f" write 127.0.0.1:{port}, or allow it with {exposure.allowance}"
            )
        return TcpAddress("0.0.0.0", port)  # noqa: S104
    found = _look_up(host.removeprefix("[").removesuffix("]"), port, f"{wrong}{printable(text)}")
    reachable = [one for one in found if not ipaddress.ip_address(one.partition("%")[0]).is_loopback]
    if reachable and not exposure.public:
        raise UserError(
            f"{wrong}other machines may reach {printable(text)} ({reachable[0]}):"
            f" write 127.0.0.1:{port} or the path of a Unix socket, or allow it with {exposure.allowance}"
        )
    return TcpAddress(found[0], port)


def _look_up(host: str, port: int, what: str) -> list[str]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{what}: can't find the address of {printable(host) or 'nothing'}: {reason}; {_FORMS}"
        ) from None
    # IPv4 first, as uWSGI knows nothing else.
    infos.sort(key=lambda info: info[0] != socket.AF_INET)
    return [str(info[4][0]) for info in infos]
