"""The throttle and the blacklist, on literal times."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperorctl.models.plan import BlacklistEntry, Throttle
from emperorctl.reconciler.blacklist import BlacklistRule, after_death
from emperorctl.reconciler.throttle import ThrottleRule, reserve

STRICT = ThrottleRule(delta=1.0, burst=1)


def _times(rule: ThrottleRule, arrivals: list[float]) -> list[float]:
    throttle, times = Throttle(), []
    for now in arrivals:
        throttle, at = reserve(throttle, rule, now)
        times.append(at)
    return times


@pytest.mark.parametrize(
    ("arrivals", "spawned"),
    [
        ([10.0], [10.0]),
        ([10.0, 20.0], [10.0, 20.0]),
        # The second within the second adds a delta, and the third waits that long.
        ([10.0, 10.5, 10.6], [10.0, 10.5, 11.5]),
        # The third does not trigger it: half of it is left for the fourth.
        ([10.0, 10.0, 10.0, 10.0], [10.0, 10.0, 11.0, 11.5]),
    ],
)
def test_the_manuals_rule(arrivals: list[float], spawned: list[float]) -> None:
    assert _times(STRICT, arrivals) == spawned


def test_a_burst_passes_at_once() -> None:
    assert _times(ThrottleRule(burst=100), [5.0] * 101) == [5.0] * 101
    assert _times(ThrottleRule(burst=100), [5.0] * 102)[-1] == 6.0


def test_the_throttle_halves_to_nothing() -> None:
    throttle = Throttle(delta=4.0)
    for now in range(10, 40, 10):
        throttle, _ = reserve(throttle, STRICT, float(now))
    assert throttle.delta == 0.5


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=200).map(sorted), st.integers(1, 5))
def test_within_any_second_no_more_than_the_burst_and_one(arrivals: list[float], burst: int) -> None:
    times = _times(ThrottleRule(delta=1.0, burst=burst), arrivals)
    assert all(at >= now for at, now in zip(times, arrivals, strict=True))
    assert times == sorted(times), "the first to come is the first to go"
    for start in times:
        # One window may end and the next begin within any one second.
        assert sum(start <= at < start + 1.0 for at in times) <= 2 * (burst + 1)


@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=200).map(sorted),
    st.integers(1, 20),
    st.sampled_from([0.125, 0.5, 1.0, 5.0]),
)
def test_spawns_within_any_window_stay_within_the_budget(arrivals: list[float], burst: int, delta: float) -> None:
    times = _times(ThrottleRule(delta=delta, burst=burst), arrivals)
    for index, start in enumerate(times):
        for length in (1.0, 3.0, 10.0):
            spawned = sum(at < start + length for at in times[index:])
            # From the first spawn beyond the burst on, each within the same second waits for the delta at least; and
            # a window begins at the first spawn after the last one's end, so that n seconds meet n + 1 of them.
            assert spawned <= (int(length) + 1) * (burst + 1 + int(1.0 / delta))


@given(st.integers(1, 400), st.integers(1, 100), st.sampled_from([0.0, 0.25, 1.0]))
def test_nobody_starves_in_a_crowd(crowd: int, burst: int, delta: float) -> None:
    rule = ThrottleRule(delta=delta, burst=burst, longest=5.0)
    times = _times(rule, [10.0] * crowd)
    assert times == sorted(times)
    assert all(later - earlier <= rule.longest for earlier, later in itertools.pairwise(times))


def test_a_thousand_at_once_are_through_in_twenty_seconds_by_default() -> None:
    times = _times(ThrottleRule(), [0.0] * 1000)
    assert 15.0 < times[-1] < 20.0


@given(st.lists(st.floats(0.001, 500), min_size=1, max_size=60), st.floats(0.001, 400), st.floats(0, 60))
def test_the_blacklists_wait_only_grows_and_ends(gaps: list[float], longest: float, delta: float) -> None:
    rule, entry, now, before = BlacklistRule(delta=delta, longest=longest), None, 0.0, 0.0
    for gap in gaps:
        now += gap
        entry = after_death(entry, rule, now)
        assert entry is not None and before <= entry.throttle <= longest
        assert entry.next_try == now + entry.throttle
        before = entry.throttle


def test_the_first_death_waits_three_seconds() -> None:
    assert after_death(None, BlacklistRule(), 10.0) == BlacklistEntry(1, 10.0, 10.0, 3.0, 13.0)


def test_each_further_death_adds_the_delta_up_to_the_limit() -> None:
    rule, entry, waits = BlacklistRule(first=3.0, delta=1.0, longest=5.5), None, []
    for now in (10.0, 20.0, 30.0, 40.0, 50.0):
        entry = after_death(entry, rule, now)
        assert entry is not None
        waits.append(entry.throttle)
    assert waits == [3.0, 4.0, 5.0, 5.5, 5.5]
    assert entry is not None and (entry.attempts, entry.first_attempt, entry.last_attempt) == (5, 10.0, 50.0)


def test_it_can_be_turned_off() -> None:
    assert after_death(None, BlacklistRule(enabled=False), 10.0) is None
