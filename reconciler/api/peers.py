"""Who is at the other end of a control connection, and how far they reach: the one place where that is decided.

The kernel says who connected (SO_PEERCRED, SO_PEERGROUPS); nothing in a request can change that. Any doubt means no.
Used by `server` and `commands`. Not in here: how a reach is kept to (`realm`: who reaches one user's vassals is given
an Emperor that has no others).
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, field

from emperorctl.reconciler.runtime.overflow import Overflow, overflow

__all__ = ["EVERYTHING", "Admission", "Peer", "Reach", "may_command", "peer_of"]

_UCRED = struct.Struct("iII")
_SO_PEERGROUPS = 59
_GROUPS_ROOM = 1024  # bytes: the most that getsockopt can be asked for; whoever has more groups counts by the first one


@dataclass(frozen=True, slots=True)
class Peer:
    """The credentials of the process that connected, at the time it did.

    The pid is for log lines, never for decisions. `groups` are the supplementary ones.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"uid {self.uid} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class Reach:
    """Which vassals somebody sees and steers: those that run as `uid`, or with None all of them and the Emperor too."""

    uid: int | None


EVERYTHING = Reach(None)


def _own() -> frozenset[int]:
    return frozenset({0, os.geteuid()})


@dataclass(frozen=True, slots=True)
class Admission:
    """The rule of one Emperor. `masters` may do everything, as may the members of the group with id `group`;
    `tyrant`: everybody else reaches the vassals that run as their own uid. `overflow` are ids that are nobody's."""

    tyrant: bool = False
    group: int | None = None
    masters: frozenset[int] = field(default_factory=_own)
    overflow: Overflow = field(default_factory=overflow)

    def reach(self, peer: Peer | None) -> Reach | None:
        """How far this peer reaches; None for nowhere."""
        # One whom this user namespace does not map looks like another: nobody knows who that is.
        if peer is None or peer.uid == self.overflow.uid:
            return None
        if peer.uid in self.masters:
            return EVERYTHING
        group = self.group if self.group != self.overflow.gid else None
        if group is not None and (peer.gid == group or group in peer.groups):
            return EVERYTHING
        return Reach(peer.uid) if self.tyrant else None

    @property
    def refusal(self) -> str:
        """What those are told who reach nothing."""
        others = "" if self.group is None else " and the members of its group"
        return f"only root and the user who runs the Emperor{others} may use its control socket"


def peer_of(connection: socket.socket) -> Peer | None:
    """The connected process; None where the kernel does not say."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, gid = _UCRED.unpack(raw)
    except (OSError, struct.error):
        return None
    return Peer(pid, uid, gid, _groups_of(connection))


def may_command(peer: Peer | None) -> bool:
    """Whether the command socket listens: root and the Emperor's own user may say everything there, others nothing."""
    return peer is not None and peer.uid in _own() and peer.uid != overflow().uid


def _groups_of(connection: socket.socket) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_ROOM)
    except OSError:
        return frozenset()
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw[: len(raw) // 4 * 4]))
