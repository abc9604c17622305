"""An Emperor for the API and the CLI to talk to: vassals are plain objects, orders are written down.

The board and the event log are the real ones.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from emperorctl.models.errors import NotRunning
from emperorctl.models.execution import Execution
from emperorctl.models.names import the_one
from emperorctl.models.status import Note, NoteType
from emperorctl.reconciler.api.events import EventLog
from emperorctl.reconciler.api.facade import Attached
from emperorctl.reconciler.board import Board

__all__ = ["BORN", "FakeEmperor", "FakeLogs", "SetClock", "vassal"]

BORN = 1_795_489_200.0
"""2026-11-24T03:00:00Z"""


class SetClock:
    """Both clocks stand where they are put."""

    def __init__(self, wall: float = BORN) -> None:
        self.now = wall

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


def vassal(name: str, **changes: Any) -> dict[str, Any]:
    """A running native vassal; a keyword `status_x` or `meta_x` changes that one field, `spec` the whole spec."""
    result: dict[str, Any] = {
        "apiVersion": "emperor/v1",
        "kind": "Vassal",
        "metadata": {
            "name": name,
            "labels": {},
            "annotations": {},
            "generation": 1,
            "creationTimestamp": "2026-11-24T03:00:00Z",
        },
        "spec": {"command": ["gunicorn", "-b", "127.0.0.1:8000"], "reload": {"signal": "SIGHUP"}},
        "status": {
            "phase": "Running",
            "observedGeneration": 1,
            "kind": "native",
            "source": "dir:///etc/vassals",
            "file": f"/etc/vassals/{name}.yaml",
            "conditions": [
                _condition("Accepted", "True", "Valid"),
                _condition("Ready", "True", "Started"),
                _condition("Loyal", "True", "Survived"),
                _condition("Progressing", "False", "Settled"),
            ],
            "processes": [
                {"pid": 4711, "startTime": 99, "uid": 33, "gid": 33, "since": "2026-11-24T03:00:00Z"},
            ],
            "ready": 1,
            "wanted": 1,
            "respawns": 0,
            "lastRespawn": None,
            "lastReload": None,
            "reloads": 0,
            "firstRun": "2026-11-24T03:00:00Z",
            "lastRun": "2026-11-24T03:00:00Z",
            "lastExit": None,
            "blacklist": None,
            "throttledUntil": None,
            "suspended": False,
            "suspendedBy": "",
            "message": "",
            "lastHeartbeat": None,
            "zergOf": "",
            "log": f"/var/lib/emperorctl/logs/{name}.log",
        },
    }
    for key, value in changes.items():
        part, _, field = key.partition("_")
        if part == "spec":
            result["spec"] = value
        else:
            result["metadata" if part == "meta" else "status"][field] = value
    return result


def _condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-24T03:00:00Z",
        "observedGeneration": 1,
    }


class FakeLogs:
    """Logs as texts; `follow` goes on with whatever is `written` later."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.readers = 0
        self._news = asyncio.Event()

    async def tail(self, name: str, lines: int, most: int = 1 << 30) -> bytes:
        kept = self.texts.get(name, b"").splitlines(keepends=True)
        return b"".join(kept if lines < 0 else kept[max(0, len(kept) - lines) :])[-most:]

    async def read(self, name: str, lines: int) -> AsyncIterator[bytes]:
        yield await self.tail(name, lines)

    async def follow(self, name: str, lines: int) -> AsyncIterator[bytes]:
        self.readers += 1
        try:
            yield await self.tail(name, lines)
            seen = len(self.texts.get(name, b""))
            while True:
                news = self._news
                text = self.texts.get(name, b"")[seen:]
                seen += len(text)
                if text:
                    yield text
                else:
                    await news.wait()
        finally:
            self.readers -= 1

    def write(self, name: str, text: bytes) -> None:
        self.texts[name] = self.texts.get(name, b"") + text
        news, self._news = self._news, asyncio.Event()
        news.set()


class FakeEmperor:
    """Vassals by name; `orders` is what was ordered, in order, `callers` by whom. `broken` makes `version` a
    bug; `sources` is what is known of monitors."""

    def __init__(self, *vassals: dict[str, Any]) -> None:
        self.clock = SetClock()
        self.objects: dict[str, dict[str, Any]] = {}
        self.board = Board(lambda name: self.objects[name])
        self.events = EventLog(self.clock)
        self.logs = FakeLogs()
        self.orders: list[str] = []
        self.callers: list[str] = []
        self.broken = False
        self.sources: list[dict[str, Any]] = []
        for one in vassals:
            self.put(one)

    def put(self, one: dict[str, Any]) -> None:
        self.objects[one["metadata"]["name"]] = copy.deepcopy(one)
        self.board.change(one["metadata"]["name"])

    def take(self, name: str) -> None:
        self.board.remove(name)
        del self.objects[name]

    def note(self, name: str, reason: str, message: str = "", *, warning: bool = False) -> None:
        self.events.record(name, Note(NoteType.WARNING if warning else NoteType.NORMAL, reason, message))

    def resolve(self, name: str) -> str:
        return the_one(name, self.fits(name))

    def fits(self, name: str) -> list[str]:
        return [known for known in self.objects if known == name or known.rpartition(".")[0] == name]

    def owner(self, name: str) -> int | None:
        known = self.objects.get(name)
        processes = known["status"]["processes"] if known else []
        return processes[0]["uid"] if processes else None

    def reload(self, name: str, by: str = "") -> None:
        self._order(f"reload {name}", by)

    def reload_all(self, by: str = "") -> int:
        self._order("reload all", by)
        return len(self.objects)

    def stop(self, name: str, by: str = "") -> None:
        self._order(f"stop {name}", by)

    def start(self, name: str, by: str = "") -> None:
        self._order(f"start {name}", by)

    def _order(self, order: str, by: str) -> None:
        self.orders.append(order)
        self.callers.append(by)

    def clear_blacklist(self, names: Sequence[str] | None, by: str = "") -> list[str]:
        held = [name for name in names or self.objects if self.objects[name]["status"]["blacklist"]]
        self._order(f"clear {' '.join(held)}", by)
        return held

    async def execute(self, name: str, what: Execution, by: str = "", uid: int | None = None) -> Attached:
        self._order(f"exec {name} {uid} {what}", by)
        raise NotRunning(name)

    def monitors(self) -> list[dict[str, Any]]:
        return self.sources

    def version(self) -> dict[str, object]:
        if self.broken:
            raise RuntimeError("a bug")
        return {"version": "0.1.0", "pid": 1}

    def stats(self) -> bytes:
        return json.dumps({"version": "0.1.0", "vassals": [{"id": name} for name in self.objects]}).encode()
