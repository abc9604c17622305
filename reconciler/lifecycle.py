"""The lifecycle of a vassal's process, as two total tables. Pure.

First a fact about the latest launch is folded into the remembered state (`FOLD`), then the state and the
direction in which the world should move give the next step (`STEP`). Every cell is written out, no-ops too.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from emperorctl.models.observed import LaunchState
from emperorctl.models.plan import State

__all__ = ["FOLD", "STEP", "Change", "Direction", "Step"]


class Change(StrEnum):
    """What a fact does to the remembered state."""

    STAY = "Stay"
    CONFIRM = "Confirm"  # the ordered process is there
    FAIL = "Fail"  # the launch never became the program
    DIE = "Die"  # it went away by itself
    END = "End"  # it went away as it was told
    ORPHAN = "Orphan"  # a process that nobody remembers ordering


class Direction(StrEnum):
    """Where the world should go, seen from what runs."""

    KEEP = "Keep"  # as it is (or: start it, if it is not there)
    RELOAD = "Reload"  # same process, read everything again
    REPLACE = "Replace"  # another process
    REST = "Rest"  # stay known, do not run
    REMOVE = "Remove"  # not wanted any more


class Step(StrEnum):
    """What the plan does next."""

    START = "Start"
    WATCH = "Watch"
    RELOAD = "Reload"
    STOP = "Stop"
    AWAIT_LAUNCH = "AwaitLaunch"
    AWAIT_STOP = "AwaitStop"
    AWAIT_DEATH = "AwaitDeath"
    REST = "Rest"
    FORGET = "Forget"


FOLD: Mapping[tuple[State, LaunchState], Change] = {
    (State.ABSENT, LaunchState.NONE): Change.STAY,
    (State.ABSENT, LaunchState.LAUNCHING): Change.ORPHAN,
    (State.ABSENT, LaunchState.ALIVE): Change.ORPHAN,
    (State.ABSENT, LaunchState.EXITED): Change.STAY,
    (State.ABSENT, LaunchState.FAILED): Change.STAY,
    (State.STARTING, LaunchState.NONE): Change.DIE,
    (State.STARTING, LaunchState.LAUNCHING): Change.STAY,
    (State.STARTING, LaunchState.ALIVE): Change.CONFIRM,
    (State.STARTING, LaunchState.EXITED): Change.DIE,
    (State.STARTING, LaunchState.FAILED): Change.FAIL,
    (State.RUNNING, LaunchState.NONE): Change.DIE,
    (State.RUNNING, LaunchState.LAUNCHING): Change.STAY,
    (State.RUNNING, LaunchState.ALIVE): Change.STAY,
    (State.RUNNING, LaunchState.EXITED): Change.DIE,
    (State.RUNNING, LaunchState.FAILED): Change.FAIL,
    (State.STOPPING, LaunchState.NONE): Change.END,
    (State.STOPPING, LaunchState.LAUNCHING): Change.STAY,
    (State.STOPPING, LaunchState.ALIVE): Change.STAY,
    (State.STOPPING, LaunchState.EXITED): Change.END,
    (State.STOPPING, LaunchState.FAILED): Change.END,
    (State.KILLING, LaunchState.NONE): Change.END,
    (State.KILLING, LaunchState.LAUNCHING): Change.STAY,
    (State.KILLING, LaunchState.ALIVE): Change.STAY,
    (State.KILLING, LaunchState.EXITED): Change.END,
    (State.KILLING, LaunchState.FAILED): Change.END,
}

STEP: Mapping[tuple[State, Direction], Step] = {
    (State.ABSENT, Direction.KEEP): Step.START,
    (State.ABSENT, Direction.RELOAD): Step.START,
    (State.ABSENT, Direction.REPLACE): Step.START,
    (State.ABSENT, Direction.REST): Step.REST,
    (State.ABSENT, Direction.REMOVE): Step.FORGET,
    (State.STARTING, Direction.KEEP): Step.AWAIT_LAUNCH,
    (State.STARTING, Direction.RELOAD): Step.AWAIT_LAUNCH,
    (State.STARTING, Direction.REPLACE): Step.AWAIT_LAUNCH,
    (State.STARTING, Direction.REST): Step.AWAIT_LAUNCH,
    (State.STARTING, Direction.REMOVE): Step.AWAIT_LAUNCH,
    (State.RUNNING, Direction.KEEP): Step.WATCH,
    (State.RUNNING, Direction.RELOAD): Step.RELOAD,
    (State.RUNNING, Direction.REPLACE): Step.STOP,
    (State.RUNNING, Direction.REST): Step.STOP,
    (State.RUNNING, Direction.REMOVE): Step.STOP,
    (State.STOPPING, Direction.KEEP): Step.AWAIT_STOP,
    (State.STOPPING, Direction.RELOAD): Step.AWAIT_STOP,
    (State.STOPPING, Direction.REPLACE): Step.AWAIT_STOP,
    (State.STOPPING, Direction.REST): Step.AWAIT_STOP,
    (State.STOPPING, Direction.REMOVE): Step.AWAIT_STOP,
    (State.KILLING, Direction.KEEP): Step.AWAIT_DEATH,
    (State.KILLING, Direction.RELOAD): Step.AWAIT_DEATH,
    (State.KILLING, Direction.REPLACE): Step.AWAIT_DEATH,
    (State.KILLING, Direction.REST): Step.AWAIT_DEATH,
    (State.KILLING, Direction.REMOVE): Step.AWAIT_DEATH,
}
