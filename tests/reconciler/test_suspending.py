"""Who holds a vassal down, who may let it run again, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.errors import NotFound, SuspendedByFile, UserError
from emperorctl.models.vassal import Desired, Suspender
from tests.fakes.vassals import native, report, uwsgi
from tests.reconciler.test_controller import Realm
from tests.reconciler.test_emperor import Court


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path)


def want(realm: Realm, name: str = "shop") -> Desired:
    found = realm.store.get(name)
    assert found is not None
    return found


def ready(court: Court, name: str = "shop") -> dict[str, Any]:
    """Its condition Ready."""
    return next(one for one in court.shown(name)["status"]["conditions"] if one["type"] == "Ready")


def test_new_vassals_wait_for_a_command(court: Court) -> None:
    court.realm.store.wait_for_command = True
    court.realm.store.wait_not = ("blog",)
    court.realm.apply(report(native("shop"), file="/v/a"), report(native("blog"), file="/v/b"))
    assert [call[1] for call in court.realm.host.calls] == ["blog"]
    assert ready(court)["reason"] == "WaitingForCommand"
    status = court.shown("shop")["status"]
    assert (status["phase"], status["suspended"], status["suspendedBy"]) == ("Suspended", True, "command")

    court.emperor.spawn("shop")
    court.realm.time.settle()
    assert ("launch", "shop", 1) in court.realm.host.calls
    assert not want(court.realm).suspended
    assert court.shown("shop")["status"]["suspendedBy"] == ""
    with pytest.raises(UserError, match="is not suspended"):
        court.emperor.spawn("shop")


def test_a_touch_does_not_start_what_waits_and_a_gone_file_is_forgotten(court: Court) -> None:
    realm = court.realm
    realm.store.wait_for_command = True
    realm.apply(report(native("shop")))
    realm.apply(report(native("shop"), touch=2))
    realm.apply(report(native("shop", command=("b",)), digest="2", touch=3))
    assert realm.host.calls == []
    realm.store.wait_for_command = False
    realm.apply(report())
    realm.apply(report(native("shop")))
    assert realm.host.calls[-1] == ("launch", "shop", 1)


def test_a_person_may_start_what_waits_for_a_command(court: Court) -> None:
    court.realm.store.wait_for_command = True
    court.realm.apply(report(native("shop")))
    court.emperor.start("shop")
    court.realm.time.settle()
    assert court.realm.host.calls == [("launch", "shop", 1)]
    assert not Path(court.state.path).exists()


def test_a_command_does_not_undo_a_persons_stop(court: Court) -> None:
    court.realm.store.wait_for_command = True
    court.realm.apply(report(native("shop")))
    court.emperor.stop("shop")
    assert want(court.realm).suspended_by is Suspender.PERSON
    with pytest.raises(UserError, match="was stopped by order: emperorctl start shop"):
        court.emperor.spawn("shop")
    court.emperor.start("shop")
    assert not want(court.realm).suspended


def test_the_command_stop_holds_until_spawn_and_is_not_kept(court: Court) -> None:
    court.realm.bring_up(uwsgi())
    court.emperor.halt("shop.ini")
    court.realm.time.settle()
    assert court.realm.host.calls == [("tell", "shop.ini", 1, 0)]
    assert want(court.realm, "shop.ini").suspended_by is Suspender.COMMAND
    assert court.realm.store.suspended == frozenset()
    with pytest.raises(UserError, match="is suspended: there is nothing to reload"):
        court.emperor.respawn("shop.ini")
    court.emperor.spawn("shop.ini")
    assert not want(court.realm, "shop.ini").suspended


def test_the_command_respawn_reloads(court: Court) -> None:
    court.realm.bring_up(uwsgi())
    court.emperor.respawn("shop.ini")
    court.realm.time.settle()
    assert court.realm.host.calls == [("tell", "shop.ini", 1, 1)]
    for order in (court.emperor.spawn, court.emperor.respawn, court.emperor.halt):
        with pytest.raises(NotFound):
            order("nobody")


def test_a_file_holds_its_vassal_down(court: Court) -> None:
    court.realm.bring_up(native("shop"))
    court.realm.apply(report(native("shop", suspend=True), file="/vassals/shop.yaml", digest="2"))
    assert court.realm.host.calls == [("signal", "shop", 1, 15)]
    assert ("shop", "Suspended") in court.realm.notes
    court.realm.host.exit("shop", court.realm.time.now)
    court.realm.time.settle()
    assert ready(court)["reason"] == "SuspendedByFile"
    assert court.shown("shop")["status"]["suspendedBy"] == "file"
    assert court.shown("shop")["status"]["wanted"] == 0

    for order in (court.emperor.start, court.emperor.spawn):
        with pytest.raises(SuspendedByFile, match=r"set spec.suspend to false in /vassals/shop.yaml"):
            order("shop")
    court.realm.host.calls.clear()
    court.realm.apply(report(native("shop"), file="/vassals/shop.yaml", digest="3"))
    assert court.realm.host.calls == [("launch", "shop", 2)]


def test_a_persons_stop_outlasts_the_files_word(court: Court) -> None:
    court.realm.bring_up(native("shop"))
    court.emperor.stop("shop")
    court.realm.apply(report(native("shop", suspend=True), file="/vassals/shop.yaml", digest="2"))
    assert want(court.realm).suspended_by is Suspender.FILE
    court.realm.apply(report(native("shop"), file="/vassals/shop.yaml", digest="3"))
    assert want(court.realm).suspended
    assert want(court.realm).suspended_by is Suspender.PERSON


def test_a_broken_edit_does_not_end_a_files_hold(court: Court) -> None:
    from emperorctl.models.source import FileReport
    from tests.reconciler.test_desired import BROKEN

    court.realm.apply(report(native("shop", suspend=True)))
    court.realm.apply(FileReport("/vassals/f.yaml", problem=BROKEN, digest="2", fallback_name="f"))
    assert want(court.realm).suspended_by is Suspender.FILE
    assert want(court.realm).suspended
    assert court.realm.host.calls == []
