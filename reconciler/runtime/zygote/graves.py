"""The gravedigger: when the Emperor is gone, end everything it launched, save its last words, and leave.

Called by `main` at end-of-file of the zygote's socket, however the Emperor ended. With cgroups one write does it;
without, what was launched is known by its sessions, by the process trees under them and by the cookie in its
environment. Signals nothing else.
"""

from __future__ import annotations

import os
import select
import time

from . import kernel, procfs  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["bury_cgroup", "bury_group", "bury_trees", "drain", "remove_cgroup"]

_PATIENCE = 10.0
_PAUSE = 0.003


def bury_cgroup(root: str) -> bool:
    """SIGKILL everything under this cgroup and wait until it is empty. True when it is."""
    events = -1
    try:
        events = os.open(f"{root}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        kernel.put(f"{root}/cgroup.kill", "1")
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if b"populated 0" in os.pread(events, 256, 0):
                return True
            poll.poll(100)
    except OSError:
        return not os.path.exists(root)
    finally:
        if events >= 0:
            os.close(events)
    return False


def bury_group(root: str) -> bool:
    """The same for a cgroup of v1, which can't be killed as a whole. True when it is empty."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        found = False
        for directory, _, _ in os.walk(root):
            for pid in _members(directory):
                entry = procfs.stat(pid)
                if entry is not None and entry.alive and pid in _members(directory):
                    found = procfs.kill_exact(entry) or found
        if not found:
            return True
        time.sleep(_PAUSE)
    return False


def _members(directory: str) -> list[int]:
    return [int(word) for word in kernel.text(f"{directory}/cgroup.procs").split()]


def bury_trees(sessions: set[int], mark: bytes) -> bool:
    """SIGKILL these sessions, all below them, and all whose cookie begins with `mark`, until none is left."""
    deadline = time.monotonic() + _PATIENCE
    quiet = 0
    while time.monotonic() < deadline:
        found = _victims(sessions, mark)
        if found:
            quiet = 0
            for entry in found:
                procfs.kill_exact(entry)
        else:
            # Twice: a process may have been between its parent's death and its own place in the listing.
            quiet += 1
            if quiet == 2:
                return True
        time.sleep(_PAUSE)
    return False


def _victims(sessions: set[int], mark: bytes) -> list[procfs.Stat]:
    everyone = procfs.scan()
    spared = {os.getpid(), 1}
    roots = []
    for entry in everyone.values():
        if entry.pid in spared or not entry.alive:
            continue
        if entry.session in sessions or (procfs.cookie(entry.pid) or b"").startswith(mark):
            roots.append(entry.pid)
    found = procfs.family(roots, everyone) - spared
    return [everyone[pid] for pid in found if everyone[pid].alive]


def drain(pipes: Iterable[tuple[int, str]]) -> None:
    """Move what the dead left in their pipes to the ends of their log files."""
    for pipe, path in pipes:
        try:
            _drain(pipe, path)
        except OSError:
            continue


def _drain(pipe: int, path: str) -> None:
    os.set_blocking(pipe, False)
    # Nothing left is the usual case, and must not create a file.
    if not select.select([pipe], [], [], 0)[0]:
        return
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.lseek(file, 0, os.SEEK_END)
        while os.splice(pipe, file, 1 << 20, flags=os.SPLICE_F_NONBLOCK):
            pass
    finally:
        os.close(file)


def remove_cgroup(root: str) -> None:
    """Remove an empty cgroup with all empty ones in it; what is still busy stays for the next Emperor to find."""
    for _ in range(50):
        for directory, _, _ in os.walk(root, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                continue
        if not os.path.exists(root):
            return
        time.sleep(0.02)
