"""The Emperor as its people see it: orders and questions, for the API and for signals.

It holds the parts together and adds nothing of its own but the meaning of an order. Made by the composition root.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from emperorctl.models.errors import NotFound, SuspendedByFile, UserError
from emperorctl.models.execution import Execution
from emperorctl.models.names import printable, the_one
from emperorctl.models.observed import LaunchState
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import Desired, Launch, Suspender
from emperorctl.reconciler.api.events import EventLog
from emperorctl.reconciler.api.facade import Attached, LogView
from emperorctl.reconciler.board import Board
from emperorctl.reconciler.clock import Clock
from emperorctl.reconciler.controller import Controller
from emperorctl.reconciler.desired import DesiredStore
from emperorctl.reconciler.sources import Sources
from emperorctl.reconciler.state import StateFile
from emperorctl.reconciler.stats import Bureau, Facts, Now, monitor_argument
from emperorctl.reconciler.views import timestamp

__all__ = ["Emperor", "Parts"]

_log = logging.getLogger(__name__)
_SHOWN = 200
_EXTENSIONS = (".ini", ".xml", ".yml", ".yaml", ".json", ".js")


@dataclass(frozen=True, slots=True)
class Parts:
    """What an Emperor is made of. `sources` are its monitors' addresses, of which `monitors` knows more; `tyrant`:
    files decide who vassals run as. `note` is told what was ordered, if not the events alone; `execute` runs
    commands within vassals."""

    store: DesiredStore
    controller: Controller
    board: Board
    events: EventLog
    logs: LogView
    state: StateFile
    clock: Clock
    sources: tuple[str, ...] = ()
    tyrant: bool = False
    monitors: Sources | None = None
    note: Callable[[str, Note], None] | None = None
    execute: Callable[[str, Execution, int | None], Awaitable[Attached]] | None = None


class Emperor:
    """Orders and questions. Every order takes effect through the store: the plan does the rest."""

    def __init__(self, parts: Parts, about: Callable[[], dict[str, object]]) -> None:
        self.board = parts.board
        self.events = parts.events
        self.logs = parts.logs
        self._parts = parts
        self._about = about
        self._started = parts.clock.wall()
        self._bureau: Bureau | None = None
        self._note = parts.note or parts.events.record

    def version(self) -> dict[str, object]:
        """Who is speaking."""
        return {**self._about(), "pid": os.getpid(), "startTime": timestamp(self._started)}

    def stats(self) -> bytes:
        """The statistics document, encoded."""
        clock, controller = self._parts.clock, self._parts.controller
        if self._bureau is None:
            facts = Facts(
                version=str(self._about()["version"]),
                pid=os.getpid(),
                uid=os.geteuid(),
                gid=os.getegid(),
                cwd=_working_directory(),
                emperor=tuple(map(monitor_argument, self._parts.sources)),
                tyrant=self._parts.tyrant,
            )
            self._bureau = Bureau(controller.host.observe, facts)
        now = Now(throttle=controller.throttle_level(), offset=clock.wall() - clock.monotonic())
        return self._bureau.write(controller.records, now)

    def resolve(self, name: str) -> str:
        """The vassal meant by `name`: that very name, or the one that has it with an extension or, in tyrant mode, with
        an owner's uid.

        Raises NotFound, or Ambiguous.
        """
        return the_one(name, self.fits(name) or self._owned(name))

    def fits(self, name: str) -> list[str]:
        """Every full name that `name` may mean, whoever asks. Costs the same however many vassals there are."""
        records = self._parts.controller.records
        return [full for full in (name, *(name + extension for extension in _EXTENSIONS)) if full in records]

    def _owned(self, name: str) -> list[str]:
        """Those that are called so by their owners, all of them looked at; for whoever sees all."""
        if not self._parts.tyrant:
            return []
        start, skip = f"{name}.", len(name) + 1
        return [full for full in self._parts.controller.records if full.startswith(start) and full[skip:].isdecimal()]

    def owner(self, name: str) -> int | None:
        """The uid that a vassal runs as. None where that is not known, or while what is wanted, what was launched and
        what still runs are not of the same user."""
        desired, record = self._parts.store.get(name), self._parts.controller.records.get(name)
        found: set[int | None] = set()
        if desired is not None and desired.owner is not None:
            # Also of one whose file was never right.
            found.add(desired.owner.uid)
        if desired is not None and desired.vassal is not None:
            found.add(_uid(desired.vassal.launch))
        if record is not None:
            if record.memory.vassal is not None:
                found.add(_uid(record.memory.vassal.launch))
            if record.observed.process is not None and record.observed.state is LaunchState.ALIVE:
                found.add(record.observed.process.uid)
        return found.pop() if len(found) == 1 else None

    def reload(self, name: str, by: str = "") -> None:
        """Reload a vassal, or try it again at once if a budget holds it. Raises NotFound."""
        self._known(name)
        self._ordered(name, "ReloadOrdered", "ordered to reload", by)
        self._parts.store.order_reload(name)

    def reload_all(self, by: str = "") -> int:
        """Reload every vassal; how many there are."""
        names = self._parts.store.names()
        if by:
            self._ordered("", "ReloadOrdered", f"all {len(names)} vassals ordered to reload", by)
        for name in names:
            self._parts.store.order_reload(name)
        return len(names)

    def stop(self, name: str, by: str = "") -> None:
        """Hold a vassal down until it is started again, also by later Emperors. Raises NotFound."""
        self._suspend(name, True, by)

    def start(self, name: str, by: str = "") -> None:
        """Let a stopped vassal run again; one that waits for a budget is tried at once.

        Raises NotFound, or SuspendedByFile: what a file says is changed in the file.
        """
        store = self._parts.store
        desired = self._known(name)
        if desired.suspended and desired.suspended_by is Suspender.FILE:
            raise SuspendedByFile(printable(name), printable(desired.file))
        if not desired.suspended:
            self._ordered(name, "StartOrdered", "tried again at once, if it waits", by)
            store.pardon(name)
            return
        store.wait(name, False)
        if name in store.suspended:
            self._suspend(name, False, by)
        else:
            self._ordered(name, "StartOrdered", "may run again", by)

    def spawn(self, name: str, by: str = "") -> None:
        """The command of that name: let a vassal run that waits for it. Raises UserError where it does not.

        A stop that a person has ordered is not undone by a command.
        """
        desired = self._known(name)
        if not desired.suspended:
            raise UserError(f'vassal "{printable(name)}" is not suspended')
        match desired.suspended_by:
            case Suspender.FILE:
                raise SuspendedByFile(printable(name), printable(desired.file))
            case Suspender.PERSON:
                raise UserError(f'vassal "{printable(name)}" was stopped by order: emperorctl start {printable(name)}')
            case Suspender.COMMAND:
                self._ordered(name, "SpawnCommanded", "commanded to run", by)
                self._parts.store.wait(name, False)

    def respawn(self, name: str, by: str = "") -> None:
        """The command of that name: reload a vassal. Raises UserError where it is suspended."""
        if self._known(name).suspended:
            raise UserError(f'vassal "{printable(name)}" is suspended: there is nothing to reload')
        self.reload(name, by)

    def halt(self, name: str, by: str = "") -> None:
        """The command `stop`: hold a vassal down until the command `spawn`, or until this Emperor ends."""
        self._known(name)
        self._ordered(name, "StopCommanded", "commanded to stop; waits for spawn", by)
        self._parts.store.wait(name, True)

    async def execute(self, name: str, what: Execution, by: str = "", uid: int | None = None) -> Attached:
        """Run a command within a vassal (which runs as `uid`, if one is given); returns once its program runs.

        Raises NotFound, NotRunning, UserError where it can't be executed.
        """
        self._known(name)
        if self._parts.execute is None:
            raise UserError("this Emperor runs no commands")
        self._ordered(name, "ExecOrdered", f"to run: {printable(shlex.join(what.command))[:_SHOWN]}", by)
        return await self._parts.execute(name, what, uid)

    def monitors(self) -> list[dict[str, Any]]:
        """An API object for each source."""
        return self._parts.monitors.objects() if self._parts.monitors is not None else []

    def clear_blacklist(self, names: Sequence[str] | None, by: str = "") -> list[str]:
        """Take these names off the blacklist, or all; the names that were on it. Raises NotFound."""
        for name in names or ():
            self._known(name)
        records = self._parts.controller.records
        held = [
            name
            for name in (names or list(records))
            if records[name].memory.blacklist is not None or records[name].memory.abandoned
        ]
        for name in held:
            if self._parts.store.get(name) is not None:
                self._ordered(name, "BlacklistCleared", "taken off the blacklist", by)
                self._parts.store.pardon(name)
        return held

    def _known(self, name: str) -> Desired:
        desired = self._parts.store.get(name)
        if desired is None:
            raise NotFound(printable(name))
        return desired

    def _ordered(self, name: str, reason: str, message: str, by: str) -> None:
        """What was ordered, and by whom."""
        self._note(name, Note(NoteType.NORMAL, reason, f"{message}; ordered by {by}" if by else message))

    def _suspend(self, name: str, suspended: bool, by: str) -> None:
        self._known(name)
        self._parts.store.suspend(name, suspended)
        word, text = ("StopOrdered", "held until started again") if suspended else ("StartOrdered", "may run again")
        self._ordered(name, word, text, by)
        try:
            self._parts.state.save(self._parts.store.suspended)
        except OSError as error:
            _log.warning("%s: %s", self._parts.state.path, error.strerror)
            text = f"the order is followed but not kept across a restart: {self._parts.state.path}: {error.strerror}"
            self._note(name, Note(NoteType.WARNING, "StateNotPersisted", text))


def _uid(launch: Launch) -> int | None:
    """The uid that a launch says; None where it gives a name, or nothing."""
    user = launch.user
    return int(user) if user is not None and user.isascii() and user.isdigit() else None


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        # Removed under our feet.
        return ""
