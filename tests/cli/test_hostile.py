"""Every command that prints, against an Emperor whose every text was written to harm a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emperorctl.cli.app import app
from emperorctl.reconciler.api import answers, lastwords
from tests.fakes.control import in_thread
from tests.fakes.emperor import FakeEmperor, vassal

ESCAPE = "\x1b[2J"
EVIL = f"x{ESCAPE}\x1b]0;t\x07\x9b31m\u202e\r\b\U000e0001"
EVIL_LINES = f"{EVIL}\n{EVIL}"
_KEPT = {"apiVersion", "kind", "creationTimestamp", "type", "status"}


def poisoned(value: Any, key: str = "") -> Any:
    """The same object with evil in each of its texts, and among its keys."""
    match value:
        case str() if not value.startswith("2026-") and key not in _KEPT:
            return EVIL_LINES
        case dict():
            inner = {name: poisoned(item, name) for name, item in value.items()}
            return inner | ({EVIL: EVIL} if key in {"labels", "annotations", "spec", "env"} else {})
        case list():
            return [poisoned(item, key) for item in value]
    return value


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    held = {
        "attempts": 3,
        "firstAttempt": "2026-11-24T03:00:00Z",
        "lastAttempt": "2026-11-24T03:01:00Z",
        "throttle": 3.0,
        "nextTry": "2026-11-24T03:01:03Z",
        "lastExit": {"reason": "Error", "message": "bad", "at": "2026-11-24T03:01:00Z"},
    }
    one = poisoned(vassal("shop", status_blacklist=held, status_message="m", meta_labels={"a": "b"}))
    one["metadata"]["name"] = EVIL
    emperor = FakeEmperor(one)
    monkeypatch.setattr(emperor, "fits", lambda name: [EVIL])
    emperor.note(EVIL, EVIL, EVIL_LINES, warning=True)
    emperor.logs.texts[EVIL] = EVIL_LINES.encode()
    error = {"reason": "r", "message": "m", "at": "2026-11-24T03:01:00Z"}
    status = {"state": "S", "watch": "w", "vassals": 1, "lastSync": None, "lastError": error}
    emperor.sources = [poisoned({"metadata": {"name": "dir:///v", "labels": {}}, "status": status})]
    monkeypatch.setattr(emperor, "version", lambda: {"version": EVIL_LINES, "pid": 1})
    monkeypatch.setattr(emperor, "stats", lambda: answers.object_bytes({"version": EVIL_LINES, EVIL: [EVIL]}))
    monkeypatch.setattr(lastwords, "not_captured", lambda name, status: "")
    path = tmp_path / "e.sock"

    def one_command(*words: str) -> str:
        result = CliRunner().invoke(app, [*words], env={"EMPERORCTL_SOCKET": str(path)})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.stdout + result.stderr

    with in_thread(emperor, path):
        yield one_command


FORMS = [f"get {kind} -o {form}" for kind in ("vassals", "blacklist", "monitors") for form in ("json", "yaml", "name")]


@pytest.mark.parametrize(
    "words",
    [
        *FORMS,
        "get vassals",
        "get vassals --show-labels",
        "get vassals,blacklist,monitors -o wide",
        "get vassal x",
        "describe x",
        "describe",
        "events",
        "events -o json",
        "events -o yaml",
        "blacklist list -o wide",
        "blacklist clear x",
        "reload x",
        "stop x",
        "start x",
        "version",
        "version -o yaml",
        "stats",
        "stats -o yaml",
        "get vassals -l EVIL",
        "get EVIL",
        "events --for EVIL",
        "events --types EVIL",
        "--socket /EVIL get vassals",
    ],
)
def test_nothing_that_a_terminal_would_obey_is_printed(run: Callable[..., str], words: str) -> None:
    text = run(*(ESCAPE.join(word.split("EVIL")) for word in words.split(" ")))
    assert text
    assert [char for char in text if char != "\n" and not char.isprintable()] == []
