"""What people see of a vassal that crashes at once, and every way to have it tried again, with real processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from e2e.harness import API, Emperor

Make = Callable[..., Emperor]

CRASHER = 'echo "$$ try" >> "$OUT"; for n in 1 2 3 4 5 6 7 8 9 10 11; do echo "line $n"; done; echo last >&2; exit 3'


def crash(emperor: Emperor, name: str = "bad") -> None:
    """Start a crash-looper that prints twelve lines each time, and wait until it is on the blacklist."""
    out = emperor.root / f"{name}.out"
    emperor.manifest(name, ["sh", "-c", CRASHER], env={"OUT": str(out)})
    emperor.wait_phase(name, "Blacklisted")


def tries(emperor: Emperor, name: str = "bad") -> int:
    """How often it was started."""
    return len((emperor.root / f"{name}.out").read_text().splitlines())


def held(emperor: Emperor, name: str = "bad") -> dict[str, Any] | None:
    """Its entry as its own object shows it."""
    found = emperor.get(name)
    entry: dict[str, Any] | None = found["status"]["blacklist"] if found else None
    return entry


def test_the_entry_says_how_it_ended_and_what_it_said_last(emperor: Make) -> None:
    e = emperor().start()
    crash(e)

    def whole() -> dict[str, Any] | None:
        # The last lines are spliced into the file a moment after the exit.
        answer = e.api("GET", f"{API}/blacklist/bad")
        right = answer.status == 200 and answer.body["log"]["lines"][-1:] == ["last"]
        return answer.body if right else None

    entry = e.wait_for(whole, what="the entry with the last line of the log")
    assert entry["kind"] == "BlacklistEntry"
    assert entry["metadata"]["name"] == "bad"
    assert entry["lastExit"]["code"] == 3
    assert entry["lastExit"]["message"] == "exited with code 3"
    assert entry["log"] == {"lines": [*(f"line {n}" for n in range(3, 12)), "last"], "message": ""}
    assert entry["firstAttempt"] <= entry["lastAttempt"] < entry["nextTry"]

    done = e.cli("get", "blacklist")
    header, row = done.stdout.splitlines()
    assert header.split() == ["NAME", "ATTEMPTS", "THROTTLE", "FIRST", "LAST", "NEXT", "TRY", "LAST", "EXIT"]
    assert row.split()[0] == "bad"
    assert row.split()[-1] == "ExitCode:3"
    named = json.loads(e.cli("get", "blacklist", "bad", "-o", "json").stdout)
    assert named["log"]["lines"][-1] == "last"
    assert "last\n" in e.cli("logs", "bad", "--tail", "1").stdout

    (why,) = (line for line in e.cli("describe", "vassal", "bad").stdout.splitlines() if line.startswith("Why:"))
    for part in ("exited with code 3", "(since ", "emperorctl logs bad", "emperorctl blacklist clear bad", "due "):
        assert part in why


def test_every_word_of_a_person_tries_it_at_once(emperor: Make) -> None:
    e = emperor().start()
    crash(e)
    file = e.vassals / "bad.yaml"

    def clear() -> None:
        assert e.cli("blacklist", "clear", "bad").stdout == "vassal.emperor/bad cleared\n"

    def clear_all() -> None:
        assert e.cli("blacklist", "clear").stdout == "vassal.emperor/bad cleared\n"

    def urg() -> None:
        e.signal(signal.SIGURG)

    def edit() -> None:
        file.write_text(file.read_text() + "\n")

    def touch() -> None:
        moment = file.stat().st_mtime_ns - 3_600_000_000_000
        os.utime(file, ns=(moment, moment))

    def order() -> None:
        assert e.cli("reload", "bad").returncode == 0

    for word in (clear, clear_all, urg, edit, touch, order):
        e.wait_for(lambda: held(e), what="held")
        pardons = sum(event["count"] for event in e.events("bad") if event["reason"] == "Pardoned")
        before = tries(e)
        word()
        e.wait_for(lambda: tries(e) > before, what=f"{word.__name__} tries again")  # noqa: B023
        # That it was this word and not the end of its wait: it is said.
        e.wait_for(
            lambda: sum(event["count"] for event in e.events("bad") if event["reason"] == "Pardoned") > pardons,  # noqa: B023
            what=f"{word.__name__} is a pardon",
        )
        # Everything begins anew with a pardon.
        assert e.wait_for(lambda: held(e), what="held again")["throttle"] == 3


def test_one_that_comes_to_its_senses_leaves_the_list(emperor: Make) -> None:
    e = emperor().start()
    crash(e)
    e.manifest("bad", ["sleep", "1000"], loyalty={"after": "0s"})
    e.wait_running("bad")
    e.wait_for(lambda: held(e) is None, what="off the list")
    done = e.cli("get", "blacklist", "bad")
    assert done.returncode == 1
    assert 'blacklistentries "bad" not found: this vassal is not on the blacklist' in done.stderr
    assert e.cli("get", "blacklist").stderr == "No resources found\n"


def test_a_command_that_does_not_exist_says_so_in_its_entry(emperor: Make) -> None:
    e = emperor().start()
    e.manifest("lost", ["/nonexistent/program"])
    e.wait_phase("lost", "Blacklisted")
    entry = e.api("GET", f"{API}/blacklist/lost").body
    assert "/nonexistent/program" in entry["lastExit"]["message"]
    assert entry["log"] == {"lines": [], "message": "it has printed nothing"}


@pytest.mark.usefixtures("uwsgi_bin")
def test_the_entry_of_a_uwsgi_vassal_says_where_its_output_went(emperor: Make) -> None:
    e = emperor().start()
    e.write("broken.ini", "[uwsgi]\nsocket = /nonexistent/directory/socket\n")
    e.wait_phase("broken.ini", "Blacklisted")
    log = e.api("GET", f"{API}/blacklist/broken.ini").body["log"]
    assert log["lines"] == []
    assert "the Emperor's stderr" in log["message"]
