"""What people see of the sources, with a real Emperor: `get monitors`, and the list of kinds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from e2e.harness import API, Emperor, command_path

Make = Callable[..., Emperor]
SLEEPER = ["sleep", "1000"]


def status(e: Emperor, number: int = 0) -> dict[str, Any]:
    """One source's status; sources are sorted by address."""
    found: dict[str, Any] = e.api("GET", f"{API}/monitors").body["items"][number]["status"]
    return found


def test_a_source_is_synced_and_says_when_it_can_not_be_read(emperor: Make) -> None:
    e = emperor(sources=[])
    missing = e.root / "later"
    e.sources = [str(e.vassals), str(missing), f"glob://{e.root}/sites/*/v.yaml"]
    e.manifest("shop", SLEEPER)
    e.start()
    e.wait_running("shop")
    e.wait_for(lambda: status(e, 1)["state"] == "Synced", what="the directory is synced")

    header, later, vassals, sites = e.cli("get", "monitors").stdout.splitlines()
    assert header.split() == ["NAME", "STATE", "WATCH", "VASSALS", "LAST", "SYNC", "LAST", "ERROR"]
    assert vassals.split()[:4] == [f"dir://{e.vassals}", "Synced", "inotify", "1"]
    assert vassals.split()[-1] == "<none>"
    assert later.split()[:2] == [f"dir://{missing}", "Unavailable"]
    assert "SourceMissing (" in later
    assert sites.split()[0] == f"glob://{e.root}/sites/*/v.yaml"

    missing.mkdir()
    e.wait_for(lambda: status(e, 0)["state"] == "Synced", what="the missing directory is synced")
    assert status(e, 0)["lastError"]["reason"] == "SourceMissing"

    parked = e.root / "parked"
    e.vassals.rename(parked)
    e.wait_for(lambda: status(e, 1)["state"] == "Unavailable", what="the directory is unavailable")
    assert status(e, 1)["vassals"] == 1
    assert e.phase("shop") == "Running"
    parked.rename(e.vassals)
    e.wait_for(lambda: status(e, 1)["state"] == "Synced", what="the directory is synced again")

    named = e.cli("get", "monitor", str(e.vassals), "-o", "json")
    assert json.loads(named.stdout)["metadata"]["name"] == f"dir://{e.vassals}"
    assert e.cli("get", "mon", "-o", "name").stdout.splitlines()[0] == f"monitor.emperor/dir://{missing}"
    wide = e.cli("get", "monitors", "-o", "wide").stdout.splitlines()
    assert wide[0].split()[-1] == "MESSAGE"
    assert "does not exist" in wide[1]
    absent = e.cli("get", "monitor", "nothing")
    assert (absent.returncode, absent.stdout) == (1, "")
    assert 'monitors "nothing" not found' in absent.stderr
    assert "only vassals can be watched" in e.cli("get", "monitors", "-w").stderr


def test_a_resync_is_seen_as_often_as_it_is_asked_for(emperor: Make) -> None:
    e = emperor("--emperor-freq=1").start()
    first = e.wait_for(lambda: status(e)["lastSync"], what="a first listing")
    e.wait_for(lambda: status(e)["lastSync"] > first, what="another listing")


def test_the_kinds_of_sources_are_listed_without_an_emperor() -> None:
    for option in ("--imperial-monitor-list", "--imperial-monitors-list"):
        done = subprocess.run([command_path("emperorctl"), "run", option], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.partition("://")[0] for line in done.stdout.splitlines()] == ["dir", "glob"]
