"""Commands that people run within vassals: in their identity, their namespaces, and with their environment.

Made by `host`, used by the Emperor. A command is ordered from the zygote as a launch is, and is a child of the Emperor
in a cgroup of its own; it ends with whoever asked for it, with its vassal, and with the Emperor. What it reads and
writes does not pass through here: the far ends of its terminal or its pipes go to whoever asked (`api.handover`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Mapping
from dataclasses import replace

from emperorctl.models.errors import NotFound, NotRunning, TooMany, UserError, WorldError
from emperorctl.models.execution import Execution, Size
from emperorctl.models.names import printable
from emperorctl.models.observed import Exit, LaunchFailure
from emperorctl.models.vassal import Notify
from emperorctl.reconciler.runtime import failures, reaper
from emperorctl.reconciler.runtime.hooks import Means
from emperorctl.reconciler.runtime.launcher import Outcome, Prepared
from emperorctl.reconciler.runtime.ordering import Unusable, Where, write_order
from emperorctl.reconciler.runtime.runs import Order, Run

__all__ = ["AT_ONCE", "Attached", "Execs"]

AT_ONCE = 4
"""How many commands a user may have within one vassal: each has limits of its own, equal to the vassal's."""


class Execs:
    """All such commands of one Emperor. `runs` are the vassals' latest launches."""

    def __init__(self, means: Means, runs: Mapping[str, Run]) -> None:
        self._means = means
        self._runs = runs
        self._open: set[Attached] = set()

    async def start(self, name: str, what: Execution, uid: int | None = None) -> Attached:
        """Run it within the vassal `name`, which has to run as `uid` if one is given; returns once the program runs.

        Raises NotFound, NotRunning, TooMany, UserError where it can't be executed, WorldError where that may pass.
        """
        run = self._runs.get(name)
        if run is None or run.pidfd < 0 or run.identity is None:
            raise NotRunning(printable(name))
        if uid is not None and run.identity.uid != uid:
            raise NotFound(printable(name))
        if uid is not None and sum(one.run.name == name and one.by == uid for one in self._open) >= AT_ONCE:
            raise TooMany(f"{AT_ONCE} commands run within this vassal already; end one")
        attached = Attached(self._means, run, what, by=uid)
        self._open.add(attached)
        attached.over.add_done_callback(lambda _: self._open.discard(attached))
        try:
            await attached.begin()
        except BaseException:
            attached.kill()
            raise
        return attached

    def ended(self, run: Run) -> None:
        """The vassal's process is gone, and so is all that was run within it."""
        for attached in tuple(self._open):
            if attached.run is run:
                attached.kill()

    def close(self) -> None:
        """End all."""
        for attached in tuple(self._open):
            attached.kill()


class Attached:
    """One command. `over` becomes how it ended; `by` is the user whom it counts for, if anybody."""

    def __init__(self, means: Means, run: Run, what: Execution, *, by: int | None = None) -> None:
        self.run = run
        self.by = by
        self.over: asyncio.Future[Exit] = means.loop.create_future()
        self._means = means
        self._what = what
        launch = replace(
            run.vassal.launch, command=what.command, protocol=False, notify=Notify.NONE,
            override=(), fallback=(), patch=None, config_pipe=False,
            # It enters the namespaces of what runs, and makes none.
            isolation=None,
        )  # fmt: skip
        if what.terminal is not None:
            launch = replace(launch, env=(*launch.env, ("TERM", what.term or "dumb")))
        self._vassal = replace(run.vassal, launch=launch, on_demand=None)
        self._began: asyncio.Future[None] = means.loop.create_future()
        self._ends: list[int] = []
        self._order: Order | None = None
        self._killed = False

    async def begin(self) -> None:
        """Get in line for the zygote, and wait for the program. Raises UserError, WorldError."""
        self._means.launcher.submit(self._prepare, self._settled, urgent=True)
        await self._began

    def take(self) -> list[int]:
        """Our ends of its terminal, or of its standard input (if it has one), output and errors; the caller's now."""
        ends, self._ends = self._ends, []
        return ends

    def kill(self) -> None:
        """End it and all that it started, at whatever point it is."""
        self._killed = True
        self._close_ends()
        order = self._order
        if order is not None and order.pidfd >= 0:
            self._means.book.kill(order)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(order.pidfd, signal.SIGKILL)

    def _prepare(self) -> Prepared | None:
        means, run, what = self._means, self.run, self._what
        self._retire()
        self._close_ends()
        if self._killed or run.pidfd < 0 or run.identity is None:
            self._fail(NotRunning(printable(run.name)))
            return None
        means.reserve.respect()
        order = means.book.new(run.name)
        env = means.environments.of(self._vassal, run.numbers, run.identity, means.book.cookie(order.id))
        place = means.book.contained_by.place(order.id)
        roles, terminal = ("in", "out", "err", "enter"), what.terminal is not None
        try:
            # Its own group, with the same limits: where the vassal's is no other process may be born in every case.
            limited = means.limiter.place(order, run.vassal.limits)
            where = Where(order.id, roles, place, None, limits=limited, enter=run.pid, terminal=terminal)
            data = write_order(self._vassal, env, run.identity, where)
        except Unusable as error:
            self._fail(UserError(f"{error.message} ({error.remedy})"))
            return None
        theirs: list[int] = []
        try:
            if what.terminal is not None:
                self._open_terminal(what.terminal, theirs)
            else:
                self._open_pipes(theirs)
            theirs.append(os.dup(run.pidfd))
            give = [theirs[0]] * 2 + theirs if what.terminal is not None else list(theirs)
            if what.terminal is None and run.identity.switch and os.geteuid() == 0:
                for fd in theirs[1:3]:
                    # Or /dev/stdout could not be opened by it.
                    os.fchown(fd, run.identity.uid, -1)
        except OSError:
            for fd in theirs:
                os.close(fd)
            self._close_ends()
            raise
        self._order = order
        means.book.enter(order)
        return Prepared(order.id, data, give, theirs)

    def _open_terminal(self, size: Size, theirs: list[int]) -> None:
        ours, its = os.openpty()
        self._ends.append(ours)
        theirs.append(its)
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
        identity = self.run.identity
        if identity is not None and os.geteuid() == 0:
            os.fchown(its, identity.uid, identity.gid)
            os.fchmod(its, 0o620)

    def _open_pipes(self, theirs: list[int]) -> None:
        if self._what.stdin:
            its, ours = os.pipe2(os.O_CLOEXEC)
            self._ends.append(ours)
            theirs.append(its)
        else:
            theirs.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(2):
            ours, its = os.pipe2(os.O_CLOEXEC)
            self._ends.append(ours)
            theirs.append(its)

    def _settled(self, outcome: Outcome) -> None:
        order = self._order
        if outcome.pid and order is not None:
            # Ours and not reaped, so the number is still its own.
            order.pid, order.pidfd = outcome.pid, os.pidfd_open(outcome.pid)
            self._means.pids.add(outcome.pid)
            self._means.loop.add_reader(order.pidfd, self._exited, order)
        if outcome.failure is not None:
            self._fail(_refusal(failures.explain(self._vassal, outcome.failure, self._means.clock.monotonic())))
        elif not self._began.done():
            self._began.set_result(None)
        if self._killed or outcome.failure is not None:
            self.kill()
        if not outcome.pid:
            self._finish(Exit(self._means.clock.monotonic(), code=255))
        self._means.settled()

    def _fail(self, error: Exception) -> None:
        self._close_ends()
        if not self._began.done():
            self._began.set_exception(error)
        if self._order is None:
            self._finish(Exit(self._means.clock.monotonic(), code=255))

    def _exited(self, order: Order) -> None:
        pidfd = order.pidfd
        end = reaper.exit_of(pidfd, self._means.clock.monotonic())
        if end is None:
            return
        self._means.loop.remove_reader(pidfd)
        os.close(pidfd)
        self._means.pids.discard(order.pid)
        self._finish(end)

    def _finish(self, end: Exit) -> None:
        self._retire()
        if not self.over.done():
            self.over.set_result(end)

    def _retire(self) -> None:
        order, self._order = self._order, None
        if order is not None:
            self._means.book.retire(order)

    def _close_ends(self) -> None:
        for fd in self.take():
            os.close(fd)


def _refusal(failure: LaunchFailure) -> Exception:
    return (WorldError if failure.transient else UserError)(f"exec failed: {failure.sentence()}")
