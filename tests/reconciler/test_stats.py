"""The statistics document: from records and facts to the members that uWSGI's clients know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.observed import LaunchState, Observed, Process, Signs
from emperorctl.models.plan import BlacklistEntry, Memory, State
from emperorctl.models.status import Condition, ConditionType, Truth
from emperorctl.models.vassal import Vassal
from emperorctl.reconciler import stats
from emperorctl.reconciler.controller import Record
from emperorctl.reconciler.stats import Bureau, Facts, Now, monitor_argument
from tests.fakes.vassals import desired, native, uwsgi
from tests.reconciler.test_controller import Realm
from tests.reconciler.test_emperor import Court

FACTS = Facts("0.1.0", 7, 33, 34, "/", ("/vassals", "/srv/*/v.ini"), tyrant=False)
NOW = Now(throttle=1.5, offset=1_000_000.0)
TOP = "version pid uid gid cwd emperor emperor_tyrant throttle_level vassals blacklist"
VASSAL = (
    "id pid born last_mod last_heartbeat loyal ready accepting last_loyal last_ready last_accepting first_run last_run"
    " cursed zerg on_demand uid gid monitor respawns"
)
SILENT = Signs()
ENTRY = BlacklistEntry(attempts=2, first_attempt=10.5, last_attempt=14.5, throttle=4.0, next_try=18.5)


def running(vassal: Vassal, signs: Signs = SILENT, **memory: Any) -> tuple[Record, Observed]:
    """A process of launch 1, started at 10 s, whose vassal said these things."""
    kept = Memory(State.RUNNING, 1, vassal, first_run=10.0, last_run=10.0)
    for key, value in memory.items():
        setattr(kept, key, value)
    want = desired(vassal, modified=5_999_999_999)
    observed = Observed(1, LaunchState.ALIVE, Process(4711, 99, 1000, 1001, 10.2), signs=signs)
    return Record(kept, want, observed, born=1_000_009.9), observed


def one(record: Record, observed: Observed, name: str = "shop.ini") -> dict[str, Any]:
    (found,) = whole({name: (record, observed)})["vassals"]
    return dict(found)


def text(state: dict[str, tuple[Record, Observed]]) -> bytes:
    records = {name: record for name, (record, _) in state.items()}
    return Bureau(lambda name: state[name][1], FACTS).write(records, NOW)


def whole(state: dict[str, tuple[Record, Observed]]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text(state))
    return found


def test_the_members_stand_in_uwsgis_order_and_have_its_types() -> None:
    record, observed = running(uwsgi())
    record.memory.blacklist = ENTRY
    document = whole({"shop.ini": (record, observed)})
    assert list(document) == TOP.split()
    assert list(document["vassals"][0]) == VASSAL.split()
    assert document["blacklist"] == [
        {
            "id": "shop.ini",
            "throttle_level": 4000,
            "attempt": 2,
            "first_attempt": 1_000_010,
            "last_attempt": 1_000_014,
        }
    ]
    assert document["throttle_level"] == 1500
    assert document["emperor"] == ["/vassals", "/srv/*/v.ini"]
    for part in (document, *document["vassals"], *document["blacklist"]):
        assert all(type(value) in {int, str, list} for value in part.values())


def test_what_has_not_happened_is_0() -> None:
    found = one(*running(uwsgi()))
    silent = {"last_heartbeat", "loyal", "ready", "accepting", "last_loyal", "last_ready", "last_accepting", "cursed"}
    assert {found[key] for key in silent | {"zerg", "respawns"}} == {0}
    assert (found["pid"], found["uid"], found["gid"]) == (4711, 1000, 1001)
    assert (found["born"], found["last_mod"]) == (1_000_009, 5)
    assert (found["first_run"], found["last_run"]) == (1_000_010, 1_000_010)
    assert (found["monitor"], found["on_demand"]) == ("/vassals", "")


def test_the_signs_of_a_uwsgi() -> None:
    signs = Signs(spawned=11.0, spawns=1, accepting=12.0, loyal=13.0, heartbeat=20.0)
    found = one(*running(uwsgi(), signs, loyal="FirstRequest", loyal_at=13.0))
    assert [found[key] for key in ("ready", "accepting", "loyal", "cursed")] == [1, 1, 1, 0]
    assert [found[f"last_{word}"] for word in ("ready", "accepting", "loyal", "heartbeat")] == [
        1_000_011,
        1_000_012,
        1_000_013,
        1_000_020,
    ]


@pytest.mark.parametrize(("accepting", "flags"), [(12.0, (0, 0, 1)), (31.0, (1, 1, 1))])
def test_a_reload_is_over_when_it_accepts_again(accepting: float, flags: tuple[int, int, int]) -> None:
    signs = Signs(spawned=11.0, spawns=1, accepting=accepting, loyal=13.0)
    found = one(*running(uwsgi(), signs, loyal="FirstRequest", loyal_at=13.0, last_run=30.0, reloads=1, respawns=2))
    assert (found["ready"], found["accepting"], found["loyal"]) == flags
    assert (found["first_run"], found["last_run"], found["respawns"]) == (1_000_010, 1_000_030, 3)


def test_one_that_closed_its_end_is_cursed_since_then() -> None:
    record, observed = running(uwsgi(), Signs(spawned=11.0, closed=40.0))
    assert one(record, observed)["cursed"] == 1_000_040
    assert one(record, replace(observed, state=LaunchState.EXITED))["cursed"] == 0


def test_a_native_vassal_is_ready_while_it_lives_and_accepting_where_the_plan_says_so() -> None:
    record, observed = running(native())
    assert [one(record, observed)[key] for key in ("ready", "last_ready", "accepting", "last_accepting")] == [
        1,
        1_000_010,
        0,
        0,
    ]
    record.conditions = (Condition(ConditionType.READY, Truth.TRUE, "Started"),)
    record.stamps = {ConditionType.READY: 1_000_012.5}
    assert [one(record, observed)[key] for key in ("accepting", "last_accepting")] == [1, 1_000_012]


def test_a_zerg_says_so() -> None:
    zerg = replace(uwsgi("shop.ini:zerg"), zerg_of="shop.ini")
    assert one(*running(zerg), name="shop.ini:zerg")["zerg"] == 1


@pytest.mark.parametrize(
    ("changes", "blacklist", "listed"),
    [
        ({}, None, True),
        ({}, ENTRY, False),
        ({"suspended": True}, None, False),
        ({"vassal": None}, None, False),
    ],
)
def test_without_a_process_only_those_are_listed_who_wait_for_one(
    changes: dict[str, Any], blacklist: BlacklistEntry | None, listed: bool
) -> None:
    record = Record(Memory(blacklist=blacklist), replace(desired(uwsgi()), **changes), born=1.0)
    document = whole({"shop.ini": (record, Observed())})
    assert [(found["id"], found["pid"], found["uid"]) for found in document["vassals"]] == (
        [("shop.ini", -1, 33)] if listed else []
    )
    assert len(document["blacklist"]) == (blacklist is not None)


def test_one_that_asked_not_to_be_started_again_is_not_listed() -> None:
    record = Record(Memory(abandoned=True, number=1), desired(uwsgi()), born=1.0)
    assert whole({"shop.ini": (record, Observed())})["vassals"] == []


def test_one_that_is_being_launched_is_listed_even_if_blacklisted() -> None:
    record = Record(Memory(State.STARTING, 2, uwsgi(), blacklist=ENTRY), desired(uwsgi()), born=1.0)
    document = whole({"shop.ini": (record, Observed(2, LaunchState.LAUNCHING))})
    assert [found["pid"] for found in document["vassals"]] == [-1]
    assert len(document["blacklist"]) == 1


def test_the_layout_is_uwsgis() -> None:
    written = text({"shop.ini": running(uwsgi())}).decode()
    assert written.split("\n")[:4] == ["{", '\t"version":"0.1.0",', '\t"pid":7,', '\t"uid":33,']
    assert '\t"vassals":[\n\t\t{\n\t\t\t"id":"shop.ini",\n\t\t\t"pid":4711,\n' in written
    assert written.endswith('\t\t\t"respawns":0\n\t\t}\n\t],\n\t"blacklist":[\n\n\t]\n}')


def test_what_has_changed_is_written_anew_and_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {name: running(uwsgi(name)) for name in ("a.ini", "b.ini", "c.ini")}
    records = {name: record for name, (record, _) in state.items()}
    bureau = Bureau(lambda name: state[name][1], FACTS)
    described: list[str] = []
    describe = stats._vassal

    def seen(name: str, *rest: Any) -> dict[str, Any]:
        described.append(name)
        return describe(name, *rest)

    monkeypatch.setattr(stats, "_vassal", seen)
    first = bureau.write(records, NOW)
    assert (described, bureau.write(records, NOW)) == (["a.ini", "b.ini", "c.ini"], first)
    described.clear()
    # A heartbeat nobody was woken for, another look, and nothing at all.
    state["a.ini"] = (records["a.ini"], replace(state["a.ini"][1], signs=Signs(heartbeat=50.0)))
    records["b.ini"].memory = records["b.ini"].memory.copy()
    records["b.ini"].memory.respawns = 4
    found = json.loads(bureau.write(records, NOW))["vassals"]
    assert described == ["a.ini", "b.ini"]
    assert [(one["last_heartbeat"], one["respawns"]) for one in found] == [(1_000_050, 0), (0, 4), (0, 0)]
    described.clear()
    # The clock was set: every time reads otherwise. And one has gone.
    del records["c.ini"]
    found = json.loads(bureau.write(records, Now(0.0, NOW.offset + 3600)))["vassals"]
    assert described == ["a.ini", "b.ini"]
    assert [one["first_run"] for one in found] == [1_003_610, 1_003_610]


@pytest.mark.parametrize("name", ['q"uote\\.ini', "é.ini", "\udce9.ini", "}{],\n.ini"])
def test_any_name_is_valid_json(name: str) -> None:
    (found,) = whole({name: running(uwsgi())})["vassals"]
    assert found["id"] == name


@pytest.mark.parametrize(
    ("source", "shown"),
    [("dir:///srv/v", "/srv/v"), ("glob:///srv/*/x", "/srv/*/x"), ("pg://db/table", "pg://db/table"), ("", "")],
)
def test_sources_are_named_as_uwsgi_does(source: str, shown: str) -> None:
    assert monitor_argument(source) == shown


def test_the_controller_says_how_much_it_throttles() -> None:
    assert Realm().controller.throttle_level() == 0.0


def test_the_emperor_tells_of_what_runs(tmp_path: Path) -> None:
    court = Court(tmp_path)
    court.realm.bring_up(uwsgi())
    court.realm.host.sign("shop.ini", Signs(spawned=1001.0, accepting=1002.0))
    # Not looked at again yet: the newest facts count all the same.
    document = json.loads(court.emperor.stats())
    (found,) = document["vassals"]
    assert (document["version"], found["id"], found["accepting"]) == ("1", "shop.ini", 1)
    assert found["first_run"] == int(court.realm.time.wall() - court.realm.time.now + 1000.0)


def test_collected_attributes_are_shown_where_there_are_any() -> None:
    vassal = replace(uwsgi(), labels={"team": "web"}, annotations={"dir": "/srv"})
    found = one(*running(vassal))
    assert found["attrs"] == {"team": "web", "dir": "/srv"}
    assert list(found) == [*VASSAL.split()[:-1], "attrs", "respawns"]
    assert "attrs" not in one(*running(replace(native(), labels={"team": "web"})))
