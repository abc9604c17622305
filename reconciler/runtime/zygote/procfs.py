"""Reading /proc, and killing what was found there without ever hitting a stranger.

Used by the zygote's gravedigger, and by the Emperor where there are no cgroups (`runtime.tree`) and at start
(`runtime.leftovers`). Every reader returns None or nothing for a process that is gone; none raises.
"""

from __future__ import annotations

import os

from . import kernel  # noqa: TID251
from .lean import signal  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "COOKIE",
    "KEEPER_NAME",
    "ZYGOTE_NAME",
    "Stat",
    "capabilities",
    "children",
    "cookie",
    "family",
    "kill_exact",
    "pids",
    "scan",
    "stat",
]

COOKIE = b"EMPERORCTL_INSTANCE"
"""The environment variable that every launched program carries: `INSTANCE.RUN.LAUNCH`."""

ZYGOTE_NAME = "emperor-zygote"
"""The zygote's command name, and a child's until it has become its program."""

KEEPER_NAME = "emperor-keeper"
"""The command name of process 1 of a vassal's pid namespace, where that is not the vassal itself."""

_KTHREADD = 2
_ENVIRON_MAX = 4 * 1024 * 1024


class Stat:
    """What /proc/PID/stat says; `name` is at most 15 bytes; `start` is in clock ticks since boot."""

    __slots__ = ("name", "parent", "pid", "session", "start", "state")

    def __init__(self, pid: int, name: str, fields: list[bytes]) -> None:
        """`fields` are those after the command's name."""
        self.pid = pid
        self.name = name
        self.state = fields[0].decode()
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.start = int(fields[19])

    @property
    def alive(self) -> bool:
        """False for what only waits to be reaped."""
        return self.state not in "ZX"


def stat(pid: int) -> Stat | None:
    """The process, or None."""
    data = _read(f"/proc/{pid}/stat", 1024)
    # The command's name may hold anything, ") " included: only the last parenthesis counts.
    end = data.rfind(b")")
    if end < 0:
        return None
    name = data[data.find(b"(") + 1 : end].decode("utf-8", "replace")
    fields = data[end + 2 :].split()
    if len(fields) < 20:
        return None
    return Stat(pid, name, fields)


def capabilities(pid: int | str) -> int:
    """The effective capabilities of a process (or of `self`), a bit each; 0 where nobody can tell."""
    for line in kernel.text(f"/proc/{pid}/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def pids() -> list[int]:
    """Every process that this one can see."""
    try:
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return []


def scan() -> dict[int, Stat]:
    """Every process but the kernel's own threads."""
    found = {}
    for pid in pids():
        entry = stat(pid)
        if entry is not None and _KTHREADD not in (entry.parent, pid):
            found[pid] = entry
    return found


def cookie(pid: int) -> bytes | None:
    """The value of COOKIE in the environment that the process was started with; None without, or if unreadable."""
    data = _read(f"/proc/{pid}/environ", _ENVIRON_MAX)
    key = COOKIE + b"="
    if data.startswith(key):
        start = 0
    else:
        start = data.find(b"\0" + key) + 1
        if start == 0:
            return None
    return data[start + len(key) :].split(b"\0", 1)[0]


def children(pid: int) -> list[int] | None:
    """The children of all its threads, zombies included; None where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    told = False
    for task in tasks:
        path = f"/proc/{pid}/task/{task}/children"
        try:
            with open(path, "rb", buffering=0) as file:
                found.extend(map(int, file.readall().split()))
            told = True
        except FileNotFoundError:
            told = told or not os.path.exists(f"/proc/{pid}/task/{task}")
        except OSError:
            told = True
    return found if told else None


def family(roots: Iterable[int], everyone: dict[int, Stat]) -> set[int]:
    """The given processes and everything below them."""
    below: dict[int, list[int]] = {}
    for entry in everyone.values():
        below.setdefault(entry.parent, []).append(entry.pid)
    found: set[int] = set()
    queue = list(roots)
    while queue:
        pid = queue.pop()
        if pid in found or pid not in everyone:
            continue
        found.add(pid)
        queue.extend(below.get(pid, ()))
    return found


def kill_exact(entry: Stat, signum: int = signal.SIGKILL) -> bool:
    """Signal this very process and no later one with its number. False when it is gone or not ours to signal."""
    try:
        pidfd = os.pidfd_open(entry.pid)
    except OSError:
        return False
    try:
        # The pidfd holds whoever has the number now; only the start time says whether that is still the one meant.
        now = stat(entry.pid)
        if now is None or now.start != entry.start:
            return False
        signal.pidfd_send_signal(pidfd, signum)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def _read(path: str, limit: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = os.read(fd, min(limit, 65536))
        if len(data) < 4096:
            return data
        parts = [data]
        size = len(data)
        while size < limit and (data := os.read(fd, 65536)):
            parts.append(data)
            size += len(data)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)
