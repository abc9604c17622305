from __future__ import annotations

import pytest

from emperorctl.cli.rows import age, blacklist_row, event_row, labels_cell, monitor_row, until, vassal_row
from tests.fakes.emperor import BORN, vassal

NOW = BORN + 3600


def test_a_running_vassal() -> None:
    one = vassal("shop", status_respawns=5, status_lastRespawn="2026-11-24T03:57:00Z")
    assert vassal_row(one, NOW) == ["shop", "1/1", "Running", "True", "5 (3m ago)", "60m"]


def test_the_wide_columns() -> None:
    one = vassal("shop", status_lastReload="2026-11-24T03:50:00Z")
    assert vassal_row(one, NOW, wide=True)[6:] == ["4711", "33", "dir:///etc/vassals", "<none>", "10m"]


def test_a_vassal_without_anything() -> None:
    one = vassal("shop", status_processes=[], status_ready=0, status_source="", status_conditions=[])
    assert vassal_row(one, NOW, wide=True) == [
        *["shop", "0/1", "Running", "Unknown", "0", "60m"],
        *["<none>", "<none>", "<none>", "<none>", "<none>"],
    ]


@pytest.mark.parametrize(
    ("timestamp", "shown"),
    [
        ("2026-11-24T04:00:00Z", "0s"),
        ("2026-11-24T03:58:30Z", "90s"),
        ("2026-11-24T05:00:00Z", "<invalid>"),
        (None, "<unknown>"),
        ("", "<unknown>"),
        ("yesterday", "<unknown>"),
    ],
)
def test_ages(timestamp: str | None, shown: str) -> None:
    assert age(timestamp, NOW) == shown


def test_times_to_come() -> None:
    assert until("2026-11-24T04:00:12Z", NOW) == "in 12s"
    assert until("2026-11-24T03:00:00Z", NOW) == "now"
    assert until(None, NOW) == "<unknown>"


def test_labels() -> None:
    assert labels_cell(vassal("shop", meta_labels={"b": "2", "a": "1"})) == "a=1,b=2"
    assert labels_cell(vassal("shop")) == "<none>"


@pytest.mark.parametrize(
    ("last", "word", "message"),
    [
        ({"code": 3, "reason": "Error", "message": "exited with code 3"}, "ExitCode:3", "exited with code 3"),
        ({"code": 0, "reason": "Completed", "message": "exited with code 0"}, "Completed", "exited with code 0"),
        ({"signal": 9, "reason": "Signaled", "message": "killed by SIGKILL"}, "Signal:9", "killed by SIGKILL"),
        ({"reason": "CommandNotFound", "message": "no such command"}, "CommandNotFound", "no such command"),
        (None, "<none>", "<none>"),
    ],
)
def test_an_entry_of_the_blacklist(last: dict[str, object] | None, word: str, message: str) -> None:
    entry = {
        "metadata": {"name": "shop"},
        "attempts": 3,
        "firstAttempt": "2026-11-24T03:50:00Z",
        "lastAttempt": "2026-11-24T03:59:50Z",
        "throttle": 12.0,
        "nextTry": "2026-11-24T04:00:02Z",
        "lastExit": last,
    }
    row = ["shop", "3", "12s", "10m ago", "10s ago", "in 2s", word]
    assert blacklist_row(entry, NOW) == row
    assert blacklist_row(entry, NOW, wide=True) == [*row, message]


def test_a_source() -> None:
    status = {
        "state": "Synced",
        "watch": "inotify",
        "vassals": 12,
        "lastSync": "2026-11-24T03:59:50Z",
        "lastError": None,
        "workingDir": "/v",
    }
    one = {"metadata": {"name": "dir:///v"}, "status": status}
    row = ["dir:///v", "Synced", "inotify", "12", "10s ago", "<none>"]
    assert monitor_row(one, NOW, wide=True) == [*row, "/v", "<none>"]
    error = {"reason": "SourceMissing", "message": "/v: does not exist", "at": "2026-11-24T03:57:00Z"}
    one["status"] = {**status, "state": "Unavailable", "lastSync": None, "lastError": error}
    row = ["dir:///v", "Unavailable", "inotify", "12", "<none>", "SourceMissing (3m ago)"]
    assert monitor_row(one, NOW) == row
    assert monitor_row(one, NOW, wide=True) == [*row, "/v", "/v: does not exist"]


@pytest.mark.parametrize(
    ("involved", "shown"),
    [
        ({"kind": "Emperor", "name": "emperor"}, "emperor"),
        ({"kind": "Monitor", "name": "dir:///etc/vassals"}, "monitor/dir:///etc/vassals"),
    ],
)
def test_events_that_are_not_a_vassals(involved: dict[str, str], shown: str) -> None:
    when = "2026-11-24T03:57:00Z"
    event = {"type": "Normal", "reason": "Polling", "message": "", "count": 1, "lastTimestamp": when}
    assert event_row({**event, "involvedObject": involved}, NOW)[3] == shown


@pytest.mark.parametrize(("count", "seen"), [(1, "3m"), (5, "3m (x5 over 10m)")])
def test_events(count: int, seen: str) -> None:
    event = {
        "type": "Warning",
        "reason": "Crashed",
        "message": "exited\n with code 3",
        "count": count,
        "firstTimestamp": "2026-11-24T03:50:00Z",
        "lastTimestamp": "2026-11-24T03:57:00Z",
        "involvedObject": {"kind": "Vassal", "name": "shop"},
    }
    assert event_row(event, NOW) == [seen, "Warning", "Crashed", "vassal/shop", "exited with code 3"]
