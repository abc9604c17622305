"""The board: lists, single objects, and what came since."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from emperorctl.reconciler import board as board_module
from emperorctl.reconciler.board import Board


class Shown:
    """A board over a plain dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, int] = {}
        self.rendered = 0
        self.board = Board(self.render)

    def render(self, name: str) -> dict[str, Any]:
        self.rendered += 1
        return {"metadata": {"name": name}, "value": self.objects[name]}

    def set(self, name: str, value: int) -> None:
        self.objects[name] = value
        self.board.change(name)

    def since(self, version: int) -> list[tuple[str, str, int]]:
        changes = self.board.since(version)
        assert changes is not None
        return [(kind, (body := json.loads(data))["metadata"]["name"], body["value"]) for _, kind, data in changes]


def test_an_object_is_encoded_once_for_each_change() -> None:
    shown = Shown()
    for value in range(5):
        shown.set("a", value)
    assert shown.rendered == 0
    first = shown.board.get("a")
    assert first is not None and json.loads(first)["value"] == 4
    assert json.loads(first)["metadata"]["resourceVersion"] == str(shown.board.version)
    assert shown.board.get("a") is first and shown.rendered == 1
    assert shown.board.get("b") is None


def test_what_is_gone_takes_no_more_than_so_much_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "REMAINS", 1000)
    shown = Shown()
    begin = shown.board.version
    for number in range(100):
        shown.set("a", 1)
        shown.board.remove("a", b"x" * 300)
        assert sum(len(last) for *_, last in shown.board._history) <= 1000, number
    assert shown.board.since(begin) is None
    recent = shown.board.version - 2
    assert [kind for _, kind, _ in shown.board.since(recent) or ()] == ["DELETED"]
    # One that is larger than all room is still told of.
    shown.set("b", 1)
    version = shown.board.version
    shown.board.remove("b", b"x" * 3000)
    assert [kind for _, kind, _ in shown.board.since(version) or ()] == ["DELETED"]


def test_a_snapshot_is_in_the_order_of_names() -> None:
    shown = Shown()
    for name in ("b", "a"):
        shown.set(name, 1)
    version, objects = shown.board.snapshot()
    assert version == shown.board.version
    assert [json.loads(item)["metadata"]["name"] for item in objects] == ["a", "b"]


def test_changes_since_a_version_come_once_for_each_object() -> None:
    shown = Shown()
    shown.set("a", 1)
    version = shown.board.version
    shown.set("b", 1)
    shown.set("a", 2)
    shown.set("b", 2)
    assert shown.since(version) == [("MODIFIED", "a", 2), ("ADDED", "b", 2)]
    shown.board.remove("a")
    del shown.objects["a"]
    assert shown.since(version) == [("ADDED", "b", 2), ("DELETED", "a", 2)]
    assert shown.since(shown.board.version) == []


def test_too_old_a_version_is_said_so(monkeypatch: Any) -> None:
    monkeypatch.setattr(board_module, "HISTORY", 3)
    shown = Shown()
    for value in range(10):
        shown.set("a", value)
    assert shown.board.since(2) is None
    assert shown.since(shown.board.version - 1) == [("MODIFIED", "a", 9)]


def test_a_watcher_is_woken_by_a_change() -> None:
    async def scenario() -> None:
        shown = Shown()
        waiting = asyncio.ensure_future(shown.board.changed(shown.board.version))
        await asyncio.sleep(0)
        assert not waiting.done()
        shown.set("a", 1)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())
