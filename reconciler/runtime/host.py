"""The processes of all vassals on this machine: the real `reconciler.host.Host`.

Made by the `run` command, used by the controller. Everything happens in the event loop's thread and returns at once;
facts are kept as `Observed` values and the name is woken. Not in here: any decision (the plan's), words for failures
(`failures`), how orders reach the zygote (`launcher`), how processes are found (`containment`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from emperorctl.models import late
from emperorctl.models.isolation import Network
from emperorctl.models.limits import Limits
from emperorctl.models.observed import NEVER_LAUNCHED, LaunchFailure, LaunchState, Observed, Process
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import Notify, Stop, StopMethod, Vassal
from emperorctl.reconciler.clock import Clock
from emperorctl.reconciler.runtime import cgroups, failures, leftovers, logfiles, reaper
from emperorctl.reconciler.runtime.configpipe import ConfigPipe
from emperorctl.reconciler.runtime.containment import Containment
from emperorctl.reconciler.runtime.descriptors import Reserve
from emperorctl.reconciler.runtime.environment import Environments
from emperorctl.reconciler.runtime.execs import Execs
from emperorctl.reconciler.runtime.hooks import Means
from emperorctl.reconciler.runtime.host_settings import HostSettings
from emperorctl.reconciler.runtime.identity import Identities, Identity, IdentityError
from emperorctl.reconciler.runtime.launcher import Fate, Launcher, Outcome, Prepared, Survivor
from emperorctl.reconciler.runtime.limiting import Limiter
from emperorctl.reconciler.runtime.logs import LogStore
from emperorctl.reconciler.runtime.notify import NotifyDirectory
from emperorctl.reconciler.runtime.orderbook import OrderBook
from emperorctl.reconciler.runtime.ordering import Unusable, Where, socket_roles, write_order
from emperorctl.reconciler.runtime.outlets import Outlet
from emperorctl.reconciler.runtime.phases import Phases
from emperorctl.reconciler.runtime.protocol import Channel
from emperorctl.reconciler.runtime.runs import Order, Run, identities
from emperorctl.reconciler.runtime.sockets import KeptSockets
from emperorctl.reconciler.runtime.spawn import ZygoteHandle
from emperorctl.reconciler.runtime.tree import Trees
from emperorctl.reconciler.runtime.zygote import procfs

__all__ = ["LocalHost"]


_ENDS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT}


class LocalHost:
    """See `reconciler.host.Host`. `start` before the first launch, `close` at the end."""

    def __init__(
        self,
        settings: HostSettings,
        *,
        wake: Callable[[str], None],
        note: Callable[[str, Note], None],
        clock: Clock,
        zygote: ZygoteHandle,
    ) -> None:
        self._settings = settings
        self._wake = wake
        self._note = note
        self._clock = clock
        self._zygote = zygote
        self._observed: dict[str, Observed] = {}
        self._runs: dict[str, Run] = {}
        self._mains: dict[int, Run] = {}
        self._hook_pids: set[int] = set()
        self._environments = Environments(settings.environ, settings.heartbeat)
        self._orphans: reaper.OrphanHint | None = None
        self._sweep_wanted = False
        self._loop: asyncio.AbstractEventLoop
        self._launcher: Launcher
        self._book: OrderBook
        self._orders: dict[int, Order]
        self._phases: Phases
        self._notify: NotifyDirectory
        self._containment: Containment
        self._identities: Identities
        self._limiter: Limiter
        self.logs: LogStore
        self.sockets: KeptSockets
        self.execs: Execs
        self.leftovers: list[leftovers.Leftover] = []

    # --- life ---

    @property
    def containment(self) -> str:
        """How launches are contained: `cgroup` or `session+tree`."""
        return self._containment.kind

    @property
    def zygote(self) -> int:
        """The present zygote's pid."""
        return self._launcher.pid

    async def start(self) -> None:
        """End leftovers, then be ready to launch. Raises UserError (log directory)."""
        self._loop = asyncio.get_running_loop()
        logfiles.open_directory(self._settings.log_dir, strict=self._settings.tyrant)
        reaper.default_child_signal()
        with contextlib.suppress(OSError, ValueError):
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._reserve = Reserve()
        self.logs = LogStore(self._loop, self._settings.log_dir, self._note)
        self._identities = Identities(self._loop)
        self.sockets = KeptSockets(
            self._loop, self._identities, self._clock, wake=self._wake, respect=self._reserve.respect
        )
        place = cgroups.find_place() if self._settings.containment != "tree" else None
        self.leftovers = await asyncio.to_thread(
            leftovers.end_leftovers, self._settings.instance, cgroups.find_place(), {self._zygote.pid}
        )
        for one in self.leftovers:
            self._note("", one.note())
        await leftovers.earlier_drained(self._drain_lock)
        self._notify = NotifyDirectory(
            self._loop, self._settings.notify_dir or f"{self._settings.log_dir}/.notify", self._note
        )
        self._notify.clear()
        self._book = OrderBook(self._loop, self._settings.instance, finished=self._finished, note=self._note)
        self._orders = self._book.orders
        self._containment = self._book.contained_by = self._contain(place)
        ours = frozenset({os.getpid(), self._zygote.pid})
        self._limiter = Limiter(place, self._containment.root, self._settings.instance, ours)
        self._launcher = Launcher(self._loop, self._zygote, self)
        self.execs = Execs(self._means(), self._runs)
        self._phases = Phases(self._settings.hooks, self._means(), note=self._note, changed=self._hook_changed)
        self._launcher.open()
        if reaper.adopts() or not self._containment.root:
            self._orphans = reaper.OrphanHint(self._loop, self._sweep)
            self._orphans.listen()

    async def close(self) -> None:
        """SIGKILL for whatever still runs, then let go of everything: logs drained, zygote and cgroups gone."""
        self._phases.close()
        self.execs.close()
        for run in {*self._runs.values(), *self._mains.values()}:
            self._end_run(run)
        await self._book.all_gone(self._settings.end_patience)
        if self._orphans is not None:
            self._orphans.close()
        self.logs.close()
        await self._launcher.close()
        self._notify.clear()
        self.sockets.close()
        self._limiter.close()
        self._containment.close()

    def _contain(self, place: cgroups.Place | None) -> Containment:
        if place is not None:
            made = cgroups.Cgroups.make(place, self._settings.instance, self._is_known)
            if made is not None:
                return made
        if self._settings.containment == "cgroup":
            raise OSError("no writable cgroup v2")
        return Trees(self._is_known)

    def _means(self) -> Means:
        return Means(
            loop=self._loop,
            clock=self._clock,
            launcher=self._launcher,
            book=self._book,
            environments=self._environments,
            identities=self._identities,
            reserve=self._reserve,
            settled=self._sweep_if_wanted,
            pids=self._hook_pids,
            limiter=self._limiter,
        )

    @property
    def _drain_lock(self) -> str:
        return f"{self._settings.log_dir}/.{self._settings.instance}.lock"

    # --- Host ---

    def observe(self, name: str) -> Observed:
        """The latest launch of `name`; `NEVER_LAUNCHED` where there was none."""
        seen = self._observed.get(name, NEVER_LAUNCHED)
        if seen.state is LaunchState.ALIVE:
            signs = self._runs[name].signs
            if signs is not seen.signs:
                # Heard since, but nothing that was worth waking anybody: a heartbeat, say.
                seen = self._observed[name] = replace(seen, signs=signs)
        return seen

    def launch(self, vassal: Vassal, number: int, generation: int, *, index: int = 0, urgent: bool = False) -> None:
        """Order launch `number`."""
        run = Run(vassal.name, number, generation, vassal, urgent, index=index)
        self._runs[vassal.name] = run
        self._observed[vassal.name] = Observed(number, LaunchState.LAUNCHING)
        self._identities.ask_all(identities(vassal), lambda answers: self._identified(run, answers))

    def stop(self, name: str, number: int, how: Stop) -> None:
        """Ask that launch to stop, once its preStop hook is done."""
        run = self._runs.get(name)
        if run is None or run.number != number or run.pidfd < 0:
            return

        def ask() -> None:
            if how.method is StopMethod.SIGNAL:
                self.signal(name, number, how.signal)
            elif not self.tell(name, number, how.byte):
                self._note(name, Note(NoteType.WARNING, "NotListening", "it did not take the order to stop"))

        self._phases.before_stop(run, how.grace, ask)

    def signal(self, name: str, number: int, signum: int) -> None:
        """Send a signal to the main process of that launch."""
        run = self._runs.get(name)
        if run is None or run.number != number or run.pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(run.pidfd, signum)
            if signum in _ENDS:
                # A stopped process would not even notice.
                signal.pidfd_send_signal(run.pidfd, signal.SIGCONT)

    def tell(self, name: str, number: int, byte: int) -> bool:
        """Send one byte of the emperor protocol."""
        run = self._runs.get(name)
        if run is None or run.number != number or run.channel is None or run.pidfd < 0:
            return False
        return run.channel.send(byte)

    def configure(self, name: str, number: int, config: bytes) -> None:
        """Have this config ready for when that launch asks."""
        run = self._runs.get(name)
        if run is not None and run.number == number and run.config is not None:
            run.config.config = config

    def limit(self, name: str, number: int, limits: Limits) -> None:
        """Hold that launch to other limits from now on."""
        run = self._runs.get(name)
        if run is not None and run.number == number and run.order is not None:
            before = self._observed[name]
            self._record(run, replace(before, unlimited=self._limiter.apply(run.order, limits)))

    def usage(self, name: str) -> dict[str, Any]:
        """What a vassal that has limits uses now; empty for others. Reads a few files."""
        run = self._runs.get(name)
        return self._limiter.usage(run.order) if run is not None and run.order is not None else {}

    def end(self, name: str, number: int) -> None:
        """SIGKILL for that launch and everything it started."""
        run = self._runs.get(name)
        if run is not None and run.number == number:
            self._end_run(run)

    def forget(self, name: str) -> None:
        """Drop what is known of a name whose process is gone; its logs stay."""
        if name in self._runs and self._observed[name].state not in (LaunchState.LAUNCHING, LaunchState.ALIVE):
            del self._runs[name]
            del self._observed[name]
            self.logs.forget(name)

    def _end_run(self, run: Run) -> None:
        run.condemned = True
        self._phases.cancel(run)
        if run.order is not None and run.pidfd >= 0:
            self._book.kill(run.order)
        if run.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)

    # --- a launch, step by step ---

    def _identified(self, run: Run, answers: tuple[Identity, ...] | IdentityError) -> None:
        if isinstance(answers, IdentityError):
            self._failed(run, failures.from_identity(answers, self._clock.monotonic()))
            return
        run.identity, *others = answers
        run.vassal = late.settled(run.vassal, late.table(run.index, run.identity.uid, run.identity.gid))
        run.patched = others[0] if others else None
        self._phases.before_start(run, lambda failure: self._may_start(run, failure))

    def _may_start(self, run: Run, failure: LaunchFailure | None) -> None:
        if failure is not None:
            self._failed(run, failure)
            return
        self._launcher.submit(
            lambda: self._prepare(run), lambda outcome: self._settled(run, outcome), urgent=run.urgent
        )

    def _prepare(self, run: Run) -> Prepared | None:
        """Its turn has come (again, where a zygote was lost before it started anything): write the order."""
        self._retire(run)
        run.signs, run.offline = NEVER_LAUNCHED.signs, ""
        if run.condemned or not self.sockets.has(run.name, run.vassal.on_demand):
            self._failed(run, failures.cancelled(self._clock.monotonic()))
            return None
        assert run.identity is not None
        self._reserve.respect()
        launch = run.vassal.launch
        order = self._book.new(run.name)
        order_id = order.id
        give: list[int] = []
        close: list[int] = []
        roles: list[str] = []
        try:
            if launch.capture:
                owner = run.vassal.owner.uid if run.vassal.owner is not None else None
                order.log, writing = self.logs.open(
                    run.name, run.vassal.logs, run.identity.uid, lambda: self._book.finish(order), owner=owner
                )
                close.append(writing)
                give += [writing, writing, order.log.fd]
                roles += ["out", "err", "log"]
            else:
                give += [2, 2]
                roles += ["out", "err"]
            sockets = self.sockets.copies(run.name, run.vassal.on_demand)
            close += sockets
            give += sockets
            roles += socket_roles(run.vassal.on_demand)
            if launch.protocol:
                ours, theirs = socket.socketpair()
                run.channel = Channel(self._loop, ours, run, lambda: self._heard(run))
                close.append(theirs.detach())
                give.append(close[-1])
                roles.append("protocol")
            if launch.config_pipe:
                run.config = ConfigPipe(self._loop, run.vassal.config)
                close.append(run.config.open())
                give.append(close[-1])
                roles.append("config")
            if launch.isolation is not None and launch.isolation.network is Network.USER:
                run.outlet = Outlet(self._loop, lambda why: self._offline(run, why))
                close.append(run.outlet.open())
                give.append(close[-1])
                roles.append("network")
            address = ""
            if launch.notify is not Notify.NONE:
                run.notify = self._notify.open(run, order_id, run.identity.uid, lambda: self._heard(run))
                address = run.notify.path
            cookie = self._book.cookie(order_id)
            env = self._environments.of(run.vassal, run.numbers, run.identity, cookie, address)
            log = order.log.path if order.log is not None else None
            limited = self._limiter.place(order, run.vassal.limits)
            place = self._containment.place(order_id)
            where = Where(order_id, tuple(roles), place, log, run.patched, limited, notify=address)
            data = write_order(run.vassal, env, run.identity, where)
        except (OSError, Unusable) as error:
            for fd in close:
                os.close(fd)
            if isinstance(error, OSError):
                raise
            at = self._clock.monotonic()
            self._failed(run, failures.unusable(error.step, error.reason, error.message, error.remedy, at))
            return None
        run.order = order
        run.begun = True
        self._book.enter(order)
        return Prepared(order_id, data, give, close)

    def _settled(self, run: Run, outcome: Outcome) -> None:
        now = self._clock.monotonic()
        if outcome.pid:
            # Ours and not reaped, so the number is still its own.
            run.pid = outcome.pid
            run.pidfd = os.pidfd_open(outcome.pid)
            self._mains[outcome.pid] = run
            assert run.order is not None
            run.order.pid, run.order.pidfd = run.pid, run.pidfd
            self._loop.add_reader(run.pidfd, self._exited, run)
            if run.notify is not None and run.identity is not None:
                run.notify.listen(run.pid, run.identity.uid, run.vassal.launch.notify)
        if outcome.failure is not None:
            self._failed(run, failures.explain(run.vassal, outcome.failure, now))
        elif outcome.pid:
            entry = procfs.stat(outcome.pid)
            assert run.identity is not None
            process = Process(outcome.pid, entry.start if entry else 0, run.identity.uid, run.identity.gid, now)
            unlimited = run.order.unlimited if run.order is not None else ""
            self._record(run, Observed(run.number, LaunchState.ALIVE, process, signs=run.signs, unlimited=unlimited))
            if run.condemned or run.offline:
                self._end_run(run)
            self._phases.after_start(run)
        self._sweep_if_wanted()

    def _failed(self, run: Run, failure: LaunchFailure) -> None:
        held = self._phases.awaited(run)
        self._record(run, Observed(run.number, LaunchState.FAILED, failure=failure, hook=held))
        if run.pidfd < 0:
            self._phases.after_end(run, self._retire(run))

    def _exited(self, run: Run) -> None:
        exit_ = reaper.exit_of(run.pidfd, self._clock.monotonic())
        if exit_ is None:
            return
        exit_ = replace(self._limiter.explained(exit_, run.order), because=run.offline)
        self._loop.remove_reader(run.pidfd)
        os.close(run.pidfd)
        run.pidfd = -1
        del self._mains[run.pid]
        self.execs.ended(run)
        # First, for its last words may still lie in a socket, and belong to how it ended.
        order = self._retire(run)
        before = self._observed.get(run.name)
        if before is not None and before.number == run.number and before.state is LaunchState.ALIVE:
            held = self._phases.awaited(run)
            self._record(run, replace(before, state=LaunchState.EXITED, exit=exit_, signs=run.signs, hook=held))
        self._phases.after_end(run, order)

    def _offline(self, run: Run, why: str) -> None:
        """There is no way out of its network any more, which it could not mend: it ends, and is started anew."""
        if run.condemned or (run.pidfd >= 0 and reaper.has_ended(run.pidfd)):
            return
        run.offline = why
        if run.pidfd >= 0:
            self._end_run(run)

    def _heard(self, run: Run) -> None:
        before = self._observed.get(run.name)
        if before is not None and before.number == run.number and before.state is LaunchState.ALIVE:
            self._record(run, replace(before, signs=run.signs))

    def _hook_changed(self, run: Run, hook: str) -> None:
        seen = self._observed.get(run.name)
        if seen is not None and seen.hook != hook:
            self._record(run, replace(seen, hook=hook))

    def _record(self, run: Run, observed: Observed) -> None:
        if self._runs.get(run.name) is run:
            self._observed[run.name] = observed
            self._wake(run.name)

    # --- after a launch ---

    def _retire(self, run: Run) -> Order | None:
        """There is no main process (any more): end the rest of that order, and let go of what belongs to it."""
        run.hang_up()
        order, run.order = run.order, None
        if order is not None:
            self._book.retire(order)
        return order

    def _finished(self, order: Order) -> None:
        self._launcher.drop(order.id)
        if order.name not in self._runs:
            self.logs.forget(order.name)

    def _is_known(self, pid: int) -> bool:
        return pid in self._mains or pid in self._hook_pids or pid in (self._launcher.pid, self._launcher.nursery)

    def _sweep(self) -> None:
        # A dead child that nobody knows may be a launch whose outcome is still on its way.
        self._sweep_wanted = self._launcher.busy
        if not self._sweep_wanted:
            reaper.sweep_orphans(self._is_known)

    def _sweep_if_wanted(self) -> None:
        if self._sweep_wanted:
            self._sweep()

    # --- what the launcher asks ---

    def hello(self) -> dict[str, Any]:
        """The first message to every zygote."""
        return {
            "cgroup_root": self._containment.root,
            "mark": self._book.mark,
            "nofile": list(self._zygote.nofile),
            "drain_lock": self._drain_lock,
            "own_oom_score": self._settings.oom_scores[0],
            "oom_score": self._settings.oom_scores[1],
        }

    def survivors(self) -> Iterable[Survivor]:
        """Every launch that is confirmed and not over."""
        for order in self._orders.values():
            if order.pid:
                log = order.log.fd if order.log is not None and order.log.fd >= 0 else None
                pidfd = order.pidfd if order.pidfd >= 0 and not self._containment.root else None
                path = order.log.path if order.log is not None else None
                yield Survivor(order.id, order.pid, pidfd, log, path)

    def fate(self, order_id: int) -> tuple[Fate, int]:
        """What became of an unconfirmed order."""
        return self._containment.fate(self._book.contained(self._orders[order_id]))

    def zygote_replaced(self, why: str) -> None:
        """A new zygote was started."""
        message = f"{why}; another one was started, running vassals are not affected"
        self._note("", Note(NoteType.WARNING, "ZygoteReplaced", message))
