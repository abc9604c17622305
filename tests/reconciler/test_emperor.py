"""Orders and questions, as the API passes them on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.errors import Ambiguous, NotFound
from emperorctl.reconciler.api.events import EventLog
from emperorctl.reconciler.board import Board
from emperorctl.reconciler.emperor import Emperor, Parts
from emperorctl.reconciler.state import StateFile
from emperorctl.reconciler.views import vassal_object
from tests.fakes.vassals import change, native, report, uwsgi
from tests.reconciler.test_controller import Realm


class NoLogs:
    """No output was ever captured."""

    async def tail(self, name: str, lines: int, most: int) -> bytes:
        return b""

    def read(self, name: str, lines: int) -> AsyncIterator[bytes]:
        return self.follow(name, lines)

    async def follow(self, name: str, lines: int) -> AsyncIterator[bytes]:
        for _ in range(0):
            yield b""


class Court:
    """An Emperor over a realm of fakes."""

    def __init__(self, directory: Path) -> None:
        self.realm = Realm()
        self.state = StateFile(str(directory / "state.json"))
        self.events = EventLog(self.realm.time)
        self.board = Board(self.render)
        self.realm.controller.changed = self.board.change
        self.realm.controller.forgotten = self.board.remove
        parts = Parts(
            self.realm.store, self.realm.controller, self.board, self.events, NoLogs(), self.state, self.realm.time
        )
        self.emperor = Emperor(parts, lambda: {"version": "1"})

    def render(self, name: str) -> dict[str, Any]:
        return vassal_object(name, self.realm.controller.records[name], self.realm.time)

    def shown(self, name: str) -> dict[str, Any]:
        data = self.board.get(name)
        assert data is not None
        found: dict[str, Any] = json.loads(data)
        return found


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path)


def test_a_name_may_leave_out_its_extension(court: Court) -> None:
    court.realm.bring_up(uwsgi("shop.ini"))
    court.realm.bring_up(native("blog"))
    assert [court.emperor.resolve(name) for name in ("shop.ini", "shop", "blog")] == ["shop.ini", "shop.ini", "blog"]
    court.realm.bring_up(uwsgi("shop.xml"))
    with pytest.raises(Ambiguous):
        court.emperor.resolve("shop")
    with pytest.raises(NotFound):
        court.emperor.resolve("nobody")


def test_an_exact_name_goes_before_one_with_an_extension(court: Court) -> None:
    court.realm.bring_up(uwsgi("shop.ini"))
    court.realm.bring_up(native("shop"))
    assert court.emperor.resolve("shop") == "shop"


def test_in_tyrant_mode_a_name_may_leave_out_its_owner(court: Court) -> None:
    for name in ("shop.1001", "blog.1001", "blog.1002", "web.eu.1001"):
        court.realm.bring_up(native(name))
    with pytest.raises(NotFound):
        court.emperor.resolve("shop")
    court.emperor._parts = replace(court.emperor._parts, tyrant=True)
    assert [court.emperor.resolve(name) for name in ("shop", "web.eu")] == ["shop.1001", "web.eu.1001"]
    with pytest.raises(Ambiguous):
        court.emperor.resolve("blog")
    with pytest.raises(NotFound):
        court.emperor.resolve("web")


def test_a_stop_is_kept_and_a_start_ends_it(court: Court) -> None:
    court.realm.bring_up(native())
    court.emperor.stop("shop")
    assert court.state.load() == (frozenset({"shop"}), "")
    court.realm.time.settle()
    assert court.realm.host.calls[-1] == ("signal", "shop", 1, 15)
    court.realm.host.exit("shop", court.realm.time.now, code=0)
    court.realm.time.settle()
    assert court.shown("shop")["status"]["phase"] == "Suspended"
    court.emperor.start("shop")
    court.realm.time.settle()
    assert court.state.load() == (frozenset(), "")
    assert court.realm.host.calls[-1] == ("launch", "shop", 2)


def test_a_stop_that_can_not_be_kept_is_followed_and_said(court: Court, tmp_path: Path) -> None:
    (tmp_path / "state.json.new").mkdir()
    court.realm.bring_up(native())
    court.emperor.stop("shop")
    court.realm.time.settle()
    assert court.realm.host.calls[-1] == ("signal", "shop", 1, 15)
    assert "StateNotPersisted" in [event["reason"] for event in court.events.list("shop")]


def test_clearing_the_blacklist_tries_again_at_once(court: Court) -> None:
    court.realm.bring_up(native("good"))
    court.realm.bring_up(native("bad", loyal_after=100.0))
    court.realm.host.exit("bad", court.realm.time.now, code=1)
    court.realm.time.settle()
    status = court.shown("bad")["status"]
    assert status["phase"] == "Blacklisted" and status["blacklist"]["attempts"] == 1
    assert status["lastExit"]["code"] == 1
    assert court.emperor.clear_blacklist(None) == ["bad"]
    court.realm.time.settle()
    assert court.realm.host.calls[-1] == ("launch", "bad", 2)
    assert court.emperor.clear_blacklist(["good"]) == []
    with pytest.raises(NotFound):
        court.emperor.clear_blacklist(["nobody"])


def test_reload_all_reaches_everyone(court: Court) -> None:
    for name in ("a.ini", "b.ini"):
        court.realm.bring_up(uwsgi(name))
    assert court.emperor.reload_all() == 2
    court.realm.time.settle()
    assert court.realm.host.calls[-2:] == [("tell", "a.ini", 1, 1), ("tell", "b.ini", 1, 1)]


def test_the_object_has_kubernetes_shape(court: Court) -> None:
    court.realm.bring_up(native(labels={"team": "web"}))
    shown = court.shown("shop")
    assert (shown["apiVersion"], shown["kind"]) == ("emperor/v1", "Vassal")
    assert shown["metadata"]["labels"] == {"team": "web"} and shown["metadata"]["generation"] == 1
    status = shown["status"]
    assert (status["ready"], status["wanted"], status["observedGeneration"]) == (1, 1, 1)
    assert [item["type"] for item in status["conditions"]] == ["Accepted", "Ready", "Loyal", "Progressing"]
    assert all(item["lastTransitionTime"].endswith("Z") for item in status["conditions"])
    assert status["processes"][0]["pid"] > 0


def test_whose_a_vassal_is(court: Court) -> None:
    realm, owner = court.realm, court.emperor.owner
    assert owner("nobody") is None
    realm.apply(report(native("named", user="www-data"), file="/vassals/named.yaml"))
    assert owner("named") is None
    realm.apply(report(native("none"), file="/vassals/none.yaml"))
    assert owner("none") is None
    realm.apply(report(native("shop", user="1001"), file="/vassals/shop.yaml"))
    assert owner("shop") == 1001
    # What runs is another's than what is wanted: nobody's, until they agree.
    realm.host.confirm("shop", realm.time.now)
    realm.time.settle()
    assert realm.controller.records["shop"].observed.process is not None
    assert owner("shop") is None


def test_a_vassal_that_changes_hands_is_nobodys_until_it_is_launched_anew(court: Court) -> None:
    realm, owner = court.realm, court.emperor.owner
    realm.apply(report(native("shop", user="0"), file="/vassals/shop.yaml"))
    realm.host.confirm("shop", realm.time.now)
    realm.time.settle()
    assert owner("shop") == 0
    court.realm.store.apply(change(report(native("shop", user="1001"), file="/vassals/shop.yaml", digest="2", touch=2)))
    assert owner("shop") is None


def test_every_order_says_who_gave_it(court: Court) -> None:
    heard: list[tuple[str, str]] = []
    court.emperor._note = lambda name, note: heard.append((name, f"{note.reason}: {note.message}"))
    court.realm.bring_up(native())
    court.realm.bring_up(native("bad", loyal_after=100.0))
    court.realm.host.exit("bad", court.realm.time.now, code=1)
    court.realm.time.settle()
    by = "uid 1001 (pid 42)"
    court.emperor.clear_blacklist(None, by)
    court.emperor.reload("shop", by)
    court.emperor.start("shop", by)
    court.emperor.stop("shop", by)
    court.emperor.start("shop", by)
    court.emperor.halt("shop", by)
    court.emperor.spawn("shop", by)
    court.emperor.respawn("shop", by)
    court.emperor.reload_all(by)
    court.emperor.reload("shop")
    told = f"; ordered by {by}"
    assert heard == [
        ("bad", f"BlacklistCleared: taken off the blacklist{told}"),
        ("shop", f"ReloadOrdered: ordered to reload{told}"),
        ("shop", f"StartOrdered: tried again at once, if it waits{told}"),
        ("shop", f"StopOrdered: held until started again{told}"),
        ("shop", f"StartOrdered: may run again{told}"),
        ("shop", f"StopCommanded: commanded to stop; waits for spawn{told}"),
        ("shop", f"SpawnCommanded: commanded to run{told}"),
        ("shop", f"ReloadOrdered: ordered to reload{told}"),
        ("", f"ReloadOrdered: all 2 vassals ordered to reload{told}"),
        ("shop", "ReloadOrdered: ordered to reload"),
    ]
