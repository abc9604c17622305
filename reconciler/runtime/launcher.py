"""Orders to the zygote and what becomes of them; and another zygote when one dies or falls silent.

Used by `host`. At most `OUTSTANDING` orders are on their way at once; the rest wait here in line, without
descriptors. An order that a lost zygote left unconfirmed is looked into before it is given again: a process is never
started twice. Not in here: what an order says (`ordering`), how processes are found (`containment`).
"""

from __future__ import annotations

import ast
import asyncio
import os
import select
import signal
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from emperorctl.reconciler.runtime.spawn import ZygoteHandle, spawn_zygote
from emperorctl.reconciler.runtime.zygote import orders

__all__ = ["OUTSTANDING", "Fate", "Launcher", "LauncherOwner", "Outcome", "Prepared", "Survivor", "spawn_zygote"]

OUTSTANDING = 16
TIMEOUT = 10.0
"""Seconds that an order may take before its zygote counts as hung."""

_LOOK_AGAIN = 0.02
_DEATH_MS = 1000
_UNDECIDED_MAX = 0.5
_HASTY = 1.0
_HASTY_MAX = 3


class Fate(Enum):
    """What happened to an order whose zygote died before saying so."""

    NOT_STARTED = "not started"
    STARTING = "starting"
    STARTED = "started"


@dataclass(slots=True)
class Outcome:
    """`pid` is 0 where no process was made. `failure`: the child's report, or None once the program runs."""

    pid: int
    failure: dict[str, Any] | None = None


@dataclass(slots=True)
class Prepared:
    """One order ready to go: `give` are descriptors to send, `close` those to close when it is settled."""

    id: int
    data: bytes
    give: list[int] = field(default_factory=list)
    close: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Survivor:
    """A launch that lives through the loss of its zygote, for the next one to know."""

    id: int
    pid: int
    pidfd: int | None
    log: int | None
    log_path: str | None


class LauncherOwner(Protocol):
    """What the launcher asks of the host."""

    def hello(self) -> dict[str, Any]:
        """The first message to every zygote."""
        ...

    def survivors(self) -> Iterable[Survivor]:
        """Every launch that is confirmed and not over."""
        ...

    def fate(self, order_id: int) -> tuple[Fate, int]:
        """What became of an unconfirmed order: the fate, and the pid where there is a process."""
        ...

    def zygote_replaced(self, why: str) -> None:
        """A new zygote was started."""
        ...


@dataclass(slots=True)
class _Ticket:
    prepare: Callable[[], Prepared | None]
    done: Callable[[Outcome], None]
    order: Prepared | None = None
    sent: float = 0.0
    retried: bool = False
    lost: float = 0.0
    killed: int = 0


class Launcher:
    """One zygote at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: ZygoteHandle, owner: LauncherOwner) -> None:
        self._loop = loop
        self._handle = handle
        self._owner = owner
        self._urgent: deque[_Ticket] = deque()
        self._waiting: deque[_Ticket] = deque()
        self._sent: dict[int, _Ticket] = {}
        self._lost: deque[_Ticket] = deque()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._dropped: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._respawn: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._born = loop.time()
        self._hasty = 0
        self._up = False
        self._closing = False

    @property
    def pid(self) -> int:
        """The present zygote's pid."""
        return self._handle.pid

    @property
    def nursery(self) -> int:
        """The pid of what makes further zygotes; 0 where the Emperor does it itself."""
        return self._handle.nursery.pid if self._handle.nursery is not None else 0

    @property
    def busy(self) -> bool:
        """Whether any order may have made a process that is not known yet."""
        return bool(self._sent or self._lost)

    def open(self) -> None:
        """Take the zygote into the event loop and tell it who we are."""
        self._up = True
        self._loop.add_reader(self._handle.sock, self._readable)
        self._loop.add_reader(self._handle.pidfd, self._died)
        self._send(orders.encode({"hello": self._owner.hello()}), [])

    def submit(
        self, prepare: Callable[[], Prepared | None], done: Callable[[Outcome], None], *, urgent: bool = False
    ) -> None:
        """Get in line, or with `urgent` in the line that goes first. `prepare` is called when the turn comes (again
        after a lost zygote; None: not wanted any more); `done` once."""
        (self._urgent if urgent else self._waiting).append(_Ticket(prepare, done))
        self._pump()

    def drop(self, order_id: int) -> None:
        """This launch is over: the zygote need not remember it."""
        if not self._dropped:
            self._loop.call_soon(self._send_drops)
        self._dropped.append(order_id)

    async def close(self, patience: float = 3.0) -> None:
        """Hang up, which makes the zygote clear up and leave; SIGKILL if it takes too long (seconds)."""
        self._closing = True
        for timer in (self._timer, self._looking, self._respawn):
            if timer is not None:
                timer.cancel()
        self._send_drops()
        if not self._up:
            return
        handle = self._handle
        self._detach()
        self._loop.remove_reader(handle.pidfd)
        gone = asyncio.Event()
        self._loop.add_reader(handle.pidfd, gone.set)
        try:
            await asyncio.wait_for(gone.wait(), patience)
        except TimeoutError:
            signal.pidfd_send_signal(handle.pidfd, signal.SIGKILL)
            await gone.wait()
        finally:
            self._loop.remove_reader(handle.pidfd)
            _reap(handle)
            for ticket in self._sent.values():
                _close_all(ticket)

    # --- orders out, outcomes in ---

    def _pump(self) -> None:
        while (
            (line := self._urgent or self._waiting) and self._up and len(self._sent) < OUTSTANDING and not self._unsent
        ):
            ticket = line.popleft()
            try:
                order = ticket.prepare()
            except OSError as error:
                # No descriptors left for pipe or socket: running vassals are unaffected, this one is tried again later.
                ticket.done(Outcome(0, {"step": "descriptors", "errno": error.errno or 0, "detail": ""}))
                continue
            if order is None:
                continue
            ticket.order = order
            ticket.sent = self._loop.time()
            self._sent[order.id] = ticket
            self._send(order.data, order.give)
        if self._sent and self._timer is None:
            self._watch(TIMEOUT)

    def _send(self, data: bytes, fds: list[int]) -> None:
        if not self._unsent:
            try:
                orders.send(self._handle.sock, data, fds)
                return
            except BlockingIOError:
                self._loop.add_writer(self._handle.sock, self._writable)
            except OSError:
                return  # its death is noticed by its pidfd
        self._unsent.append((data, fds))

    def _writable(self) -> None:
        while self._unsent:
            try:
                orders.send(self._handle.sock, *self._unsent[0])
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()
                break
            self._unsent.popleft()
        self._loop.remove_writer(self._handle.sock)
        self._pump()

    def _send_drops(self) -> None:
        dropped, self._dropped = self._dropped, []
        for start in range(0, len(dropped) if self._up else 0, 1000):
            self._send(orders.encode({"drop": dropped[start : start + 1000]}), [])

    def _readable(self) -> None:
        try:
            message, fds = orders.receive(self._handle.sock)
        except BlockingIOError:
            return
        except (orders.Closed, orders.DescriptorsLost, OSError, ValueError):
            self._replace("the zygote closed its socket")
            return
        for fd in fds:
            os.close(fd)
        self._hasty = 0
        self._take_outcomes(message)
        self._pump()

    def _take_outcomes(self, message: dict[str, Any]) -> None:
        _reap_helpers(message)
        for order_id, pid, report in message.get("done", ()):
            if (ticket := self._sent.pop(order_id, None)) is not None:
                self._settle(ticket, Outcome(pid, _facts(report) if report else None))

    def _settle(self, ticket: _Ticket, outcome: Outcome) -> None:
        _close_all(ticket)
        ticket.done(outcome)

    # --- a zygote that is silent or gone ---

    def _watch(self, delay: float) -> None:
        self._due = self._loop.time() + delay
        self._timer = self._loop.call_later(delay, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        if not self._sent:
            return
        now = self._loop.time()
        if now - self._due > 1.0:
            # We were stopped or stuck ourselves, and perhaps the zygote with us: start counting anew.
            for ticket in self._sent.values():
                ticket.sent = now
        oldest = next(iter(self._sent.values()))
        remaining = oldest.sent + TIMEOUT - now
        if remaining > 0:
            self._watch(remaining)
        else:
            self._replace(f"the zygote did not answer for {TIMEOUT:.0f}s")

    def _died(self) -> None:
        self._replace("the zygote died")

    def _detach(self) -> None:
        self._up = False
        handle = self._handle
        self._loop.remove_reader(handle.sock)
        self._loop.remove_writer(handle.sock)
        handle.sock.close()
        self._unsent.clear()

    def _replace(self, why: str) -> None:
        if self._closing or not self._up:
            return
        old = self._handle
        # What it has still said counts.
        while True:
            try:
                message, _ = orders.receive(old.sock)
            except (orders.Closed, orders.DescriptorsLost, OSError, ValueError):
                break
            self._take_outcomes(message)
        # SIGKILL before hanging up: end-of-file would make it bury all vassals.
        self._kill(old)
        self._detach()
        now = self._loop.time()
        for ticket in self._sent.values():
            ticket.lost = now
            self._lost.append(ticket)
        self._sent.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hasty = self._hasty + 1 if now - self._born < _HASTY else 0
        if self._hasty >= _HASTY_MAX:
            self._give_up_waiting()
            self._respawn = self._loop.call_later(_HASTY, self._start, why)
        else:
            self._start(why)

    def _kill(self, old: ZygoteHandle) -> None:
        """SIGKILL, and see it dead: while it lives, nobody can say what it has started."""
        try:
            signal.pidfd_send_signal(old.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        poll = select.poll()
        poll.register(old.pidfd, select.POLLIN)
        poll.poll(_DEATH_MS)
        self._loop.remove_reader(old.pidfd)
        if os.waitid(os.P_PIDFD, old.pidfd, os.WEXITED | os.WNOHANG) is not None:
            os.close(old.pidfd)
        else:
            self._loop.add_reader(old.pidfd, self._died_late, old.pidfd)

    def _died_late(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)

    def _start(self, why: str) -> None:
        self._respawn = None
        self._born = self._loop.time()
        try:
            self._handle = self._handle.successor()
        except OSError:
            self._give_up_waiting()
            self._respawn = self._loop.call_later(_HASTY, self._start, why)
            return
        self.open()
        self._introduce()
        self._owner.zygote_replaced(why)
        self._look_into_lost()
        self._pump()

    def _introduce(self) -> None:
        """Tell the new zygote of all that lives, so that it can bury it."""
        batch: list[dict[str, Any]] = []
        fds: list[int] = []
        for one in self._owner.survivors():
            batch.append(
                {
                    "id": one.id,
                    "pid": one.pid,
                    "pidfd": one.pidfd is not None,
                    "log": one.log_path if one.log is not None else "",
                }
            )
            fds.extend(fd for fd in (one.pidfd, one.log) if fd is not None)
            if len(fds) >= orders.FDS_MAX - 2 or len(batch) >= 200:
                self._send(orders.encode({"adopt": batch}), fds)
                batch, fds = [], []
        if batch:
            self._send(orders.encode({"adopt": batch}), fds)

    def _give_up_waiting(self) -> None:
        waiting = [*self._urgent, *self._waiting]
        self._urgent.clear()
        self._waiting.clear()
        for ticket in waiting:
            ticket.done(_lost_outcome())

    def _look_into_lost(self) -> None:
        """Decide on each order that the last zygote left open."""
        self._looking = None
        now = self._loop.time()
        for _ in range(len(self._lost)):
            ticket = self._lost.popleft()
            assert ticket.order is not None
            fate, pid = self._owner.fate(ticket.order.id)
            overdue = now - ticket.lost > _UNDECIDED_MAX
            if ticket.killed:
                fate = Fate.NOT_STARTED if _reaped(ticket.killed) else Fate.STARTING
            elif fate is Fate.STARTING and overdue:
                if pid:
                    # Stuck on its way to execve, and nobody is left to hear why.
                    ticket.killed = pid
                    _kill_child(pid)
                else:
                    fate = Fate.NOT_STARTED
            if fate is Fate.STARTED:
                self._settle(ticket, Outcome(pid))
            elif fate is Fate.STARTING:
                self._lost.append(ticket)
            elif ticket.retried:
                self._settle(ticket, _lost_outcome())
            else:
                ticket.retried = True
                ticket.killed = 0
                _close_all(ticket)
                self._waiting.appendleft(ticket)
        if self._lost:
            self._looking = self._loop.call_later(_LOOK_AGAIN, self._look_into_lost)
        self._pump()


def _facts(report: bytes) -> dict[str, Any]:
    """What a new process wrote down with `orders.report`."""
    try:
        facts = ast.literal_eval(report.decode("ascii"))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        facts = None
    return facts if isinstance(facts, dict) and "step" in facts else {"step": "launcher", "errno": 0, "detail": ""}


def _lost_outcome() -> Outcome:
    return Outcome(0, {"step": "launcher", "errno": 0, "detail": ""})


def _close_all(ticket: _Ticket) -> None:
    if ticket.order is not None:
        for fd in ticket.order.close:
            os.close(fd)
        ticket.order.close = []


def _kill_child(pid: int) -> None:
    """End a child of ours that never became its program; its number is safe until it is reaped."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _reaped(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _reap_helpers(message: dict[str, Any]) -> None:
    """Children of ours that a launch needed for a moment (`zygote.cells`)."""
    for pid in message.get("helpers", ()):
        try:
            # Its last act was to let go of the launch: there is nothing to wait for.
            os.waitid(os.P_PID, pid, os.WEXITED)
        except ChildProcessError:
            pass


def _reap(handle: ZygoteHandle) -> None:
    try:
        os.waitid(os.P_PIDFD, handle.pidfd, os.WEXITED | os.WNOHANG)
    except OSError:
        pass
    os.close(handle.pidfd)
