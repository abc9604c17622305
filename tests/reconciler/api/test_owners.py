"""Events of a name that has become another owner's."""

from __future__ import annotations

from emperorctl.models.status import Note, NoteType
from emperorctl.reconciler.api.events import EventLog
from tests.fakes.emperor import SetClock


def note(reason: str) -> Note:
    return Note(NoteType.NORMAL, reason, "text")


def reasons(log: EventLog, name: str | None) -> list[object]:
    return [one["reason"] for one in log.list(name)]


def test_what_was_told_of_the_former_owner_is_told_under_another_name() -> None:
    log = EventLog(SetClock(), limit=3)
    log.set_aside("shop", "shop@1")
    for name, reason in (("shop", "A"), ("web", "B"), ("shop", "C")):
        log.record(name, note(reason))
    log.set_aside("shop", "shop@1")
    assert reasons(log, "shop") == [] and reasons(log, "shop@1") == ["A", "C"]
    assert reasons(log, None) == ["A", "B", "C"]
    log.record("shop", note("A"))
    assert reasons(log, "shop") == ["A"] and reasons(log, "shop@1") == ["C"]  # the oldest went, as there are three
    involved = [one["involvedObject"]["name"] for one in log.list()]  # type: ignore[index]
    assert involved == ["web", "shop@1", "shop"]
