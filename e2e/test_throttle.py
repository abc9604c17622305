"""The budgets with real processes: who waits, who does not, and that nobody is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from e2e.harness import API, Emperor

Make = Callable[..., Emperor]
SLEEP = ["sleep", "1000"]


def crowd(e: Emperor, count: int, command: list[str] = SLEEP) -> list[str]:
    """So many vassals that are loyal soon."""
    names = [f"v{number:03}" for number in range(count)]
    for name in names:
        e.manifest(name, command, loyalty={"after": "200ms"})
    return names


def phases(e: Emperor, names: list[str]) -> list[str]:
    objects = e.objects()
    return [objects[name]["status"]["phase"] for name in names if name in objects]


def test_the_first_listing_does_not_wait_and_later_ones_take_turns(emperor: Make) -> None:
    e = emperor("--emperor-throttle", "60000")
    warm = crowd(e, 20)
    e.start()
    e.wait_for(lambda: phases(e, warm) == ["Running"] * 20, what="the first listing runs")
    late = [f"late{number}" for number in range(4)]
    for name in late:
        e.manifest(name, SLEEP)
    e.wait_for(lambda: sorted(phases(e, late)) == ["Running"] * 2 + ["Throttled"] * 2, what="two wait for their turn")
    waiting = [name for name in late if e.phase(name) == "Throttled"]
    found = e.get(waiting[0])
    assert found is not None and found["status"]["throttledUntil"]
    assert "next try" in e.cli("describe", "vassal", waiting[0]).stdout
    assert "Throttled" in [event["reason"] for event in e.events(waiting[0])]
    # Nothing else waits meanwhile, and a person's word overrules it.
    (e.vassals / f"{warm[0]}.yaml").unlink()
    e.wait_absent(warm[0])
    os.utime(e.vassals / f"{warm[1]}.yaml")
    before = e.main_pid(warm[1])
    e.wait_running(warm[1], other_than=before)
    assert e.cli("reload", waiting[0]).returncode == 0
    e.wait_running(waiting[0])
    assert e.phase(waiting[1]) == "Throttled"


def test_a_crowd_that_is_killed_at_once_comes_back_whole(emperor: Make) -> None:
    e = emperor("--throttle-burst", "50")
    names = crowd(e, 120)
    e.start()
    e.wait_for(
        lambda: all(item["status"]["processes"] for item in e.objects().values()) and len(e.objects()) == 120,
        what="all run",
    )
    loyal = "Loyal", "True"
    e.wait_for(
        lambda: all(
            loyal in [(one["type"], one["status"]) for one in item["status"]["conditions"]]
            for item in e.objects().values()
        ),
        what="all are loyal",
    )
    pids = {name: item["status"]["processes"][0]["pid"] for name, item in e.objects().items()}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    e.wait_for(lambda: "Throttled" in phases(e, names), what="some wait")
    e.wait_for(lambda: phases(e, names) == ["Running"] * 120, what="all are back", timeout=60)
    objects = e.objects()
    assert [objects[name]["status"]["respawns"] for name in names] == [1] * 120
    assert not {item["status"]["processes"][0]["pid"] for item in objects.values()} & set(pids.values())
    assert len(e.processes()) == 121, "one process each, and the zygote"


def test_a_crowd_that_fails_does_not_hold_up_one_that_is_well(emperor: Make) -> None:
    e = emperor("--throttle-burst", "1", "--emperor-max-throttle", "4000")
    failing = crowd(e, 30, ["false"])
    e.manifest("well", SLEEP, loyalty={"after": "200ms"})
    e.start()
    pid = e.wait_running("well")
    e.wait_condition("well", "Loyal", "True")
    e.wait_for(lambda: phases(e, failing).count("Throttled") > 20, what="the crowd's retries take turns")
    os.kill(pid, signal.SIGKILL)
    e.wait_running("well", other_than=pid)
    assert phases(e, failing).count("Throttled") > 20
    assert e.objects()["well"]["status"]["blacklist"] is None


def test_without_a_blacklist_a_failing_one_is_started_again_at_once(emperor: Make) -> None:
    e = emperor("--emperor-no-blacklist", "--throttle-burst", "5").start()
    e.manifest("fails", ["false"])
    e.wait_for(lambda: (e.objects().get("fails") or {}).get("status", {}).get("respawns", 0) >= 5, what="five respawns")
    assert e.api("GET", f"{API}/blacklist").body["items"] == []
    assert e.objects()["fails"]["status"]["blacklist"] is None
