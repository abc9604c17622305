"""Virtual time: a clock and a scheduler in one, that move only when a test says so."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["VirtualTime"]


class _Timer:
    def __init__(self, callback: Callable[[], Any]) -> None:
        self.callback: Callable[[], Any] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualTime:
    """Keeps the contracts of `reconciler.clock.Clock` and `reconciler.queue.Scheduler`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._soon: deque[_Timer] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], Any], /) -> _Timer:
        timer = _Timer(callback)
        self._soon.append(timer)
        return timer

    def call_at(self, when: float, callback: Callable[[], Any], /) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def settle(self) -> None:
        """Run what is due now, and what that brings about."""
        for _ in range(100_000):
            if self._soon:
                timer = self._soon.popleft()
            elif self._timers and self._timers[0][0] <= self.now:
                timer = heapq.heappop(self._timers)[2]
            else:
                return
            if timer.callback is not None:
                timer.callback()
        raise AssertionError("it never settles")

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every timer on the way."""
        target = self.now + seconds
        self.settle()
        while (due := self.next_timer()) is not None and due <= target:
            self.now = max(self.now, due)
            self.settle()
        self.now = target
        self.settle()

    def next_timer(self) -> float | None:
        """When the next timer that still counts goes off."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None
