"""Which processes belong to a launch: the question, asked of cgroups (`cgroups`) or of the process tree (`tree`).

Used by `host`. Every call returns at once; `clear` is asked again until it says that nothing is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emperorctl.reconciler.runtime.launcher import Fate

__all__ = ["Contained", "Containment"]


@dataclass(frozen=True, slots=True)
class Contained:
    """One launch: its order's id, its main process's pid (0 where there never was one) and its cookie.

    `gone`: the main process has been reaped, and its number may belong to somebody else by now.
    """

    id: int
    pid: int
    cookie: bytes
    gone: bool = False


class Containment(Protocol):
    """How everything that a launch started is found again."""

    kind: str
    """`cgroup` or `session+tree`."""

    root: str
    """The cgroup that holds all launches, or empty."""

    def place(self, order_id: int) -> str | None:
        """The cgroup that the zygote is to make for this launch."""
        ...

    def kill(self, launch: Contained) -> None:
        """SIGKILL for everything of this launch that can be found at once, the main process included."""
        ...

    def clear(self, launches: Sequence[Contained]) -> set[int]:
        """Their main processes are gone: SIGKILL the rest. Returns the ids of which nothing is left, and no trace."""
        ...

    def fate(self, launch: Contained) -> tuple[Fate, int]:
        """What became of an order that nobody confirmed. STARTING with pid 0: it can't be told yet."""
        ...

    def close(self) -> None:
        """Remove what was made for containment itself."""
        ...
