"""Who is at the other end of a control connection, and whether they may command.

The kernel says who connected (SO_PEERCRED); nothing in a request can change that. Any doubt means no.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

__all__ = ["Peer", "may_command", "peer_of"]

_UCRED = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Peer:
    """The credentials of the process that connected, at the time it did.

    The pid is for log lines, never for decisions.
    """

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer | None:
    """The connected process; None where the kernel does not say."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return Peer(*_UCRED.unpack(raw))
    except (OSError, struct.error):
        return None


def may_command(peer: Peer | None) -> bool:
    """Root and the Emperor's own user may do everything, everyone else nothing."""
    return peer is not None and peer.uid in {0, os.geteuid()}
