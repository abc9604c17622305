"""Ends of processes: a vassal's by its pidfd, an adopted orphan's by the hint of SIGCHLD.

Used by `host`. The pidfd decides for vassals; SIGCHLD, of which many may melt into one, only says that there is
something to sweep up, and is listened to only where this process adopts orphans.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from types import FrameType

from emperorctl.models.observed import Exit
from emperorctl.reconciler.runtime.ourselves import is_subreaper
from emperorctl.reconciler.runtime.zygote import procfs

__all__ = ["OrphanHint", "adopts", "default_child_signal", "exit_of", "has_ended", "sweep_orphans"]

_SWEEP_PAUSE = 0.1


def adopts() -> bool:
    """Whether orphans come to this process: it is the init of its pid namespace, or has asked for them."""
    return os.getpid() == 1 or is_subreaper()


def exit_of(pidfd: int, at: float) -> Exit | None:
    """Reap this child and say how it ended; None while it lives. `at` is the monotonic time to record."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        # Reaped by somebody else, against all rules: it is gone all the same.
        return Exit(at, code=255)
    if result is None:
        return None
    if result.si_code == os.CLD_EXITED:
        return Exit(at, code=result.si_status)
    return Exit(at, signal=result.si_status, core=result.si_code == os.CLD_DUMPED)


def has_ended(pidfd: int) -> bool:
    """Whether this process is gone, reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def sweep_orphans(is_known: Callable[[int], bool]) -> None:
    """Reap every dead child that is an adopted orphan.

    Not touched: vassals and the zygote (`is_known`), and processes of our own session, which somebody in this
    program started and waits for. Call it only while no launch is under way: a vassal not yet known is no orphan.
    """
    session = os.getsid(0)
    while True:
        try:
            # Usually the first dead child is the only one.
            result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if result is None:
            return
        if not _reap_orphan(result.si_pid, is_known, session):
            break
    for pid in procfs.children(os.getpid()) or ():
        _reap_orphan(pid, is_known, session)


def _reap_orphan(pid: int, is_known: Callable[[int], bool], session: int) -> bool:
    if is_known(pid):
        return False
    entry = procfs.stat(pid)
    if entry is None or entry.alive or entry.session == session:
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return False


class OrphanHint:
    """Calls `sweep` soon after a child died, at most a few times a second.

    Not `loop.add_signal_handler`: its pipe holds a few hundred signals, and a burst of dying children would push out
    the SIGTERM that comes after them. Here the first SIGCHLD turns the handler off until the sweep.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sweep: Callable[[], None]) -> None:
        self._loop = loop
        self._sweep = sweep
        self._timer: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """From now on. Main thread only."""
        signal.signal(signal.SIGCHLD, self._hint)

    def close(self) -> None:
        """No more."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._timer is not None:
            self._timer.cancel()

    def _hint(self, signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._loop.call_soon_threadsafe(self._hinted)

    def _hinted(self) -> None:
        self._timer = self._loop.call_later(_SWEEP_PAUSE, self._run)

    def _run(self) -> None:
        # First listen, then look: what dies in between is seen by one of the two.
        self._timer = None
        self.listen()
        self._sweep()


def default_child_signal() -> None:
    """Children stay until they are reaped, even where our parent had SIGCHLD ignored."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
