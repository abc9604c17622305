"""Vassals that run on demand: their sockets, what wakes them, and when they go back to sleep. Pure.

Called by `plan` and `vigil`. The sockets are the Emperor's, and outlive every process: what connects while there is
none waits in them. A wake is a spawn like any other, with the same budgets: one that ends again and again without
accepting what woke it is blacklisted, and until its next try nobody looks at its sockets.
"""

from __future__ import annotations

from emperorctl.models.durations import format_duration
from emperorctl.models.observed import Exit
from emperorctl.models.plan import Count, Hush, Listen, Memory, State, Watch
from emperorctl.models.sockets import OnDemand
from emperorctl.models.vassal import Desired
from emperorctl.reconciler.draft import EARLY, Draft, is_anothers

__all__ = ["VOLUNTARY", "has_other_sockets", "has_to_wake", "keep_sockets", "rest_when_idle", "went_to_sleep"]

VOLUNTARY = "it asked to be stopped"
"""Why a process that sent byte 22 is stopped."""
RETRY = 1.0
"""Seconds until an address that could not be had is tried again, …"""
RETRY_MAX = 30.0
"""… and the most it comes to, twice as long each time in a row."""
_KEEP_AWAKE = {"Reloaded", "Replaced"}


def keep_sockets(draft: Draft) -> None:
    """Have the sockets bound that are wanted now, and tell people what came of it."""
    look, memory = draft.look, draft.memory
    listening, wanted = look.listening, _wanted(draft)
    if wanted is None:
        if listening.on_demand is not None:
            draft.actions.append(Hush())
        memory.bound, memory.bind_problem, memory.bind_failures = None, None, 0
    elif listening.on_demand != wanted:
        memory.bind_problem, memory.bind_failures = None, 0
        draft.actions.append(Listen(wanted))
    elif listening.ready:
        if memory.bound != wanted:
            draft.say("Listening", f"the Emperor listens on {wanted}, and starts it at the first connection")
        memory.bound, memory.bind_problem, memory.bind_failures = wanted, None, 0
    elif listening.problem is not None:
        if memory.bind_problem != listening.problem:
            memory.bind_problem = listening.problem
            draft.warn(listening.problem.reason, listening.problem.sentence())
        pause = min(RETRY * 2.0 ** min(memory.bind_failures, 10), RETRY_MAX)
        # What was in the way may have been its own process.
        gone = memory.state is State.ABSENT and memory.since > listening.failed_at
        if gone or draft.due(listening.failed_at + pause):
            memory.bind_failures += 1
            draft.actions.append(Listen(wanted))


def _wanted(draft: Draft) -> OnDemand | None:
    desired = draft.look.desired
    if desired is None or desired.vassal is None or desired.suspended or draft.look.mercy is not None:
        return None
    # Another owner's sockets are not handed on: they are bound anew once everything of the former one has gone.
    return None if is_anothers(draft.look, draft.memory) else desired.vassal.on_demand


def has_other_sockets(draft: Draft) -> bool:
    """Whether the process has to be replaced because its sockets are not the ones that are wanted, which are there.

    As long as they are not, the process that runs stays; unless it is in their way itself.
    """
    desired, listening = draft.look.desired, draft.look.listening
    if desired is None or desired.vassal is None:
        return False
    wanted, given = desired.vassal.on_demand, draft.memory.given
    if wanted is None or given is None:
        return wanted is not given
    if wanted.serves_as(given):
        return False
    return listening.on_demand == wanted and (listening.ready or listening.displaced)


def has_to_wake(draft: Draft, wanted: OnDemand) -> bool:
    """Whether a process has to be started for these sockets now; if not, it sleeps, and a connection will wake it."""
    memory, listening, desired = draft.memory, draft.look.listening, draft.look.desired
    assert desired is not None and desired.vassal is not None
    if desired.generation != memory.generation or desired.orders != memory.orders or memory.vassal is None:
        # Nothing runs that would have to be told.
        draft.take_over(desired.vassal)
    if listening.on_demand != wanted or not listening.ready:
        return False
    if listening.demand or memory.ordered in _KEEP_AWAKE:
        return True
    memory.ordered = ""
    memory.throttled_until = None
    if not listening.watching:
        draft.actions.append(Watch())
    return False


def went_to_sleep(draft: Draft, end: Exit | None, *, loyal: bool) -> bool:
    """Whether a process that ended did so as one that is not needed now: of its own will or with exit code 0.

    One that is not loyal yet and leaves a connection waiting may never have accepted any: it failed.
    """
    desired, memory = draft.look.desired, draft.memory
    if desired is None or desired.vassal is None or desired.vassal.on_demand is None:
        return False
    willing = draft.look.observed.signs.will is not None or (end is not None and end.code == 0)
    if not willing or (not loyal and draft.look.listening.demand):
        return False
    memory.slept = True
    memory.failing = False
    memory.blacklist = None
    return True


def rest_when_idle(draft: Draft) -> None:
    """Stop a running process once no connection has been open for as long as its description says."""
    memory, listening, idle = draft.memory, draft.look.listening, _idle(draft.look.desired, draft.memory)
    if idle is None:
        return
    counted = listening.counted_at if (listening.counted_at or 0.0) >= memory.since else None
    if counted is not None and listening.open is None:
        draft.warn_once("IdleUnknown", "this kernel does not tell which connections are open: it is not put to sleep")
        return
    if counted is not None and listening.open:
        memory.busy_at = max(memory.busy_at, counted)
    busy = max(memory.since, memory.busy_at, listening.connected_at or 0.0)
    if counted is not None and not listening.open and counted - busy >= idle - EARLY:
        memory.slept = True
        draft.stop_as_wanted("Idle", f"stopping: no connection has been open for {format_duration(idle)}")
    elif draft.due((memory.since if counted is None else counted) + idle / 2):
        draft.actions.append(Count())


def _idle(desired: Desired | None, memory: Memory) -> float | None:
    if memory.given is None or desired is None or desired.vassal is None:
        return None
    return desired.vassal.on_demand.idle if desired.vassal.on_demand is not None else None
