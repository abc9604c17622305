"""The plan: from what is desired and what is observed to what has to be done now. Pure.

Called by the controller for one vassal at a time, with the time as an argument; it never waits: whatever has to
wait is a `requeue_after`. It acts on nothing and looks nothing up: `plan` of the same look is the same plan.
What becomes of a running process that falls silent, breaks off or calls for help is in `vigil`.
"""

from __future__ import annotations

from dataclasses import replace

from emperorctl.models.observed import Exit, LaunchFailure
from emperorctl.models.plan import Dismiss, Forget, Kill, Limit, Look, Plan, Spawn, State, Throttle, Throttles
from emperorctl.models.protocol import EXIT_DO_NOT_RESPAWN
from emperorctl.models.vassal import Kind, Notify, ReloadMethod, Suspender, Vassal
from emperorctl.reconciler.conditions import judge, reloading_until
from emperorctl.reconciler.draft import EARLY, UNKILLABLE_AFTER, Draft, Rules, is_anothers
from emperorctl.reconciler.lifecycle import FOLD, STEP, Change, Direction, Step
from emperorctl.reconciler.slumber import VOLUNTARY, has_other_sockets, has_to_wake, keep_sockets, went_to_sleep
from emperorctl.reconciler.throttle import reserve
from emperorctl.reconciler.vigil import heed

__all__ = ["Rules", "plan"]

SETTLE = 1.0
"""Seconds that a process gets to install its handlers before a reload signal that would otherwise end it."""
TRANSIENT_RETRY = 0.5
"""Seconds until a launch that failed through nobody's fault is tried again, …"""
TRANSIENT_RETRY_MAX = 10.0
"""… and the most it comes to, twice as long each time in a row."""

OWNER_GRACE = 10.0
"""Seconds that a process gets to stop, at most, where its file has become another user's."""

_STOPS = {
    Direction.REMOVE: ("Removed", "stopping: nothing asks for it any more", ""),
    Direction.REST: ("Suspended", "stopping: ordered to", ""),
    Direction.REPLACE: ("LaunchChanged", "stopping: its launch changed, another process takes its place", "Replaced"),
}
"""Why a process is stopped in this direction: reason and message, and why the next one is started."""


def plan(look: Look, rules: Rules) -> Plan:
    """What has to be done to one vassal now."""
    draft = Draft(look, rules)
    if not is_anothers(look, draft.memory):
        _pardon(draft)
    _fold(draft)
    keep_sockets(draft)
    direction = _direction(draft)
    _step(draft, direction)
    heed(draft)
    _await_report(draft)
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


def _direction(draft: Draft) -> Direction:
    look, memory, desired = draft.look, draft.memory, draft.look.desired
    if desired is None or look.mercy is not None or is_anothers(look, memory):
        return Direction.REMOVE
    if desired.suspended or desired.vassal is None:
        return Direction.REST
    if memory.vassal is None:
        return Direction.KEEP
    if desired.vassal.launch != memory.vassal.launch or has_other_sockets(draft):
        return Direction.REPLACE
    if not desired.vassal.limits.kinds <= memory.vassal.limits.kinds:
        # Some kernels can only count what was in the group from its first moment.
        return Direction.REPLACE
    if desired.vassal.content != memory.vassal.content or desired.orders != memory.orders:
        return Direction.RELOAD
    return Direction.KEEP


def _pardon(draft: Draft) -> None:
    """A person's word overrules the budgets."""
    desired, memory = draft.look.desired, draft.memory
    if desired is None or desired.pardons == memory.pardons:
        return
    held = memory.blacklist is not None or memory.abandoned or memory.throttled_until is not None
    memory.pardons = desired.pardons
    memory.blacklist = None
    memory.throttled_until = None
    memory.abandoned = False
    memory.failing = False
    if memory.state is State.ABSENT and (held or memory.number):
        memory.ordered = "Ordered"
    if held:
        draft.say("Pardoned", "edited, touched or cleared: tried again at once")


def _fold(draft: Draft) -> None:
    """Let the facts of the latest launch change the remembered state."""
    memory, observed = draft.memory, draft.look.observed
    match FOLD[memory.state, observed.state]:
        case Change.STAY:
            pass
        case Change.CONFIRM:
            draft.enter(State.RUNNING)
            memory.last_failure = None
            if observed.process is not None:
                detail = f"pid {observed.process.pid}, launch {observed.number}"
                draft.say("Started", "the program runs", detail)
        case Change.FAIL:
            _failed(draft, observed.failure)
        case Change.DIE:
            _died(draft, observed.exit)
        case Change.END:
            _ended(draft, observed.exit)
        case Change.ORPHAN:
            memory.number = max(memory.number, observed.number)
            draft.kill("Orphaned", "killing: a process that nobody ordered")
    if memory.state is State.RUNNING:
        _prove_loyalty(draft)


def _step(draft: Draft, direction: Direction) -> None:
    """Do what the state and the direction call for."""
    match STEP[draft.memory.state, direction]:
        case Step.START:
            _start(draft)
        case Step.WATCH:
            _adopt_description(draft)
        case Step.RELOAD:
            _reload(draft)
        case Step.STOP:
            _stop(draft, direction)
        case Step.AWAIT_LAUNCH:
            _call_off(draft, direction)
        case Step.AWAIT_STOP:
            _escalate(draft)
        case Step.AWAIT_DEATH:
            _report_unkillable(draft)
        case Step.REST:
            draft.memory.blacklist = None
            draft.memory.throttled_until = None
            draft.memory.failing = False
            draft.memory.ordered = ""
        case Step.FORGET:
            _forget(draft)


def _await_report(draft: Draft) -> None:
    """A reload of which nothing is heard is over some time."""
    if draft.memory.state is State.RUNNING:
        until = reloading_until(draft.look, draft.memory)
        if until is not None:
            draft.wake_at(until)


def _prove_loyalty(draft: Draft) -> None:
    memory, vassal = draft.memory, draft.memory.vassal
    process, signs = draft.look.observed.process, draft.look.observed.signs
    if memory.loyal or process is None or vassal is None:
        return
    if signs.loyal is not None:
        evidence = "FirstRequest"
    elif signs.ready is not None:
        evidence = "Ready"
    elif not _may_survive(draft, vassal) or not draft.due(process.since + vassal.loyal_after):
        return
    else:
        evidence = "Survived"
    memory.loyal = evidence
    memory.loyal_at = draft.look.now
    if memory.blacklist is not None:
        draft.say("Loyal", f"{evidence}: off the blacklist")
    memory.blacklist = None
    memory.failing = False


def _may_survive(draft: Draft, vassal: Vassal) -> bool:
    """Whether having lived long enough makes it loyal: not one that says so itself, as uWSGI does at its first request,
    and not one that is to say when it is ready."""
    signs = draft.look.observed.signs
    speaks = signs.spawned is not None or signs.accepting is not None
    return vassal.launch.notify is Notify.NONE and not (vassal.kind is Kind.UWSGI and speaks)


def _died(draft: Draft, end: Exit | None) -> None:
    memory, look = draft.memory, draft.look
    process, signs, vassal = look.observed.process, look.observed.signs, memory.vassal
    loyal = bool(memory.loyal) or signs.loyal is not None or signs.ready is not None
    if not loyal and end is not None and process is not None and vassal is not None and _may_survive(draft, vassal):
        loyal = end.at - process.since >= vassal.loyal_after
    text = end.sentence() if end is not None else "vanished"
    draft.leave()
    memory.last_exit = end
    memory.last_failure = None
    abandoned = end is not None and end.code == EXIT_DO_NOT_RESPAWN
    if abandoned:
        memory.abandoned = True
        text += ": it asks not to be started again until its file changes"
    asleep = not abandoned and went_to_sleep(draft, end, loyal=loyal)
    if signs.will is not None and not abandoned:
        draft.say("Stopped", f"{text}, of its own will")
    elif asleep:
        draft.say("Stopped", text)
    else:
        draft.warn("Died", text)
    if not (abandoned or loyal or asleep):
        draft.hold_against()


def _ended(draft: Draft, end: Exit | None) -> None:
    """It is gone as it was told."""
    memory = draft.memory
    blame, loyal = memory.blame, bool(memory.loyal)
    draft.leave()
    if end is not None and blame:
        end = replace(end, because=blame)
    memory.last_exit = end
    if end is not None:
        draft.say("Stopped", end.sentence())
    asleep = blame == VOLUNTARY and went_to_sleep(draft, end, loyal=loyal)
    if blame and not loyal and not asleep and draft.look.desired is not None:
        draft.hold_against()


def _failed(draft: Draft, failure: LaunchFailure | None) -> None:
    memory = draft.memory
    before = memory.last_failure
    draft.leave()
    memory.last_failure = failure
    if failure is None:
        return
    draft.warn(failure.reason, failure.sentence())
    if failure.transient:
        again = before is not None and before.transient and failure.at - before.at < 2 * TRANSIENT_RETRY_MAX
        pause = 2 * (failure.at - before.at) if before is not None and again else 0.0
        memory.throttled_until = draft.look.now + min(max(pause, TRANSIENT_RETRY), TRANSIENT_RETRY_MAX)
    else:
        draft.hold_against()


def _start(draft: Draft) -> None:
    look, memory, desired = draft.look, draft.memory, draft.look.desired
    if desired is None or desired.vassal is None or memory.abandoned or look.observed.hook:
        return
    if desired.vassal.zerg_of and memory.number and not memory.ordered:
        draft.actions.append(Dismiss("Dismissed", "a zerg that has ended is not started again"))
        return
    if memory.blacklist is not None and not draft.due(memory.blacklist.next_try):
        return
    on_demand = desired.vassal.on_demand
    if on_demand is not None and not has_to_wake(draft, on_demand):
        return
    first = memory.number == 0
    if not _has_its_turn(draft, warm=desired.warm and first and on_demand is None):
        return
    reason = "Created" if first else memory.ordered or ("Retried" if memory.failing else "Respawned")
    message = f"starting generation {desired.generation}"
    if on_demand is not None and draft.look.listening.demand and not memory.ordered and not memory.failing:
        reason, message = "Demanded", f"{message}: a connection waits"
    urgent = (not first or on_demand is not None) and not memory.failing
    draft.actions.append(Spawn(desired.vassal, memory.number + 1, reason, message, urgent))
    draft.enter(State.STARTING)
    draft.take_over(desired.vassal)
    memory.number += 1
    if not first and not memory.slept:
        memory.respawns += 1
        memory.respawned_at = look.now
    memory.slept = False
    memory.given = on_demand
    memory.first_run = look.now if first else memory.first_run
    memory.last_run = look.now
    memory.reloaded_at = look.now if memory.ordered == "Reloaded" else memory.reloaded_at
    memory.throttled_until = None
    memory.ordered = ""


def _call_off(draft: Draft, direction: Direction) -> None:
    """A launch that is not wanted any more is over in a moment, but for one whose hook may take its time."""
    desired, memory, observed = draft.look.desired, draft.memory, draft.look.observed
    if not observed.hook or memory.vassal is None:
        return
    if direction in _STOPS:
        reason, message, ordered = _why(draft, direction)
    elif desired is not None and desired.vassal is not None and desired.vassal.hooks != memory.vassal.hooks:
        reason, message, ordered = "HooksChanged", "stopping: its hooks changed", "Replaced"
    else:
        return
    draft.kill(reason, f"{message}; it is not started yet, {observed.its_hook} is ended")
    memory.ordered = ordered


def _forget(draft: Draft) -> None:
    observed, mercy = draft.look.observed, draft.look.mercy
    if not observed.hook:
        draft.actions.append(Forget("Forgotten", "gone: nothing of it is left"))
    elif mercy is not None and draft.due(mercy):
        draft.actions.append(Kill(draft.memory.number, "Ragnarok", f"killing: {observed.its_hook} is still running"))


def _has_its_turn(draft: Draft, *, warm: bool) -> bool:
    """Whether the throttle lets it be spawned now; if not, a time has been set aside for it."""
    memory, now = draft.memory, draft.look.now
    if memory.throttled_until is not None:
        return draft.due(memory.throttled_until)
    if memory.ordered or warm:
        return True
    lane = draft.throttle.retries if memory.failing else draft.throttle.steady
    lane, at = reserve(lane, draft.rules.throttle, now)
    draft.throttle = _with_lane(draft.throttle, lane, retries=memory.failing)
    if now >= at - EARLY:
        return True
    memory.throttled_until = at
    draft.wake_at(at)
    draft.say("Throttled", "waiting for its turn: many vassals were started at once", f"for {at - now:.1f}s")
    return False


def _with_lane(throttles: Throttles, lane: Throttle, *, retries: bool) -> Throttles:
    return Throttles(throttles.steady, lane) if retries else Throttles(lane, throttles.retries)


def _adopt_description(draft: Draft) -> None:
    desired, memory = draft.look.desired, draft.memory
    if desired is None or desired.vassal is None:
        return
    _limit(draft, desired.vassal)
    # A file that went and came back while its process still ran begins with generation 1 again: ask for both.
    if desired.generation != memory.generation or desired.vassal is not memory.vassal:
        draft.take_over(desired.vassal)


def _reload(draft: Draft) -> None:
    look, memory, desired = draft.look, draft.memory, draft.look.desired
    if desired is None or desired.vassal is None or memory.vassal is None:
        return
    changed = desired.vassal.content != memory.vassal.content
    reason = "ContentChanged" if changed else "Touched"
    message = "reloading: its content changed" if changed else "reloading: touched, or ordered to"
    method = desired.vassal.reload.method
    process = look.observed.process
    unheard = method is ReloadMethod.PROTOCOL and look.observed.signs.closed is not None
    if method is ReloadMethod.RESTART or unheard:
        draft.stop_as_wanted(reason, message)
        memory.ordered = "Reloaded"
        return
    if (
        method is ReloadMethod.SIGNAL
        and not memory.loyal
        and process is not None
        and not draft.due(process.since + SETTLE)
    ):
        return
    _limit(draft, desired.vassal)
    draft.tell_reload(desired.vassal, reason, message)
    draft.take_over(desired.vassal)


def _limit(draft: Draft, wanted: Vassal) -> None:
    """Other limits of the same kinds hold at once for what runs."""
    memory = draft.memory
    if memory.vassal is None or wanted.limits == memory.vassal.limits:
        return
    if wanted.limits.written() != memory.vassal.limits.written():
        what = wanted.limits.sentence() or "none any more"
        draft.actions.append(Limit(wanted, memory.number, "LimitsChanged", f"its limits are now: {what}"))


def _stop(draft: Draft, direction: Direction) -> None:
    reason, message, ordered = _why(draft, direction)
    vassal = draft.memory.vassal
    if vassal is not None and is_anothers(draft.look, draft.memory):
        # How it stops was its own owner's to say, but not for how long the next one waits.
        grace = min(vassal.stop.grace, OWNER_GRACE)
        draft.stop(replace(vassal, stop=replace(vassal.stop, grace=grace)), reason, message)
    else:
        draft.stop_as_wanted(reason, message)
    draft.memory.ordered = ordered


def _why(draft: Draft, direction: Direction) -> tuple[str, str, str]:
    if direction is Direction.REMOVE and draft.look.mercy is not None:
        return "Ragnarok", "stopping: the Emperor is ending", ""
    desired = draft.look.desired
    if is_anothers(draft.look, draft.memory):
        return "OwnerChanged", "stopping: its file belongs to another user now", ""
    if direction is Direction.REST and desired is not None and desired.suspended_by is Suspender.FILE:
        return "Suspended", "stopping: its file suspends it", ""
    return _STOPS[direction]


def _escalate(draft: Draft) -> None:
    deadline = draft.memory.deadline
    if deadline is not None and draft.look.mercy is not None:
        deadline = min(deadline, draft.look.mercy)
    if deadline is not None and is_anothers(draft.look, draft.memory):
        deadline = min(deadline, draft.memory.since + OWNER_GRACE)
    if deadline is None or draft.due(deadline):
        draft.kill("GraceExceeded", "killing: still there after its grace period")


def _report_unkillable(draft: Draft) -> None:
    memory = draft.memory
    if memory.overdue or memory.deadline is None or not draft.due(memory.deadline):
        return
    memory.overdue = True
    draft.warn(
        "Unkillable",
        f"still there {UNKILLABLE_AFTER:g}s after SIGKILL: it waits inside the kernel (state D);"
        " nothing is started in its place until it has gone",
    )
