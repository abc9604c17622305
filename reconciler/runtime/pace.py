"""Reading a descriptor at a bounded pace: whoever writes without end is heard ten times a second.

Used by `protocol` and `hooks`. Not in here: how the bytes are read, and what they mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Paced"]

_SECONDS = 0.1


class Paced:
    """A descriptor in the event loop: `readable` is called when there is something, reads, and says how much with
    `took`; `rest` afterwards lets it pause, where that was more than `most` bytes. Does not own the descriptor."""

    __slots__ = ("_burst", "_fd", "_loop", "_most", "_paused", "_readable", "_since")

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, readable: Callable[[], None], *, most: int) -> None:
        self._loop = loop
        self._fd = fd
        self._readable = readable
        self._most = most
        self._burst = 0
        self._since = 0.0
        self._paused: asyncio.TimerHandle | None = None
        loop.add_reader(fd, readable)

    def took(self, size: int) -> None:
        """So many bytes were read."""
        self._burst += size

    def rest(self) -> None:
        """Pause, if more was read within a tenth of a second than may be."""
        now = self._loop.time()
        if now - self._since > _SECONDS:
            self._since, self._burst = now, 0
        if self._burst > self._most:
            self._loop.remove_reader(self._fd)
            self._paused = self._loop.call_later(_SECONDS, self._resume)

    def close(self) -> None:
        """Call `readable` no more. To be called before the descriptor is closed."""
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        self._loop.remove_reader(self._fd)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._fd, self._readable)
