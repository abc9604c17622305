"""Looks at files exactly as the monitors would, once, without watching: for `emperorctl validate`.

Called by the command line. It takes files, directories and patterns, and also finds what no file can know of
itself: two that claim one name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from emperorctl.models.errors import Problem
from emperorctl.models.merging import NO_LAYERS, Layers
from emperorctl.models.names import printable
from emperorctl.models.source import Change, FileReport, Report
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.base import MonitorContext
from emperorctl.monitors.directory import directory_layout
from emperorctl.monitors.facts import local_facts
from emperorctl.monitors.files import FileMonitor
from emperorctl.monitors.globbing import glob_layout
from emperorctl.monitors.layout import KNOWN_EXTENSIONS, Layout, wanted
from emperorctl.monitors.parsing import Setting
from emperorctl.monitors.registry import SourceText, split_source

__all__ = ["Verdict", "validate"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one file: the names it claims, and everything that is wrong with it."""

    file: str
    names: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def accepted(self) -> bool:
        """Whether every vassal of the file would be accepted."""
        return not self.problems


def validate(paths: Sequence[str], run: UwsgiRun, layers: Layers = NO_LAYERS) -> list[Verdict]:
    """A verdict on every file that the sources lead to, in order; a path that leads nowhere gets one too.

    `layers` are what native manifests are merged with. To be called outside of any event loop. Raises UserError for a
    source of an unknown scheme.
    """
    sources = [(text, split_source(text)) for text in paths]
    reports, nowhere = asyncio.run(_look(sources, run, layers))
    verdicts = [Verdict(problem.file, (), (problem,)) for problem in nowhere]
    owners: dict[str, str] = {}
    for report in sorted(reports.values(), key=lambda report: report.file):
        problems = [report.problem.at(report.file)] if report.problem else []
        problems += [claim.problem.at(report.file) for claim in report.claims if claim.problem]
        for claim in report.claims:
            owner = owners.setdefault(claim.name, report.file)
            if owner != report.file:
                message = f'the name "{claim.name}" is claimed by {owner} as well'
                line = claim.vassal.line if claim.vassal else None
                problems.append(Problem("Conflict", message, "rename one of the two", file=report.file, line=line))
        verdicts.append(Verdict(report.file, tuple(claim.name for claim in report.claims), tuple(problems)))
    return verdicts


async def _look(
    sources: Sequence[tuple[str, SourceText]], run: UwsgiRun, layers: Layers
) -> tuple[dict[str, FileReport], list[Problem]]:
    reports: dict[str, FileReport] = {}
    nowhere: list[Problem] = []

    def collect(report: Report) -> None:
        if isinstance(report, Change):
            reports.update((file.file, file) for file in report.files)
        elif report.problem is not None:
            nowhere.append(report.problem)

    context = MonitorContext(publish=collect, uwsgi=run, warn=lambda source, note: None)
    try:
        for text, (scheme, path, cwd) in sources:
            before = len(reports) + len(nowhere)
            layout = _layout(scheme, path, run.extra_extensions)
            if isinstance(layout, Problem):
                nowhere.append(layout)
                continue
            working_dir = cwd or (layout.root if layout.flat else None)
            moved = cwd is not None
            setting = Setting(layout.source, layout.root, working_dir, run, local_facts(), layers, moved)
            await FileMonitor(layout, setting, context).list_once()
            if len(reports) + len(nowhere) == before and not reports.keys() & {printable(os.path.abspath(path))}:
                nowhere += _nothing(scheme, text, path)
    finally:
        await context.aclose()
    return reports, nowhere


def _layout(scheme: str, path: str, extra: tuple[str, ...]) -> Layout | Problem:
    if scheme == "glob":
        return glob_layout(path, extra=extra)
    if os.path.isdir(path):
        return directory_layout(path, extra=extra)
    directory, name = os.path.split(os.path.abspath(path))
    shown = printable(path)
    if not os.path.lexists(path):
        return Problem("NotFound", "does not exist", "give a file, a directory or a pattern", file=shown)
    if not wanted(name, extra):
        known = " ".join(sorted({*KNOWN_EXTENSIONS, *extra}))
        return Problem("Ignored", f"is ignored by the Emperor; expected one of {known}", "rename it", file=shown)
    return directory_layout(directory, name, extra=extra)


def _nothing(scheme: str, text: str, path: str) -> list[Problem]:
    """An empty directory is fine; a pattern or a file without any result is not."""
    if scheme == "dir" and os.path.isdir(path):
        return []
    return [
        Problem("NotFound", "leads to no config file", "give a file, a directory or a pattern", file=printable(text))
    ]
