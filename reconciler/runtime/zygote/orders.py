"""The wire between the Emperor and the zygote: one object (by `marshal`) and some descriptors per packet.

Used on both ends of an AF_UNIX SOCK_SEQPACKET pair. An object too big for a packet travels in a memfd, which is
then the packet's first descriptor. Not in here: what the objects mean (`main` for orders, `runtime.launcher`
for outcomes).
"""

from __future__ import annotations

import marshal
import os
import struct

from .lean import socket  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["FDS_MAX", "INLINE_MAX", "Closed", "DescriptorsLost", "encode", "receive", "report", "send"]

INLINE_MAX = 60_000
"""Bytes of the biggest object that travels in the packet itself."""

FDS_MAX = 250
"""Descriptors per packet: the kernel refuses more than 253, and one may be the memfd."""

_BUFFER = 64 * 1024
_INT = struct.calcsize("i")
_IN_MEMFD = b"M"
_MARSHAL = 2
"""The version without references: an object is written as it is met, whoever else holds it."""


class Closed(Exception):
    """The other end is gone."""


class DescriptorsLost(Exception):
    """The packet arrived, its descriptors did not (none left in this process). `message` is the packet's object."""

    def __init__(self, message: dict[str, Any]) -> None:
        super().__init__("descriptors lost on the way")
        self.message = message


def encode(message: dict[str, Any]) -> bytes:
    """The object as it travels: plain values only. Undecodable bytes in strings (surrogates) survive."""
    return marshal.dumps(message, _MARSHAL)


def report(facts: dict[str, Any]) -> bytes:
    """Why a launch failed, as it travels from the new process through the zygote: a literal, all ASCII.

    It comes from a process that is no longer ours alone, so it is written in a form that any reader may be given.
    """
    return ascii(facts).encode("ascii")


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one encoded object. Raises BlockingIOError where the socket is full, OSError when it is closed."""
    if len(data) <= INLINE_MAX:
        _sendmsg(sock, data, fds)
        return
    memfd = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(memfd, view) :]
        _sendmsg(sock, _IN_MEMFD, [memfd, *fds])
    finally:
        os.close(memfd)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next object and its descriptors, all close-on-exec.

    Raises Closed at end-of-file, BlockingIOError where there is nothing yet, DescriptorsLost after MSG_CTRUNC,
    ValueError for what is no object.
    """
    received: list[int] = []
    room = socket.CMSG_SPACE((FDS_MAX + 3) * _INT)
    try:
        data, ancillary, flags, _ = sock.recvmsg(_BUFFER, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        raise Closed from None
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received += struct.unpack_from(f"{len(content) // _INT}i", content)
    if not data:
        raise Closed
    lost = bool(flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC))
    if data == _IN_MEMFD:
        if not received:
            raise DescriptorsLost({})
        memfd = received.pop(0)
        try:
            data = _whole(memfd)
        finally:
            os.close(memfd)
    message: dict[str, Any] = _decoded(data) if not flags & socket.MSG_TRUNC else {}
    if lost:
        for fd in received:
            os.close(fd)
        raise DescriptorsLost(message)
    return message, received


def _sendmsg(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    if fds:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))])
    else:
        sock.send(data)


def _decoded(data: bytes) -> dict[str, Any]:
    # Both ends are one program of one interpreter, and nobody else holds the socket: what marshal needs to be safe.
    try:
        message = marshal.loads(data)  # noqa: S302
    except (EOFError, TypeError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def _whole(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    parts = []
    offset = 0
    while offset < size:
        part = os.pread(fd, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
