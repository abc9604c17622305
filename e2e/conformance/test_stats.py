"""The statistics document: its members, their order and types, its form."""

from __future__ import annotations

import os
from signal import SIGKILL

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario

_DOCUMENT = "version pid uid gid cwd emperor emperor_tyrant throttle_level vassals blacklist"
_VASSAL = (
    "id pid born last_mod last_heartbeat loyal ready accepting last_loyal last_ready last_accepting first_run last_run"
    " cursed zerg on_demand uid gid monitor respawns"
)
_NOBODY = 65534
_TEXTS = {"version", "cwd", "id", "on_demand", "monitor"}


def _types_are_right(members: dict[str, object]) -> bool:
    return all(type(value) is (str if key in _TEXTS else int) for key, value in members.items())


@scenario(
    "The document's members, their order and types",
    uwsgi="`version pid uid gid cwd emperor emperor_tyrant throttle_level vassals blacklist`; version is uWSGI's, cwd"
    " the directory it looked at last, throttle_level always 0",
    emperorctl="the same; version is its own, cwd the Emperor's, throttle_level the current wait between spawns",
    why="it does not wander between directories, and it does throttle",
)
def test_document(court: Court) -> None:
    court.write("a.ini")
    court.start()
    court.wait_puppet("a.ini")
    document = court.stats()
    assert " ".join(document) == _DOCUMENT
    assert _types_are_right({k: v for k, v in document.items() if k not in {"emperor", "vassals", "blacklist"}})
    assert (document["pid"], document["uid"], document["gid"]) == (court.pid, os.getuid(), os.getgid())
    assert document["cwd"] == str(court.vassals if court.real else court.root)
    assert document["emperor"] == [str(court.vassals)]
    assert (document["emperor_tyrant"], document["throttle_level"]) == (0, 0)
    assert document["version"].startswith("2.") == court.real


@scenario(
    "A vassal's members, their order and types",
    uwsgi="`id pid born last_mod last_heartbeat loyal ready accepting last_loyal last_ready last_accepting first_run"
    " last_run cursed zerg on_demand uid gid monitor respawns`: integers, but for id, on_demand and monitor; uid and"
    " gid are the file's owner's",
    emperorctl="the same; uid and gid are the process's",
    why="who it runs as is what one wants to know; in tyrant mode the two are the same",
)
def test_members(court: Court) -> None:
    court.write("a.ini")
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(court.vassals / "a.ini", _NOBODY, _NOBODY)
    court.start()
    court.subject(loyal=True)
    (vassal,) = court.stats()["vassals"]
    assert " ".join(vassal) == _VASSAL
    assert _types_are_right(vassal)
    assert (vassal["uid"], vassal["gid"]) == (
        (_NOBODY, _NOBODY) if is_root and court.real else (os.getuid(), os.getgid())
    )
    assert (vassal["on_demand"], vassal["monitor"]) == ("", str(court.vassals))
    assert (vassal["zerg"], vassal["cursed"], vassal["last_heartbeat"]) == (0, 0, 0)


@scenario(
    "The text that comes out of the socket",
    uwsgi="one document for each connection, whatever the caller says, then the end; one member a line, indented by"
    " tabs, no space behind a colon",
)
def test_text(court: Court) -> None:
    court.start()
    court.subject()
    text = court.raw_stats().decode()
    lines = text.split("\n")
    assert lines[0] == "{"
    assert lines[1].startswith('\t"version":"')
    assert '\t\t\t"id":"a.ini",' in lines
    assert '\t\t\t"respawns":0' in lines
    assert lines[-1] == "}"


@scenario(
    "The order of the vassals",
    uwsgi="by the start of their processes: who dies goes to the end of the list",
    emperorctl="by their first coming: who dies keeps its place",
    why="a list that people look at should hold still",
)
def test_order(court: Court) -> None:
    court.start()
    names = ["b.ini", "a.ini", "c.ini"]
    puppets = [court.subject(name, loyal=True) for name in names]
    assert [vassal["id"] for vassal in court.stats()["vassals"]] == names
    os.kill(puppets[0].pid, SIGKILL)
    again = court.wait_puppet("b.ini", 2)
    court.wait_vassal("b.ini", pid=again.pid)
    found = [vassal["id"] for vassal in court.stats()["vassals"]]
    assert found == (["a.ini", "c.ini", "b.ini"] if court.real else names)
