"""Store, queue, plan and a fake host together, on virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emperorctl.models.observed import Signs
from emperorctl.models.plan import Throttle
from emperorctl.models.source import FileReport
from emperorctl.models.status import Note
from emperorctl.models.vassal import Stop, Vassal
from emperorctl.reconciler.controller import Controller
from emperorctl.reconciler.desired import DesiredStore
from emperorctl.reconciler.plan import Rules
from emperorctl.reconciler.throttle import reserve
from tests.fakes.host import FakeHost
from tests.fakes.time import VirtualTime
from tests.fakes.vassals import change, native, report, uwsgi

RULES = Rules()


class Realm:
    """A controller with everything around it."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.time = VirtualTime()
        self.host = FakeHost()
        self.notes: list[tuple[str, str]] = []
        self.changed: list[str] = []
        self.forgotten: list[str] = []
        self.store = DesiredStore(self.wake, self.note)
        self.controller = Controller(self.store, self.host, self.time, self.time, rules)
        self.controller.note = self.note
        self.controller.changed = self.changed.append
        self.controller.forgotten = self.forgotten.append
        self.host.wake = self.controller.wake
        self.host.sockets.wake = self.controller.wake
        self.host.sockets.now = lambda: self.time.now

    def wake(self, name: str) -> None:
        self.controller.wake(name)

    def note(self, name: str, note: Note) -> None:
        self.notes.append((name, note.reason))

    def apply(self, *files: FileReport, complete: bool = False) -> None:
        self.store.apply(change(*files, complete=complete))
        self.time.settle()

    def bring_up(self, vassal: Vassal) -> None:
        """Have it running and loyal."""
        self.apply(report(vassal, file=vassal.file))
        self.host.confirm(vassal.name, self.time.now)
        self.time.advance(11.0)
        self.host.calls.clear()


def test_from_file_to_process_to_nothing() -> None:
    realm = Realm()
    realm.bring_up(native())
    assert realm.controller.records["shop"].phase == "Running"
    realm.apply(FileReport("/vassals/shop.yaml"))
    assert realm.host.calls == [("signal", "shop", 1, 15)]
    realm.host.exit("shop", realm.time.now, code=0)
    realm.time.settle()
    assert realm.host.calls[-1] == ("forget", "shop")
    assert realm.forgotten == ["shop"] and realm.controller.records == {}


def test_a_uwsgi_vassal_is_told_by_bytes() -> None:
    realm = Realm()
    realm.bring_up(uwsgi())
    realm.apply(report(uwsgi(content="b"), file="/vassals/shop.ini", digest="2", touch=2))
    realm.apply(FileReport("/vassals/shop.ini"))
    assert realm.host.calls == [("tell", "shop.ini", 1, 1), ("tell", "shop.ini", 1, 0)]


def test_a_kill_follows_when_grace_is_over() -> None:
    realm = Realm()
    realm.bring_up(native(stop=Stop(grace=2.0)))
    realm.apply(FileReport("/vassals/shop.yaml"))
    realm.time.advance(1.9)
    assert ("end", "shop", 1) not in realm.host.calls
    realm.time.advance(0.2)
    assert realm.host.calls[-1] == ("end", "shop", 1)
    assert ("shop", "GraceExceeded") in realm.notes


def test_nothing_is_armed_when_all_is_well() -> None:
    realm = Realm()
    realm.bring_up(native())
    assert realm.time.next_timer() is None


def test_the_resync_repairs_a_lost_event_and_else_costs_nothing() -> None:
    realm = Realm()
    realm.bring_up(native())
    realm.host.wake = lambda name: None
    realm.host.exit("shop", realm.time.now, signal=9)
    realm.time.settle()
    assert realm.host.calls == []
    realm.controller.resync()
    realm.time.settle()
    assert realm.host.calls == [("launch", "shop", 2)]
    realm.host.confirm("shop", realm.time.now)
    realm.controller.resync()
    realm.time.settle()
    changes = len(realm.changed)
    realm.controller.resync()
    realm.time.settle()
    assert len(realm.changed) == changes


def test_the_resync_finds_what_no_event_announced() -> None:
    realm = Realm()
    realm.store._wake = lambda name: None
    realm.apply(report(native()))
    assert realm.host.calls == []
    realm.controller.resync()
    realm.time.settle()
    assert realm.host.calls == [("launch", "shop", 1)]


def test_the_end_stops_all_and_says_when_it_is_done() -> None:
    realm = Realm()
    realm.bring_up(native("a"))
    realm.bring_up(native("b"))
    done: list[bool] = []
    realm.controller.end(30.0, lambda: done.append(True))
    realm.time.settle()
    realm.host.exit("a", realm.time.now, code=0)
    realm.time.settle()
    assert done == []
    realm.controller.end(0.0, lambda: done.append(True))
    realm.time.settle()
    assert realm.host.calls[-2:] == [("forget", "a"), ("end", "b", 1)]
    realm.host.exit("b", realm.time.now, signal=9)
    realm.time.settle()
    assert done == [True]


def test_an_end_with_nothing_running_is_at_once() -> None:
    done: list[bool] = []
    Realm().controller.end(30.0, lambda: done.append(True))
    assert done == [True]


def test_our_own_mistake_in_one_name_does_not_stop_the_others(caplog: object) -> None:
    realm = Realm()
    realm.changed.append("x")

    def explode(name: str) -> None:
        if name == "bad":
            raise RuntimeError("boom")

    realm.controller.changed = explode
    realm.apply(report(native("bad"), native("good")))
    assert ("launch", "good", 1) in realm.host.calls


def test_condition_times_change_with_the_status_alone() -> None:
    realm = Realm()
    realm.apply(report(native()))
    realm.host.confirm("shop", realm.time.now)
    realm.time.settle()
    stamps = dict(realm.controller.records["shop"].stamps)
    realm.time.advance(11.0)
    after = realm.controller.records["shop"].stamps
    assert after["Ready"] == stamps["Ready"] and after["Loyal"] > stamps["Loyal"]


def test_a_zerg_comes_when_called_and_is_not_started_again() -> None:
    realm = Realm(Rules(broodlord=1))
    realm.bring_up(uwsgi())
    realm.host.sign("shop.ini", Signs(spawned=1.0, loyal=1.0, reinforcements=1))
    realm.time.settle()
    assert realm.host.calls == [("launch", "shop.ini:zerg", 1)]
    realm.host.confirm("shop.ini:zerg", realm.time.now)
    realm.time.settle()
    realm.host.exit("shop.ini:zerg", realm.time.now, code=1)
    realm.time.advance(100.0)
    assert realm.forgotten == ["shop.ini:zerg"] and realm.store.zergs == 0
    realm.host.sign("shop.ini", Signs(spawned=1.0, loyal=1.0, reinforcements=2))
    realm.time.settle()
    assert realm.host.alive() == ["shop.ini", "shop.ini:zerg"]


def test_heartbeats_change_nothing_that_anybody_sees() -> None:
    realm = Realm()
    realm.bring_up(uwsgi())
    realm.host.sign("shop.ini", Signs(spawned=1.0, loyal=1.0, heartbeat=realm.time.now))
    realm.time.settle()
    realm.changed.clear()
    for _ in range(20):
        realm.host.observed["shop.ini"] = replace(
            realm.host.observed["shop.ini"], signs=Signs(spawned=1.0, loyal=1.0, heartbeat=realm.time.now)
        )
        realm.time.advance(10.0)
    assert realm.host.calls == [] and realm.changed == []
    realm.time.advance(40.0)
    assert realm.host.calls == [("tell", "shop.ini", 1, 1)]


def test_a_thousand_that_die_at_once_come_back_by_the_throttles_arithmetic() -> None:
    realm = Realm()
    names = [f"v{number}" for number in range(1000)]
    realm.apply(*(report(native(name), file=f"/vassals/{name}.yaml") for name in names), complete=True)
    for name in names:
        realm.host.confirm(name, realm.time.now)
    realm.time.advance(11.0)
    realm.host.calls.clear()
    died, due, throttle = realm.time.now, [], Throttle()
    for name in names:
        throttle, at = reserve(throttle, Rules().throttle, died)
        due.append(at)
        realm.host.exit(name, died, signal=9)
    launched: dict[str, float] = {}
    for at in sorted(set(due)):
        realm.time.advance(at - realm.time.now)
        launched |= {str(call[1]): realm.time.now for call in realm.host.calls if call[1] not in launched}
    assert sorted(launched.values()) == pytest.approx(due)
    assert [call[0] for call in realm.host.calls] == ["launch"] * 1000
    assert sorted(str(call[1]) for call in realm.host.calls) == sorted(names), "none twice, none lost"


def test_a_graceful_stop_has_a_byte_of_its_own() -> None:
    realm = Realm()
    vassal = uwsgi()
    realm.bring_up(replace(vassal, stop=replace(vassal.stop, graceful=True)))
    realm.apply(report(file=vassal.file))
    assert realm.host.calls == [("tell", "shop.ini", 1, 2)]


def test_a_config_that_travels_is_ready_before_the_vassal_is_told_to_reload() -> None:
    realm = Realm()
    first = uwsgi("shop.ini")
    first = replace(first, launch=replace(first.launch, config_pipe=True), config=b"one", content="1")
    realm.bring_up(first)
    realm.apply(report(replace(first, config=b"two", content="2"), file=first.file))
    assert realm.host.calls == [("configure", "shop.ini", 1, b"two"), ("tell", "shop.ini", 1, 1)]


def test_an_index_is_lent_until_nothing_is_left_of_a_vassal() -> None:
    realm = Realm()
    for name in ("a", "b", "c"):
        realm.bring_up(native(name))
    assert realm.host.indexes == {"a": 0, "b": 1, "c": 2}
    realm.apply(FileReport(native("b").file))
    realm.bring_up(native("d"))
    assert realm.host.indexes["d"] == 3, "b is not gone yet"
    realm.host.exit("b", realm.time.now, code=0)
    realm.time.settle()
    assert "b" not in realm.controller.records
    realm.bring_up(native("e"))
    assert realm.host.indexes["e"] == 1
