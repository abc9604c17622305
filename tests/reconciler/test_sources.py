"""What is known of each source."""

from __future__ import annotations

from typing import Any

from emperorctl.models.errors import Problem
from emperorctl.models.source import Trouble
from emperorctl.reconciler.desired import DesiredStore
from emperorctl.reconciler.sources import Sources
from tests.fakes.emperor import BORN, SetClock
from tests.fakes.vassals import SOURCE, change, native, report

MISSING = Problem("SourceMissing", "does not exist", "create the directory", file="/vassals")


class Ledger:
    """Two sources, of which one speaks."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.store = DesiredStore(lambda name: None, lambda name, note: None)
        self.sources = Sources(self.store, self.clock)
        self.sources.add(SOURCE, lambda: "inotify", "/v")
        self.sources.add("glob:///srv/*/v.ini", lambda: "poll", "/srv")

    def status(self, index: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.sources.objects()[index]["status"]
        return found


def test_before_anything_was_said() -> None:
    ledger = Ledger()
    assert [one["metadata"]["name"] for one in ledger.sources.objects()] == [SOURCE, "glob:///srv/*/v.ini"]
    assert ledger.status(1) == {
        "state": "Listing",
        "watch": "poll",
        "vassals": 0,
        "workingDir": "/srv",
        "lastSync": None,
        "lastError": None,
    }


def test_a_source_is_synced_once_it_was_listed_whole() -> None:
    ledger = Ledger()
    ledger.sources.apply(change(report(native("a"), file="/v/a")))
    assert (ledger.status()["state"], ledger.status()["vassals"]) == ("Listing", 1)
    ledger.clock.now = BORN + 5
    ledger.sources.apply(change(report(native("a"), file="/v/a"), report(native("b"), file="/v/b"), complete=True))
    assert ledger.status() == {
        "state": "Synced",
        "watch": "inotify",
        "vassals": 2,
        "workingDir": "/v",
        "lastSync": "2026-11-24T03:00:05Z",
        "lastError": None,
    }
    assert ledger.store.names() == ["a", "b"]


def test_trouble_is_told_with_its_time_and_remembered_when_it_is_over() -> None:
    ledger = Ledger()
    ledger.sources.apply(change(report(native("a")), complete=True))
    ledger.clock.now = BORN + 60
    ledger.sources.apply(Trouble(SOURCE, MISSING))
    error = {
        "reason": "SourceMissing",
        "message": "/vassals: does not exist (create the directory)",
        "at": "2026-11-24T03:01:00Z",
    }
    status = ledger.status()
    assert (status["state"], status["vassals"], status["lastSync"]) == ("Unavailable", 1, "2026-11-24T03:00:00Z")
    assert status["lastError"] == error
    ledger.sources.apply(Trouble(SOURCE, None))
    assert (ledger.status()["state"], ledger.status()["lastError"]) == ("Synced", error)


def test_a_source_that_was_never_listed_goes_back_to_listing() -> None:
    ledger = Ledger()
    ledger.sources.failed(SOURCE, MISSING)
    assert ledger.status()["state"] == "Unavailable"
    ledger.sources.apply(Trouble(SOURCE, None))
    assert ledger.status()["state"] == "Listing"


def test_a_source_named_twice_is_one() -> None:
    ledger = Ledger()
    ledger.sources.apply(change(report(native("a")), complete=True))
    ledger.sources.add(SOURCE, lambda: "poll")
    assert ledger.status()["watch"] == "inotify"
    assert len(ledger.sources.objects()) == 2
