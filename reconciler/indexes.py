"""Small numbers for vassals: each has one as long as it is known, and the smallest that is free goes to the next.

Used by the controller. Pure bookkeeping.
"""

from __future__ import annotations

import heapq

__all__ = ["Indexes"]


class Indexes:
    """Numbers from 0 that are never lent twice at a time."""

    def __init__(self) -> None:
        self._next = 0
        self._free: list[int] = []

    def take(self) -> int:
        """The smallest number that nobody has."""
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, index: int) -> None:
        """Nobody has this number any more."""
        heapq.heappush(self._free, index)
