"""Containment where there is no cgroup v2: sessions, process trees and the cookie in the environment.

Used by `host`. The Emperor adopts orphans here (it is a child subreaper), so that everything its vassals ever start
stays in the tree below it: either under a main process, or under an orphan, which is told by its session or its
cookie. What changes its session, loses its parent and overwrites its environment is no vassal's any more; it ends
with the Emperor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from emperorctl.reconciler.runtime.containment import Contained
from emperorctl.reconciler.runtime.launcher import Fate
from emperorctl.reconciler.runtime.zygote import procfs
from emperorctl.reconciler.runtime.zygote.clone import adopt_orphans

__all__ = ["Trees"]


class Trees:
    """All launches of one Emperor, as the part of the process tree below it."""

    kind = "session+tree"
    root = ""

    def __init__(self, is_known: Callable[[int], bool]) -> None:
        self._is_known = is_known
        adopt_orphans()

    def place(self, order_id: int) -> None:
        """No cgroup."""

    def kill(self, launch: Contained) -> None:
        """The main process and all below it; orphans are `clear`'s."""
        for entry in self._below([launch.pid]):
            procfs.kill_exact(entry)

    def clear(self, launches: Sequence[Contained]) -> set[int]:
        """One look at the orphans for all of them."""
        orphans = self._orphans()
        return {launch.id for launch in launches if not self._clear(launch, orphans)}

    def _clear(self, launch: Contained, orphans: dict[int, tuple[procfs.Stat, bytes | None]]) -> bool:
        """SIGKILL for the orphans of this launch and all below them; whether there were any."""
        # The number may have come back to another child of ours; then no process of the old session is left.
        reused = launch.pid in orphans or self._is_known(launch.pid)
        session = 0 if reused else launch.pid
        roots = [
            pid
            for pid, (entry, cookie) in orphans.items()
            if (session and entry.session == session) or cookie == launch.cookie
        ]
        found = self._below(roots)
        for entry in found:
            procfs.kill_exact(entry)
        return bool(found)

    def fate(self, launch: Contained) -> tuple[Fate, int]:
        """A child with this launch's cookie decides. One still on its way to execve may be anybody's: wait for it."""
        undecided = None
        for pid in self._children(os.getpid()):
            if self._is_known(pid):
                continue
            entry = procfs.stat(pid)
            if entry is None or not entry.alive:
                continue
            if entry.name == procfs.ZYGOTE_NAME:
                undecided = pid
            elif entry.session == pid:
                cookie = procfs.cookie(pid)
                if cookie == launch.cookie:
                    return Fate.STARTED, pid
                if cookie is None and undecided is None:
                    # In the middle of execve, with its new environment not yet in place; or an orphan without one.
                    undecided = 0
        return (Fate.NOT_STARTED, 0) if undecided is None else (Fate.STARTING, undecided)

    def close(self) -> None:
        """Nothing was made."""

    def _orphans(self) -> dict[int, tuple[procfs.Stat, bytes | None]]:
        """Our children that are no main process, with their cookies."""
        found = {}
        for pid in self._children(os.getpid()):
            if not self._is_known(pid):
                entry = procfs.stat(pid)
                if entry is not None and entry.alive:
                    found[pid] = (entry, procfs.cookie(pid))
        return found

    def _below(self, roots: list[int]) -> list[procfs.Stat]:
        """These processes and all their descendants, as far as they live."""
        found: dict[int, procfs.Stat] = {}
        queue = list(roots)
        while queue:
            pid = queue.pop()
            if pid in found:
                continue
            entry = procfs.stat(pid)
            if entry is not None and entry.alive:
                found[pid] = entry
                queue.extend(self._children(pid))
        return list(found.values())

    def _children(self, pid: int) -> list[int]:
        found = procfs.children(pid)
        if found is None:
            found = [entry.pid for entry in procfs.scan().values() if entry.parent == pid]
        return found
