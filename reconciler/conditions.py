"""What to tell people of a vassal: its conditions and the one word for tables, derived from the plan's facts. Pure.

Called by `plan` alone. Messages of a vassal that is not running say why, and what to do. Times in messages
would make a condition new every second: they are in the status instead.
"""

from __future__ import annotations

from emperorctl.models.observed import LaunchState, Signs
from emperorctl.models.plan import Look, Memory, State
from emperorctl.models.status import Condition, ConditionType, Phase, Truth
from emperorctl.models.vassal import Desired, Notify, Suspender
from emperorctl.reconciler.draft import EARLY, is_anothers
from emperorctl.reconciler.lifecycle import Direction

__all__ = ["RELOAD_REPORT", "judge", "reloading_until"]

RELOAD_REPORT = 60.0
"""Seconds after which a vassal that says nothing of its reload is taken to have reloaded."""

_ACCEPTED = Condition(ConditionType.ACCEPTED, Truth.TRUE, "Valid")
_SETTLED = Condition(ConditionType.PROGRESSING, Truth.FALSE, "Settled")
_NOT_RUNNING = Condition(ConditionType.LOYAL, Truth.FALSE, "NotRunning")
_UNPROVEN = Condition(ConditionType.LOYAL, Truth.FALSE, "NotProven", "it has not yet served, nor lived long enough")
_LOYAL = {word: Condition(ConditionType.LOYAL, Truth.TRUE, word) for word in ("FirstRequest", "Ready", "Survived")}
_ACCEPTING = Condition(ConditionType.READY, Truth.TRUE, "Accepting")
_STARTED = Condition(ConditionType.READY, Truth.TRUE, "Started")
_SILENT = Condition(
    ConditionType.READY, Truth.UNKNOWN, "Silent", "running, but it has not said that it accepts requests"
)
_HUNG = Condition(
    ConditionType.READY,
    Truth.FALSE,
    "Hung",
    "it sends no heartbeat any more: it has been told to reload, and is killed if it stays silent",
)
_CURSED = Condition(
    ConditionType.READY,
    Truth.UNKNOWN,
    "Cursed",
    "it closed its protocol socket and lives on: it is killed unless it ends by itself",
)


def judge(look: Look, memory: Memory, direction: Direction) -> tuple[tuple[Condition, ...], str]:
    """All conditions of one vassal, and its phase."""
    desired = look.desired
    running = memory.state is State.RUNNING
    ready, phase = _running(look, memory) if running else _asleep(look, memory) or _waiting(look, memory)
    conditions = [
        _accepted(desired),
        ready,
        (_LOYAL[memory.loyal] if memory.loyal else _UNPROVEN) if running else _NOT_RUNNING,
        _progress(look, memory, direction),
    ]
    if desired is not None and desired.conflict is not None:
        conflict = desired.conflict
        conditions.append(Condition(ConditionType.CONFLICT, Truth.TRUE, conflict.reason, conflict.sentence()))
    return tuple(conditions), phase


def _accepted(desired: Desired | None) -> Condition:
    if desired is None or desired.problem is None:
        return _ACCEPTED
    text = desired.problem.sentence()
    if desired.vassal is not None:
        text += f"; generation {desired.generation}, the last good one, stays"
    return Condition(ConditionType.ACCEPTED, Truth.FALSE, desired.problem.reason, text)


def _running(look: Look, memory: Memory) -> tuple[Condition, str]:
    phase = Phase.RUNNING if reloading_until(look, memory) is None else Phase.RELOADING
    vassal = memory.vassal
    if memory.hung_at is not None:
        return _HUNG, phase
    if "Cursed" in memory.reported:
        return _CURSED, phase
    if vassal is not None and vassal.launch.notify is not Notify.NONE:
        return _notified(look.observed.signs), phase
    if vassal is None or not vassal.launch.protocol or memory.loyal:
        return _STARTED if look.observed.signs.accepting is None else _ACCEPTING, phase
    return _ACCEPTING if look.observed.signs.accepting is not None else _SILENT, phase


def _notified(signs: Signs) -> Condition:
    """Readiness by the word of the vassal itself."""
    ready, stopping = signs.ready, signs.stopping
    if stopping is not None and (ready is None or stopping > ready):
        return _not_ready("Stopping", "it says that it is stopping")
    if ready is None:
        text = "running, but it has not sent READY=1 yet"
        return _not_ready("NotReady", f"{text}: {signs.status}" if signs.status else text)
    return Condition(ConditionType.READY, Truth.TRUE, "Notified", signs.status)


def reloading_until(look: Look, memory: Memory) -> float | None:
    """While a vassal that speaks a protocol reloads, and has not reported back: how long it counts.

    uWSGI reports back by accepting requests again; another program may say that it has spawned. Over the notification
    socket it is RELOADING=1, then READY=1.
    """
    signs, told = look.observed.signs, memory.reloaded_at
    if signs.reloading is not None and signs.ready is not None and signs.reloading > signs.ready:
        until = signs.reloading + RELOAD_REPORT
        return until if look.now < until else None
    if told is None or signs.spawned is None or signs.spawned >= told or signs.spawns > memory.reload_spawns:
        return None
    if signs.accepting is not None and signs.accepting >= told:
        return None
    until = told + RELOAD_REPORT
    return until if look.now < until else None


def _not_ready(reason: str, message: str) -> Condition:
    return Condition(ConditionType.READY, Truth.FALSE, reason, message)


def _waiting(look: Look, memory: Memory) -> tuple[Condition, str]:
    desired, observed = look.desired, look.observed
    if memory.state in (State.STOPPING, State.KILLING) and not memory.overdue and is_anothers(look, memory):
        return _not_ready("OwnerChanged", _handover(look, memory)), Phase.TERMINATING
    match memory.state:
        case State.STARTING:
            text = f"{observed.its_hook} is running" if observed.hook else "being launched"
            return _not_ready("Starting", text), Phase.STARTING
        case State.STOPPING:
            text = f"{observed.its_hook} is running" if observed.hook else "told to stop"
            return _not_ready("Stopping", f"{text}, within its grace period"), Phase.TERMINATING
        case State.KILLING:
            text = "killed, but the kernel has not let it go yet" if memory.overdue else "being killed"
            return _not_ready("Unkillable" if memory.overdue else "Killing", text), Phase.TERMINATING
        case State.ABSENT | State.RUNNING:
            pass
    if observed.hook:
        return _not_ready("TidyingUp", f"gone, but {observed.its_hook} is still running"), Phase.TERMINATING
    if desired is None:
        return _not_ready("Removed", "nothing asks for it any more"), Phase.TERMINATING
    if desired.suspended:
        return _suspended(desired), Phase.SUSPENDED
    if desired.vassal is None:
        problem = desired.problem
        return _not_ready("Invalid", problem.sentence() if problem else "nothing accepted yet"), Phase.INVALID
    return _unlucky(desired.name, memory)


def _handover(look: Look, memory: Memory) -> str:
    before = memory.vassal.owner if memory.vassal is not None else None
    now = look.desired.owner if look.desired is not None else None
    former = f"user id {before.uid}" if before is not None else "its former owner"
    return f"its file belongs to user id {now.uid if now else '?'} now: what runs for {former} is stopped first"


def _asleep(look: Look, memory: Memory) -> tuple[Condition, str] | None:
    """One that is started on demand, with no demand, or one that can't be reached; None for all others."""
    desired, listening = look.desired, look.listening
    if memory.state is not State.ABSENT or desired is None or desired.vassal is None or desired.suspended:
        return None
    wanted = desired.vassal.on_demand
    if wanted is None or memory.abandoned or look.mercy is not None or look.observed.hook:
        return None
    if memory.bind_problem is not None:
        text = f"it can't be reached: {memory.bind_problem.sentence()}"
        return _not_ready("CannotListen", text), Phase.ERROR
    held = memory.blacklist is not None and memory.blacklist.next_try - EARLY > look.now
    if held or memory.throttled_until is not None or listening.demand or not listening.ready:
        return None
    return _not_ready("Asleep", f"it sleeps: the first connection to {wanted} starts it"), Phase.ON_DEMAND


def _suspended(desired: Desired) -> Condition:
    match desired.suspended_by:
        case Suspender.FILE:
            return _not_ready("SuspendedByFile", "its file holds it down: spec.suspend is true")
        case Suspender.COMMAND:
            text = f"waiting for the command spawn; start it with: emperorctl start {desired.name}"
            return _not_ready("WaitingForCommand", text)
        case Suspender.PERSON:
            return _not_ready("Suspended", f"stopped by order; start it with: emperorctl start {desired.name}")


def _unlucky(name: str, memory: Memory) -> tuple[Condition, str]:
    """It should run and does not: a budget holds it, or it gave up."""
    cause, word = _cause(memory)
    retry = f"; retry now with: emperorctl blacklist clear {name}"
    if memory.abandoned:
        return _not_ready("DoNotRespawn", f"{cause}; edit or touch its file to try again"), word or Phase.ERROR
    short_of = memory.last_failure is not None and memory.last_failure.transient
    if memory.throttled_until is not None and not short_of:
        return _not_ready("Throttled", "waiting for its turn: many vassals were started at once"), Phase.THROTTLED
    if memory.blacklist is not None:
        return _not_ready("Blacklisted", cause + retry), Phase.BLACKLISTED
    if memory.last_failure is not None:
        return _not_ready("LaunchFailed", cause), word or Phase.ERROR
    return _not_ready("Pending", cause or "not started yet"), word or Phase.PENDING


def _cause(memory: Memory) -> tuple[str, str]:
    """Why the last process is gone, as a sentence and as a word for the table."""
    failure, end = memory.last_failure, memory.last_exit
    if failure is not None:
        return f"could not be launched: {failure.sentence()}", Phase.ERROR
    if end is None:
        return "", ""
    if end.signal is not None:
        return end.sentence(), f"Signal:{end.signal}"
    return end.sentence(), Phase.COMPLETED if end.code == 0 else f"ExitCode:{end.code}"


def _progress(look: Look, memory: Memory, direction: Direction) -> Condition:
    def moving(reason: str) -> Condition:
        return Condition(ConditionType.PROGRESSING, Truth.TRUE, reason)

    match memory.state:
        case State.STARTING:
            return moving("Starting")
        case State.STOPPING | State.KILLING:
            return moving("Stopping")
        case State.RUNNING:
            if memory.bind_problem is not None:
                # The process keeps the sockets that it has.
                return Condition(ConditionType.PROGRESSING, Truth.TRUE, "CannotListen", memory.bind_problem.sentence())
            if reloading_until(look, memory) is not None:
                return moving("Reloading")
            if direction in {Direction.RELOAD, Direction.REPLACE} and look.observed.state is LaunchState.ALIVE:
                behind = look.desired is not None and look.desired.generation != memory.generation
                return moving("Waiting") if behind else _SETTLED
            return _SETTLED
        case State.ABSENT if look.observed.hook:
            return moving("Stopping")
        case State.ABSENT:
            held = memory.blacklist is not None or memory.throttled_until is not None
            return moving("Waiting") if held and _asleep(look, memory) is None else _SETTLED
