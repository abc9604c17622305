"""What the kernel says of the processes under test: CPU time, memory, system calls; and how they are ended.

The bench is a subreaper, so whatever a contender leaves behind becomes the bench's own child: only processes that
this run started are ever signalled, by pidfd.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

__all__ = [
    "adopt_orphans",
    "cpu_seconds",
    "end_children",
    "kill_and_wait",
    "pss_bytes",
    "raise_file_limit",
    "system_calls",
    "wait_for_exit",
]

_PR_SET_CHILD_SUBREAPER = 36
_CPUCLOCK_SCHED = 2
_CLEARING_UP = 5.0
_END_LIMIT = 30.0


def raise_file_limit() -> int:
    """Raise the soft limit on open files to the hard one, for this process and its children; returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent has died."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time used so far by these processes, all their threads included, in seconds."""
    return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)


def pss_bytes(pids: Iterable[int]) -> float:
    """Memory of these processes, each shared page divided among its users, in bytes."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def system_calls(pids: Iterable[int], seconds: float, scratch: Path) -> int | None:
    """System calls that these processes make in so many seconds, counted by strace; None where it can't be used.

    One call for each thread that was waiting is strace's own doing: it interrupts the wait by attaching.
    """
    targets = [word for pid in pids for word in ("-p", str(pid))]
    try:
        strace = subprocess.Popen(
            ["strace", "-c", "-f", "-o", str(scratch), *targets], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return None
    try:
        strace.wait(seconds)
    except subprocess.TimeoutExpired:
        strace.send_signal(signal.SIGINT)
        strace.wait()
    else:
        return None
    calls = 0
    for line in scratch.read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[0][0].isdigit() and words[-1] != "total":
            calls += int(words[3])
    return calls


def wait_for_exit(pidfd: int, limit: float) -> float:
    """When (monotonic seconds) the process behind `pidfd` was seen to be gone; TimeoutError after `limit` seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(limit * 1000):
        raise TimeoutError(f"a process was still there after {limit:.0f} s")
    return time.monotonic()


def kill_and_wait(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for one child of this process, and its end."""
    process.kill()
    process.wait()


def _await_children(limit: float) -> None:
    """Reap children as they end, until there is none or `limit` seconds are over."""
    deadline = time.monotonic() + limit
    while psutil.Process().children() and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        time.sleep(0.01)


def end_children() -> int:
    """The end of every child of this process, adopted ones included; returns how many needed SIGKILL.

    They get a moment to go by themselves: a zygote that has lost its Emperor is clearing up.
    """
    _await_children(_CLEARING_UP)
    ended = 0
    deadline = time.monotonic() + _END_LIMIT
    while children := psutil.Process().children():
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(child.pid)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)
                ended += 1
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(children)} processes could not be ended")
    return ended
