"""What one user reaches of an Emperor in tyrant mode: an Emperor that has the vassals of this uid and no others.

Made by `Realms` for callers who don't reach everything (`peers`). The routes are given it in the Emperor's place, so
that what is not in here can't be asked for. It counts for itself: its board and its events have versions of their own,
since those of the whole would tell how much others do. A vassal that is somebody else's does not exist here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from emperorctl.models.errors import Forbidden, NotFound
from emperorctl.models.execution import Execution
from emperorctl.models.names import printable, the_one
from emperorctl.models.status import ConditionType, Note
from emperorctl.reconciler.api.answers import object_bytes
from emperorctl.reconciler.api.facade import Attached, EmperorFacade, LogView
from emperorctl.reconciler.api.peers import Reach
from emperorctl.reconciler.board import Board
from emperorctl.reconciler.clock import Clock, SystemClock
from emperorctl.reconciler.controller import Record
from emperorctl.reconciler.views import vassal_object

__all__ = ["Realm", "Realms"]

_IDLE_MAX = 64
"""Realms without a vassal that are kept, for users who may yet get one."""
_UNNAMED = "another file claims this name too; the first to come keeps it (rename one of them)"
_NOT_YOURS = "only root and the user who runs the Emperor may see"


class Realm:
    """See `facade.EmperorFacade`; every name is first found to be this user's, or is not found."""

    def __init__(self, whole: EmperorFacade, uid: int, origin: int) -> None:
        self.uid = uid
        self.board = Board(self._render, version=origin)
        self.events = whole.events.of(uid, origin, _told)
        self.logs = _OwnLogs(whole.logs, self._own)
        self._whole = whole

    def fits(self, name: str) -> list[str]:
        """Every full name of this user's that `name` may mean; they need not say that a vassal is theirs."""
        found = dict.fromkeys((*self._whole.fits(name), *self._whole.fits(f"{name}.{self.uid}")))
        return [one for one in found if self._whole.owner(one) == self.uid]

    def resolve(self, name: str) -> str:
        """The full name of the one vassal meant. Raises NotFound or Ambiguous."""
        return the_one(name, self.fits(name))

    def owner(self, name: str) -> int | None:
        """This user, or nobody."""
        return self.uid if self._whole.owner(name) == self.uid else None

    def reload(self, name: str, by: str = "") -> None:
        """Order a reload."""
        self._whole.reload(self._own(name), by)

    def reload_all(self, by: str = "") -> int:
        """Order a reload of each of them; how many there are."""
        names = [name for name in self.board.names() if self.owner(name) is not None]
        for name in names:
            self._whole.reload(name, by)
        return len(names)

    def stop(self, name: str, by: str = "") -> None:
        """Stop, and hold until `start`."""
        self._whole.stop(self._own(name), by)

    def start(self, name: str, by: str = "") -> None:
        """End the suspension."""
        self._whole.start(self._own(name), by)

    def clear_blacklist(self, names: Sequence[str] | None, by: str = "") -> list[str]:
        """Pardon these, or all of this user's."""
        asked = sorted(self.board.names()) if names is None else names
        own = [name for name in asked if names is not None or self.owner(name) is not None]
        return self._whole.clear_blacklist(list(map(self._own, own)), by) if own else []

    async def execute(self, name: str, what: Execution, by: str = "", uid: int | None = None) -> Attached:
        """Run a command within a vassal."""
        return await self._whole.execute(self._own(name), what, by, self.uid)

    def monitors(self) -> NoReturn:
        """Sources hold the vassals of many."""
        raise Forbidden(f"{_NOT_YOURS} the Emperor's sources")

    def version(self) -> dict[str, object]:
        """Who answers."""
        return self._whole.version()

    def stats(self) -> NoReturn:
        """Statistics tell of all vassals."""
        raise Forbidden(f"{_NOT_YOURS} the Emperor's statistics")

    def _own(self, name: str) -> str:
        if self.owner(name) is None:
            raise NotFound(printable(name))
        return name

    def _render(self, name: str) -> Mapping[str, Any]:
        """The object, without the names of strangers' files in it."""
        whole = self._whole.board.plain(name)
        conditions = [
            {**one, "message": _UNNAMED} if one["type"] == ConditionType.CONFLICT else one
            for one in whole["status"]["conditions"]
        ]
        return {**whole, "status": {**whole["status"], "conditions": conditions}}


class Realms:
    """The Emperor as each may see it. Realms are made when their user first asks, and follow the whole from then on."""

    def __init__(self, whole: EmperorFacade, clock: Clock | None = None) -> None:
        self._whole = whole
        self._clock = clock or SystemClock()
        self._realms: dict[int, Realm] = {}
        self._owners: dict[str, int] = {}
        self._counts: dict[int, int] = {}
        self._origin = int.from_bytes(os.urandom(4)) << 8

    def open(self) -> None:
        """Begin to follow: from now on it is known whose each vassal is."""
        self._whole.board.listener = self._changed
        self._whole.events.owner = self._whole.owner
        self._whole.events.listener = self._noted
        for name in self._whole.board.names():
            self._changed(name, False)

    def of(self, reach: Reach) -> EmperorFacade:
        """The Emperor that somebody of this reach is given."""
        if reach.uid is None:
            return self._whole
        realm = self._realms.get(reach.uid)
        if realm is None:
            realm = self._made(reach.uid)
        return realm

    def rules(self, uid: int) -> bool:
        """Whether any vassal runs as this uid."""
        return uid in self._counts

    def _made(self, uid: int) -> Realm:
        if len(self._realms) > _IDLE_MAX:
            for idle in [one for one in self._realms.values() if one.uid not in self._counts and not one.board.watched]:
                del self._realms[idle.uid]
        # Each begins further on than the last, so that a version from before is known to be old.
        self._origin += 1 << 16
        realm = self._realms[uid] = Realm(self._whole, uid, self._origin)
        for name, owner in self._owners.items():
            if owner == uid:
                realm.board.change(name)
        return realm

    def _changed(self, name: str, gone: bool) -> None:
        owner, before = self._whole.owner(name), self._owners.get(name)
        if before is not None and (gone or before != owner):
            # Its next owner's is not shown to the last one, not even once.
            self._lose(name, before, None if before == owner else _stub(name, self._clock))
        if owner is None or gone:
            return
        if before != owner:
            self._owners[name] = owner
            self._counts[owner] = self._counts.get(owner, 0) + 1
        realm = self._realms.get(owner)
        if realm is not None:
            realm.board.change(name)

    def _lose(self, name: str, uid: int, last: bytes | None) -> None:
        del self._owners[name]
        self._counts[uid] -= 1
        if not self._counts[uid]:
            del self._counts[uid]
        realm = self._realms.get(uid)
        if realm is not None:
            realm.board.remove(name, last)

    def _noted(self, name: str, note: Note, owner: int | None) -> None:
        realm = self._realms.get(owner) if owner is not None else None
        if realm is not None:
            realm.events.record(name, _told(note))


def _told(note: Note) -> Note:
    """An event, without the names of strangers' files in it."""
    return replace(note, message=_UNNAMED) if note.reason == ConditionType.CONFLICT else note


def _stub(name: str, clock: Clock) -> bytes:
    """The last that is said of a vassal which has become another user's."""
    return object_bytes(vassal_object(name, Record(phase="Terminating", born=clock.wall()), clock))


class _OwnLogs:
    """The logs of one user's vassals. `own` gives the name back, or raises NotFound."""

    def __init__(self, logs: LogView, own: Callable[[str], str]) -> None:
        self._logs = logs
        self._own = own

    async def tail(self, name: str, lines: int, most: int) -> bytes:
        return await self._logs.tail(self._own(name), lines, most)

    def read(self, name: str, lines: int) -> AsyncIterator[bytes]:
        return self._logs.read(self._own(name), lines)

    def follow(self, name: str, lines: int) -> AsyncIterator[bytes]:
        return self._logs.follow(self._own(name), lines)
