from __future__ import annotations

import asyncio

from emperorctl.models.status import Note, NoteType
from emperorctl.reconciler.api.events import EventLog
from tests.fakes.emperor import SetClock


def note(reason: str = "Spawned", message: str = "launch 1", type: NoteType = NoteType.NORMAL) -> Note:
    return Note(type, reason, message)


def test_an_event_is_an_object_in_the_shape_of_kubernetes() -> None:
    log = EventLog(SetClock())
    log.record("shop", note())
    assert log.list() == [
        {
            "apiVersion": "emperor/v1",
            "kind": "Event",
            "metadata": {"name": "shop.1", "resourceVersion": "1"},
            "type": "Normal",
            "reason": "Spawned",
            "message": "launch 1",
            "count": 1,
            "firstTimestamp": "2026-11-24T03:00:00Z",
            "lastTimestamp": "2026-11-24T03:00:00Z",
            "involvedObject": {"kind": "Vassal", "name": "shop"},
        }
    ]


def test_repeats_are_counted() -> None:
    clock = SetClock()
    log = EventLog(clock)
    log.record("shop", note())
    log.record("shop", note("Exited"))
    clock.now += 90
    log.record("shop", note())
    exited, spawned = log.list()
    assert exited["reason"] == "Exited"
    assert (spawned["count"], spawned["firstTimestamp"], spawned["lastTimestamp"]) == (
        2,
        "2026-11-24T03:00:00Z",
        "2026-11-24T03:01:30Z",
    )
    assert spawned["metadata"] == {"name": "shop.1", "resourceVersion": "3"}


def test_what_differs_in_anything_is_another_event() -> None:
    log = EventLog(SetClock())
    for name, one in [
        ("a", note()),
        ("b", note()),
        ("a", note(message="launch 2")),
        ("a", note(type=NoteType.WARNING)),
        ("a", note(reason="Exited")),
    ]:
        log.record(name, one)
    assert [event["count"] for event in log.list()] == [1] * 5
    assert len(log.list("a")) == 4


def test_one_vassal_keeps_its_latest() -> None:
    log = EventLog(SetClock(), per_vassal=3)
    log.record("other", note())
    for number in range(5):
        log.record("shop", note(message=f"launch {number}"))
    log.record("shop", note(message="launch 2"))
    log.record("shop", note(message="launch 5"))
    assert [event["message"] for event in log.list("shop")] == ["launch 4", "launch 2", "launch 5"]
    assert len(log.list()) == 4


def test_all_together_keep_the_latest() -> None:
    log = EventLog(SetClock(), limit=4)
    for number in range(100):
        log.record(f"app-{number}", note())
    assert [event["metadata"]["name"] for event in log.list()] == [f"app-{n}.{n + 1:x}" for n in range(96, 100)]
    assert log.list("app-1") == []


def test_a_message_without_end_is_cut() -> None:
    log = EventLog(SetClock())
    log.record("shop", note(message="x" * 100_000))
    log.record("shop", note(message="x" * 100_000))
    (event,) = log.list()
    assert len(str(event["message"])) == 1024
    assert event["count"] == 2


def test_since_tells_the_latest_state_of_what_came_after() -> None:
    log = EventLog(SetClock())
    log.record("a", note())
    log.record("b", note())
    seen = log.version
    log.record("a", note())
    log.record("c", note())
    log.record("c", note())
    told = [(version, kind, event["involvedObject"], event["count"]) for version, kind, event in log.since(seen)]
    assert told == [
        (3, "MODIFIED", {"kind": "Vassal", "name": "a"}, 2),
        (5, "ADDED", {"kind": "Vassal", "name": "c"}, 2),
    ]
    assert log.since(log.version) == []


def test_changed_returns_at_once_or_with_the_next_event() -> None:
    async def scenario() -> None:
        log = EventLog(SetClock())
        waiting = [asyncio.create_task(log.changed(0)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        log.record("shop", note())
        log.record("shop", note())
        await asyncio.gather(*waiting[1:])
        await log.changed(1)

    asyncio.run(scenario())
