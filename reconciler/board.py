"""The board: every vassal as the JSON object that clients see, with versions for lists and watches.

Written by the controller's notifications alone, read by the API. An object is encoded when somebody asks for it, and
once for each change; a change costs nothing but a number until then.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

__all__ = ["Board"]

HISTORY = 20_000
"""Changes kept for watches; a watcher that is further behind lists again."""
REMAINS = 16 * 1024 * 1024
"""… and bytes of what is gone among them: anybody can make and remove large vassals all day."""


class Board:
    """`render` makes the object of a name, without its resourceVersion; `detailed` the same with what has to be looked
    up, for who asks for one alone. `listener` is called with each name that changes or is about to go (then with
    True). `version` is where the counting begins."""

    def __init__(
        self,
        render: Callable[[str], Mapping[str, Any]],
        detailed: Callable[[str], Mapping[str, Any]] | None = None,
        *,
        version: int = 1,
    ) -> None:
        self.version = version
        self.listener: Callable[[str, bool], None] | None = None
        self._render = render
        self._detailed = detailed or render
        self._versions: dict[str, int] = {}
        self._encoded: dict[str, bytes] = {}
        self._history: deque[tuple[int, str, str, bytes]] = deque()
        self._remains = 0
        self._forgotten_up_to = version - 1
        self._news: asyncio.Event | None = None

    def change(self, name: str) -> None:
        """The object of `name` is new or has changed."""
        kind = "MODIFIED" if name in self._versions else "ADDED"
        self._encoded.pop(name, None)
        self._versions[name] = self.version + 1
        self._record(kind, name, b"")
        if self.listener is not None:
            self.listener(name, False)

    def remove(self, name: str, last: bytes | None = None) -> None:
        """The object of `name` is about to go; it can still be rendered now, or `last` is what watchers are told."""
        if name not in self._versions:
            return
        if self.listener is not None:
            self.listener(name, True)
        last = last or self.get(name) or b"{}"
        del self._versions[name]
        self._encoded.pop(name, None)
        self._record("DELETED", name, last)

    def names(self) -> Collection[str]:
        """The names of all there are."""
        return self._versions.keys()

    @property
    def watched(self) -> bool:
        """Whether anybody waits for a change."""
        return self._news is not None

    def plain(self, name: str) -> Mapping[str, Any]:
        """One object as it would be encoded now, without its resource version."""
        return self._render(name)

    def get(self, name: str) -> bytes | None:
        """The encoded object, None where there is none."""
        version = self._versions.get(name)
        if version is None:
            return None
        encoded = self._encoded.get(name)
        if encoded is None:
            encoded = self._encoded[name] = _encode(self._render(name), version)
        return encoded

    def fresh(self, name: str) -> bytes | None:
        """The same, rendered now: with what changes without making a new version."""
        version = self._versions.get(name)
        if version is None:
            return None
        self._encoded.pop(name, None)
        return _encode(self._detailed(name), version)

    def snapshot(self) -> tuple[int, list[bytes]]:
        """The version, and all encoded objects in the order of their names."""
        return self.version, [encoded for name in sorted(self._versions) if (encoded := self.get(name)) is not None]

    def since(self, version: int) -> list[tuple[int, str, bytes]] | None:
        """What came after `version`: (version, ADDED|MODIFIED|DELETED, object as it is now), oldest first.

        Several changes of one object come as one. None: `version` is older than what is kept.
        """
        if version >= self.version:
            return []
        if version < self._forgotten_up_to:
            return None
        history = self._history
        start = bisect_right(history, version, key=lambda item: item[0])
        seen: dict[str, tuple[int, str, bytes]] = {}
        for index in range(start, len(history)):
            number, kind, name, last = history[index]
            before = seen.pop(name, None)
            if before is not None and before[1] == "ADDED" and kind == "MODIFIED":
                kind = "ADDED"
            seen[name] = (number, kind, last)
        changes = []
        for name, (number, kind, last) in seen.items():
            body = last if kind == "DELETED" else self.get(name)
            if body is not None:
                changes.append((number, kind, body))
        return changes

    async def changed(self, version: int) -> None:
        """Return once there is something after `version`."""
        while self.version <= version:
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()

    def _record(self, kind: str, name: str, last: bytes) -> None:
        self.version += 1
        history = self._history
        history.append((self.version, kind, name, last))
        self._remains += len(last)
        while len(history) > HISTORY or (self._remains > REMAINS and len(history) > 1):
            self._forgotten_up_to, _, _, forgotten = history.popleft()
            self._remains -= len(forgotten)
        if self._news is not None:
            self._news.set()
            self._news = None


def _encode(rendered: Mapping[str, Any], version: int) -> bytes:
    metadata = {**rendered.get("metadata", {}), "resourceVersion": str(version)}
    whole = {**rendered, "metadata": metadata}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace")
