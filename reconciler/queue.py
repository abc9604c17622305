"""The work queue: names that want a look, each at most once, some of them later.

Fed by everything that learns a fact (monitors through the store, the runtime, the API, the resync); drained by the
controller. It holds names and never events. After the pattern of client-go's `util/workqueue`: a name added while
it is waiting is not added again; a name added while it is being worked on comes once more afterwards.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Cancellable", "Scheduler", "WorkQueue"]


class Cancellable(Protocol):
    """A timer that can be called off."""

    def cancel(self) -> None:
        """Call it off."""
        ...


class Scheduler(Protocol):
    """What the queue and the controller need of an event loop; asyncio's loop is one."""

    def time(self) -> float:
        """Monotonic seconds."""
        ...

    def call_soon(self, callback: Callable[[], Any], /) -> Cancellable:
        """Call back once what is under way has returned."""
        ...

    def call_at(self, when: float, callback: Callable[[], Any], /) -> Cancellable:
        """Call back at `when`, in this scheduler's seconds."""
        ...


class WorkQueue:
    """Names that want a look. `on_ready` is called when the queue stops being empty."""

    def __init__(self, scheduler: Scheduler, on_ready: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._on_ready = on_ready
        self._ready: deque[str] = deque()
        self._dirty: set[str] = set()
        self._processing: set[str] = set()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._timer: Cancellable | None = None
        self._timer_at = float("inf")

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def waiting(self) -> int:
        """How many names wait for a later time."""
        return len(self._due)

    def add(self, name: str) -> None:
        """Ask for a look at `name` now."""
        if name in self._dirty:
            return
        self._dirty.add(name)
        if name in self._processing:
            return
        self._ready.append(name)
        if len(self._ready) == 1:
            self._on_ready()

    def add_after(self, name: str, delay: float) -> None:
        """Ask for a look at `name` in `delay` seconds; an earlier time already asked for stays."""
        if delay <= 0:
            self.add(name)
            return
        when = self._scheduler.time() + delay
        known = self._due.get(name)
        if known is not None and known <= when:
            return
        self._due[name] = when
        heapq.heappush(self._heap, (when, name))
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [(at, key) for key, at in self._due.items()]
            heapq.heapify(self._heap)
        self._arm()

    def take(self) -> str | None:
        """The next name to look at, None when there is none. Its later times are dropped: the look sets new ones."""
        if not self._ready:
            return None
        name = self._ready.popleft()
        self._dirty.discard(name)
        self._processing.add(name)
        self._due.pop(name, None)
        return name

    def done(self, name: str) -> None:
        """The look at `name` is over."""
        self._processing.discard(name)
        if name in self._dirty:
            self._ready.append(name)
            if len(self._ready) == 1:
                self._on_ready()

    def close(self) -> None:
        """Drop everything, timers included."""
        self._ready.clear()
        self._dirty.clear()
        self._due.clear()
        self._heap.clear()
        self._arm()

    def _arm(self) -> None:
        """Have exactly one timer, for the earliest time that is still wanted."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = None, float("inf")
        elif self._timer is None or self._heap[0][0] < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = self._heap[0][0]
            self._timer = self._scheduler.call_at(self._timer_at, self._ripen)

    def _ripen(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._scheduler.time()
        while self._heap and self._heap[0][0] <= now:
            when, name = heapq.heappop(self._heap)
            if self._due.get(name) == when:
                del self._due[name]
                self.add(name)
        self._arm()
