"""The emperor protocol's channel: one stream socket pair per launch, a byte at a time, into `Signs`.

Used by `host`. Reads are bounded: garbage by the megabyte or a million repeated bytes cost a little time and no
memory, and a vassal that never stops talking is heard ten times a second. The host is told only of what changes
meaning. Not in here: what follows from a sign.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from emperorctl.models.observed import Signs
from emperorctl.models.protocol import FromVassal, ToVassal
from emperorctl.reconciler.runtime.pace import Paced

__all__ = ["Channel", "Speaker", "heard"]

_READ_MAX = 4096
_BURST_MAX = 64 * 1024
_KNOWN = bytes(FromVassal)


class Speaker(Protocol):
    """One launch, and all that it has said so far: whatever listens to it adds to the same signs."""

    name: str
    signs: Signs

    def asked(self) -> None:
        """It asks for its config."""
        ...


def heard(signs: Signs, data: bytes, now: float, told: float = 0.0) -> tuple[Signs, bool]:
    """The signs after these bytes, and whether anything changed its meaning.

    `now` is monotonic, and so is `told`, when the latest order to reload was sent (0: never).
    """
    changes: dict[str, float | int] = {}
    matters = False
    if spawns := data.count(FromVassal.SPAWNED):
        changes["spawned"] = now
        changes["spawns"] = signs.spawns + spawns
        matters = True
    if calls := data.count(FromVassal.REINFORCEMENTS):
        changes["reinforcements"] = signs.reinforcements + calls
        matters = True
    for byte, name, before in (
        (FromVassal.ACCEPTING, "accepting", signs.accepting),
        (FromVassal.LOYAL, "loyal", signs.loyal),
        (FromVassal.WILL, "will", signs.will),
        (FromVassal.HEARTBEAT, "heartbeat", signs.heartbeat),
    ):
        if byte in data:
            changes[name] = now
            # After a reload the vassal says it all again (uWSGI all but byte 1), and it means something again.
            again = byte != FromVassal.HEARTBEAT and before is not None
            matters = matters or before is None or (again and before < max(signs.spawned or 0.0, told))
    if garbage := len(data.translate(None, _KNOWN)):
        changes["garbage"] = signs.garbage + garbage
        matters = matters or not signs.garbage
    if not changes:
        return signs, False
    return replace(signs, **changes), matters  # type: ignore[arg-type]


class Channel:
    """The Emperor's end for one launch. `changed` is called when a fact changed its meaning."""

    __slots__ = ("_changed", "_loop", "_pace", "_sock", "_speaker", "_told")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, speaker: Speaker, changed: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._speaker = speaker
        self._sock: socket.socket | None = sock
        self._changed = changed
        self._told = 0.0
        sock.setblocking(False)
        self._pace = Paced(loop, sock.fileno(), self._readable, most=_BURST_MAX)

    def send(self, byte: int) -> bool:
        """Say one byte. False when the vassal has closed its end, or has let its buffer fill up."""
        if self._sock is None:
            return False
        if byte == ToVassal.RELOAD:
            self._told = self._loop.time()
        try:
            return self._sock.send(bytes((byte,)), socket.MSG_NOSIGNAL) == 1
        except OSError:
            return False

    def close(self) -> None:
        """The process is gone: hear its last words (bounded), then close."""
        for _ in range(_BURST_MAX // _READ_MAX):
            if self._sock is None or not self._read():
                break
        self._shut()

    def _readable(self) -> None:
        if self._read():
            self._changed()
        else:
            self._pace.rest()

    def _read(self) -> bool:
        """Read once; True when a fact changed its meaning."""
        assert self._sock is not None
        now = self._loop.time()
        try:
            data = self._sock.recv(_READ_MAX)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._speaker.signs = replace(self._speaker.signs, closed=now)
            self._shut()
            return True
        self._pace.took(len(data))
        if FromVassal.CONFIG in data:
            self._speaker.asked()
        self._speaker.signs, matters = heard(self._speaker.signs, data, now, self._told)
        return matters

    def _shut(self) -> None:
        if self._sock is not None:
            self._pace.close()
            self._sock.close()
            self._sock = None
