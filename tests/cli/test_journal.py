"""The Emperor's log: readable, harmless, and never in the way."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator

import pytest

from emperorctl.cli import journal as journal_module
from emperorctl.cli.journal import Journal
from emperorctl.models.status import Note, NoteType

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            pass


def _text(pipe: Pipe) -> str:
    os.close(pipe[1])
    with os.fdopen(os.dup(pipe[0])) as file:
        return file.read()


def test_a_note_is_one_line_with_time_mark_name_and_reason(pipe: Pipe) -> None:
    journal = Journal(pipe[1], "text")
    journal.note("shop.ini", Note(NoteType.WARNING, "Died", "exited with code 3"))
    journal.close()
    line = _text(pipe)
    assert line.endswith("Z W shop.ini Died: exited with code 3\n") and line.count("\n") == 1


def test_json_has_one_object_a_line(pipe: Pipe) -> None:
    journal = Journal(pipe[1], "json")
    journal.note("shop", Note(NoteType.NORMAL, "Started", 'pid 4, "launch" 1'))
    journal.line("plain")
    journal.close()
    first, second = (json.loads(line) for line in _text(pipe).splitlines())
    assert (first["name"], first["reason"], first["message"]) == ("shop", "Started", 'pid 4, "launch" 1')
    assert second["message"] == "plain" and "reason" not in second


def test_a_hostile_name_can_neither_forge_a_line_nor_reach_the_terminal(pipe: Pipe) -> None:
    journal = Journal(pipe[1], "text")
    journal.note("a\n2026 forged\x1b[2J", Note(NoteType.NORMAL, "Started", "x\x1b]0;y\x07"))
    journal.close()
    text = _text(pipe)
    assert "\x1b" not in text and text.count("\n") == 1


def test_a_traceback_keeps_its_lines(pipe: Pipe) -> None:
    journal = Journal(pipe[1], "text")
    journal.emit(logging.LogRecord("x", logging.ERROR, "f", 1, "first\nsecond", None, None))
    journal.close()
    assert _text(pipe).splitlines()[1] == "    second"


def test_what_a_stalled_reader_does_not_take_is_counted(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LIMIT", 10)
    journal = Journal(pipe[1], "text")
    long = "x" * 70_000  # more than the pipe holds: the writer stalls at the first line
    for _ in range(50):
        journal.line(long)
    received = b""
    while b"lines were dropped" not in received:
        received += os.read(pipe[0], 1 << 20)
        journal.line("after")
    os.close(pipe[0])
    journal.close()


def test_nobody_listening_is_no_reason_to_end(pipe: Pipe) -> None:
    journal = Journal(pipe[1], "text")
    os.close(pipe[0])
    journal.line("into the void")
    journal.close()


def test_one_vassal_does_not_fill_the_log_and_what_is_left_out_is_said(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "BURST", 3)
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: 7.0)
    journal = Journal(pipe[1], "text")
    for number in range(10):
        journal.note("loud", Note(NoteType.NORMAL, "Reloaded", f"turn {number}"))
    journal.note("calm", Note(NoteType.NORMAL, "Started", "pid 4"))
    journal.close()
    lines = _text(pipe).splitlines()
    assert len([line for line in lines if "turn" in line]) == 3
    assert len([line for line in lines if "calm" in line]) == 1
    assert lines[-1].endswith("LogOverflow: 7 events of loud were left out: too many at once")


def test_in_tyrant_mode_all_vassals_of_a_user_count_together(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "BURST", 3)
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: 7.0)
    journal = Journal(pipe[1], "text")
    journal.owner_of = lambda name: 1001 if name.startswith("a") else None
    for number in range(10):
        journal.note(f"a{number}", Note(NoteType.NORMAL, "Started", "here"))
        journal.note("", Note(NoteType.NORMAL, "Ready", "the Emperor's own"))
    journal.close()
    text = _text(pipe)
    assert text.count("here") == 3 and text.count("the Emperor's own") == 10
    assert "7 events of the vassals of user id 1001 were left out" in text


def test_a_note_is_not_longer_than_a_thousand_characters(pipe: Pipe) -> None:
    journal = Journal(pipe[1], "text")
    journal.note("shop", Note(NoteType.NORMAL, "ExecOrdered", "x" * 60_000))
    journal.close()
    assert len(_text(pipe)) < 1200


def test_many_names_take_no_more_room(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_KNOWN_MAX", 10)
    journal = Journal(pipe[1], "text")
    for number in range(100):
        journal.note(f"n{number}", Note(NoteType.NORMAL, "Started", "pid 4"))
    assert len(journal._shares) <= 10
    journal.close()
