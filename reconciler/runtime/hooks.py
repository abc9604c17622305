"""One hook under way: its commands, one after another, each a process of its own with a time limit and bounded output.

Made by `phases`, which knows what comes before and after. A command is ordered from the zygote as a launch is: it is a
child of the Emperor, in a cgroup of its own, and dies with the Emperor. What it leaves running ends with it. Its output
is read here at a bounded pace, and only the end of it is kept. Nothing here waits.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from emperorctl.models.durations import format_duration
from emperorctl.models.names import printable
from emperorctl.models.observed import Exit, LaunchFailure
from emperorctl.models.vassal import Launch
from emperorctl.reconciler.clock import Clock
from emperorctl.reconciler.runtime import failures, reaper
from emperorctl.reconciler.runtime.descriptors import Reserve
from emperorctl.reconciler.runtime.environment import Environments
from emperorctl.reconciler.runtime.identity import Identities, Identity, IdentityError
from emperorctl.reconciler.runtime.launcher import Launcher, Outcome, Prepared
from emperorctl.reconciler.runtime.orderbook import OrderBook
from emperorctl.reconciler.runtime.ordering import Unusable, Where, write_order
from emperorctl.reconciler.runtime.pace import Paced
from emperorctl.reconciler.runtime.runs import Order, Run

__all__ = ["Command", "Means", "Running", "Tail"]

_READ_MAX = 64 * 1024
_BURST_MAX = 1024 * 1024
_KEPT = 4096
"""Bytes of output that are kept, …"""
_SHOWN = 640
"""… and how many characters of them an event has room for, beside its own words."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a hook: what to launch, and how it is called when it fails.

    `hook` is its name (`preStart`); `launch` replaces the vassal's; `identity` None is the Emperor's own; `forgiven`:
    a failure is only reported, and the next command is run all the same.
    """

    hook: str
    launch: Launch
    identity: Identity | None
    timeout: float
    forgiven: bool


@dataclass(frozen=True, slots=True)
class Means:
    """What hooks are run with; all of it is the host's. `settled` is called after each outcome, `pids` holds the
    processes of hooks that are not reaped yet."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    launcher: Launcher
    book: OrderBook
    environments: Environments
    identities: Identities
    reserve: Reserve
    settled: Callable[[], None]
    pids: set[int]


class Running:
    """`done` is called once, from the event loop: with None, or with what failed. `cancel` ends it early: nothing more
    is started or reported, and `done` is called (with `failures.cancelled`) as soon as nothing is left of it.
    `began` is called before each command, `forgive` with each failure of one that is forgiven."""

    def __init__(
        self,
        means: Means,
        run: Run,
        *,
        began: Callable[[Command], None],
        forgive: Callable[[Command, LaunchFailure], None],
    ) -> None:
        self._means = means
        self._run = run
        self._began = began
        self._forgive = forgive
        self._commands: list[Command] = []
        self._done: Callable[[LaunchFailure | None], None] = _ignore
        self._now: _Process | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._cancelled = False

    @property
    def hook(self) -> str:
        """The name of the hook whose command is run now."""
        return self._commands[0].hook if self._commands else ""

    def start(
        self, commands: Sequence[Command], done: Callable[[LaunchFailure | None], None], *, within: float | None = None
    ) -> None:
        """Run these; after `within` seconds, if given, it is over."""
        self._commands = list(commands)
        self._done = done
        if within is not None:
            self._limit = self._means.loop.call_later(within, self.cancel)
        self._means.loop.call_soon(self._begin)

    def cancel(self) -> None:
        """No more of this."""
        if self._cancelled:
            return
        self._cancelled = True
        if self._now is not None:
            self._now.kill()

    def _begin(self) -> None:
        if self._cancelled or not self._commands:
            self._finish(failures.cancelled(self._means.clock.monotonic()) if self._cancelled else None)
            return
        command = self._commands[0]
        self._began(command)
        if command.identity is None:
            self._means.identities.ask(None, None, lambda answer: self._identified(command, answer))
        else:
            self._identified(command, command.identity)

    def _identified(self, command: Command, answer: Identity | IdentityError) -> None:
        if self._cancelled:
            self._begin()
            return
        if isinstance(answer, IdentityError):
            self._over(failures.from_identity(answer, self._means.clock.monotonic()))
            return
        self._now = _Process(self._means, replace(command, identity=answer), self._run, self._over)
        self._now.start()

    def _over(self, failure: LaunchFailure | None) -> None:
        self._now = None
        command = self._commands[0]
        if failure is not None and not self._cancelled:
            if not command.forgiven:
                self._finish(failure)
                return
            self._forgive(command, failure)
        self._commands.pop(0)
        self._begin()

    def _finish(self, failure: LaunchFailure | None) -> None:
        self._commands = []
        if self._limit is not None:
            self._limit.cancel()
        self._done(failure)


class _Process:
    """One command from its order to the end of the last that it started; then `over` is called."""

    def __init__(self, means: Means, command: Command, run: Run, over: Callable[[LaunchFailure | None], None]) -> None:
        self._means = means
        self._command = command
        self._run = run
        # The sockets are the program's alone.
        owner = run.vassal.owner if command.identity is not None else None
        self._vassal = replace(run.vassal, launch=command.launch, on_demand=None, owner=owner)
        self._over = over
        self._order: Order | None = None
        self._output: Tail | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: LaunchFailure | None = None
        self._timed_out = False
        self._killed = False

    def start(self) -> None:
        """Get in line for the zygote."""
        # What belongs to a process that exists does not wait for those that are to come.
        urgent = self._run.urgent or self._run.pid != 0
        self._means.launcher.submit(self._prepare, self._settled, urgent=urgent)

    def kill(self) -> None:
        """End it, at whatever point it is."""
        self._killed = True
        order = self._order
        if order is not None and order.pidfd >= 0:
            self._means.book.kill(order)
            _kill(order.pidfd)

    def _prepare(self) -> Prepared | None:
        means, command = self._means, self._command
        self._retire()
        if self._killed:
            self._over(failures.cancelled(means.clock.monotonic()))
            return None
        assert command.identity is not None
        means.reserve.respect()
        order = means.book.new(self._run.name)
        cookie = means.book.cookie(order.id)
        env = means.environments.of(self._vassal, self._run.generation, command.identity, cookie)
        where = Where(order.id, ("out", "err"), means.book.contained_by.place(order.id), None)
        try:
            data = write_order(self._vassal, env, command.identity, where)
        except Unusable as error:
            at = means.clock.monotonic()
            self._over(failures.unusable(error.step, error.reason, error.message, error.remedy, at))
            return None
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        if command.identity.switch and os.geteuid() == 0:
            # Or /dev/stdout could not be opened by it.
            os.fchown(writing, command.identity.uid, -1)
        self._output = Tail(means.loop, reading)
        self._order = order
        means.book.enter(order)
        return Prepared(order.id, data, [writing, writing], [writing])

    def _settled(self, outcome: Outcome) -> None:
        if outcome.failure is not None:
            self._failure = failures.explain(self._vassal, outcome.failure, self._means.clock.monotonic())
        order = self._order
        if outcome.pid and order is not None:
            # Ours and not reaped, so the number is still its own.
            order.pid, order.pidfd = outcome.pid, os.pidfd_open(outcome.pid)
            self._means.pids.add(outcome.pid)
            self._means.loop.add_reader(order.pidfd, self._exited, order)
            self._timer = self._means.loop.call_later(self._command.timeout, self._overdue)
            if self._killed:
                self.kill()
        else:
            self._end(order, self._failure)
        self._means.settled()

    def _overdue(self) -> None:
        self._timed_out = True
        self.kill()

    def _exited(self, order: Order) -> None:
        pidfd = order.pidfd
        end = reaper.exit_of(pidfd, self._means.clock.monotonic())
        if end is None:
            return
        self._means.loop.remove_reader(pidfd)
        os.close(pidfd)
        self._means.pids.discard(order.pid)
        self._end(order, self._failure or self._judge(end))

    def _end(self, order: Order | None, failure: LaunchFailure | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._retire()
        if order is None:
            self._over(failure)
        else:
            self._means.book.when_cleared(order, lambda: self._over(failure))

    def _retire(self) -> None:
        order, self._order = self._order, None
        if order is not None:
            self._means.book.retire(order)
        if self._output is not None:
            self._output.close()
            self._output = None

    def _judge(self, end: Exit) -> LaunchFailure | None:
        if end.code == 0:
            return None
        program = printable(self._command.launch.command[0][:200])
        limit = format_duration(self._command.timeout)
        text, remedy = f"{program} {end.sentence()}", ""
        if self._timed_out:
            text, remedy = f"{program} was killed: not done within {limit}", "give it a longer timeout, or mend it"
        if self._output is not None:
            text += self._output.words()
        return LaunchFailure(end.at, self._command.hook, 0, "HookFailed", text, remedy)


class Tail:
    """The end of what is written into a pipe, read at a bounded pace. Owns the read end."""

    __slots__ = ("_fd", "_kept", "_pace", "_total")

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._fd = fd
        self._kept = b""
        self._total = 0
        self._pace = Paced(loop, fd, self._readable, most=_BURST_MAX)

    def words(self) -> str:
        """What to say of it behind a sentence: its last lines, or that there was nothing."""
        self._rest()
        text = self._kept.decode(errors="replace").strip()
        lines = " | ".join(printable(line.strip()) for line in text.splitlines() if line.strip())
        if not lines:
            return "; it printed nothing"
        shown = lines if len(lines) <= _SHOWN else f"…{lines[-_SHOWN:]}"
        return f"; its output{' ended' if self._total > _KEPT or shown is not lines else ''}: {shown}"

    def close(self) -> None:
        """Read no more."""
        if self._fd >= 0:
            self._pace.close()
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        if self._read():
            self._pace.rest()

    def _rest(self) -> None:
        """What is still in the pipe; others may go on writing into it."""
        for _ in range(_BURST_MAX // _READ_MAX):
            if not self._read():
                return

    def _read(self) -> bool:
        if self._fd < 0:
            return False
        try:
            data = os.read(self._fd, _READ_MAX)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self._pace.took(len(data))
        self._total += len(data)
        self._kept = (self._kept + data[-_KEPT:])[-_KEPT:]
        return True


def _kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _ignore(failure: LaunchFailure | None) -> None:
    """Until it is started."""
