"""How a path is resolved, step by step: what has to be watched so that a change anywhere along it is noticed.

Used by `monitors.tree` for a source's own path and for every file that is a link. It only looks; the monitor
sets the watches.
"""

from __future__ import annotations

import os
import stat
from enum import Enum
from typing import NamedTuple

__all__ = ["Step", "StepKind", "trace"]

_MAX_LINKS = 40  # as the kernel's own limit


class StepKind(Enum):
    """What one component of a path turned out to be."""

    DIRECTORY = "a directory that is passed through"
    LINK = "a symbolic link that is followed"
    END = "the last component, not a link"
    BLOCKED = "missing, not searchable, or a loop: the path ends here"


class Step(NamedTuple):
    """One component: its directory (free of links), its name there, and what it is."""

    parent: str
    name: str
    kind: StepKind

    @property
    def path(self) -> str:
        """The component's own path."""
        return os.path.join(self.parent, self.name)


def trace(path: str) -> list[Step]:
    """Every component that decides what an absolute path leads to, links resolved on the way."""
    steps: list[Step] = []
    place, links = "/", 0
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    while todo:
        name = todo.pop()
        if name == "..":
            place = os.path.dirname(place)
            continue
        here = os.path.join(place, name)
        try:
            mode = os.lstat(here).st_mode
            target = os.readlink(here) if stat.S_ISLNK(mode) else ""
        except (OSError, ValueError):
            steps.append(Step(place, name, StepKind.BLOCKED))
            return steps
        if target:
            steps.append(Step(place, name, StepKind.LINK))
            links += 1
            if links > _MAX_LINKS:
                steps.append(Step(place, name, StepKind.BLOCKED))
                return steps
            if target.startswith("/"):
                place = "/"
            todo.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        elif todo:
            steps.append(Step(place, name, StepKind.DIRECTORY))
            place = here
        else:
            steps.append(Step(place, name, StepKind.END))
    return steps
