"""What is to be looked at, and when: hints gathered for a few milliseconds, so that no half-done change is read.

Owned by one `files.FileMonitor`. A key that is due again and again has a budget of looks. Times are seconds of the
event loop's clock. One timer runs while something is due, none otherwise.
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
# What changes without end is looked at this often at once, then this often a second: each look may cost a restart.
_AT_ONCE = 20
_PER_SECOND = 4.0
_PRUNE_FROM = 256

Key = TypeVar("Key", bound=Hashable)


class Pending(Generic[Key]):
    """Keys with the time at which each is due; `on_due` is called when at least one is."""

    def __init__(self, on_due: Callable[[], None]) -> None:
        self._on_due = on_due
        self._due: dict[Key, tuple[float, float, Hint]] = {}  # first hint at, due at, latest hint
        self._timer: asyncio.TimerHandle | None = None
        self._spent: dict[Key, tuple[float, float]] = {}  # looks not yet made up for, as of a time
        self._prune_at = _PRUNE_FROM

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
            self._spent[key] = (self._debt(key, now) + 1, now)
        if len(self._spent) > self._prune_at:
            self._spent = {key: spent for key, spent in self._spent.items() if self._debt(key, now) > 0}
            self._prune_at = max(_PRUNE_FROM, 2 * len(self._spent))
        self._arm()
        return keys

    def clear(self) -> None:
        """Forget everything that was to be looked at."""
        self._due.clear()
        self._arm()

    def _debt(self, key: Key, now: float) -> float:
        """How many looks at `key` lie so short a time back that they count."""
        looks, at = self._spent.get(key, (0.0, now))
        return max(0.0, looks - (now - at) * _PER_SECOND)

    def _set(self, key: Key, first: float, due: float, hint: Hint) -> None:
        if key in self._spent:
            now = asyncio.get_running_loop().time()
            due = max(due, now + (self._debt(key, now) + 1 - _AT_ONCE) / _PER_SECOND)
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
