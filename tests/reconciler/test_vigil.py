"""What follows from what a running process says, or no longer says, on literal times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emperorctl.models.observed import Exit, LaunchState, Observed, Process, Signs
from emperorctl.models.plan import (
    Dismiss,
    Kill,
    Look,
    Memory,
    Plan,
    Reinforce,
    Spawn,
    State,
    TellReload,
    TellStop,
    Throttles,
)
from emperorctl.models.status import ConditionType
from emperorctl.models.vassal import Desired, Reload, ReloadMethod, Stop, Vassal
from emperorctl.reconciler.plan import Rules, plan
from tests.fakes.vassals import desired, native, uwsgi

NOW = 100.0
ALIVE = Observed(1, LaunchState.ALIVE, Process(42, 7, 0, 0, since=50.0))
RULES = Rules(heartbeat=30.0, curse=20.0, broodlord=2)


def running(vassal: Vassal, **changes: Any) -> Memory:
    return replace(Memory(State.RUNNING, 1, vassal, 1, since=50.0, loyal="FirstRequest"), **changes)


def planned(
    signs: Signs, memory: Memory, *, now: float = NOW, want: Desired | None = None, rules: Rules = RULES, **look: Any
) -> Plan:
    assert memory.vassal is not None
    seen = replace(ALIVE, signs=signs)
    return plan(replace(Look(want or desired(memory.vassal), seen, memory, Throttles(), now), **look), rules)


def ready(outcome: Plan) -> str:
    return next(item.reason for item in outcome.conditions if item.type is ConditionType.READY)


def after(outcome: Plan, *, now: float, code: int | None = None, signal: int | None = None) -> Plan:
    """The plan once the process has ended."""
    vassal = outcome.memory.vassal
    assert vassal is not None
    gone = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(now, code, signal))
    return plan(Look(desired(vassal), gone, outcome.memory, Throttles(), now), RULES)


def kinds(outcome: Plan) -> list[type]:
    return [type(action) for action in outcome.actions]


# --- heartbeat ---


def test_without_a_first_heartbeat_silence_means_nothing() -> None:
    outcome = planned(Signs(spawned=50.0), running(uwsgi()))
    assert outcome.actions == () and outcome.requeue_after is None


def test_from_the_first_heartbeat_on_the_next_is_waited_for() -> None:
    outcome = planned(Signs(heartbeat=NOW - 4.0), running(uwsgi()))
    assert outcome.actions == () and outcome.requeue_after == 26.0


def test_a_heartbeat_that_woke_nobody_is_seen_when_its_time_has_come() -> None:
    first = planned(Signs(heartbeat=NOW), running(uwsgi()))
    later = planned(Signs(heartbeat=NOW + 29.0), first.memory, now=NOW + 30.0)
    assert later.actions == () and later.requeue_after == 29.0
    assert later.memory == first.memory, "nothing that anybody sees has changed"


def test_silence_is_a_reload_first_then_death() -> None:
    beating = planned(Signs(heartbeat=NOW), running(uwsgi()))
    hung = planned(Signs(heartbeat=NOW), beating.memory, now=NOW + 30.0)
    assert [(type(action), action.reason) for action in hung.actions] == [(TellReload, "Hung")]
    assert hung.requeue_after == 30.0 and ready(hung) == "Hung"
    waiting = planned(Signs(heartbeat=NOW), hung.memory, now=NOW + 59.0)
    assert waiting.actions == () and waiting.requeue_after == 1.0
    killed = planned(Signs(heartbeat=NOW), waiting.memory, now=NOW + 60.0)
    assert [(type(action), action.reason) for action in killed.actions] == [(Kill, "Hung")]
    again = after(killed, now=NOW + 60.0, signal=9)
    assert kinds(again) == [Spawn], "a loyal one comes back at once"
    assert again.memory.last_exit is not None
    assert "no heartbeat" in again.memory.last_exit.sentence()
    assert again.memory.hung_at is None


def test_one_that_came_back_is_watched_as_closely_as_before() -> None:
    rules = replace(RULES, heartbeat=2.0)
    first = planned(Signs(heartbeat=NOW), running(uwsgi()), rules=rules)
    hung = planned(Signs(heartbeat=NOW), first.memory, now=NOW + 2.0, rules=rules)
    assert kinds(hung) == [TellReload]
    assert hung.requeue_after == 2.0, "the grace is 30 s; the heartbeat that ends the matter wakes nobody"
    still = planned(Signs(heartbeat=NOW), hung.memory, now=NOW + 4.0, rules=rules)
    assert still.actions == () and still.requeue_after == 2.0
    back = planned(Signs(heartbeat=NOW + 4.5), still.memory, now=NOW + 6.0, rules=rules)
    assert back.actions == () and back.memory.hung_at is None
    assert back.requeue_after == 0.5


def test_a_hung_one_that_never_was_loyal_waits_on_the_blacklist() -> None:
    memory = running(uwsgi(), loyal="", hung_at=NOW - 30.0)
    killed = planned(Signs(spawned=50.0, heartbeat=NOW - 60.0), memory)
    assert kinds(killed) == [Kill]
    held = after(killed, now=NOW, signal=9)
    assert held.actions == () and held.memory.blacklist is not None


def test_a_heartbeat_after_the_reload_ends_the_matter() -> None:
    memory = running(uwsgi(), hung_at=NOW - 10.0, reloaded_at=NOW - 10.0)
    outcome = planned(Signs(heartbeat=NOW - 1.0), memory)
    assert outcome.actions == () and outcome.memory.hung_at is None
    assert [note.reason for note in outcome.notes] == ["HeartbeatBack"]
    assert outcome.requeue_after == 29.0


def test_one_that_reloads_by_restart_is_stopped_for_its_silence() -> None:
    vassal = native(stop=Stop(grace=5.0))
    memory = running(vassal, listening_until=NOW)
    outcome = planned(Signs(heartbeat=NOW - 30.0), memory)
    assert kinds(outcome) == [TellStop] and outcome.requeue_after == 5.0
    again = after(outcome, now=NOW + 1.0, signal=15)
    assert kinds(again) == [Spawn] and again.actions[0].reason == "Respawned"


def test_one_that_reloads_by_signal_gets_the_signal() -> None:
    vassal = native(reload=Reload(ReloadMethod.SIGNAL, 1))
    outcome = planned(Signs(heartbeat=NOW - 30.0), running(vassal, listening_until=NOW))
    assert kinds(outcome) == [TellReload]


def test_a_reload_may_take_as_long_as_the_silence_that_is_allowed() -> None:
    memory = running(uwsgi(), reloaded_at=NOW - 5.0, listening_until=NOW)
    outcome = planned(Signs(heartbeat=NOW - 40.0), memory)
    assert outcome.actions == () and outcome.requeue_after is not None and outcome.requeue_after <= 25.0


def test_an_emperor_that_was_held_up_starts_listening_anew() -> None:
    beating = planned(Signs(heartbeat=NOW), running(uwsgi()))
    late = planned(Signs(heartbeat=NOW), beating.memory, now=NOW + 90.0)
    assert late.actions == () and late.requeue_after == 30.0
    hung = planned(Signs(heartbeat=NOW), late.memory, now=NOW + 120.0)
    assert kinds(hung) == [TellReload]


def test_zero_turns_the_watch_off() -> None:
    outcome = planned(Signs(heartbeat=1.0), running(uwsgi()), rules=replace(RULES, heartbeat=0.0))
    assert outcome.actions == () and outcome.requeue_after is None


# --- curse, will, garbage ---


def test_one_that_closes_its_socket_and_lives_on_is_killed() -> None:
    fresh = planned(Signs(closed=NOW), running(uwsgi()))
    assert fresh.actions == () and fresh.notes == () and fresh.requeue_after == 1.0
    seen = planned(Signs(closed=NOW), fresh.memory, now=NOW + 1.0)
    assert [note.reason for note in seen.notes] == ["Cursed"] and ready(seen) == "Cursed"
    assert seen.requeue_after == 19.0
    assert planned(Signs(closed=NOW), seen.memory, now=NOW + 2.0).notes == ()
    killed = planned(Signs(closed=NOW), seen.memory, now=NOW + 20.0)
    assert [(type(action), action.reason) for action in killed.actions] == [(Kill, "Cursed")]


def test_one_without_the_protocol_can_not_be_cursed() -> None:
    assert planned(Signs(closed=NOW - 1000.0), running(native())).actions == ()


def test_one_that_ends_while_cursed_is_a_common_death() -> None:
    seen = planned(Signs(closed=NOW - 2.0), running(uwsgi()))
    again = after(seen, now=NOW, code=0)
    assert kinds(again) == [Spawn] and again.memory.reported == frozenset()


def test_one_that_asks_to_be_stopped_is_stopped_and_comes_back() -> None:
    outcome = planned(Signs(spawned=50.0, will=NOW), running(uwsgi()))
    assert [(type(action), action.reason) for action in outcome.actions] == [(TellStop, "Voluntary")]
    again = after(outcome, now=NOW + 1.0, code=0)
    assert kinds(again) == [Spawn] and again.memory.blacklist is None


def test_one_that_asks_to_be_stopped_without_ever_having_served_has_to_wait() -> None:
    outcome = planned(Signs(spawned=50.0, will=NOW), running(uwsgi(), loyal=""))
    held = after(outcome, now=NOW + 1.0, code=0)
    assert held.actions == () and held.memory.blacklist is not None


def test_one_that_goes_by_itself_after_saying_so_has_not_died() -> None:
    gone = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, 0), signs=Signs(will=NOW))
    outcome = plan(Look(desired(uwsgi()), gone, running(uwsgi()), Throttles(), NOW), RULES)
    assert [(note.type, note.reason) for note in outcome.notes] == [("Normal", "Stopped")]


def test_garbage_is_reported_once_in_a_life() -> None:
    first = planned(Signs(garbage=1), running(uwsgi()))
    assert [note.reason for note in first.notes] == ["ProtocolGarbage"]
    assert planned(Signs(garbage=10_000_000), first.memory).notes == ()


# --- reinforcements ---


def test_each_call_brings_one_zerg_as_far_as_the_budget_goes() -> None:
    one = planned(Signs(reinforcements=1), running(uwsgi()))
    assert kinds(one) == [Reinforce]
    assert planned(Signs(reinforcements=1), one.memory, zergs=1).actions == ()
    two = planned(Signs(reinforcements=4), one.memory, zergs=1)
    assert kinds(two) == [Reinforce]
    full = planned(Signs(reinforcements=5), two.memory, zergs=2)
    assert full.actions == () and "--emperor-broodlord" in full.notes[0].message


@pytest.mark.parametrize(
    "vassal", [native(protocol=True), replace(uwsgi(), zerg_of="shop.ini"), replace(uwsgi(), section="blog")]
)
def test_who_can_not_have_zergs_is_told(vassal: Vassal) -> None:
    outcome = planned(Signs(reinforcements=1), running(vassal))
    assert outcome.actions == () and [note.reason for note in outcome.notes] == ["NoReinforcements"]


def test_a_zerg_that_has_ended_is_not_started_again() -> None:
    zerg = replace(uwsgi("shop.ini:zerg"), zerg_of="shop.ini")
    gone = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, 1))
    outcome = plan(Look(desired(zerg), gone, running(zerg), Throttles(), NOW), RULES)
    assert kinds(outcome) == [Dismiss]
