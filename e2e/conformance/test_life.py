"""Loyalty, death and the blacklist."""

from __future__ import annotations

import os
from pathlib import Path
from signal import SIGKILL, SIGURG
from typing import Any

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.conformance.site import Site

_LONG = ("--emperor-throttle", "60000")
"""From the second death on, the blacklist holds a vassal for a minute."""


@scenario(
    "A real site starts, then serves its first request",
    uwsgi="ready and accepting 1, loyal 0; loyal 1 with the first request",
)
def test_first_request(court: Court, uwsgi_python: Path, free_port: int) -> None:
    site = Site(court, free_port)
    court.write("a.ini", site.config())
    court.start(puppets=False)
    vassal = court.wait_vassal("a.ini", ready=1, accepting=1)
    assert vassal["loyal"] == vassal["last_loyal"] == 0
    assert vassal["last_ready"] >= vassal["first_run"] > 0
    assert vassal["last_accepting"] >= vassal["first_run"]
    site.ask()
    loyal = court.wait_vassal("a.ini", loyal=1)
    assert loyal["last_loyal"] >= vassal["last_accepting"]


@scenario(
    "Bytes 1, 5 and 17 are said one after the other",
    uwsgi="ready, accepting, loyal become 1 with their byte, with their times; without byte 17 nobody is ever loyal",
    emperorctl="the same, but who accepts (5) is ready, even without byte 1",
    why="uWSGI itself leaves out byte 1 after a reload",
)
def test_flags(court: Court) -> None:
    court.write("a.ini")
    court.start()
    puppet = court.wait_puppet("a.ini")
    court.write("b.ini")
    court.wait_puppet("b.ini").say(5)
    assert court.wait_vassal("b.ini", accepting=1)["ready"] == int(not court.real)
    flags = ("ready", "accepting", "loyal")
    assert [court.wait_vassal("a.ini")[flag] for flag in flags] == [0, 0, 0]
    puppet.say(1)
    vassal = court.wait_vassal("a.ini", ready=1)
    assert [vassal["accepting"], vassal["loyal"]] == [0, 0]
    puppet.say(5)
    assert court.wait_vassal("a.ini", ready=1, accepting=1)["loyal"] == 0
    puppet.say(17)
    vassal = court.wait_vassal("a.ini", ready=1, accepting=1, loyal=1)
    assert all(vassal[f"last_{flag}"] >= vassal["first_run"] for flag in flags)


@scenario(
    "A loyal vassal is killed (SIGKILL from outside)",
    uwsgi="started again at once, not blacklisted; its record begins anew: respawns 0, loyal, ready and accepting 0,"
    " born the file's time, first_run now",
    emperorctl="started again at once, not blacklisted, loyal, ready and accepting 0; respawns goes on counting, born"
    " and first_run stay",
    why="a number that forgets every death says nothing about deaths",
)
def test_loyal_killed(court: Court) -> None:
    court.start()
    puppet = court.subject(loyal=True)
    court.touch("a.ini")
    puppet.wait_bytes(1)
    before = court.wait_vassal("a.ini", respawns=1)
    os.kill(puppet.pid, SIGKILL)
    again = court.wait_puppet("a.ini", 2)
    after = court.wait_vassal("a.ini", pid=again.pid)
    assert again.argv == puppet.argv
    assert [after[key] for key in ("loyal", "ready", "accepting")] == [0, 0, 0]
    assert after["last_mod"] == before["last_mod"]
    assert after["respawns"] == (0 if court.real else 2)
    assert after["born"] == (before["last_mod"] if court.real else before["born"])
    assert after["first_run"] >= before["first_run"] if court.real else after["first_run"] == before["first_run"]
    assert not court.blacklisted("a.ini")


@scenario(
    "A loyal vassal exits with code 0",
    uwsgi="started again at once, not blacklisted",
)
def test_loyal_exits(court: Court) -> None:
    court.start()
    court.subject(loyal=True).order(exit=0)
    court.wait_puppet("a.ini", 2)
    assert not court.blacklisted("a.ini")


def _wait_attempt(court: Court, number: int) -> dict[str, Any]:
    """Wait until the blacklist counts so many attempts of a.ini; its entry."""

    def look() -> dict[str, Any] | None:
        entry = court.blacklisted("a.ini")
        return entry if entry and entry["attempt"] == number else None

    return court.wait_for(look, f"attempt {number}")


@scenario(
    "A vassal dies before it is loyal, and again",
    uwsgi="blacklist entry {id, throttle_level 1, attempt 0, first_attempt, last_attempt}; while it waits it is no"
    " vassal; back at the next scan; the second death makes it 1001 and attempt 1 (so 1 ms, 1 s, 2 s …); the entry"
    " stays until it is loyal (byte 17)",
    emperorctl="the same with throttle_level 3000 and attempt 1, then 4000 and 2: 3 s, 4 s, 5 s …",
    why="the manual says three seconds and one more each time; 1 ms is a slip of units, and one death is one attempt",
)
def test_disloyal(court: Court) -> None:
    court.write("a.ini")
    court.start()
    levels = []
    for attempt in (1, 2):
        puppet = court.wait_puppet("a.ini", attempt)
        puppet.say(1, 5)
        court.wait_vassal("a.ini", pid=puppet.pid, ready=1)
        puppet.order(exit=1)
        entry = _wait_attempt(court, attempt - int(court.real))
        levels.append(entry["throttle_level"])
        assert list(entry) == ["id", "throttle_level", "attempt", "first_attempt", "last_attempt"]
        if attempt == 2:
            assert not court.all_of("a.ini")
            assert entry["last_attempt"] >= entry["first_attempt"]
    assert levels == ([1, 1001] if court.real else [3000, 4000])
    puppet = court.wait_puppet("a.ini", 3)
    puppet.say(1, 5)
    court.wait_vassal("a.ini", accepting=1)
    assert court.blacklisted("a.ini")
    puppet.say(17)
    court.wait_vassal("a.ini", loyal=1)
    assert not court.blacklisted("a.ini")


def _held(court: Court) -> None:
    """Start, and have a.ini die twice: it is blacklisted for a minute."""
    court.write("a.ini")
    court.start(*_LONG)
    for attempt in (1, 2):
        court.wait_puppet("a.ini", attempt).order(exit=1)
    court.wait_for(
        lambda: (entry := court.blacklisted("a.ini")) and entry["throttle_level"] >= 60_000, "a.ini waits for a minute"
    )
    court.wait_look()
    assert len(court.stage.named("a.ini")) == 2


@scenario(
    "SIGURG while a vassal is blacklisted",
    uwsgi="the blacklist is empty, the vassal is tried again at once",
)
def test_urg(court: Court) -> None:
    _held(court)
    court.signal(SIGURG)
    court.wait_puppet("a.ini", 3)
    assert not court.stats()["blacklist"]


@scenario(
    "A blacklisted vassal's file is touched",
    uwsgi="nothing: it waits its time out",
    emperorctl="tried again at once, off the blacklist",
    why="the person who mends a file overrules the budget",
)
def test_touch_blacklisted(court: Court) -> None:
    _held(court)
    court.touch("a.ini")
    court.wait_look()
    if not court.real:
        court.wait_puppet("a.ini", 3)
    assert len(court.stage.named("a.ini")) == (2 if court.real else 3)
    assert bool(court.blacklisted("a.ini")) == court.real


@scenario(
    "A blacklisted vassal's file is removed",
    uwsgi="its entry stays until SIGURG",
    emperorctl="its entry goes with it",
    why="what no longer exists needs no budget",
)
def test_remove_blacklisted(court: Court) -> None:
    _held(court)
    court.remove("a.ini")
    if not court.real:
        court.wait_for(lambda: not court.blacklisted("a.ini"), "its entry goes")
    court.wait_look()
    assert bool(court.blacklisted("a.ini")) == court.real


@scenario(
    "A vassal dies again and again under --emperor-no-blacklist",
    uwsgi="never blacklisted, started again each time",
)
def test_no_blacklist(court: Court) -> None:
    court.write("a.ini")
    court.start("--emperor-no-blacklist")
    for number in range(1, 5):
        court.wait_puppet("a.ini", number).order(exit=1)
    court.wait_puppet("a.ini", 5)
    assert not court.stats()["blacklist"]


@scenario(
    "A vassal exits with code 26 (do not start me again)",
    uwsgi="started again and blacklisted like any other: the end of its socket is seen before its exit code",
    emperorctl="not started again until its file changes, and not blacklisted",
    why="that is what the code is for, in uWSGI's own source too",
)
def test_exit_26(court: Court) -> None:
    court.write("a.ini")
    court.start()
    court.wait_puppet("a.ini").order(exit=26)
    if court.real:
        court.wait_puppet("a.ini", 2)
        assert court.blacklisted("a.ini")
    else:
        court.wait_absent("a.ini")
        court.wait_look()
        assert len(court.stage.named("a.ini")) == 1
        assert not court.blacklisted("a.ini")
        court.touch("a.ini")
        court.wait_puppet("a.ini", 2)
