"""The swap point of watching: how a monitor is told where to look again.

Implementations: `inotify` (the kernel tells), `polling` (a timer tells). Used by `monitors.tree`. Every hint only
means "look here again"; none is ever taken for a fact, and losing one is repaired by the next resync.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from emperorctl.models.errors import WorldError

__all__ = ["Hint", "OnHint", "WatchExhausted", "Watcher"]


class Hint(Enum):
    """What was seen of an entry of a watched directory, or of a watched thing itself."""

    NOW = "an entry was changed, and the change is complete"
    SOON = "an entry is being changed"
    GONE = "an entry has left the directory"
    ITSELF = "the watched thing was moved, removed, unmounted, or has new attributes"
    LOST = "something was missed: look everywhere"


OnHint = Callable[[Hint, str, str], None]
"""Told the hint, the path as it was given to the watcher, and the entry's name (empty for ITSELF and LOST)."""


class WatchExhausted(WorldError):
    """The kernel gives no more watches or inotify instances; the message says which limit to raise."""


class Watcher(Protocol):
    """The watches of one monitor."""

    kind: str
    """`inotify` or `poll`."""

    def entries(self, path: str) -> bool:
        """Watch what happens in a directory (links are followed); again after it was replaced.

        False where there is no such directory or it may not be read. Raises WatchExhausted.
        """
        ...

    def itself(self, path: str) -> bool:
        """Watch one directory or link as such (links are not followed) for being replaced, moved or removed.

        False where it is missing or may not be read. Raises WatchExhausted.
        """
        ...

    def drop_entries(self, path: str) -> None:
        """End `entries(path)`; no effect where there is no such watch."""
        ...

    def drop_itself(self, path: str) -> None:
        """End `itself(path)`; no effect where there is no such watch."""
        ...

    def close(self) -> None:
        """End every watch."""
        ...
