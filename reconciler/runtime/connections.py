"""How many connections are open at an address: asked of the kernel (sock_diag), for the address alone.

Used by `sockets` for vassals with an idle timeout, at most once per half of it. Connections that wait to be accepted
count. Not in here: what follows from the number.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from emperorctl.models.sockets import Address, Family

__all__ = ["Census"]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_ESTABLISHED, _CLOSE_WAIT = 1, 8
_SHOW_NAME = 1
_NAME = 0

_HEADER = struct.Struct("=IHHII")
_INET_REQUEST = struct.Struct("=BBBxI2s46x")
_UNIX_REQUEST = struct.Struct("=BBxxIIIII")
_INET_SOURCE = slice(8, 24)  # of an inet_diag_msg, behind family, state and ports
_INET_SIZE, _UNIX_SIZE = 72, 16
_ATTRIBUTE = struct.Struct("=HH")
_KEPT = 0.5
_ANY = {"0.0.0.0", "::"}  # noqa: S104


class Census:
    """Counts open connections. The host's Unix sockets are listed at most twice a second, for all who ask."""

    def __init__(self) -> None:
        self._names: Counter[bytes] = Counter()
        self._names_at = float("-inf")

    def count(self, addresses: Iterable[Address]) -> int | None:
        """How many connections are open at these addresses, None where the kernel does not say."""
        total = 0
        try:
            for address in addresses:
                if address.family in (Family.UNIX, Family.ABSTRACT):
                    total += self._unix(address)
                else:
                    total += _inet(address)
        except (OSError, struct.error):
            return None
        return total

    def _unix(self, address: Address) -> int:
        now = time.monotonic()
        if now - self._names_at >= _KEPT:
            self._names = Counter(_unix_names())
            self._names_at = now
        prefix = b"\0" if address.family is Family.ABSTRACT else b""
        return self._names[prefix + address.path.encode()]


def _inet(address: Address) -> int:
    family = socket.AF_INET if address.family is Family.INET else socket.AF_INET6
    states = 1 << _ESTABLISHED | 1 << _CLOSE_WAIT
    request = _INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, states, address.port.to_bytes(2, "big"))
    any_host = address.host in _ANY
    size = 4 if family == socket.AF_INET else 16
    host = b"" if any_host else ipaddress.ip_address(address.host).packed
    return sum(
        any_host or message[_INET_SOURCE][:size] == host for message in _dump(request) if len(message) >= _INET_SIZE
    )


def _unix_names() -> Iterator[bytes]:
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 1 << _ESTABLISHED, 0, _SHOW_NAME, 0, 0)
    for message in _dump(request):
        position = _UNIX_SIZE
        while position + _ATTRIBUTE.size <= len(message):
            length, kind = _ATTRIBUTE.unpack_from(message, position)
            if length < _ATTRIBUTE.size:
                break
            if kind == _NAME:
                name = message[position + _ATTRIBUTE.size : position + length]
                yield name if name.startswith(b"\0") else name.rstrip(b"\0")
            position += (length + 3) & ~3


def _dump(request: bytes) -> Iterator[bytes]:
    """The messages of one dump. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
        sock.settimeout(1.0)
        size = _HEADER.size + len(request)
        sock.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        while True:
            data = sock.recv(1 << 16)
            position = 0
            while position + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, position)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("sock_diag refused")
                yield data[position + _HEADER.size : position + length]
                position += (length + 3) & ~3
