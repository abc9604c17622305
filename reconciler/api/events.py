"""The recent past of vassals, sources and the Emperor: what was decided and what happened, for `describe` and `events`.

Recorded under a vassal's name, a source's address, or "" for the Emperor itself, by whoever decides or observes; the
control socket lists and watches. Kept in memory alone and bounded: events are a help for people, never a source of
truth. Every call belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from emperorctl.models.status import Note
from emperorctl.reconciler.clock import Clock

__all__ = ["EventLog"]

_MESSAGE_MAX = 1024
# A vassal's name may be a path, never an address: its slashes are single.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
_Key = tuple[str, str, str, str, int | None]


@dataclass(slots=True)
class _Entry:
    """One event with its repeats; times are wall seconds, `born` and `version` resource versions. `owner` is the uid
    that the vassal ran as when it happened, where that was asked."""

    name: str
    note: Note
    born: int
    version: int
    first: float
    last: float
    count: int = 1
    owner: int | None = None


class EventLog:
    """Events by vassal, repeats counted; at most `limit` in all and `per_vassal` of one name, the oldest go first.

    A record costs the same however many there are. `owner` says whose a vassal is at the moment, and `listener` is told
    of each record with the answer; `version` is where the counting begins.
    """

    def __init__(self, clock: Clock, *, limit: int = 5000, per_vassal: int = 50, version: int = 0) -> None:
        self._clock = clock
        self._limit = limit
        self._per_vassal = per_vassal
        # Both are ordered by the latest occurrence, oldest first.
        self._all: OrderedDict[_Key, _Entry] = OrderedDict()
        self._of: dict[str, dict[_Key, None]] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self.version = version
        self.owner: Callable[[str], int | None] = _nobody
        self.listener: Callable[[str, Note, int | None], None] | None = None

    def record(self, name: str, note: Note) -> None:
        """Add one event, or count one more of a known one."""
        now = self._clock.wall()
        self.version += 1
        message = note.message if len(note.message) <= _MESSAGE_MAX else note.message[: _MESSAGE_MAX - 1] + "…"
        owner = self.owner(name)
        key = (name, note.type.value, note.reason, message, owner)
        own = self._of.setdefault(name, {})
        entry = self._all.get(key)
        if entry is not None:
            entry.count += 1
            entry.last = now
            entry.version = self.version
            self._all.move_to_end(key)
            own[key] = own.pop(key)
        else:
            kept = note if message is note.message and not note.detail else Note(note.type, note.reason, message)
            self._all[key] = _Entry(name, kept, self.version, self.version, now, now, owner=owner)
            own[key] = None
            if len(own) > self._per_vassal:
                self._drop(next(iter(own)))
            elif len(self._all) > self._limit:
                self._drop(next(iter(self._all)))
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        if self.listener is not None:
            self.listener(name, note, owner)

    def of(self, owner: int, version: int, told: Callable[[Note], Note]) -> EventLog:
        """A log of its own with what is known of this owner's vassals, each as it is `told`; counts from `version`."""
        part = EventLog(self._clock, limit=self._limit, per_vassal=self._per_vassal, version=version)
        for key, entry in self._all.items():
            if entry.owner == owner:
                part.version += 1
                own = replace(entry, note=told(entry.note), born=part.version, version=part.version)
                part._all[key] = own
                part._of.setdefault(entry.name, {})[key] = None
        part.owner = lambda name: owner
        return part

    def set_aside(self, name: str, other: str) -> None:
        """From now on, what was recorded under `name` is told of `other`. Costs a look at all events."""
        if name not in self._of:
            return
        renamed: OrderedDict[_Key, _Entry] = OrderedDict()
        for key, entry in self._all.items():
            if key[0] == name:
                entry.name = other
            renamed[(entry.name, *key[1:])] = entry
        self._all = renamed
        self._of = {}
        for key in self._all:
            self._of.setdefault(key[0], {})[key] = None

    def list(self, name: str | None = None) -> list[dict[str, object]]:
        """All events (of one name, as it was recorded) as API objects, the latest occurrence last."""
        if name is None:
            return [_object(entry) for entry in self._all.values()]
        return [_object(self._all[key]) for key in self._of.get(name, ())]

    def since(self, version: int) -> Sequence[tuple[int, str, dict[str, object]]]:
        """What came after `version`, oldest first: (version, ADDED or MODIFIED, object).

        Of an event that repeated in between only its latest state; what has been dropped is left out.
        """
        changes = [
            (entry.version, "ADDED" if entry.born > version else "MODIFIED", _object(entry))
            for entry in self._newest(version)
        ]
        changes.reverse()
        return changes

    async def changed(self, version: int) -> None:
        """Return once there is something after `version`."""
        while self.version <= version:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def _newest(self, version: int) -> Iterator[_Entry]:
        for entry in reversed(self._all.values()):
            if entry.version <= version:
                return
            yield entry

    def _drop(self, key: _Key) -> None:
        del self._all[key]
        own = self._of[key[0]]
        del own[key]
        if not own:
            del self._of[key[0]]


def _involved(name: str) -> dict[str, str]:
    """What an event is about, by the name it was recorded under: a source's address, or "" for the Emperor itself."""
    if not name:
        return {"kind": "Emperor", "name": "emperor"}
    return {"kind": "Monitor" if _ADDRESS.match(name) else "Vassal", "name": name}


def _object(entry: _Entry) -> dict[str, object]:
    involved = _involved(entry.name)
    return {
        "apiVersion": "emperor/v1",
        "kind": "Event",
        "metadata": {"name": f"{involved['name']}.{entry.born:x}", "resourceVersion": str(entry.version)},
        "type": entry.note.type.value,
        "reason": entry.note.reason,
        "message": entry.note.message,
        "count": entry.count,
        "firstTimestamp": _timestamp(entry.first),
        "lastTimestamp": _timestamp(entry.last),
        "involvedObject": involved,
    }


def _nobody(name: str) -> int | None:
    """Where nobody asks whose a vassal is."""
    return None


def _timestamp(wall: float) -> str:
    return datetime.fromtimestamp(int(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
