"""What every monitor is, and what it is given: the one protocol of this package.

A monitor says what should run; it never starts or stops anything. Made by `registry.open_source`, run by the
command line's composition root, one task each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from emperorctl.models.source import Publish
from emperorctl.models.status import Note
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.gate import Gate
from emperorctl.monitors.outside import OutsideParser
from emperorctl.monitors.watch.choice import WatchMode
from emperorctl.monitors.watch.inotify import Inotify
from emperorctl.monitors.watch.polling import INTERVAL

__all__ = ["Monitor", "MonitorContext", "Shared", "Warn"]

Warn = Callable[[str, Note], None]
"""Told the source and what is worth an event about it."""


class Monitor(Protocol):
    """One source of desired state."""

    source: str
    """Its full address, such as `dir:///etc/vassals`."""

    async def run(self) -> None:
        """List, publish, then watch until cancelled. Never raises for the world's faults."""
        ...

    async def resync(self) -> None:
        """List everything again; publish what differs from what was last published, and what is present."""
        ...

    def describe_watch(self) -> str:
        """How changes are noticed: `inotify` or `poll`."""
        ...


@dataclass(slots=True)
class Shared:
    """What all monitors of one Emperor have in common: one inotify instance, one parser for strangers' files."""

    inotify: Inotify = field(default_factory=Inotify)
    outside: OutsideParser = field(default_factory=OutsideParser)


@dataclass(frozen=True, slots=True)
class MonitorContext:
    """What monitors are given.

    `publish` and `warn` are called from the event loop and must not block. `uwsgi` says how uWSGI vassals are run.
    `nofollow`: a link's own time alone counts as its touch. `poll_interval` is in seconds. `gate`: files are read and
    judged as tyrant mode has it.
    """

    publish: Publish
    uwsgi: UwsgiRun
    warn: Warn
    watch: WatchMode = "auto"
    nofollow: bool = False
    poll_interval: float = INTERVAL
    shared: Shared = field(default_factory=Shared)
    gate: Gate | None = None

    async def aclose(self) -> None:
        """End the parser's process. To be called when no monitor runs any more."""
        await self.shared.outside.aclose()
