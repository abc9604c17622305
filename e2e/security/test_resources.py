"""Limits on all that a vassal starts, where this host has the controllers: on cgroup v2 or on v1."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.harness import Emperor, alive
from emperorctl.reconciler.runtime import cgroups, controllers

PYTHON = ["/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable, "-I", "-S", "-c"]
BOMB = """
import os, time
while True:
    try:
        os.fork()
    except OSError as error:
        print(error, flush=True)
        time.sleep(60)
"""
NOBODY = 65534


def needs(kind: str) -> None:
    """Skip where no controller for this can be had."""
    place = cgroups.find_place()
    if kind in controllers.controllers_v2(place):
        assert place is not None
        if kind in Path(f"{place.directory}/cgroup.subtree_control").read_text().split():
            return
        if controllers.delegated(place.directory):
            return
    if kind not in controllers.hierarchies():
        pytest.skip(f"no {kind} controller here that these tests may use")


def groups_of(pid: int) -> set[str]:
    """The paths of all cgroups that a process is in."""
    return {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}


@pytest.mark.as_root
def test_a_fork_bomb_stays_within_its_pids(emperor: Callable[..., Emperor]) -> None:
    needs("pids")
    court = emperor().start()
    court.manifest("bomb", [*PYTHON, BOMB], user=str(NOBODY), resources={"limits": {"pids": 20}})
    court.manifest("calm", ["sleep", "1000"])
    court.wait_running("bomb")
    court.wait_for(lambda: "temporarily unavailable" in court.cli("logs", "bomb").stdout, what="fork fails")
    court.wait_running("calm")
    # Refused as often as it likes to try, and never more than twenty.
    assert len([one for one in court.processes() if one.uids().real == NOBODY]) <= 20
    usage = court.cli("describe", "vassal", "bomb").stdout
    assert "pids of 20" in usage, usage
    (court.vassals / "bomb.yaml").unlink()
    court.wait_absent("bomb")
    assert not [one for one in court.processes() if one.uids().real == NOBODY]


@pytest.mark.as_root
def test_an_oom_kill_is_called_by_its_name(emperor: Callable[..., Emperor]) -> None:
    needs("memory")
    court = emperor("--emperor-throttle", "100").start()
    eater = "import time; time.sleep(0.3); held = [bytearray(1 << 20) for _ in range(400)]; time.sleep(1000)"
    court.manifest("eater", [*PYTHON, eater], resources={"limits": {"memory": "48Mi"}})

    def killed() -> bool:
        found = court.get("eater")
        return bool(found) and (found["status"]["lastExit"] or {}).get("reason") == "OOMKilled"

    court.wait_for(killed, what="the last exit is OOMKilled")
    last = court.get("eater")["status"]["lastExit"]  # type: ignore[index]
    assert (last["signal"], last["message"]) == (9, "killed by SIGKILL: out of memory, its limit is 48Mi")
    assert "OOMKilled: killed by SIGKILL" in court.cli("describe", "vassal", "eater").stdout
    court.wait_phase("eater", "Blacklisted", "OOMKilled")
    entries = court.cli("get", "blacklist", "-o", "json").stdout
    assert "OOMKilled" in entries, entries


@pytest.mark.as_root
def test_other_limits_hold_at_once_and_new_kinds_with_a_new_process(emperor: Callable[..., Emperor]) -> None:
    needs("memory")
    needs("pids")
    court = emperor().start()

    def limit(**limits: object) -> None:
        court.manifest("a", ["sleep", "1000"], resources={"limits": limits})

    def limit_is(text: str) -> Callable[[], bool]:
        return lambda: text in court.cli("describe", "vassal", "a").stdout

    limit(memory="64Mi")
    first = court.wait_running("a")
    assert court.wait_condition("a", "Limited", "True")["reason"] == "Enforced"
    limit(memory="128Mi")
    court.wait_for(lambda: any(event["reason"] == "LimitsChanged" for event in court.events("a")), what="applied")
    court.wait_for(limit_is("memory of 128Mi"), what="the new limit is shown")
    assert court.main_pid("a") == first
    assert memory_limit(first) == 128 << 20
    limit(memory="32Mi")
    court.wait_for(lambda: memory_limit(first) == 32 << 20, what="a lower limit holds for what runs")
    limit(memory="32Mi", pids=5)
    second = court.wait_running("a", other_than=first)
    assert memory_limit(second) == 32 << 20
    limit()
    court.wait_for(lambda: memory_limit(second) > 1 << 60, what="no limit holds any more")
    assert court.main_pid("a") == second


def memory_limit(pid: int) -> int:
    """The limit of the cgroup that counts this process's memory, in bytes."""
    (place,) = [where for where in directories_of(pid) if where.name.isdigit() and has_memory(where)]
    v2 = place / "memory.max"
    text = (v2 if v2.exists() else place / "memory.limit_in_bytes").read_text().strip()
    return 1 << 62 if text == "max" else int(text)


def has_memory(place: Path) -> bool:
    return (place / "memory.max").exists() or (place / "memory.limit_in_bytes").exists()


def directories_of(pid: int) -> list[Path]:
    """The cgroups of this process, as directories of hierarchies that we may write to."""
    place = cgroups.find_place()
    roots = [Path(root) for root in controllers.hierarchies().values()]
    roots += [Path(place.directory)] if place is not None else []
    ends = {"/".join(path.rsplit("/", 2)[1:]) for path in groups_of(pid)}
    return [root / end for root in roots for end in ends if (root / end).is_dir() and end]


@pytest.mark.as_root
def test_hooks_are_held_to_the_same_limits(emperor: Callable[..., Emperor]) -> None:
    needs("pids")
    court = emperor().start()
    court.traceback_expected = True
    forks = "import os, time\nfor _ in range(30):\n    if os.fork() == 0:\n        time.sleep(60)"
    court.manifest(
        "a",
        ["sleep", "1000"],
        hooks={"preStart": [{"command": [*PYTHON, forks]}]},
        resources={"limits": {"pids": 10}},
    )
    court.wait_condition("a", "Ready", "False")
    court.wait_for(
        lambda: "BlockingIOError" in str(court.condition("a", "Ready")), what="the hook could not fork so often"
    )


@pytest.mark.as_root
def test_nothing_of_the_cgroups_stays(emperor: Callable[..., Emperor]) -> None:
    needs("memory")
    court = emperor().start()
    court.manifest("a", ["sh", "-c", "setsid sleep 1000 & sleep 1000"], resources={"limits": {"memory": "64Mi"}})
    pid = court.wait_running("a")
    where = [place for place in directories_of(pid) if place.parent.name.startswith("emperorctl-")]
    assert where
    (court.vassals / "a.yaml").unlink()
    court.wait_absent("a")
    court.wait_for(lambda: not any(place.exists() for place in where), what="its cgroups are gone")
    court.manifest("b", ["sleep", "1000"], resources={"limits": {"memory": "64Mi"}})
    pid = court.wait_running("b")
    where = [place.parent for place in directories_of(pid) if place.parent.name.startswith("emperorctl-")]
    court.kill()
    court.household.spawn(["true"]).wait()
    wait_gone(court, pid, where)


def wait_gone(court: Emperor, pid: int, where: list[Path]) -> None:
    from e2e.harness import wait_for

    wait_for(lambda: not alive(pid), what="the vassal is gone with its Emperor")
    wait_for(lambda: not any(place.exists() for place in where), what="so are its cgroups")


def test_what_cannot_be_enforced_is_refused_or_said(emperor: Callable[..., Emperor]) -> None:
    if "io" in controllers.controllers_v2(cgroups.find_place()):
        pytest.skip("this host shares out its disks")
    court = emperor().start()
    court.manifest("strict", ["sleep", "1000"], resources={"limits": {"ioWeight": 50}})
    court.manifest("easy", ["sleep", "1000"], resources={"limits": {"ioWeight": 50}, "required": False})
    court.wait_running("easy")
    limited = court.wait_condition("easy", "Limited", "False")
    assert limited["reason"] == "NotEnforced" and "limit io" in limited["message"]
    assert "Why:" in court.cli("describe", "vassal", "easy").stdout
    ready = court.wait_condition("strict", "Ready", "False")
    court.wait_for(lambda: "its limits can't be enforced" in str(court.condition("strict", "Ready")))
    assert court.get("strict")["status"]["lastExit"]["reason"] == "LimitNotEnforced", ready  # type: ignore[index]
    assert court.main_pid("strict") is None


def test_the_kernel_would_rather_take_a_vassal_than_the_emperor(emperor: Callable[..., Emperor]) -> None:
    court = emperor().start()
    court.manifest("a", ["sleep", "1000"])
    pid = court.wait_running("a")

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    assert score(court.pid) < score(pid)
    others = [one.pid for one in court.processes() if one.name() == "emperor-zygote"]
    assert others and all(score(other) < score(pid) for other in others)
