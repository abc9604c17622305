"""The Emperor put together and kept going: from its orders to its end.

Called by `run` alone. It connects the parts and passes signals on; what is decided is decided in `reconciler`.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emperorctl.cli.journal import Journal
from emperorctl.cli.layers import defaults_of
from emperorctl.cli.pidfile import PidFile
from emperorctl.cli.rows import COLUMNS, WIDE, vassal_row
from emperorctl.cli.rules import gate_of, run_of
from emperorctl.cli.standing import become_tyrant, make_private, renounce
from emperorctl.cli.table import Table
from emperorctl.models.errors import SourceUnavailable, UserError
from emperorctl.models.merging import Layers
from emperorctl.models.settings import Settings
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import Owner
from emperorctl.monitors.base import Monitor, MonitorContext
from emperorctl.monitors.registry import open_source
from emperorctl.reconciler.api.addresses import Address
from emperorctl.reconciler.api.commands import CommandSocket
from emperorctl.reconciler.api.events import EventLog
from emperorctl.reconciler.api.listener import Place
from emperorctl.reconciler.api.peers import Admission
from emperorctl.reconciler.api.server import ControlServer
from emperorctl.reconciler.api.stats import StatsServer
from emperorctl.reconciler.board import Board
from emperorctl.reconciler.clock import SystemClock
from emperorctl.reconciler.controller import Controller
from emperorctl.reconciler.desired import DesiredStore
from emperorctl.reconciler.emperor import Emperor, Parts
from emperorctl.reconciler.plan import Rules
from emperorctl.reconciler.runtime.host import LocalHost
from emperorctl.reconciler.runtime.host_settings import HostSettings
from emperorctl.reconciler.runtime.lock import acquire, instance_of
from emperorctl.reconciler.runtime.ourselves import (
    become_subreaper,
    set_name,
    spare_from_oom,
)
from emperorctl.reconciler.runtime.phases import EmperorHooks
from emperorctl.reconciler.runtime.spawn import ZygoteHandle
from emperorctl.reconciler.runtime.trust import installation, weak_spots
from emperorctl.reconciler.sources import Sources
from emperorctl.reconciler.state import StateFile
from emperorctl.reconciler.views import vassal_object

if TYPE_CHECKING:
    from emperorctl.monitors.defaults import DefaultsWatch
    from emperorctl.reconciler.runtime.paranoia import Renunciation

__all__ = ["Orders", "reign"]

LAST_WAIT = 10.0
"""Seconds after the mercy until the Emperor goes, even if the kernel still holds a killed process."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Orders:
    """What the Emperor was told, and what follows from it. All paths are absolute; `warnings` are for its log, `files`
    its configurations, `renounced` who it is to run as, `socket_group` an id."""

    settings: Settings
    socket: str
    state_dir: str
    log_dir: str
    rules: Rules
    stats: Address | None = None
    commands: Place | None = None
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    renounced: Renunciation | None = None
    socket_group: int | None = None


def reign(orders: Orders, zygote: ZygoteHandle) -> int:
    """Reign until told to end; the exit code. Raises UserError where it can't begin."""
    # What is loaded by now stays, and little of what comes is cyclic: the collector need not look so often.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    lock = acquire(orders.socket)
    journal = Journal(2, orders.settings.log_format)
    logging.basicConfig(handlers=[journal], level=logging.WARNING, format="%(message)s", force=True)
    loop = asyncio.new_event_loop()
    told = orders.settings
    pidfile = PidFile(os.path.abspath(told.emperor_pidfile)) if told.emperor_pidfile else None
    try:
        if told.emperor_procname:
            set_name(told.emperor_procname)
        if told.emperor_subreaper:
            become_subreaper()
        if pidfile is not None:
            pidfile.write()
        owners = {0, os.geteuid()} | ({orders.renounced.uid} if orders.renounced is not None else set())
        make_private(orders.state_dir, owners)
        make_private(orders.log_dir, owners)
        # While it is still allowed.
        scores = spare_from_oom()
        notes = renounce(orders, orders.renounced, zygote) if orders.renounced is not None else []
        if told.emperor_tyrant:
            become_tyrant(zygote)
        asyncio.set_event_loop(loop)
        made = _Reign(orders, zygote, journal, scores)
        for note in notes:
            made.note("", note)
        return loop.run_until_complete(made.run())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        journal.close()
        if pidfile is not None:
            pidfile.remove()
        lock.release()


class _Reign:
    """The parts of one Emperor."""

    def __init__(
        self, orders: Orders, zygote: ZygoteHandle, journal: Journal, scores: tuple[int | None, int | None]
    ) -> None:
        self.orders = orders
        self.journal = journal
        self.clock = SystemClock()
        self.loop = asyncio.get_event_loop()
        self.events = EventLog(self.clock)
        self.state = StateFile(os.path.join(orders.state_dir, "state.json"))
        suspended, complaint = self.state.load()
        if complaint:
            journal.line(complaint, level="Warning", reason="StateIgnored")
        self.store = DesiredStore(self.wake, self.note, suspended)
        self.store.handover = self._hand_over
        self.store.wait_for_command = orders.settings.emperor_wait_for_command
        self.store.wait_not = orders.settings.emperor_wait_for_command_ignore
        self.sources = Sources(self.store, self.clock)
        settings = HostSettings(
            instance=instance_of(orders.socket),
            log_dir=orders.log_dir,
            notify_dir=f"{orders.socket}.notify",
            heartbeat=orders.rules.heartbeat,
            hooks=EmperorHooks(orders.settings.vassals_start_hook, orders.settings.vassals_stop_hook),
            oom_scores=scores if orders.renounced is None else (scores[1], scores[1]),
            tyrant=orders.settings.emperor_tyrant,
        )
        self.host = LocalHost(settings, wake=self.wake, note=self.note, clock=self.clock, zygote=zygote)
        self.controller = Controller(self.store, self.host, self.clock, self.loop, orders.rules)
        self.board = Board(self.render, self.detail)
        self.controller.note = self.note
        self.controller.changed = self.board.change
        self.controller.forgotten = self.board.remove
        told = orders.settings
        run = run_of(told)
        layers = defaults_of(told.vassal_defaults, told.vassal_set, tyrant=told.emperor_tyrant)
        self.defaults: DefaultsWatch | None = None
        if not isinstance(layers, Layers):
            from emperorctl.monitors.defaults import DefaultsWatch

            self.defaults = DefaultsWatch(layers, self._adopt, self.note)
            layers = self.defaults.begin()
        self.context = MonitorContext(
            publish=self.sources.apply,
            uwsgi=run,
            warn=self.note,
            watch=told.watch,
            nofollow=told.emperor_nofollow,
            layers=layers,
            gate=gate_of(told),
        )
        self.monitors = [open_source(text, self.context) for text in told.emperor]
        if run.passed_files:
            from emperorctl.monitors.passed import require_end

            require_end(run, [monitor.working_dir for monitor in self.monitors])
        for monitor in self.monitors:
            self.sources.add(monitor.source, monitor.describe_watch, monitor.working_dir or os.getcwd())
        self.gone = asyncio.Event()
        self.ending = False
        self.tasks: list[asyncio.Task[None]] = []
        self.resyncing: set[asyncio.Task[None]] = set()

    def wake(self, name: str) -> None:
        """Somebody learned something about `name`."""
        self.controller.wake(name)

    def note(self, name: str, note: Note) -> None:
        """Something worth an event and a line."""
        self.events.record(name, note)
        self.journal.note(name, note)

    def _hand_over(self, name: str, former: Owner) -> None:
        """A name has become another owner's: what is told of it is not to be of the former one's."""
        self.events.set_aside(name, f"{name}@{former.uid}")

    def _owner_of(self, name: str) -> int | None:
        """Whose a vassal is now: a uid."""
        desired = self.store.get(name)
        if desired is not None and desired.owner is not None:
            return desired.owner.uid
        record = self.controller.records.get(name)
        vassal = record.memory.vassal if record is not None else None
        return vassal.owner.uid if vassal is not None and vassal.owner is not None else None

    def render(self, name: str) -> dict[str, Any]:
        """The object of one vassal, for the board."""
        record = self.controller.records[name]
        vassal = record.memory.vassal
        captured = vassal is not None and vassal.launch.capture
        return vassal_object(
            name,
            record,
            self.clock,
            log=self.host.logs.path(name) if captured else "",
            heartbeat=self.host.observe(name).signs.heartbeat,
        )

    def detail(self, name: str) -> dict[str, Any]:
        """The same with what it uses now."""
        shown = self.render(name)
        shown["status"]["usage"] = self.host.usage(name)
        return shown

    async def run(self) -> int:
        """From the first listing to the last exit."""
        for warning in self.orders.warnings:
            self.journal.line(warning, level="Warning", reason="OptionIgnored")
        for spot in self._weak_spots():
            text = f"{spot}: whoever can change what runs as root is root (emperorctl doctor says how to mend it)"
            self.journal.line(text, level="Warning", reason="NotTrusted")
        self._warn_of_follow()
        self.journal.gather(self.loop.call_later)
        # Before anything is started: where it can't listen, nothing has to be ended again.
        commands = self._open_commands()
        try:
            stats = self._open_stats()
        except UserError:
            if commands is not None:
                commands.close()
            raise
        await self.host.start()
        told = self.orders.settings
        if told.emperor_tyrant:
            self.host.logs.owner_of = self._owner_of
        sources = tuple(monitor.source for monitor in self.monitors)
        parts = Parts(
            self.store,
            self.controller,
            self.board,
            self.events,
            self.host.logs,
            self.state,
            self.clock,
            sources,
            tyrant=self.orders.settings.emperor_tyrant,
            monitors=self.sources,
            note=self.note,
            execute=self.host.execs.start,
        )
        self.emperor = Emperor(parts, self._about)
        if parts.tyrant:
            self.events.owner = self.journal.owner_of = self.emperor.owner
        gate = Admission(tyrant=self.orders.settings.emperor_tyrant, group=self.orders.socket_group)
        server = ControlServer(self.emperor, self.orders.socket, gate=gate)
        self._listen_to_signals()
        self.tasks = [self.loop.create_task(self._observe(monitor)) for monitor in self.monitors]
        timer = self.loop.call_later(self.orders.settings.emperor_freq, self._resync)
        if self.defaults is not None:
            self.defaults.watch(self.context.shared, self.orders.settings.watch)
        try:
            # Let the first launches be ordered: the zygote works on them while the API is being loaded.
            await asyncio.sleep(0)
            await server.start()
            if stats is not None:
                stats.start()
            if commands is not None:
                commands.start(self.emperor)
            self.journal.line(
                f"the Emperor reigns: {', '.join(monitor.source for monitor in self.monitors)};"
                f" pid {os.getpid()}, control socket {self.orders.socket}{self._as_whom()}",
                reason="Ready",
            )
            _tell_systemd("READY=1")
            await self.gone.wait()
        finally:
            timer.cancel()
            self.ending = True
            for task in (*self.tasks, *self.resyncing):
                task.cancel()
            if commands is not None:
                commands.close()
            await server.close()
            if stats is not None:
                await stats.close()
            if self.defaults is not None:
                self.defaults.close()
            await self.context.aclose()
            self.controller.close()
            await self.host.close()
        self.journal.line("the Emperor has ended", reason="Ended")
        return 0

    def _about(self) -> dict[str, object]:
        """What `version` answers with; looked up when somebody asks."""
        from importlib.metadata import version

        from emperorctl.reconciler.runtime.paranoia import who

        return {"version": version("emperorctl"), **who(self.host.zygote)}

    def _as_whom(self) -> str:
        wanted = self.orders.renounced
        return "" if wanted is None else f", as {wanted.name} (uid {wanted.uid}, gid {wanted.gid})"

    def _weak_spots(self) -> list[str]:
        """Where others could change the program of a root Emperor, or its configuration; a few at most."""
        if os.geteuid() != 0:
            return []
        spots = [*installation(), *(spot for file in self.orders.files for spot in weak_spots(file))]
        return list(dict.fromkeys(spots))[:5]

    def _warn_of_follow(self) -> None:
        if self.orders.settings.emperor_tyrant and self.orders.settings.tyrant_follow:
            text = (
                "--tyrant-follow: links are followed to whoever's file they lead to; a tenant who may put a link into"
                " a source can start the files of others, as their owners"
            )
            self.journal.line(text, level="Warning", reason="TyrantFollow")

    def _stats(self) -> bytes:
        return self.emperor.stats()

    def _open_stats(self) -> StatsServer | None:
        if self.orders.stats is None:
            return None
        # uWSGI's own stats socket is as open as the umask says, and so is this one.
        place = Place(self.orders.stats, "the stats server", "--emperor-stats", private=False)
        stats = StatsServer(place, self._stats)
        stats.open()
        return stats

    def _open_commands(self) -> CommandSocket | None:
        if self.orders.commands is None:
            return None
        commands = CommandSocket(self.orders.commands, self.note)
        commands.open()
        return commands

    def _listen_to_signals(self) -> None:
        """Take the signals that were blocked since the first instruction."""
        handlers: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: self._end,
            signal.SIGINT: self._end,
            signal.SIGQUIT: self._end,
            signal.SIGHUP: self._reload_all,
            signal.SIGURG: self._clear_blacklist,
            signal.SIGUSR1: self._write_table,
        }
        for number, handler in handlers.items():
            self.loop.add_signal_handler(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)

    async def _observe(self, monitor: Monitor) -> None:
        """Keep one monitor running: our own mistakes in it end no vassal, and not the monitor for long."""
        pause = 1.0
        while True:
            try:
                await monitor.run()
            except SourceUnavailable as error:
                self.sources.failed(monitor.source, error.problem)
                self.note(monitor.source, Note(NoteType.WARNING, error.problem.reason, error.problem.sentence()))
            except Exception:
                _log.exception("the monitor of %s failed; it is started again in %gs", monitor.source, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 60.0)

    def _resync(self) -> None:
        self.loop.call_later(self.orders.settings.emperor_freq, self._resync)
        if self.ending:
            return
        if self.defaults is not None:
            self.defaults.check()
        for monitor in self.monitors:
            self._have_done(monitor.resync())
        self.controller.resync()

    def _adopt(self, layers: Layers) -> None:
        """All native vassals are merged with something else from now on."""
        for monitor in self.monitors:
            self._have_done(monitor.adopt(layers))

    def _have_done(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.resyncing.add(task)
        task.add_done_callback(self._resynced)

    def _resynced(self, task: asyncio.Task[None]) -> None:
        self.resyncing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("looking at a source again failed", exc_info=error)

    def _end(self) -> None:
        """Ragnarok; a second word shortens the mercy to nothing."""
        mercy = 0.0 if self.ending else self.orders.settings.reload_mercy
        if not self.ending:
            self.journal.line(f"ending: vassals have {mercy:g}s; once more to end them now", reason="Ragnarok")
            _tell_systemd("STOPPING=1")
            self.loop.call_later(mercy + LAST_WAIT, self.gone.set)
        self.ending = True
        for task in (*self.tasks, *self.resyncing):
            task.cancel()
        self.controller.end(mercy, self.gone.set)

    def _reload_all(self) -> None:
        count = self.emperor.reload_all()
        self.journal.line(f"reloading all {count} vassals", reason="ReloadAll")

    def _clear_blacklist(self) -> None:
        names = self.emperor.clear_blacklist(None)
        self.journal.line(f"{len(names)} vassals taken off the blacklist", reason="BlacklistCleared")

    def _write_table(self) -> None:
        """What `get vassals -o wide` shows."""
        lines = io.StringIO()
        now = self.clock.wall()
        rows = [vassal_row(json.loads(item), now, wide=True) for item in self.board.snapshot()[1]]
        Table(COLUMNS + WIDE, stream=lines).write(rows)
        for line in lines.getvalue().splitlines() or ["No resources found"]:
            self.journal.line(line, reason="Status")


def _tell_systemd(text: str) -> None:
    """Say it to the service manager, where there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        try:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(text.encode())
        except OSError as error:
            _log.warning("NOTIFY_SOCKET %s: %s", address, error.strerror)
