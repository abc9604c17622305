"""The tables are total, and say what the lifecycle's rules demand of them."""

from __future__ import annotations

from itertools import product

import pytest

from emperorctl.models.observed import LaunchState
from emperorctl.models.plan import State
from emperorctl.reconciler.lifecycle import FOLD, STEP, Change, Direction, Step


def test_every_state_meets_every_fact() -> None:
    assert set(FOLD) == set(product(State, LaunchState))


def test_every_state_meets_every_direction() -> None:
    assert set(STEP) == set(product(State, Direction))


@pytest.mark.parametrize("direction", Direction)
def test_nothing_is_started_beside_a_process(direction: Direction) -> None:
    for state in State:
        if state is not State.ABSENT:
            assert STEP[state, direction] is not Step.START


@pytest.mark.parametrize("state", [State.RUNNING, State.STOPPING, State.KILLING, State.STARTING])
def test_nothing_is_forgotten_while_a_process_may_live(state: State) -> None:
    assert all(STEP[state, direction] is not Step.FORGET for direction in Direction)


def test_a_stop_is_never_taken_back_before_the_process_is_gone() -> None:
    assert {STEP[State.STOPPING, direction] for direction in Direction} == {Step.AWAIT_STOP}
    assert {STEP[State.KILLING, direction] for direction in Direction} == {Step.AWAIT_DEATH}


def test_an_exit_ends_every_state_that_has_a_process() -> None:
    for state in (State.STARTING, State.RUNNING):
        assert FOLD[state, LaunchState.EXITED] is Change.DIE
    for state in (State.STOPPING, State.KILLING):
        assert FOLD[state, LaunchState.EXITED] is Change.END
