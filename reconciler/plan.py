"""The plan: from what is desired and what is observed to what has to be done now. Pure.

Called by the controller for one vassal at a time, with the time as an argument; it never waits: whatever has to
wait is a `requeue_after`. It acts on nothing and looks nothing up: `plan` of the same look is the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from emperorctl.models.observed import Exit, LaunchFailure
from emperorctl.models.plan import Action, Forget, Kill, Look, Memory, Plan, Spawn, State, TellReload, TellStop
from emperorctl.models.protocol import EXIT_DO_NOT_RESPAWN
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import ReloadMethod, StopMethod, Vassal
from emperorctl.reconciler.blacklist import BlacklistRule, after_death
from emperorctl.reconciler.conditions import judge, reloading_until
from emperorctl.reconciler.lifecycle import FOLD, STEP, Change, Direction, Step
from emperorctl.reconciler.throttle import ThrottleRule, reserve

__all__ = ["Rules", "plan"]

UNKILLABLE_AFTER = 5.0
"""Seconds after SIGKILL until a process that is still there is reported (it sleeps in the kernel)."""
SETTLE = 1.0
"""Seconds that a process gets to install its handlers before a reload signal that would otherwise end it."""
TRANSIENT_RETRY = 0.5
"""Seconds until a launch that failed through nobody's fault is tried again, …"""
TRANSIENT_RETRY_MAX = 10.0
"""… and the most it comes to, twice as long each time in a row."""
_EARLY = 0.0005
"""Timers may fire this many seconds before their time."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The budgets' settings, the same for every vassal."""

    throttle: ThrottleRule = ThrottleRule()
    blacklist: BlacklistRule = BlacklistRule()


def plan(look: Look, rules: Rules) -> Plan:
    """What has to be done to one vassal now."""
    draft = _Draft(look, rules)
    draft.pardon()
    draft.fold()
    direction = _direction(look, draft.memory)
    draft.step(direction)
    draft.await_report()
    conditions, phase = judge(look, draft.memory, direction)
    return Plan(
        actions=tuple(draft.actions),
        memory=draft.memory,
        throttle=draft.throttle,
        conditions=conditions,
        phase=phase,
        notes=tuple(draft.notes),
        requeue_after=None if draft.wake is None else max(0.0, draft.wake - look.now),
    )


def _direction(look: Look, memory: Memory) -> Direction:
    desired = look.desired
    if desired is None or look.mercy is not None:
        return Direction.REMOVE
    if desired.suspended or desired.vassal is None:
        return Direction.REST
    if memory.vassal is None:
        return Direction.KEEP
    if desired.vassal.launch != memory.vassal.launch:
        return Direction.REPLACE
    if desired.vassal.content != memory.vassal.content or desired.orders != memory.orders:
        return Direction.RELOAD
    return Direction.KEEP


class _Draft:
    """One plan in the making; the methods are the plan's sections, in their order."""

    __slots__ = ("actions", "look", "memory", "notes", "rules", "throttle", "wake")

    def __init__(self, look: Look, rules: Rules) -> None:
        self.look = look
        self.rules = rules
        self.memory = look.memory.copy()
        self.throttle = look.throttle
        self.actions: list[Action] = []
        self.notes: list[Note] = []
        self.wake: float | None = None

    def wake_at(self, time: float) -> None:
        """Look again at `time` at the latest."""
        if self.wake is None or time < self.wake:
            self.wake = time

    def pardon(self) -> None:
        """A person's word overrules the budgets."""
        desired, memory = self.look.desired, self.memory
        if desired is None or desired.pardons == memory.pardons:
            return
        held = memory.blacklist is not None or memory.abandoned or memory.throttled_until is not None
        self.memory.pardons = desired.pardons
        self.memory.blacklist = None
        self.memory.throttled_until = None
        self.memory.abandoned = False
        self.memory.ordered = "Ordered" if memory.number and memory.state is State.ABSENT else memory.ordered
        if held:
            self.notes.append(Note(NoteType.NORMAL, "Pardoned", "edited, touched or cleared: tried again at once"))

    def fold(self) -> None:
        """Let the facts of the latest launch change the remembered state."""
        look, memory = self.look, self.memory
        observed = look.observed
        match FOLD[memory.state, observed.state]:
            case Change.STAY:
                pass
            case Change.CONFIRM:
                self._enter(State.RUNNING)
                self.memory.last_failure = None
                if observed.process is not None:
                    detail = f"pid {observed.process.pid}, launch {observed.number}"
                    self.notes.append(Note(NoteType.NORMAL, "Started", "the program runs", detail))
            case Change.FAIL:
                self._failed(observed.failure)
            case Change.DIE:
                self._died(observed.exit)
            case Change.END:
                if observed.exit is not None:
                    self.notes.append(Note(NoteType.NORMAL, "Stopped", observed.exit.sentence()))
                self._enter(State.ABSENT)
                self.memory.last_exit = observed.exit
                self.memory.loyal = ""
                self.memory.loyal_at = None
                self.memory.overdue = False
            case Change.ORPHAN:
                self.memory.number = max(memory.number, observed.number)
                self._kill("Orphaned", "killing: a process that nobody ordered")
        if self.memory.state is State.RUNNING:
            self._prove_loyalty()

    def step(self, direction: Direction) -> None:
        """Do what the state and the direction call for."""
        match STEP[self.memory.state, direction]:
            case Step.START:
                self._start()
            case Step.WATCH:
                self._adopt_description()
            case Step.RELOAD:
                self._reload()
            case Step.STOP:
                self._stop(direction)
            case Step.AWAIT_LAUNCH:
                pass
            case Step.AWAIT_STOP:
                self._escalate()
            case Step.AWAIT_DEATH:
                self._report_unkillable()
            case Step.REST:
                self.memory.blacklist = None
                self.memory.throttled_until = None
                self.memory.ordered = ""
            case Step.FORGET:
                self.actions.append(Forget("Forgotten", "gone: nothing of it is left"))

    def await_report(self) -> None:
        """A reload of which nothing is heard is over some time."""
        if self.memory.state is State.RUNNING:
            until = reloading_until(self.look, self.memory)
            if until is not None:
                self.wake_at(until)

    def _enter(self, state: State, deadline: float | None = None) -> None:
        self.memory.state = state
        self.memory.since = self.look.now
        self.memory.deadline = deadline

    def _prove_loyalty(self) -> None:
        memory, process = self.memory, self.look.observed.process
        if memory.loyal or process is None or memory.vassal is None:
            return
        if self.look.observed.signs.loyal is not None:
            evidence = "FirstRequest"
        elif self.look.now >= process.since + memory.vassal.loyal_after - _EARLY:
            evidence = "Survived"
        else:
            self.wake_at(process.since + memory.vassal.loyal_after)
            return
        memory.loyal = evidence
        memory.loyal_at = self.look.now
        if memory.blacklist is not None:
            memory.blacklist = None
            self.notes.append(Note(NoteType.NORMAL, "Loyal", f"{evidence}: off the blacklist"))

    def _died(self, end: Exit | None) -> None:
        memory, process = self.memory, self.look.observed.process
        loyal = bool(memory.loyal) or self.look.observed.signs.loyal is not None
        if not loyal and end is not None and process is not None and memory.vassal is not None:
            loyal = end.at - process.since >= memory.vassal.loyal_after
        text = end.sentence() if end is not None else "vanished"
        self._enter(State.ABSENT)
        self.memory.last_exit = end
        self.memory.last_failure = None
        self.memory.loyal = ""
        self.memory.loyal_at = None
        detail = ""
        if end is not None and end.code == EXIT_DO_NOT_RESPAWN:
            self.memory.abandoned = True
            text += ": it asks not to be started again until its file changes"
        elif not loyal:
            detail = self._blacklist()
        self.notes.append(Note(NoteType.WARNING, "Died", text, detail))

    def _failed(self, failure: LaunchFailure | None) -> None:
        before = self.memory.last_failure
        self._enter(State.ABSENT)
        self.memory.last_failure = failure
        self.memory.loyal = ""
        self.memory.loyal_at = None
        if failure is None:
            return
        detail = ""
        if failure.transient:
            again = before is not None and before.transient and failure.at - before.at < 2 * TRANSIENT_RETRY_MAX
            pause = 2 * (failure.at - before.at) if before is not None and again else 0.0
            self.memory.throttled_until = self.look.now + min(max(pause, TRANSIENT_RETRY), TRANSIENT_RETRY_MAX)
        else:
            detail = self._blacklist()
        self.notes.append(Note(NoteType.WARNING, failure.reason, failure.sentence(), detail))

    def _blacklist(self) -> str:
        entry = after_death(self.memory.blacklist, self.rules.blacklist, self.look.now)
        self.memory.blacklist = entry
        return "" if entry is None else f"blacklisted for {entry.throttle:g}s (attempt {entry.attempts})"

    def _start(self) -> None:
        look, memory, desired = self.look, self.memory, self.look.desired
        if desired is None or desired.vassal is None or memory.abandoned:
            return
        if memory.blacklist is not None and look.now < memory.blacklist.next_try - _EARLY:
            self.wake_at(memory.blacklist.next_try)
            return
        at = memory.throttled_until
        if at is None and not memory.ordered and not (desired.warm and memory.number == 0):
            self.throttle, at = reserve(self.throttle, self.rules.throttle, look.now)
        if at is not None and look.now < at - _EARLY:
            self.memory.throttled_until = at
            self.wake_at(at)
            return
        first = memory.number == 0
        retried = memory.blacklist is not None or memory.last_failure is not None
        reason = "Created" if first else memory.ordered or ("Retried" if retried else "Respawned")
        self.actions.append(
            Spawn(desired.vassal, memory.number + 1, reason, f"starting generation {desired.generation}")
        )
        self._enter(State.STARTING)
        self._take_over(desired.vassal)
        self.memory.number = memory.number + 1
        self.memory.respawns = memory.respawns + (0 if first else 1)
        self.memory.respawned_at = None if first else look.now
        self.memory.first_run = look.now if first else memory.first_run
        self.memory.last_run = look.now
        self.memory.reloaded_at = look.now if memory.ordered == "Reloaded" else memory.reloaded_at
        self.memory.throttled_until = None
        self.memory.ordered = ""

    def _take_over(self, vassal: Vassal) -> None:
        desired = self.look.desired
        if desired is not None:
            self.memory.vassal = vassal
            self.memory.generation = desired.generation
            self.memory.orders = desired.orders

    def _adopt_description(self) -> None:
        desired, memory = self.look.desired, self.memory
        if desired is not None and desired.vassal is not None and desired.generation != memory.generation:
            self._take_over(desired.vassal)

    def _reload(self) -> None:
        look, memory, desired = self.look, self.memory, self.look.desired
        if desired is None or desired.vassal is None or memory.vassal is None:
            return
        changed = desired.vassal.content != memory.vassal.content
        reason = "ContentChanged" if changed else "Touched"
        message = "reloading: its content changed" if changed else "reloading: touched, or ordered to"
        method = desired.vassal.reload.method
        process = look.observed.process
        unheard = method is ReloadMethod.PROTOCOL and look.observed.signs.closed is not None
        if method is ReloadMethod.RESTART or unheard:
            self._stop(Direction.RELOAD, reason, message)
            return
        if method is ReloadMethod.SIGNAL and not memory.loyal and process is not None:
            settled = process.since + SETTLE
            if look.now < settled - _EARLY:
                self.wake_at(settled)
                return
        self.actions.append(TellReload(desired.vassal, memory.number, reason, message))
        self._take_over(desired.vassal)
        self.memory.reloaded_at = look.now
        self.memory.last_run = look.now
        self.memory.reloads += 1
        self.memory.reload_spawns = look.observed.signs.spawns

    def _stop(self, direction: Direction, reason: str = "", message: str = "") -> None:
        look, memory, desired = self.look, self.memory, self.look.desired
        vassal = memory.vassal
        if vassal is None:
            self._kill("Orphaned", "killing: a process whose description is lost")
            return
        # The newest word on how to stop counts, unless it needs what the running process does not have.
        if (
            desired is not None
            and desired.vassal is not None
            and desired.vassal.launch.protocol == vassal.launch.protocol
        ):
            vassal = replace(vassal, stop=desired.vassal.stop)
        match direction:
            case Direction.REMOVE if look.mercy is not None:
                reason, message = "Ragnarok", "stopping: the Emperor is ending"
            case Direction.REMOVE:
                reason, message = "Removed", "stopping: nothing asks for it any more"
            case Direction.REST:
                reason, message = "Suspended", "stopping: ordered to"
            case Direction.REPLACE:
                reason, message = "LaunchChanged", "stopping: its launch changed, another process takes its place"
            case Direction.RELOAD | Direction.KEEP:
                pass
        ordered = {Direction.REPLACE: "Replaced", Direction.RELOAD: "Reloaded"}.get(direction, "")
        if vassal.stop.method is StopMethod.PROTOCOL and look.observed.signs.closed is not None:
            self._kill(reason, f"{message}; it no longer listens")
        else:
            self.actions.append(TellStop(vassal, memory.number, reason, message))
            deadline = look.now + vassal.stop.grace
            if look.mercy is not None:
                deadline = min(deadline, look.mercy)
            self._enter(State.STOPPING, deadline)
            self.wake_at(deadline)
        self.memory.ordered = ordered

    def _escalate(self) -> None:
        deadline = self.memory.deadline
        if deadline is not None and self.look.mercy is not None:
            deadline = min(deadline, self.look.mercy)
        if deadline is None or self.look.now >= deadline - _EARLY:
            self._kill("GraceExceeded", "killing: still there after its grace period")
        else:
            self.wake_at(deadline)

    def _kill(self, reason: str, message: str) -> None:
        self.actions.append(Kill(self.memory.number, reason, message))
        deadline = self.look.now + UNKILLABLE_AFTER
        self._enter(State.KILLING, deadline)
        self.wake_at(deadline)

    def _report_unkillable(self) -> None:
        memory = self.memory
        if memory.overdue or memory.deadline is None:
            return
        if self.look.now < memory.deadline - _EARLY:
            self.wake_at(memory.deadline)
            return
        self.memory.overdue = True
        self.notes.append(
            Note(
                NoteType.WARNING,
                "Unkillable",
                f"still there {UNKILLABLE_AFTER:g}s after SIGKILL: it waits inside the kernel (state D);"
                " nothing is started in its place until it has gone",
            )
        )
