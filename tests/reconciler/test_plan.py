"""One good pair, one mutation, the expected plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emperorctl.models.errors import Problem
from emperorctl.models.limits import Limits
from emperorctl.models.observed import NEVER_LAUNCHED, Exit, LaunchFailure, LaunchState, Observed, Process, Signs
from emperorctl.models.plan import (
    BlacklistEntry,
    Forget,
    Kill,
    Limit,
    Look,
    Memory,
    Plan,
    Spawn,
    State,
    TellReload,
    TellStop,
    Throttle,
    Throttles,
)
from emperorctl.models.status import ConditionType, Truth
from emperorctl.models.vassal import Desired, Hook, Hooks, Notify, Reload, ReloadMethod, Stop, Vassal
from emperorctl.reconciler.plan import Rules, plan
from tests.fakes.vassals import desired, native, uwsgi

NOW = 100.0
PROCESS = Process(pid=42, start_time=7, uid=0, gid=0, since=50.0)
ALIVE = Observed(number=1, state=LaunchState.ALIVE, process=PROCESS)


def running(vassal: Vassal, **changes: Any) -> Memory:
    """The memory of a vassal that has run, loyal, for a while."""
    memory = Memory(State.RUNNING, number=1, vassal=vassal, generation=1, since=50.0, loyal="Survived")
    return replace(memory, **changes)


def planned(want: Desired | None, seen: Observed, memory: Memory, **look: Any) -> Plan:
    """The plan of one look at NOW."""
    return plan(replace(Look(want, seen, memory, Throttles(), NOW), **look), Rules())


def kinds(outcome: Plan) -> list[type]:
    return [type(action) for action in outcome.actions]


def condition(outcome: Plan, kind: ConditionType) -> tuple[Truth, str]:
    found = next(item for item in outcome.conditions if item.type is kind)
    return found.status, found.reason


def test_what_is_wanted_and_not_there_is_started() -> None:
    outcome = planned(desired(), NEVER_LAUNCHED, Memory())
    assert outcome.actions == (Spawn(native(), 1, "Created", "starting generation 1"),)
    assert outcome.memory.state is State.STARTING
    assert outcome.phase == "Starting"


def test_a_good_pair_needs_nothing() -> None:
    outcome = planned(desired(), ALIVE, running(native()))
    assert outcome.actions == () and outcome.requeue_after is None and outcome.notes == ()
    assert condition(outcome, ConditionType.READY) == (Truth.TRUE, "Started")
    assert condition(outcome, ConditionType.LOYAL) == (Truth.TRUE, "Survived")
    assert outcome.phase == "Running"


def test_the_same_look_is_the_same_plan() -> None:
    assert planned(desired(), ALIVE, running(native())) == planned(desired(), ALIVE, running(native()))


def test_a_launch_on_its_way_is_awaited() -> None:
    starting = Memory(State.STARTING, number=1, vassal=native(), generation=1)
    outcome = planned(desired(), Observed(1, LaunchState.LAUNCHING), starting)
    assert outcome.actions == () and outcome.requeue_after is None


def test_a_confirmed_launch_runs_and_is_watched_until_it_is_loyal() -> None:
    starting = Memory(State.STARTING, number=1, vassal=native(), generation=1)
    outcome = planned(desired(), replace(ALIVE, process=replace(PROCESS, since=NOW)), starting)
    assert outcome.memory.state is State.RUNNING
    assert outcome.requeue_after == 10.0
    assert condition(outcome, ConditionType.LOYAL)[0] is Truth.FALSE


@pytest.mark.parametrize("age", [10.0, 11.0])
def test_having_lived_long_enough_is_loyalty(age: float) -> None:
    seen = replace(ALIVE, process=replace(PROCESS, since=NOW - age))
    outcome = planned(desired(), seen, running(native(), loyal=""))
    assert outcome.memory.loyal == "Survived"


def test_a_first_request_is_loyalty_and_ends_the_blacklist() -> None:
    seen = replace(ALIVE, process=replace(PROCESS, since=NOW), signs=Signs(loyal=NOW))
    memory = running(uwsgi(), loyal="", blacklist=BlacklistEntry(2, 1.0, 2.0, 4.0, 6.0))
    outcome = planned(desired(uwsgi()), seen, memory)
    assert outcome.memory.loyal == "FirstRequest" and outcome.memory.blacklist is None


def test_a_changed_launch_replaces_the_process() -> None:
    want = desired(native(command=("sleep", "2")), generation=2)
    outcome = planned(want, ALIVE, running(native()))
    assert kinds(outcome) == [TellStop]
    assert outcome.actions[0].reason == "LaunchChanged"
    assert outcome.requeue_after == 30.0
    gone = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, signal=15))
    again = planned(want, gone, outcome.memory)
    assert again.actions == (Spawn(want.vassal, 2, "Replaced", "starting generation 2", urgent=True),)  # type: ignore[arg-type]


def test_an_edit_that_changes_nothing_of_the_process_touches_nothing() -> None:
    want = desired(native(labels={"team": "web"}), generation=2)
    outcome = planned(want, ALIVE, running(native()))
    assert outcome.actions == ()
    assert outcome.memory.generation == 2


def test_a_file_that_came_back_with_another_reload_method_is_believed() -> None:
    vassal = native(reload=Reload(ReloadMethod.SIGNAL, 1))
    outcome = planned(desired(vassal), ALIVE, running(native()))
    assert outcome.actions == () and outcome.memory.vassal == vassal


@pytest.mark.parametrize("changes", [{"orders": 1}, {"orders": 7}])
def test_a_touch_reloads_by_restart_unless_said_otherwise(changes: dict[str, Any]) -> None:
    outcome = planned(desired(**changes), ALIVE, running(native()))
    assert kinds(outcome) == [TellStop]
    gone = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, code=0))
    again = planned(desired(**changes), gone, outcome.memory)
    assert kinds(again) == [Spawn] and again.actions[0].reason == "Reloaded"
    assert again.memory.blacklist is None and again.memory.orders == changes["orders"]


def test_a_touch_reloads_by_signal_and_keeps_the_process() -> None:
    vassal = native(reload=Reload(ReloadMethod.SIGNAL, 1))
    outcome = planned(desired(vassal, orders=1), ALIVE, running(vassal))
    assert outcome.actions == (TellReload(vassal, 1, "Touched", "reloading: touched, or ordered to"),)
    assert planned(desired(vassal, orders=1), ALIVE, outcome.memory).actions == ()


def test_a_reload_signal_waits_until_a_young_process_can_take_it() -> None:
    vassal = native(reload=Reload(ReloadMethod.SIGNAL, 1))
    young = replace(ALIVE, process=replace(PROCESS, since=NOW - 0.25))
    outcome = planned(desired(vassal, orders=1), young, running(vassal, loyal=""))
    assert outcome.actions == () and outcome.requeue_after == 0.75


def test_a_changed_uwsgi_config_reloads_over_the_protocol() -> None:
    want = desired(uwsgi(content="b"), generation=2)
    outcome = planned(want, ALIVE, running(uwsgi(content="a")))
    assert kinds(outcome) == [TellReload]
    assert outcome.actions[0].reason == "ContentChanged"


def test_a_reload_over_the_protocol_lasts_until_the_vassal_reports_back() -> None:
    before = Signs(spawned=50.0, spawns=1, accepting=51.0, loyal=52.0)
    want, seen = desired(uwsgi(), orders=1), replace(ALIVE, signs=before)
    told = planned(want, seen, running(uwsgi()))
    assert kinds(told) == [TellReload] and told.phase == "Reloading" and told.requeue_after == 60.0
    assert condition(told, ConditionType.PROGRESSING) == (Truth.TRUE, "Reloading")
    assert planned(want, seen, told.memory, now=NOW + 9.0).phase == "Reloading"
    for after in (replace(before, accepting=NOW + 1.0), replace(before, spawned=NOW + 1.0, spawns=2)):
        done = planned(want, replace(ALIVE, signs=after), told.memory, now=NOW + 1.0)
        assert done.phase == "Running" and done.requeue_after is None
        assert condition(done, ConditionType.PROGRESSING) == (Truth.FALSE, "Settled")
    assert planned(want, seen, told.memory, now=NOW + 60.0).phase == "Running"


def test_one_that_no_longer_listens_is_replaced_instead_of_told() -> None:
    deaf = replace(ALIVE, signs=Signs(closed=60.0))
    outcome = planned(desired(uwsgi(), orders=1), deaf, running(uwsgi()))
    assert kinds(outcome) == [Kill]
    assert outcome.memory.state is State.KILLING


def test_what_is_not_wanted_is_stopped_then_killed_then_forgotten() -> None:
    told = planned(None, ALIVE, running(native(stop=Stop(grace=5.0))))
    assert kinds(told) == [TellStop] and told.actions[0].reason == "Removed" and told.requeue_after == 5.0
    early = planned(None, ALIVE, told.memory, now=NOW + 4.0)
    assert early.actions == () and early.requeue_after == pytest.approx(1.0)
    killed = planned(None, ALIVE, told.memory, now=NOW + 5.0)
    assert kinds(killed) == [Kill] and killed.actions[0].reason == "GraceExceeded"
    gone = planned(None, replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, signal=9)), killed.memory)
    assert kinds(gone) == [Forget]


def test_one_that_outlives_sigkill_is_reported_once_and_not_replaced() -> None:
    memory = Memory(State.KILLING, 1, native(), 1, since=NOW, deadline=NOW + 5.0)
    outcome = planned(desired(), ALIVE, memory, now=NOW + 5.0)
    assert outcome.actions == () and [note.reason for note in outcome.notes] == ["Unkillable"]
    assert condition(outcome, ConditionType.READY) == (Truth.FALSE, "Unkillable")
    assert planned(desired(), ALIVE, outcome.memory, now=NOW + 9.0).notes == ()


def test_coming_back_while_stopping_starts_anew_once_it_is_gone() -> None:
    stopping = running(native(), state=State.STOPPING, deadline=NOW + 9.0)
    assert planned(desired(), ALIVE, stopping).actions == ()
    gone = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, code=0))
    assert kinds(planned(desired(), gone, stopping)) == [Spawn]


def test_a_suspended_one_is_stopped_and_stays_known() -> None:
    outcome = planned(desired(suspended=True), ALIVE, running(native()))
    assert kinds(outcome) == [TellStop] and outcome.actions[0].reason == "Suspended"
    gone = planned(desired(suspended=True), NEVER_LAUNCHED, Memory())
    assert gone.actions == () and gone.phase == "Suspended"
    assert "emperorctl start shop" in next(c.message for c in gone.conditions if c.type is ConditionType.READY)


def test_a_loyal_one_that_dies_comes_back_at_once() -> None:
    dead = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, signal=9))
    outcome = planned(desired(), dead, running(native()))
    assert outcome.actions == (Spawn(native(), 2, "Respawned", "starting generation 1", urgent=True),)
    assert outcome.memory.blacklist is None and outcome.memory.respawns == 1


def test_a_disloyal_one_that_dies_waits_on_the_blacklist() -> None:
    dead = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, code=3), process=replace(PROCESS, since=NOW - 1))
    outcome = planned(desired(), dead, running(native(), loyal=""))
    assert outcome.actions == () and outcome.requeue_after == 3.0
    assert outcome.phase == "Blacklisted"
    assert condition(outcome, ConditionType.READY) == (Truth.FALSE, "Blacklisted")
    retried = planned(desired(), dead, outcome.memory, now=NOW + 3.0)
    assert kinds(retried) == [Spawn] and retried.actions[0].reason == "Retried"


@pytest.mark.parametrize("want", [desired(pardons=1), desired(pardons=1, orders=1)])
def test_a_pardon_tries_again_at_once(want: Desired) -> None:
    dead = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, code=3))
    memory = Memory(number=1, vassal=native(), generation=1, blacklist=BlacklistEntry(5, 0, NOW, 60.0, NOW + 60.0))
    outcome = planned(want, dead, memory)
    assert kinds(outcome) == [Spawn] and outcome.memory.blacklist is None


def test_exit_code_26_is_not_respawned_until_a_pardon() -> None:
    dead = replace(ALIVE, state=LaunchState.EXITED, exit=Exit(NOW, code=26))
    outcome = planned(desired(), dead, running(native()))
    assert outcome.actions == () and outcome.requeue_after is None
    assert condition(outcome, ConditionType.READY) == (Truth.FALSE, "DoNotRespawn")
    assert kinds(planned(desired(pardons=1), dead, outcome.memory)) == [Spawn]


def test_a_launch_that_fails_is_blacklisted_with_its_reason() -> None:
    failure = LaunchFailure(NOW, "execve", 2, "NoSuchProgram", "no such program: gunicorn", "install it")
    seen = Observed(1, LaunchState.FAILED, failure=failure)
    outcome = planned(desired(), seen, Memory(State.STARTING, 1, native(), 1))
    assert outcome.actions == () and outcome.phase == "Blacklisted"
    message = next(c.message for c in outcome.conditions if c.type is ConditionType.READY)
    assert "no such program: gunicorn (install it)" in message


def test_a_launch_that_fails_through_nobodys_fault_is_tried_again_soon() -> None:
    failure = LaunchFailure(NOW, "execve", 26, "TextBusy", "being written", transient=True)
    outcome = planned(
        desired(), Observed(1, LaunchState.FAILED, failure=failure), Memory(State.STARTING, 1, native(), 1)
    )
    assert outcome.memory.blacklist is None and outcome.requeue_after == 0.5
    assert outcome.phase == "Error" and condition(outcome, ConditionType.READY) == (Truth.FALSE, "LaunchFailed")


@pytest.mark.parametrize(("gap", "pause"), [(0.1, 0.5), (0.5, 1.0), (4.0, 8.0), (10.0, 10.0), (60.0, 0.5)])
def test_a_lasting_shortage_is_tried_again_ever_more_slowly(gap: float, pause: float) -> None:
    before = LaunchFailure(NOW - gap, "descriptors", 24, "NoResources", "too many", transient=True)
    failure = replace(before, at=NOW)
    memory = Memory(State.STARTING, 2, native(), 1, last_failure=before)
    outcome = planned(desired(), Observed(2, LaunchState.FAILED, failure=failure), memory)
    assert outcome.requeue_after == pause and outcome.memory.blacklist is None


def test_a_bad_config_keeps_what_runs() -> None:
    problem = Problem("InvalidYaml", "mapping expected", file="/vassals/shop.yaml", line=3)
    outcome = planned(desired(problem=problem), ALIVE, running(native()))
    assert outcome.actions == () and outcome.phase == "Running"
    assert condition(outcome, ConditionType.ACCEPTED) == (Truth.FALSE, "InvalidYaml")


def test_a_bad_config_that_never_was_good_starts_nothing() -> None:
    problem = Problem("InvalidYaml", "mapping expected", file="/vassals/shop.yaml", line=3)
    outcome = planned(Desired("shop", "s", "/vassals/shop.yaml", problem=problem), NEVER_LAUNCHED, Memory())
    assert outcome.actions == () and outcome.phase == "Invalid"


def test_a_crowd_is_throttled_and_each_keeps_its_own_time() -> None:
    crowd = Throttle(delta=1.0, window=NOW, spawned=100, open_at=NOW + 2.0)
    outcome = planned(desired(), NEVER_LAUNCHED, Memory(), throttle=Throttles(steady=crowd))
    assert outcome.actions == () and outcome.requeue_after == 2.0 and outcome.phase == "Throttled"
    again = planned(desired(), NEVER_LAUNCHED, outcome.memory, throttle=outcome.throttle, now=NOW + 2.0)
    assert kinds(again) == [Spawn]
    assert again.throttle == outcome.throttle, "its time was set aside before"


@pytest.mark.parametrize(
    ("want", "memory"),
    [
        (desired(warm=True), Memory()),
        (desired(), Memory(number=1, vassal=native(), generation=1, ordered="Reloaded")),
        (desired(pardons=1), Memory(number=1, vassal=native(), generation=1)),
        (desired(pardons=1), Memory(throttled_until=NOW + 60.0)),
    ],
)
def test_the_throttle_leaves_these_alone(want: Desired, memory: Memory) -> None:
    crowd = Throttle(delta=1.0, window=NOW, spawned=100, open_at=NOW + 60.0)
    seen = replace(NEVER_LAUNCHED, number=memory.number)
    assert kinds(planned(want, seen, memory, throttle=Throttles(steady=crowd, retries=crowd))) == [Spawn]


@pytest.mark.parametrize("failing", [False, True])
def test_those_that_fail_and_those_that_are_well_do_not_wait_for_each_other(failing: bool) -> None:
    crowd = Throttle(delta=1.0, window=NOW, spawned=100, open_at=NOW + 60.0)
    memory = Memory(number=1, vassal=native(), generation=1, failing=failing)
    dead = Observed(1, LaunchState.EXITED, PROCESS, Exit(NOW, code=1))
    free = Throttles(retries=crowd) if not failing else Throttles(steady=crowd)
    full = Throttles(steady=crowd) if not failing else Throttles(retries=crowd)
    (spawn,) = planned(desired(), dead, memory, throttle=free).actions
    assert isinstance(spawn, Spawn) and spawn.urgent is not failing
    held = planned(desired(), dead, memory, throttle=full)
    assert held.actions == () and held.requeue_after == 60.0 and held.phase == "Throttled"


def test_a_uwsgi_vassal_that_speaks_proves_itself_by_a_request_alone() -> None:
    seen = replace(ALIVE, process=replace(PROCESS, since=NOW - 1000.0), signs=Signs(spawned=60.0, accepting=61.0))
    outcome = planned(desired(uwsgi()), seen, running(uwsgi(), loyal=""))
    assert outcome.memory.loyal == "" and outcome.requeue_after is None
    silent = planned(desired(uwsgi()), replace(seen, signs=Signs()), running(uwsgi(), loyal=""))
    assert silent.memory.loyal == "Survived", "another program in uWSGI's place"


def test_one_that_is_to_say_when_it_is_ready_proves_itself_by_that_alone() -> None:
    vassal = native(notify=Notify.MAIN)
    seen = replace(ALIVE, process=replace(PROCESS, since=NOW - 1000.0))
    assert planned(desired(vassal), seen, running(vassal, loyal="")).memory.loyal == ""
    ready = replace(seen, signs=Signs(ready=NOW))
    outcome = planned(desired(vassal), ready, running(vassal, loyal="", failing=True))
    assert outcome.memory.loyal == "Ready" and not outcome.memory.failing


def test_at_the_end_everything_stops_and_mercy_bounds_the_grace() -> None:
    outcome = planned(desired(), ALIVE, running(native()), mercy=NOW + 3.0)
    assert kinds(outcome) == [TellStop] and outcome.actions[0].reason == "Ragnarok" and outcome.requeue_after == 3.0
    hurried = planned(desired(), ALIVE, outcome.memory, mercy=NOW)
    assert kinds(hurried) == [Kill]


def test_a_process_that_nobody_ordered_is_killed() -> None:
    outcome = planned(desired(), ALIVE, Memory())
    assert kinds(outcome) == [Kill] and outcome.memory.state is State.KILLING


NOTIFIES = native(notify=Notify.MAIN)
NOT_YET = "running, but it has not sent READY=1 yet"


@pytest.mark.parametrize(
    ("signs", "truth", "reason", "message"),
    [
        (Signs(), Truth.FALSE, "NotReady", NOT_YET),
        (Signs(status="30 %"), Truth.FALSE, "NotReady", f"{NOT_YET}: 30 %"),
        (Signs(reloading=60.0), Truth.FALSE, "NotReady", NOT_YET),
        (Signs(ready=60.0), Truth.TRUE, "Notified", ""),
        (Signs(ready=60.0, status="serving"), Truth.TRUE, "Notified", "serving"),
        (Signs(ready=60.0, reloading=NOW - 1.0), Truth.TRUE, "Notified", ""),
        (Signs(ready=60.0, stopping=70.0), Truth.FALSE, "Stopping", "it says that it is stopping"),
        (Signs(stopping=70.0), Truth.FALSE, "Stopping", "it says that it is stopping"),
        (Signs(ready=80.0, stopping=70.0), Truth.TRUE, "Notified", ""),
    ],
)
def test_a_vassal_that_notifies_is_ready_by_its_own_word(signs: Signs, truth: Truth, reason: str, message: str) -> None:
    outcome = planned(desired(NOTIFIES), replace(ALIVE, signs=signs), running(NOTIFIES))
    assert outcome.actions == ()
    (ready,) = (item for item in outcome.conditions if item.type is ConditionType.READY)
    assert (ready.status, ready.reason, ready.message) == (truth, reason, message)


@pytest.mark.parametrize(
    ("signs", "reloading"),
    [
        (Signs(ready=50.0, reloading=NOW - 1.0), True),
        (Signs(ready=NOW - 2.0, reloading=NOW - 1.0), True),
        (Signs(ready=NOW, reloading=NOW - 1.0), False),
        (Signs(ready=30.0, reloading=NOW - 60.0), False),
        (Signs(reloading=NOW - 1.0), False),
    ],
)
def test_a_vassal_reloads_until_it_says_ready_again(signs: Signs, reloading: bool) -> None:
    outcome = planned(desired(NOTIFIES), replace(ALIVE, signs=signs), running(NOTIFIES))
    assert outcome.phase == ("Reloading" if reloading else "Running")
    expected = (Truth.TRUE, "Reloading") if reloading else (Truth.FALSE, "Settled")
    assert condition(outcome, ConditionType.PROGRESSING) == expected
    assert outcome.requeue_after == (59.0 if reloading else None)


def test_another_readiness_replaces_the_process() -> None:
    outcome = planned(desired(NOTIFIES, generation=2), ALIVE, running(native()))
    assert kinds(outcome) == [TellStop] and outcome.actions[0].reason == "LaunchChanged"


HOOKED = native(hooks=Hooks(pre_start=(Hook(("prepare",)),)))
PREPARING = Observed(1, LaunchState.LAUNCHING, hook="preStart")
TIDYING = Observed(1, LaunchState.EXITED, exit=Exit(NOW, code=1), hook="postStop")


def test_a_start_whose_hook_runs_is_awaited_and_says_so() -> None:
    starting = Memory(State.STARTING, number=1, vassal=HOOKED, generation=1)
    outcome = planned(desired(HOOKED), PREPARING, starting)
    assert outcome.actions == () and outcome.requeue_after is None
    assert "its preStart hook is running" in [item.message for item in outcome.conditions]


@pytest.mark.parametrize(
    ("want", "look", "reason"),
    [
        (None, {}, "Removed"),
        (desired(HOOKED), {"mercy": NOW + 30}, "Ragnarok"),
        (desired(HOOKED, suspended=True), {}, "Suspended"),
        (desired(replace(HOOKED, launch=native(command=("other",)).launch)), {}, "LaunchChanged"),
        (desired(replace(HOOKED, hooks=Hooks())), {}, "HooksChanged"),
    ],
)
def test_a_start_that_is_not_wanted_any_more_does_not_wait_for_its_hook(
    want: Desired | None, look: dict[str, Any], reason: str
) -> None:
    starting = Memory(State.STARTING, number=1, vassal=HOOKED, generation=1)
    outcome = planned(want, PREPARING, starting, **look)
    (action,) = outcome.actions
    assert isinstance(action, Kill) and action.reason == reason
    assert outcome.memory.state is State.KILLING
    # Without a hook it is there, or has failed, in a moment.
    assert kinds(planned(want, replace(PREPARING, hook=""), starting, **look)) == []


def test_a_start_that_was_called_off_is_not_held_against_it() -> None:
    killing = Memory(State.KILLING, number=1, vassal=HOOKED, generation=1, ordered="Replaced")
    failure = LaunchFailure(NOW, "launcher", 0, "Cancelled", "ended before it was started", transient=True)
    outcome = planned(desired(), Observed(1, LaunchState.FAILED, failure=failure), killing)
    assert kinds(outcome) == [Spawn]
    assert outcome.memory.blacklist is None


def test_nothing_is_started_while_the_hook_of_the_last_launch_runs() -> None:
    gone = Memory(State.ABSENT, number=1, vassal=native(), generation=1)
    outcome = planned(desired(), TIDYING, gone)
    assert outcome.actions == () and outcome.throttle == Throttles()
    assert condition(outcome, ConditionType.READY) == (Truth.FALSE, "TidyingUp")
    assert kinds(planned(desired(), replace(TIDYING, hook=""), gone)) == [Spawn]


def test_a_death_is_known_at_once_and_its_hook_holds_only_the_next_start() -> None:
    outcome = planned(desired(), replace(TIDYING, process=PROCESS), running(native(), loyal=""))
    assert outcome.memory.state is State.ABSENT and outcome.memory.last_exit == Exit(NOW, code=1)
    assert outcome.memory.respawns == 0


def test_nothing_is_forgotten_while_its_hook_runs_but_mercy_has_an_end() -> None:
    gone = Memory(State.ABSENT, number=1, vassal=native(), generation=1)
    assert planned(None, TIDYING, gone).actions == ()
    outcome = planned(None, TIDYING, gone, mercy=NOW + 5)
    assert outcome.actions == () and outcome.requeue_after == 5
    assert kinds(planned(None, TIDYING, gone, mercy=NOW)) == [Kill]
    assert kinds(planned(None, replace(TIDYING, hook=""), gone, mercy=NOW)) == [Forget]


def limited(**limits: int) -> Vassal:
    return native(limits=Limits(**limits))


def test_another_value_of_a_limit_is_applied_to_what_runs() -> None:
    want = desired(limited(memory=64 << 20), generation=2)
    outcome = planned(want, ALIVE, running(limited(memory=32 << 20)))
    assert outcome.actions == (Limit(limited(memory=64 << 20), 1, "LimitsChanged", "its limits are now: memory 64Mi"),)
    assert outcome.memory.vassal == want.vassal and outcome.memory.state is State.RUNNING
    assert planned(want, ALIVE, outcome.memory).actions == ()


def test_a_limit_that_goes_is_lifted_from_what_runs() -> None:
    outcome = planned(desired(native(), generation=2), ALIVE, running(limited(memory=32 << 20)))
    assert kinds(outcome) == [Limit] and "none any more" in outcome.actions[0].message  # type: ignore[union-attr]


@pytest.mark.parametrize("before", [{}, {"pids": 5}])
def test_the_first_limit_of_a_kind_takes_a_new_process(before: dict[str, int]) -> None:
    outcome = planned(desired(limited(memory=64 << 20), generation=2), ALIVE, running(limited(**before)))
    assert kinds(outcome) == [TellStop]


def test_a_reload_in_place_brings_other_limits_along() -> None:
    method = Reload(ReloadMethod.SIGNAL, 1)
    want = desired(native(limits=Limits(pids=7), reload=method), orders=1)
    outcome = planned(want, ALIVE, running(native(limits=Limits(pids=5), reload=method)))
    assert kinds(outcome) == [Limit, TellReload]


@pytest.mark.parametrize(
    ("unlimited", "status", "reason"), [("", "True", "Enforced"), ("no x", "False", "NotEnforced")]
)
def test_whether_limits_hold_is_a_condition(unlimited: str, status: str, reason: str) -> None:
    vassal = limited(memory=64 << 20)
    outcome = planned(desired(vassal), replace(ALIVE, unlimited=unlimited), running(vassal))
    (found,) = (item for item in outcome.conditions if item.type is ConditionType.LIMITED)
    assert (found.status, found.reason) == (status, reason) and unlimited in found.message
    without = planned(desired(), ALIVE, running(native()))
    assert all(item.type is not ConditionType.LIMITED for item in without.conditions)


def test_dying_for_want_of_memory_has_its_own_word() -> None:
    end = Exit(NOW, signal=9, oom_kills=1, memory=64 << 20)
    outcome = planned(desired(), replace(ALIVE, state=LaunchState.EXITED, exit=end), running(native()))
    assert outcome.memory.last_exit == end
    assert any("out of memory, its limit is 64Mi" in note.message for note in outcome.notes)
    held = Memory(number=1, last_exit=end, blacklist=BlacklistEntry(1, NOW, NOW, 3.0, NOW + 3))
    gone = planned(desired(), replace(ALIVE, state=LaunchState.EXITED, exit=end), replace(held, abandoned=True))
    assert gone.phase == "OOMKilled"
