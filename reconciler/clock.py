"""The clocks. Everything that waits counts in monotonic seconds; wall time is for people alone."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where times come from; an argument, so that tests can set it."""

    def monotonic(self) -> float:
        """Seconds that never jump, from an arbitrary origin."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()

    def wall(self) -> float:
        """CLOCK_REALTIME."""
        return time.time()
