"""Watching by looking again at regular times: for NFS, CIFS, FUSE and the like, or when inotify has nothing left.

Used by `watch.choice`. It only says "look everywhere" every `interval` seconds; the monitor's own resync then
compares device, inode, size and all times in nanoseconds, of the link as well as of its target.

Not done by watchfiles, although its polling was tried first: it compares times in whole seconds and only as
"newer" (an older mtime, a second edit in the same second and `touch -h` go unnoticed), and such changes
must count here.
"""

from __future__ import annotations

import asyncio

from emperorctl.monitors.watch.base import Hint, OnHint

__all__ = ["INTERVAL", "PollingWatcher"]

INTERVAL = 1.0
"""Seconds between two looks, where nothing else is asked for."""


class PollingWatcher:
    """A timer that implements `Watcher`; `interval` is in seconds."""

    kind = "poll"

    def __init__(self, on_hint: OnHint, interval: float = INTERVAL) -> None:
        self._on_hint = on_hint
        self._interval = interval
        self._timer = asyncio.get_running_loop().call_later(interval, self.tick)

    def tick(self) -> None:
        """Say "look everywhere", and again after the interval."""
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._interval, self.tick)
        self._on_hint(Hint.LOST, "", "")

    def entries(self, path: str) -> bool:
        """See `Watcher`: a timer watches everything."""
        return True

    def itself(self, path: str) -> bool:
        """See `Watcher`: a timer watches everything."""
        return True

    def drop_entries(self, path: str) -> None:
        """See `Watcher`: nothing is held."""

    def drop_itself(self, path: str) -> None:
        """See `Watcher`: nothing is held."""

    def close(self) -> None:
        """See `Watcher`."""
        self._timer.cancel()
