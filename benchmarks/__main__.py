"""The command `python -m benchmarks [N]`: build the vassal, run every contender in turn, print the table.

The vassal is a tiny C program, so a C compiler is needed (uWSGI, which it is compared with, needs one too).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.budgets import Beating, Crashing, crash_loop, heartbeats, killed_at_once
from benchmarks.contenders import CONTENDERS, Contender, Emperorctl, Uwsgi, Workshop
from benchmarks.inbox import Inbox
from benchmarks.kernel import adopt_orphans, raise_file_limit
from benchmarks.measure import Effort, Spread, Subject, measure_all, measure_events
from benchmarks.table import as_json, budget_table, comparison, growth, isolation_table

__all__ = ["main"]

_SCALE = (100, 1000, 5000)
_STARTS = 5
_STARTS_BUDGET = 12.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the exit status is 1 when a contender could not be measured to the end."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    files = raise_file_limit()
    _say(f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}, {files} open files")
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        if options.isolation:
            return _isolation(Path(work), options)
        program = _build(Path(work))
        if program is None:
            return 1
        bench = _Bench(Path(work), program, Effort(options.trials, options.idle))
        if options.scale:
            return _scale(bench, options)
        return _budgets(bench, options) if options.budgets else _compare(bench, options)


class _Bench:
    """The workshop of one run: each contender gets a fresh directory in it, and its processes are always ended."""

    def __init__(self, work: Path, program: Path, effort: Effort) -> None:
        self._work = work
        self._program = program
        self._effort = effort
        self._runs = 0

    def run(
        self, kind: type[Contender], vassals: int, measure: Callable[[Subject], dict[str, Spread]]
    ) -> dict[str, Spread] | None:
        """What `measure` finds; None (and the reason on stderr) when it can't get to the end."""
        self._runs += 1
        directory = self._work / str(self._runs)
        directory.mkdir()
        inbox = Inbox(self._work / f"{self._runs}.inbox")
        contender = kind(Workshop(directory, self._program, inbox.path))
        names = [contender.name(number) for number in range(vassals)]
        try:
            return measure(Subject(contender, names, inbox, self._effort))
        except (TimeoutError, RuntimeError, subprocess.CalledProcessError, OSError) as error:
            _say(f"{kind.title}: {error!r}\n{contender.last_words()}")
            return None
        finally:
            contender.end()
            inbox.close()
            shutil.rmtree(directory)


def _compare(bench: _Bench, options: argparse.Namespace) -> int:
    vassals: int = options.vassals
    results: dict[str, dict[str, Spread]] = {}
    failed, subject, rival = False, "", ""
    for kind in CONTENDERS:
        if options.only and kind.key not in options.only:
            continue
        if not kind.available():
            _say(f"{kind.title}: not installed, left out")
            continue
        if vassals > kind.most_vassals and not options.only:
            _say(f"{kind.title}: left out above {kind.most_vassals:,} vassals (--only {kind.key} overrules)")
            continue
        title = f"{kind.title} {kind.version()}".strip()
        subject = title if issubclass(kind, Emperorctl) and not subject else subject
        rival = title if kind is Uwsgi else rival
        rows = bench.run(kind, vassals, _narrated(kind))
        if rows is None:
            failed = True
        else:
            results[title] = rows | {"start": _start_again(bench, kind, vassals, rows["start"])}
    if results:
        print(comparison(results, vassals, subject, rival))
    if options.json:
        options.json.write_text(json.dumps({"vassals": vassals, "contenders": as_json(results)}, indent=2) + "\n")
    return int(failed or not results)


def _narrated(kind: type[Contender]) -> Callable[[Subject], dict[str, Spread]]:
    return lambda subject: measure_all(subject, lambda stage: _say(f"{kind.title}: {stage}"))


def _start_again(bench: _Bench, kind: type[Contender], vassals: int, first: Spread) -> Spread:
    """The start, measured as often as fits into a short time: it is the row that a busy machine disturbs most."""
    values = [first.median]
    while len(values) < _STARTS and sum(values) < _STARTS_BUDGET:
        rows = bench.run(kind, vassals, lambda subject: {"start": Spread.of([subject.start()])})
        if rows is None:
            break
        values.append(rows["start"].median)
    return Spread.of(values)


def _scale(bench: _Bench, options: argparse.Namespace) -> int:
    results: dict[int, dict[str, Spread]] = {}

    def start_and_measure(subject: Subject) -> dict[str, Spread]:
        started = Spread.of([subject.start()])
        subject.trials(subject.touch, random.Random(0))  # what is done for the first time is not what is asked here
        return {"start": started} | measure_events(subject)

    for vassals in _SCALE:
        _say(f"emperorctl: {vassals:,} vassals")
        rows = bench.run(Emperorctl, vassals, start_and_measure)
        if rows is None:
            return 1
        results[vassals] = rows
    print(growth(results))
    if options.json:
        options.json.write_text(
            json.dumps({"scale": as_json({str(n): r for n, r in results.items()})}, indent=2) + "\n"
        )
    return 0


def _budgets(bench: _Bench, options: argparse.Namespace) -> int:
    rows: dict[str, Spread] = {}
    for kind, measure in ((Crashing, crash_loop), (Emperorctl, killed_at_once), (Beating, heartbeats)):
        _say(f"{measure.__name__.replace('_', ' ')}: {options.vassals:,} vassals")
        found = bench.run(kind, options.vassals, measure)
        if found is None:
            return 1
        rows |= found
    print(budget_table(rows, options.vassals))
    if options.json:
        options.json.write_text(json.dumps({"budgets": as_json({"emperorctl": rows})}, indent=2) + "\n")
    return 0


def _isolation(work: Path, options: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        _say("error: changing users and making namespaces takes root")
        return 1
    from benchmarks.isolation import KINDS, PROMISE, launches

    rows = launches(work, options.vassals, options.trials)
    print(isolation_table(rows, {key: kind[0] for key, kind in KINDS.items()}, PROMISE))
    if options.json:
        options.json.write_text(json.dumps({"isolation": as_json({"emperorctl": rows})}, indent=2) + "\n")
    return 0


def _build(work: Path) -> Path | None:
    """The vassal's program, linked statically where that is possible; None (and the reason) without a compiler."""
    program = work / "vassal"
    source = Path(__file__).with_name("vassal.c")
    compiler = next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)
    if compiler is None:
        _say("error: the benchmark's vassal is a C program and there is no C compiler; on Debian: apt install gcc")
        return None
    for extra in (["-static"], []):
        done = subprocess.run([compiler, "-O2", *extra, "-o", program, source], capture_output=True, check=False)
        if done.returncode == 0:
            return program
    _say(f"error: {compiler} could not build {source.name}:\n{done.stderr.decode(errors='replace')}")
    return None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    keys = [kind.key for kind in CONTENDERS]
    parser.add_argument("vassals", nargs="?", type=int, default=100, metavar="N", help="how many vassals (100)")
    parser.add_argument("--only", action="append", choices=keys, default=[], help="only this contender (repeatable)")
    parser.add_argument("--scale", action="store_true", help="emperorctl alone, at 100, 1,000 and 5,000 vassals")
    parser.add_argument("--budgets", action="store_true", help="emperorctl alone: throttle, blacklist and heartbeats")
    parser.add_argument("--isolation", action="store_true", help="emperorctl alone, as root: launches into namespaces")
    parser.add_argument("--trials", type=int, default=5, help="how often each event is measured (5)")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds of watching it do nothing (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
