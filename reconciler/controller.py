"""The controller: takes a name from the queue, looks, plans, acts, remembers.

Made by the composition root; woken by the store, the runtime and the API. One look is synchronous and short: every
effect is ordered from the host and comes back later as a fact. It decides nothing: that is the plan's part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from emperorctl.models.observed import NEVER_LAUNCHED, Observed
from emperorctl.models.plan import (
    Action,
    Count,
    Dismiss,
    Forget,
    Hush,
    Kill,
    Listen,
    Look,
    Memory,
    Plan,
    Reinforce,
    Spawn,
    TellReload,
    TellStop,
    Throttles,
    Watch,
)
from emperorctl.models.protocol import ToVassal
from emperorctl.models.status import Condition, Note, NoteType
from emperorctl.models.vassal import Desired, ReloadMethod
from emperorctl.reconciler.clock import Clock
from emperorctl.reconciler.desired import DesiredStore
from emperorctl.reconciler.host import Host
from emperorctl.reconciler.plan import Rules, plan
from emperorctl.reconciler.queue import Scheduler, WorkQueue
from emperorctl.reconciler.vigil import HUNG

__all__ = ["Controller", "Record"]

_log = logging.getLogger(__name__)

SLICE = 0.005
"""Seconds of work before the loop gets to breathe."""


@dataclass(slots=True)
class Record:
    """All that is kept of one name: the last look's inputs and what came of it. `born` and `stamps` are wall times;
    `stamps` says when each condition last changed its status."""

    memory: Memory = field(default_factory=Memory)
    desired: Desired | None = None
    observed: Observed = NEVER_LAUNCHED
    conditions: tuple[Condition, ...] = ()
    phase: str = ""
    born: float = 0.0
    stamps: dict[str, float] = field(default_factory=dict)


class Controller:
    """The reconcile loop over all names. `changed` is called with a name whose record has changed, `forgotten` with
    one that is gone, `note` with what people should know."""

    def __init__(self, store: DesiredStore, host: Host, clock: Clock, scheduler: Scheduler, rules: Rules) -> None:
        self.store = store
        self.host = host
        self.records: dict[str, Record] = {}
        self.changed: Callable[[str], None] = _ignore
        self.forgotten: Callable[[str], None] = _ignore
        self.note: Callable[[str, Note], None] = _ignore_note
        self._clock = clock
        self._scheduler = scheduler
        self._rules = rules
        self._throttle = Throttles()
        self._mercy: float | None = None
        self._all_gone: Callable[[], None] | None = None
        self._queue = WorkQueue(scheduler, self._schedule)

    def wake(self, name: str) -> None:
        """Something about `name` may have changed."""
        self._queue.add(name)

    def resync(self) -> None:
        """Look again at every name whose inputs are not the ones of its last look: repairs a lost event.

        The plan is pure, so the same inputs would give the same plan; what time alone can change has its timer.
        """
        for name, record in self.records.items():
            if self.store.get(name) is not record.desired or self.host.observe(name) is not record.observed:
                self._queue.add(name)
        for name in self.store.names():
            if name not in self.records:
                self._queue.add(name)

    def end(self, mercy: float, all_gone: Callable[[], None]) -> None:
        """Stop everything; what is left after `mercy` seconds is killed. `all_gone` is called once nothing is left.

        May be called again with less mercy.
        """
        deadline = self._clock.monotonic() + mercy
        self._mercy = deadline if self._mercy is None else min(self._mercy, deadline)
        self._all_gone = all_gone
        for name in list(self.records):
            self._queue.add(name)
        self._report_if_all_gone()

    def reconcile(self, name: str) -> None:
        """One look at one name."""
        desired = self.store.get(name)
        record = self.records.get(name)
        if record is None:
            if desired is None or self._mercy is not None:
                return
            record = self.records[name] = Record(born=self._clock.wall())
        observed = self.host.observe(name)
        now, zergs = self._clock.monotonic(), self.store.zergs
        listening = self.host.sockets.listening(name)
        look = Look(desired, observed, record.memory, self._throttle, now, self._mercy, zergs, listening)
        outcome = plan(look, self._rules)
        self._throttle = outcome.throttle
        for note in outcome.notes:
            self.note(name, note)
        for action in outcome.actions:
            self._act(name, action)
        if name not in self.records:
            return
        self._remember(name, record, look, outcome)
        if outcome.requeue_after is not None:
            self._queue.add_after(name, outcome.requeue_after)

    def throttle_level(self) -> float:
        """The wait that the throttle puts between two spawns now, in seconds."""
        return self._throttle.delta

    def close(self) -> None:
        """Look at nothing any more."""
        self._queue.close()

    def _remember(self, name: str, record: Record, look: Look, outcome: Plan) -> None:
        same = (
            record.desired is look.desired
            and record.observed == look.observed
            and record.phase == outcome.phase
            and record.memory == outcome.memory
            and record.conditions == outcome.conditions
        )
        record.memory, record.desired, record.observed = outcome.memory, look.desired, look.observed
        if same:
            return
        if record.conditions != outcome.conditions:
            self._stamp(record, outcome.conditions)
            record.conditions = outcome.conditions
        record.phase = outcome.phase
        self.changed(name)

    def _stamp(self, record: Record, conditions: Iterable[Condition]) -> None:
        before = {condition.type: condition.status for condition in record.conditions}
        now = self._clock.wall()
        for condition in conditions:
            if before.get(condition.type) != condition.status:
                record.stamps[condition.type] = now

    def _act(self, name: str, action: Action) -> None:
        """Carry out one action, and say so."""
        match action:
            case Listen() | Hush() | Watch() | Count():
                self._attend(name, action)
                return
            case Spawn(vassal=vassal):
                self.host.launch(vassal, action.number, self._generation(name), urgent=action.urgent)
            case TellReload(vassal=vassal):
                if vassal.launch.config_pipe:
                    self.host.configure(name, action.number, vassal.config)
                if vassal.reload.method is ReloadMethod.SIGNAL:
                    self.host.signal(name, action.number, vassal.reload.signal)
                elif not self.host.tell(name, action.number, ToVassal.RELOAD):
                    self.note(name, Note(NoteType.WARNING, "NotListening", "it did not take the order to reload"))
            case TellStop(vassal=vassal):
                self.host.stop(name, action.number, vassal.stop)
            case Kill():
                self.host.end(name, action.number)
            case Reinforce():
                self.store.reinforce(name)
            case Dismiss():
                self.store.dismiss(name)
            case Forget():
                # Told first: the last state of the object is still there to be shown.
                self.forgotten(name)
                del self.records[name]
                self.host.forget(name)
                self._report_if_all_gone()
                if self.store.get(name) is not None:
                    # Another owner's, who begins anew.
                    self._queue.add(name)
        kind = NoteType.WARNING if isinstance(action, Kill) or action.reason == HUNG else NoteType.NORMAL
        self.note(name, Note(kind, action.reason, action.message))

    def _attend(self, name: str, action: Listen | Hush | Watch | Count) -> None:
        """See to its sockets. What people should know of that is said once it is known what came of it."""
        sockets = self.host.sockets
        match action:
            case Listen(on_demand=on_demand):
                sockets.listen(name, on_demand)
            case Hush():
                sockets.hush(name)
            case Watch():
                sockets.watch(name)
            case Count():
                sockets.count(name)

    def _generation(self, name: str) -> int:
        desired = self.store.get(name)
        return desired.generation if desired is not None else 0

    def _report_if_all_gone(self) -> None:
        if self._all_gone is not None and not self.records:
            all_gone, self._all_gone = self._all_gone, None
            all_gone()

    def _schedule(self) -> None:
        self._scheduler.call_soon(self._drain)

    def _drain(self) -> None:
        until = self._scheduler.time() + SLICE
        while (name := self._queue.take()) is not None:
            try:
                self.reconcile(name)
            except Exception:
                # Ours: keep the daemon up, say for which name, and let the next resync or event try again.
                _log.exception("reconciling %s failed", name)
            finally:
                self._queue.done(name)
            if self._scheduler.time() >= until and len(self._queue):
                self._scheduler.call_soon(self._drain)
                return


def _ignore(name: str) -> None:
    """Until somebody wants to know."""


def _ignore_note(name: str, note: Note) -> None:
    """Until somebody wants to know."""
