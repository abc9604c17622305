"""On demand: bound, asleep, woken, asleep again; with store, queue, plan and a fake host on virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emperorctl.models.observed import Signs
from emperorctl.models.sockets import OnDemand, Passing, parse_address
from emperorctl.models.source import FileReport
from emperorctl.models.vassal import Reload, ReloadMethod, Vassal
from emperorctl.reconciler.draft import Rules
from tests.fakes.vassals import native, report, uwsgi
from tests.reconciler.test_controller import Realm

WEB, OTHER = "127.0.0.1:8000", "127.0.0.1:9000"


def on_demand(*addresses: str, idle: float | None = None) -> OnDemand:
    return OnDemand(tuple(map(parse_address, addresses or (WEB,))), Passing.LISTEN_FDS, idle)


class Hall(Realm):
    """A realm whose vassals sleep."""

    def settle(self, vassal: Vassal | None = None, *, touch: int = 1, **changes: Any) -> None:
        vassal = vassal or native(on_demand=on_demand(), **changes)
        self.apply(report(vassal, file=vassal.file, touch=touch))

    def connect(self, name: str = "shop") -> None:
        self.host.sockets.connect(name)
        self.time.settle()

    def wake_up(self, name: str = "shop", *, loyal: bool = True) -> None:
        """A connection starts it, and it takes that connection."""
        self.connect(name)
        self.host.confirm(name, self.time.now)
        self.time.settle()
        self.host.sockets.accept(name)
        if loyal:
            self.time.advance(11.0)
        self.host.calls.clear()
        self.notes.clear()

    def end(self, name: str = "shop", **how: Any) -> None:
        self.host.exit(name, self.time.now, **how)
        self.time.settle()

    def ready(self, name: str = "shop") -> tuple[str, str]:
        record = self.controller.records[name]
        return record.phase, next(item.reason for item in record.conditions if item.type == "Ready")

    def launches(self) -> list[object]:
        return [call[2] for call in self.host.calls if call[0] == "launch"]


def test_a_fresh_one_listens_and_sleeps() -> None:
    hall = Hall()
    hall.settle()
    assert hall.host.calls == []
    assert hall.host.sockets.calls == [("listen", "shop", WEB), ("watch", "shop")]
    assert hall.ready() == ("OnDemand", "Asleep")
    assert hall.time.next_timer() is None, "a sleeping vassal costs no timer"
    progressing = next(item for item in hall.controller.records["shop"].conditions if item.type == "Progressing")
    assert progressing.status == "False"


def test_the_first_connection_starts_it() -> None:
    hall = Hall()
    hall.settle()
    hall.connect()
    assert hall.launches() == [1]
    assert ("shop", "Demanded") in hall.notes
    hall.host.confirm("shop", hall.time.now)
    hall.time.settle()
    assert hall.ready()[0] == "Running"


def test_a_sleeping_one_is_free_of_the_throttle() -> None:
    hall = Hall()
    vassals = [native(f"v{number}", on_demand=on_demand(f"@{number}")) for number in range(300)]
    hall.apply(*(report(vassal, file=vassal.file) for vassal in vassals))
    assert {record.phase for record in hall.controller.records.values()} == {"OnDemand"}
    assert hall.controller.throttle_level() == 0.0


@pytest.mark.parametrize("loyal", [True, False])
def test_exit_code_0_is_going_to_sleep(loyal: bool) -> None:
    hall = Hall()
    hall.settle()
    hall.wake_up(loyal=loyal)
    hall.end(code=0)
    assert hall.launches() == [] and hall.ready() == ("OnDemand", "Asleep")
    assert hall.controller.records["shop"].memory.blacklist is None
    hall.connect()
    assert hall.launches() == [2]
    assert hall.controller.records["shop"].memory.respawns == 0, "waking is no restart"


def test_a_loyal_one_that_crashes_sleeps_until_it_is_needed() -> None:
    hall = Hall()
    hall.settle()
    hall.wake_up()
    hall.end(signal=11)
    assert hall.launches() == [] and hall.ready() == ("OnDemand", "Asleep")
    assert ("shop", "Died") in hall.notes
    hall.connect()
    assert hall.launches() == [2]


def test_a_loyal_one_that_crashes_with_a_connection_waiting_is_started_at_once() -> None:
    hall = Hall()
    hall.settle()
    hall.wake_up()
    hall.connect()
    hall.end(signal=9)
    assert hall.launches() == [2]
    assert hall.controller.records["shop"].memory.respawns == 1


@pytest.mark.parametrize("how", [{"code": 0}, {"code": 1}, {"signal": 9}])
def test_one_that_ends_without_accepting_is_blacklisted_and_not_watched(how: dict[str, int]) -> None:
    hall = Hall()
    hall.settle()
    hall.connect()
    starts = []
    for number in range(1, 5):
        hall.host.confirm("shop", hall.time.now)
        hall.time.settle()
        hall.host.sockets.calls.clear()
        hall.end(**how)
        assert hall.ready() == ("Blacklisted", "Blacklisted")
        assert hall.host.sockets.calls == [], "nobody looks at its sockets meanwhile"
        before = hall.time.now
        while len(hall.launches()) == number:
            hall.time.advance(0.5)
        starts.append(round(hall.time.now - before))
    assert starts == [3, 4, 5, 6]


def test_one_that_fails_unasked_sleeps_when_its_time_is_over() -> None:
    hall = Hall()
    hall.settle()
    hall.wake_up(loyal=False)
    hall.end(code=1)
    assert hall.ready() == ("Blacklisted", "Blacklisted")
    hall.time.advance(3.1)
    assert hall.ready() == ("OnDemand", "Asleep") and hall.launches() == []


def test_byte_22_means_back_to_waiting() -> None:
    hall = Hall()
    hall.settle(replace(uwsgi(), on_demand=OnDemand((parse_address(WEB),))))
    hall.wake_up("shop.ini", loyal=False)
    hall.host.sign("shop.ini", Signs(spawned=hall.time.now, will=hall.time.now))
    hall.time.settle()
    assert hall.host.calls == [("tell", "shop.ini", 1, 0)]
    hall.end("shop.ini", code=0)
    assert hall.ready("shop.ini") == ("OnDemand", "Asleep")
    assert hall.controller.records["shop.ini"].memory.blacklist is None
    hall.connect("shop.ini")
    assert hall.launches() == [2]


def test_byte_22_of_one_that_never_accepted_is_held_against_it() -> None:
    hall = Hall()
    hall.settle(replace(uwsgi(), on_demand=OnDemand((parse_address(WEB),))))
    hall.connect("shop.ini")
    hall.host.confirm("shop.ini", hall.time.now)
    hall.host.sign("shop.ini", Signs(spawned=hall.time.now, will=hall.time.now))
    hall.time.settle()
    hall.end("shop.ini", code=0)
    assert hall.ready("shop.ini") == ("Blacklisted", "Blacklisted")


def test_an_idle_one_is_stopped_and_sleeps() -> None:
    hall = Hall()
    hall.settle(native(on_demand=on_demand(idle=60.0)))
    hall.wake_up()
    hall.time.advance(75.0)
    assert hall.host.calls == [("signal", "shop", 1, 15)]
    assert ("shop", "Idle") in hall.notes
    hall.end(code=0)
    assert hall.ready() == ("OnDemand", "Asleep")


def test_one_with_open_connections_is_left_alone_and_seldom_looked_at() -> None:
    hall = Hall()
    hall.settle(native(on_demand=on_demand(idle=60.0)))
    hall.wake_up()
    hall.host.sockets.open["shop"] = 3
    hall.host.sockets.calls.clear()
    hall.time.advance(600.0)
    assert hall.host.calls == []
    assert len([call for call in hall.host.sockets.calls if call[0] == "count"]) <= 20
    hall.host.sockets.open["shop"] = 0
    hall.time.advance(95.0)
    assert hall.host.calls[0] == ("signal", "shop", 1, 15)


def test_where_connections_cannot_be_counted_nothing_is_stopped() -> None:
    hall = Hall()
    hall.host.sockets.open["shop"] = None
    hall.settle(native(on_demand=on_demand(idle=60.0)))
    hall.wake_up()
    hall.time.advance(1000.0)
    assert hall.host.calls == []
    assert hall.notes.count(("shop", "IdleUnknown")) == 1


def test_a_reload_keeps_a_running_one_awake_and_a_sleeping_one_asleep() -> None:
    hall = Hall()
    hall.settle()
    hall.settle(touch=2)
    assert hall.host.calls == [] and hall.ready() == ("OnDemand", "Asleep")
    hall.wake_up()
    hall.settle(touch=3)
    assert hall.host.calls == [("signal", "shop", 1, 15)]
    hall.end(code=0)
    assert hall.launches() == [2]


def test_a_changed_address_of_a_sleeping_one_is_only_bound_anew() -> None:
    hall = Hall()
    hall.settle()
    hall.settle(native(on_demand=on_demand(OTHER)), touch=2)
    assert hall.host.calls == []
    assert ("listen", "shop", OTHER) in hall.host.sockets.calls and ("hush", "shop") not in hall.host.sockets.calls
    assert hall.ready() == ("OnDemand", "Asleep")
    assert hall.controller.records["shop"].memory.generation == 2


def test_a_changed_address_of_a_running_one_replaces_its_process() -> None:
    hall = Hall()
    hall.settle()
    hall.wake_up()
    hall.settle(native(on_demand=on_demand(OTHER)), touch=2)
    assert hall.host.calls == [("signal", "shop", 1, 15)]
    hall.end(code=0)
    assert hall.launches() == [2]
    assert hall.host.vassals["shop", 2].on_demand == on_demand(OTHER)


def test_settings_that_no_process_sees_replace_nothing() -> None:
    hall = Hall()
    hall.settle()
    hall.wake_up()
    hall.settle(native(on_demand=on_demand(idle=500.0)), touch=2)
    assert hall.host.calls == []


def test_a_running_one_stays_while_its_new_address_cannot_be_had() -> None:
    hall = Hall()
    hall.settle()
    hall.wake_up()
    hall.host.sockets.taken.add(OTHER)
    hall.settle(native(on_demand=on_demand(OTHER)), touch=2)
    hall.time.advance(100.0)
    assert hall.host.calls == []
    assert hall.notes.count(("shop", "AddressInUse")) == 1
    progressing = next(item for item in hall.controller.records["shop"].conditions if item.type == "Progressing")
    assert progressing.reason == "CannotListen" and "process 42" in progressing.message
    hall.host.sockets.taken.clear()
    hall.time.advance(31.0)
    assert hall.host.calls == [("signal", "shop", 1, 15)]


def test_an_address_in_use_is_a_condition_and_tried_again_more_and_more_seldom() -> None:
    hall = Hall()
    hall.host.sockets.taken.add(WEB)
    hall.settle()
    record = hall.controller.records["shop"]
    assert hall.ready() == ("Error", "CannotListen")
    assert "process 42 (other)" in record.conditions[1].message
    hall.time.advance(300.0)
    tries = len([call for call in hall.host.sockets.calls if call[0] == "listen"])
    assert 12 <= tries <= 16
    assert hall.notes.count(("shop", "AddressInUse")) == 1
    hall.host.sockets.taken.clear()
    hall.time.advance(31.0)
    assert hall.ready() == ("OnDemand", "Asleep")


def test_becoming_on_demand_and_ceasing_to_be() -> None:
    hall = Hall()
    hall.bring_up(native())
    hall.settle(native(on_demand=on_demand()), touch=2)
    assert hall.host.calls == [("signal", "shop", 1, 15)]
    hall.end(code=0)
    assert hall.launches() == [2]
    hall.host.confirm("shop", hall.time.now)
    hall.time.settle()
    hall.settle(native(), touch=3)
    assert ("hush", "shop") in hall.host.sockets.calls
    hall.end(code=0)
    assert hall.launches() == [2, 3]


def test_a_stopped_one_does_not_listen_and_a_removed_one_is_gone() -> None:
    hall = Hall()
    hall.settle()
    hall.store.suspend("shop", True)
    hall.time.settle()
    assert hall.host.sockets.kept == {} and hall.ready() == ("Suspended", "Suspended")
    hall.store.suspend("shop", False)
    hall.time.settle()
    assert hall.ready() == ("OnDemand", "Asleep")
    hall.apply(FileReport("/vassals/shop.yaml"))
    assert hall.host.sockets.kept == {} and hall.controller.records == {}


def test_at_the_end_of_the_emperor_sleeping_ones_only_close_their_sockets() -> None:
    hall = Hall()
    hall.settle()
    gone: list[bool] = []
    hall.controller.end(30.0, lambda: gone.append(True))
    hall.time.settle()
    assert gone == [True] and hall.host.sockets.kept == {} and hall.launches() == []


def test_exit_code_26_waits_for_a_person() -> None:
    hall = Hall()
    hall.settle()
    hall.wake_up()
    hall.end(code=26)
    hall.connect()
    hall.time.advance(500.0)
    assert hall.launches() == [] and hall.ready()[1] == "DoNotRespawn"
    hall.settle(touch=2)
    assert hall.launches() == [2]


def test_a_reload_by_signal_reaches_the_process_that_runs() -> None:
    hall = Hall()
    vassal = native(on_demand=on_demand(), reload=Reload(ReloadMethod.SIGNAL, 1))
    hall.settle(vassal)
    hall.wake_up()
    hall.settle(vassal, touch=2)
    assert hall.host.calls == [("signal", "shop", 1, 1)]


def test_the_blacklist_can_be_turned_off_for_them_too() -> None:
    from emperorctl.reconciler.blacklist import BlacklistRule

    hall = Hall(Rules(blacklist=BlacklistRule(enabled=False)))
    hall.settle()
    hall.connect()
    hall.host.confirm("shop", hall.time.now)
    hall.time.settle()
    hall.end(code=1)
    assert hall.launches() == [1, 2]
