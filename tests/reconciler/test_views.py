"""The object of a vassal, from its record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emperorctl.models.late import LATE
from emperorctl.models.observed import Exit, LaunchFailure, LaunchState, Observed, Process, Signs
from emperorctl.models.plan import BlacklistEntry, Memory
from emperorctl.reconciler.controller import Record
from emperorctl.reconciler.views import vassal_object
from tests.fakes.vassals import desired, native

WALL = 1_795_489_200.0
"""2026-11-24T03:00:00Z, when the monotonic clock said 1000."""


class Clocks:
    def monotonic(self) -> float:
        return 1000.0

    def wall(self) -> float:
        return WALL


def status(memory: Memory, signs: Signs | None = None) -> dict[str, Any]:
    observed = Observed(1, signs=signs or Signs())
    record = Record(memory, desired(), observed, phase="Pending", born=WALL)
    beat = observed.signs.heartbeat
    found: dict[str, Any] = vassal_object("shop", record, Clocks(), heartbeat=beat)["status"]
    return found


def test_what_never_happened_is_there_and_says_so() -> None:
    found = status(Memory())
    for key in ("throttledUntil", "lastHeartbeat", "firstRun", "lastRun", "blacklist", "lastExit", "lastReload"):
        assert found[key] is None, key
    assert (found["message"], found["zergOf"], found["reloads"]) == ("", "", 0)


def test_budgets_and_signs_in_wall_time() -> None:
    memory = Memory(throttled_until=1003.5, first_run=400.0, last_run=990.0, reloads=4)
    found = status(memory, Signs(heartbeat=999.0, status="3 of 4 workers"))
    assert found["throttledUntil"] == "2026-11-24T03:00:03Z"
    assert found["firstRun"] == "2026-11-24T02:50:00Z"
    assert found["lastRun"] == "2026-11-24T02:59:50Z"
    assert found["lastHeartbeat"] == "2026-11-24T02:59:59Z"
    assert found["message"] == "3 of 4 workers"
    assert found["reloads"] == 4


def test_a_zerg_names_whom_it_reinforces() -> None:
    record = Record(Memory(), desired(replace(native("shop-1"), zerg_of="shop")), phase="Pending", born=WALL)
    assert vassal_object("shop-1", record, Clocks())["status"]["zergOf"] == "shop"


def test_an_entry_of_the_blacklist_says_how_the_last_try_ended() -> None:
    entry = BlacklistEntry(2, 990.0, 998.0, 4.0, 1002.0)
    died = status(Memory(blacklist=entry, last_exit=Exit(998.0, signal=9)))
    assert died["blacklist"] == {
        "attempts": 2,
        "firstAttempt": "2026-11-24T02:59:50Z",
        "lastAttempt": "2026-11-24T02:59:58Z",
        "throttle": 4.0,
        "nextTry": "2026-11-24T03:00:02Z",
        "lastExit": {
            "signal": 9,
            "reason": "Signaled",
            "message": "killed by SIGKILL",
            "at": "2026-11-24T02:59:58Z",
        },
    }
    failure = LaunchFailure(998.0, "execve", 2, "CommandNotFound", "no such command", "install it")
    failed = status(Memory(blacklist=entry, last_failure=failure))
    assert failed["blacklist"]["lastExit"] == failed["lastExit"]
    assert failed["blacklist"]["lastExit"]["reason"] == "CommandNotFound"


def test_what_is_only_known_of_a_process_is_shown_once_there_is_one() -> None:
    spec = {"command": ["a", f"{LATE['vassal.index']}:{LATE['vassal.uid']}"]}
    vassal = replace(native("shop"), spec=spec, late=True, origins=(("spec.command", ":4"), ("spec.stop", "default")))
    record = Record(Memory(), desired(vassal), phase="Pending", born=WALL, index=7)
    found = vassal_object("shop", record, Clocks())
    assert found["spec"]["command"] == ["a", "7:%(vassal.uid)"]
    assert found["status"]["index"] == 7
    assert found["status"]["origins"] == {"spec.command": f"{vassal.file}:4", "spec.stop": "default"}
    record.observed = Observed(1, LaunchState.ALIVE, Process(1, 2, 33, 44, 900.0))
    assert vassal_object("shop", record, Clocks())["spec"]["command"] == ["a", "7:33"]
