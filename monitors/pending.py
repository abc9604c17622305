"""What is to be looked at, and when: hints gathered for a few milliseconds, so that no half-done change is read.

Owned by one `files.FileMonitor`. Times are seconds of the event loop's clock. One timer runs while something is due,
none otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from emperorctl.monitors.watch.base import Hint

__all__ = ["Pending"]

_GATHER = 0.002  # a complete change: what belongs to it comes at once
_QUIET = 0.010  # a change in progress: nothing more for this long
_MISSING = 0.015  # gone: an editor that moved the old file away brings the new one by then
_STRUCTURE = 0.005
_PATIENCE = 1.0  # however much goes on, something is looked at by then

Key = TypeVar("Key", bound=Hashable)


class Pending(Generic[Key]):
    """Keys with the time at which each is due; `on_due` is called when at least one is."""

    def __init__(self, on_due: Callable[[], None]) -> None:
        self._on_due = on_due
        self._due: dict[Key, tuple[float, float, Hint]] = {}  # first hint at, due at, latest hint
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: Key, hint: Hint) -> None:
        """Look at `key` when what the hint tells of is over."""
        now = asyncio.get_running_loop().time()
        first, due, latest = self._due.get(key, (now, now + _PATIENCE, Hint.SOON))
        match hint:
            case Hint.NOW:
                due = min(due, now + _GATHER) if latest is Hint.NOW else now + _GATHER
            case Hint.SOON:
                due = min(first + _PATIENCE, now + _QUIET)
            case Hint.GONE:
                due = now + _MISSING
            case Hint.ITSELF | Hint.LOST:
                due = min(due, now + _STRUCTURE)
        self._set(key, first, due, hint)

    def add_after(self, key: Key, delay: float) -> None:
        """Look at `key` after `delay` seconds, or earlier if a hint says so."""
        now = asyncio.get_running_loop().time()
        if key not in self._due:
            self._set(key, now, now + delay, Hint.SOON)

    def take(self) -> list[Key]:
        """The keys that are due now; they are no longer pending."""
        now = asyncio.get_running_loop().time() + 0.0005
        keys = [key for key, (_, due, _) in self._due.items() if due <= now]
        for key in keys:
            del self._due[key]
        self._arm()
        return keys

    def clear(self) -> None:
        """Forget everything that was to be looked at."""
        self._due.clear()
        self._arm()

    def _set(self, key: Key, first: float, due: float, hint: Hint) -> None:
        self._due[key] = (first, due, hint)
        # A timer that rings too early finds nothing due and is set anew; one per burst, not one per event.
        if self._timer is None or due < self._timer.when():
            self._ring_at(due)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            self._ring_at(min(due for _, due, _ in self._due.values()))

    def _ring_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._on_due()
