"""What the control socket needs of the Emperor, as protocols: everything the API can do goes through here.

Real: `reconciler.emperor.Emperor` with its board and log store. Fake: `tests.fakes.emperor.FakeEmperor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from emperorctl.models.execution import Execution
from emperorctl.models.observed import Exit
from emperorctl.reconciler.api.events import EventLog

__all__ = ["Attached", "BoardView", "EmperorFacade", "LogView"]


class BoardView(Protocol):
    """Every vassal's API object, already encoded as JSON."""

    listener: Callable[[str, bool], None] | None
    """Called with a name whose object has changed, or (then with True) is about to go."""

    def names(self) -> Collection[str]:
        """The names of all there are."""
        ...

    def plain(self, name: str) -> Mapping[str, Any]:
        """One object as it would be encoded now, without its resource version."""
        ...

    @property
    def version(self) -> int:
        """The resource version of the latest change of any vassal."""
        ...

    def get(self, name: str) -> bytes | None:
        """One object; None where there is no such vassal."""
        ...

    def fresh(self, name: str) -> bytes | None:
        """The same, rendered now: with what changes without making a new version."""
        ...

    def snapshot(self) -> tuple[int, list[bytes]]:
        """The version and all objects, sorted by name."""
        ...

    def since(self, version: int) -> list[tuple[int, str, bytes]] | None:
        """(version, ADDED|MODIFIED|DELETED, object) after `version`, oldest first; None when that is too long ago."""
        ...

    async def changed(self, version: int) -> None:
        """Return once the version is above `version`."""
        ...


class LogView(Protocol):
    """The captured output of the vassals."""

    async def tail(self, name: str, lines: int, most: int) -> bytes:
        """The last `lines` lines of a vassal's log, all where `lines` is negative; the last `most` bytes of it."""
        ...

    def read(self, name: str, lines: int) -> AsyncIterator[bytes]:
        """The same, in pieces and however much it is."""
        ...

    def follow(self, name: str, lines: int) -> AsyncIterator[bytes]:
        """The same, and then whatever is written, until the reader leaves."""
        ...


class Attached(Protocol):
    """A command that runs within a vassal. Real: `runtime.execs.Attached`."""

    over: asyncio.Future[Exit]

    def take(self) -> list[int]:
        """The far ends of its terminal or its streams; the caller's from then on."""
        ...

    def kill(self) -> None:
        """End it and all that it started."""
        ...


class EmperorFacade(Protocol):
    """The Emperor as its API sees it. A name that a method gets is a full name, as `resolve` gives it; `by` is who
    gives an order, in words."""

    @property
    def board(self) -> BoardView: ...

    @property
    def events(self) -> EventLog: ...

    @property
    def logs(self) -> LogView: ...

    def resolve(self, name: str) -> str:
        """The full name of the one vassal meant. Raises NotFound or Ambiguous."""
        ...

    def fits(self, name: str) -> list[str]:
        """Every full name that `name` may mean."""
        ...

    def owner(self, name: str) -> int | None:
        """The uid that a vassal runs as, where nothing known of it says another; None in doubt."""
        ...

    def reload(self, name: str, by: str = "") -> None:
        """Order a reload; overrules the budgets."""
        ...

    def reload_all(self, by: str = "") -> int:
        """Order a reload of every vassal; how many there were."""
        ...

    def stop(self, name: str, by: str = "") -> None:
        """Suspend: stop, and hold until `start`."""
        ...

    def start(self, name: str, by: str = "") -> None:
        """End the suspension."""
        ...

    def clear_blacklist(self, names: Sequence[str] | None, by: str = "") -> list[str]:
        """Pardon these vassals (all for None); the names that were on the list."""
        ...

    async def execute(self, name: str, what: Execution, by: str = "", uid: int | None = None) -> Attached:
        """Run a command within a vassal (which runs as `uid`, if one is given); returns once its program runs."""
        ...

    def monitors(self) -> list[dict[str, Any]]:
        """An object for each source of desired state."""
        ...

    def version(self) -> dict[str, object]:
        """Who answers: version, pid and the like."""
        ...

    def stats(self) -> bytes:
        """The statistics document, as the stats server tells it."""
        ...
