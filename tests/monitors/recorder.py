"""Runs one monitor on real files and waits for what it publishes: every wait is for a report, never for a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from emperorctl.models.source import Change, FileReport, Report, Trouble
from emperorctl.models.status import Note
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.base import Monitor, MonitorContext
from emperorctl.monitors.registry import open_source

LIMIT = 20.0

INI = "[uwsgi]\nmaster = true\n"
MANIFEST = "apiVersion: emperor/v1\nkind: Vassal\nspec:\n  command: [sleep, '{0}']\n"


class Recorder:
    """What a monitor published: `changes` and `troubles` since `forget`, and `now`, the state they add up to."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.now: dict[str, FileReport] = {}
        self.notes: list[Note] = []
        self.trouble: Any = None
        self.listed = 0
        self._news = asyncio.Event()
        self.monitor: Monitor

    def publish(self, report: Report) -> None:
        """Given to the monitor."""
        self.reports.append(report)
        if isinstance(report, Trouble):
            self.trouble = report.problem
        else:
            for file in report.files:
                if file.claims or file.problem:
                    self.now[file.file] = file
                else:
                    self.now.pop(file.file, None)
            if report.present is not None:
                self.listed += 1
                self.now = {file: said for file, said in self.now.items() if file in report.present}
        self._news.set()

    def warn(self, source: str, note: Note) -> None:
        """Given to the monitor."""
        self.notes.append(note)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something published makes the condition true."""
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def relisted(self) -> None:
        """Wait for one more complete listing."""
        before = self.listed
        await self.until(lambda: self.listed > before)

    def forget(self) -> None:
        """Count from here."""
        self.reports.clear()

    def said(self, name: str) -> list[FileReport]:
        """Every report on files of this name since `forget`."""
        files = [file for change in self.reports if isinstance(change, Change) for file in change.files]
        return [file for file in files if os.path.basename(file.file) == name]

    def get(self, name: str) -> FileReport | None:
        """What counts now of the one file of this name."""
        found = [report for file, report in self.now.items() if os.path.basename(file) == name]
        return found[0] if found else None

    def reason(self, name: str) -> str:
        """The reason of a file's problem, empty where it has none."""
        report = self.get(name)
        return report.problem.reason if report and report.problem else ""

    def contents(self, name: str) -> str:
        """The digest of the uWSGI config of this name as it counts now."""
        report = self.get(name)
        return report.digest if report else ""

    async def settle(self, directory: str) -> None:
        """Everything done so far was seen: a marker file has come and gone."""
        marker = os.path.join(directory, "zz-marker.ini")
        write(marker, INI)
        await self.until(lambda: self.get("zz-marker.ini"))
        os.unlink(marker)
        await self.until(lambda: not self.get("zz-marker.ini"))


def write(path: Any, text: str | bytes = INI) -> None:
    """Write a file in place."""
    with open(path, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def replace(path: Any, text: str = INI) -> None:
    """Write a file beside it and rename it over."""
    write(f"{path}.new", text)
    os.rename(f"{path}.new", path)


@asynccontextmanager
async def watching(source: Any, *, keep: bool = False, **options: Any) -> AsyncIterator[Recorder]:
    """A running monitor that has listed its source once, or said why it can't; `keep` what it said till then."""
    recorder = Recorder()
    context = MonitorContext(publish=recorder.publish, warn=recorder.warn, **{"uwsgi": UwsgiRun(), **options})
    recorder.monitor = open_source(str(source), context)
    task = asyncio.create_task(recorder.monitor.run())
    try:
        await recorder.until(lambda: recorder.listed or recorder.trouble)
        if not keep:
            recorder.forget()
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await context.aclose()
