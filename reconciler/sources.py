"""What is known of each source of desired state: whether it can be read, when it last said something, what went wrong.

Stands between the monitors and the desired store, which draws the conclusions; asked by the Emperor for its API. Not in
here: the monitors themselves, which the reconciler does not see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from emperorctl.models.errors import Problem
from emperorctl.models.source import Report, Trouble
from emperorctl.reconciler.clock import Clock
from emperorctl.reconciler.desired import DesiredStore
from emperorctl.reconciler.views import API_VERSION, timestamp

__all__ = ["SourceState", "Sources"]


class SourceState(StrEnum):
    """How a source stands, in one word for tables."""

    LISTING = "Listing"  # not everything in it is known yet
    SYNCED = "Synced"
    UNAVAILABLE = "Unavailable"  # it can't be read: its vassals stay as they are


@dataclass(slots=True)
class _Source:
    """Times are wall seconds. `error` is the last one, whether it is over or not."""

    watch: Callable[[], str]
    working_dir: str = ""
    state: SourceState = SourceState.LISTING
    listed: bool = False
    synced_at: float | None = None
    error: Problem | None = None
    failed_at: float = 0.0


class Sources:
    """The sources of one Emperor, by their addresses."""

    def __init__(self, store: DesiredStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._sources: dict[str, _Source] = {}

    def add(self, source: str, watch: Callable[[], str], working_dir: str = "") -> None:
        """There is this source; `watch` says how its changes are noticed, `inotify` or `poll`; `working_dir` where its
        vassals are run that do not say otherwise."""
        self._sources.setdefault(source, _Source(watch, working_dir))

    def apply(self, report: Report) -> None:
        """Take note of what a monitor says, and pass it on."""
        known = self._sources.get(report.source)
        if known is not None:
            if isinstance(report, Trouble):
                if report.problem is not None:
                    self.failed(report.source, report.problem)
                else:
                    known.state = SourceState.SYNCED if known.listed else SourceState.LISTING
            else:
                known.listed = known.listed or report.present is not None
                known.state = SourceState.SYNCED if known.listed else SourceState.LISTING
                known.synced_at = self._clock.wall()
        self._store.apply(report)

    def failed(self, source: str, problem: Problem) -> None:
        """This source can't be read now."""
        known = self._sources.get(source)
        if known is not None:
            known.state, known.error, known.failed_at = SourceState.UNAVAILABLE, problem, self._clock.wall()

    def objects(self) -> list[dict[str, Any]]:
        """An API object for each source, by address."""
        return [self._object(source, self._sources[source]) for source in sorted(self._sources)]

    def _object(self, source: str, known: _Source) -> dict[str, Any]:
        error = known.error
        return {
            "apiVersion": API_VERSION,
            "kind": "Monitor",
            "metadata": {"name": source, "labels": {}},
            "status": {
                "state": str(known.state),
                "watch": known.watch(),
                "vassals": self._store.count(source),
                "workingDir": known.working_dir,
                "lastSync": None if known.synced_at is None else timestamp(known.synced_at),
                "lastError": None
                if error is None
                else {"reason": error.reason, "message": error.sentence(), "at": timestamp(known.failed_at)},
            },
        }
