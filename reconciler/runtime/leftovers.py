"""What an earlier Emperor of the same instance left behind: found and ended before anything is launched.

Called by `host` at start, with the instance's lock held. Usually there is nothing: only an Emperor that died together
with its zygote leaves anything. Known by its cgroups, and by the cookie in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from dataclasses import dataclass

from emperorctl.models.names import printable
from emperorctl.models.status import Note, NoteType
from emperorctl.reconciler.runtime import cgroups
from emperorctl.reconciler.runtime.zygote import procfs

__all__ = ["Leftover", "earlier_drained", "end_leftovers"]

_PAUSE = 0.005
_DRAIN_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that was found; `ended` is False where it would not die in time."""

    pid: int
    command: str
    ended: bool

    def note(self) -> Note:
        """For the events."""
        what = f"process {self.pid} ({self.command}) of an earlier Emperor"
        if self.ended:
            return Note(NoteType.NORMAL, "LeftoverEnded", f"{what} was ended")
        return Note(NoteType.WARNING, "LeftoverRemains", f"{what} does not die")


def end_leftovers(
    instance: str, place: cgroups.Place | None, spared: set[int], patience: float = 3.0
) -> list[Leftover]:
    """SIGKILL them all, for at most `patience` seconds. `spared` are pids of ours; our ancestors are spared too.

    Blocks: call it in a thread, or before the loop has anything to do.
    """
    deadline = time.monotonic() + patience
    spared = spared | _ancestors()
    mark = f"{instance}.".encode()
    found: dict[tuple[int, int], str] = {}
    roots = [root for root in (cgroups.old_roots(place, instance) if place else []) if not _holds(root, spared)]
    while True:
        alive = _find(roots, mark, spared)
        for entry in alive:
            found.setdefault((entry.pid, entry.start), printable(entry.name))
            procfs.kill_exact(entry)
        for root in roots:
            # A fork that was not yet in any listing does not escape this.
            cgroups.kill(root)
        if not alive or time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    for root in roots:
        while not cgroups.remove(root) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
    still = {(entry.pid, entry.start) for entry in alive}
    return [Leftover(pid, name, (pid, start) not in still) for (pid, start), name in sorted(found.items())]


async def earlier_drained(lock: str, patience: float = 2.0) -> None:
    """Wait (at most `patience` seconds) until no earlier zygote of this instance writes to the log files any more."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    with contextlib.suppress(OSError):
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            while loop.time() < deadline:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    await asyncio.sleep(_DRAIN_PAUSE)
        finally:
            os.close(fd)


def _find(roots: list[str], mark: bytes, spared: set[int]) -> list[procfs.Stat]:
    inside = {pid for root in roots for pid in cgroups.members(root)}
    everyone = procfs.scan()
    marked = {
        pid
        for pid, entry in everyone.items()
        if entry.alive and pid not in inside and pid not in spared and (procfs.cookie(pid) or b"").startswith(mark)
    }
    wanted = (inside | procfs.family(marked, everyone)) - spared
    return [everyone[pid] for pid in wanted if pid in everyone and everyone[pid].alive]


def _ancestors() -> set[int]:
    """This process and those above it: an Emperor may be started from what an earlier one launched."""
    found = {1}
    pid = os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        entry = procfs.stat(pid)
        if entry is None:
            break
        pid = entry.parent
    return found


def _holds(root: str, spared: set[int]) -> bool:
    return not spared.isdisjoint(cgroups.members(root))
