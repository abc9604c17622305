"""Lists and watches of vassals and events: what is sent, from the board and the event log.

Pulled at the reader's pace: a watcher that lags is told the later states only, and one that lags too far is
told so (410 Gone). Called by `routes`; not in here: how bytes reach the reader (`streams`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from emperorctl.reconciler.api import answers
from emperorctl.reconciler.api.answers import Refused, object_bytes
from emperorctl.reconciler.api.events import EventLog
from emperorctl.reconciler.api.facade import BoardView
from emperorctl.reconciler.api.selectors import Selector

__all__ = ["GONE", "select", "watch_events", "watch_vassals"]

_BATCH = 200
_CHUNK = 64 * 1024
_TOO_OLD = "the resourceVersion is too old, or from another run of the Emperor: list again, then watch from there"
GONE = Refused(410, "Gone", _TOO_OLD)


async def select(objects: Sequence[bytes], selector: Selector) -> list[bytes]:
    """Those whose labels the selector matches, in the same order; lets the loop breathe in between."""
    if not selector.terms:
        return list(objects)
    found = []
    for index, encoded in enumerate(objects):
        if selector.matches(_labels(encoded)):
            found.append(encoded)
        if index % _BATCH == _BATCH - 1:
            await asyncio.sleep(0)
    return found


async def watch_vassals(
    board: BoardView, after: int | None, *, name: str | None, selector: Selector
) -> AsyncGenerator[bytes, None]:
    """Lines of a watch after version `after`; for None everything there is comes first, as ADDED.

    With a selector, an object that no longer matches is DELETED. Right after `after` this is also said of one
    whose earlier state is not known any more.
    """
    view = _View(name, selector)
    if after is None:
        version, objects = board.snapshot()
        if name is not None:
            one = board.get(name)
            objects = [] if one is None else [one]
        chosen = await select(objects, selector)
        view.shows(chosen)
        for chunk in _gather([_line("ADDED", encoded) for encoded in chosen]):
            yield chunk
        settled = version
    else:
        version = after
        # What matched then is not known: it is taken to have.
        settled = board.version
    while True:
        changes = board.since(version)
        if changes is None:
            yield _line("ERROR", answers.status_bytes(GONE))
            return
        if not changes:
            await board.changed(version)
            continue
        lines = []
        for number, kind, encoded in changes:
            version = number
            told = view.sees(kind, encoded, unsure=number <= settled)
            if told:
                lines.append(_line(told, encoded))
        for chunk in _gather(lines):
            yield chunk


async def watch_events(
    log: EventLog, after: int | None, wanted: Callable[[dict[str, object]], bool]
) -> AsyncGenerator[bytes, None]:
    """Lines of a watch of events after version `after`; for None all that are known come first."""
    version = after or 0
    while True:
        changes = log.since(version)
        for chunk in _gather([_line(kind, object_bytes(event)) for _, kind, event in changes if wanted(event)]):
            yield chunk
        version = changes[-1][0] if changes else version
        await log.changed(version)


class _View:
    """What one watcher sees through his filter; an unfiltered view remembers nothing."""

    def __init__(self, name: str | None, selector: Selector) -> None:
        self._name = name
        self._selector = selector
        self._plain = name is None and not selector.terms
        self._shown: set[str] = set()

    def shows(self, objects: Sequence[bytes]) -> None:
        """The watcher has been shown these."""
        if not self._plain:
            self._shown.update(map(_name, objects))

    def sees(self, kind: str, encoded: bytes, *, unsure: bool) -> str:
        """How a change looks: ADDED, MODIFIED, DELETED, or empty for not at all.

        `unsure`: it may have been shown before without our knowing.
        """
        if self._plain:
            return kind
        name = _name(encoded)
        if self._name is not None and name != self._name:
            return ""
        known = unsure or name in self._shown
        if kind == "DELETED" or not self._selector.matches(_labels(encoded)):
            self._shown.discard(name)
            return "DELETED" if known else ""
        self._shown.add(name)
        return kind if known else "ADDED"


def _gather(lines: list[bytes]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _line(kind: str, encoded: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), encoded)


def _labels(encoded: bytes) -> dict[str, str]:
    labels: dict[str, str] = json.loads(encoded)["metadata"].get("labels") or {}
    return labels


def _name(encoded: bytes) -> str:
    name: str = json.loads(encoded)["metadata"]["name"]
    return name
