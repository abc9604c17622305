"""Limits that are there before the process is: files of its cgroup, and the cgroups of v1 hierarchies that it joins.

`confine` is called by `main` in the zygote before it clones, `join` and `expose` by `child` in the new process, while
it may still do so.
"""

from __future__ import annotations

import os

from . import kernel  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any

__all__ = ["confine", "expose", "join"]


def confine(limits: dict[str, Any]) -> None:
    """Make the groups, and set what is to be set. Raises OSError."""
    for group in limits["groups"]:
        os.mkdir(group, 0o755)
    for path, value, optional in limits["knobs"]:
        try:
            kernel.put(path, value)
        except FileNotFoundError:
            if not optional:
                raise


def join(limits: dict[str, Any]) -> None:
    """Be in these groups from now on, with all that is started later. Raises OSError."""
    for group in limits["groups"]:
        kernel.put(f"{group}/cgroup.procs", "0")


def expose(score: int) -> None:
    """Let the kernel take this process rather than the Emperor when the host runs out of memory. Raises OSError."""
    kernel.put("/proc/self/oom_score_adj", str(score))
