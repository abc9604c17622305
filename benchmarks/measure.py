"""One contender, measured: from its start with N vassals to its end, one row of numbers after another.

Called by `__main__`. Times are monotonic seconds taken from the vassals' own reports or from pidfds.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.contenders import Contender
from benchmarks.inbox import RELOADED, STARTED, Inbox
from benchmarks.kernel import cpu_seconds, pss_bytes, system_calls, wait_for_exit

__all__ = ["Effort", "Spread", "Subject", "measure_all", "measure_events", "time_command"]

_EVENT_LIMIT = 60.0
_SETTLE = 4.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median, least and greatest of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: trials for each event, and how many seconds to watch it idle."""

    trials: int = 5
    idle: float = 10.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A contender with its vassals, and where they report."""

    contender: Contender
    names: list[str]
    inbox: Inbox
    effort: Effort

    def start(self) -> float:
        """Start it on all its vassals; seconds until the last of them ran."""
        self.contender.prepare(self.names)
        self.inbox.clear()
        began = time.monotonic()
        self.contender.start()
        return self.inbox.wait_for_starts(set(self.names), 60 + len(self.names) * 0.2) - began

    def trials(self, one: Callable[[str], float], pick: random.Random) -> Spread:
        """The same thing with several vassals, one after another, at odd moments."""
        values = []
        for name in pick.sample(self.names, min(self.effort.trials, len(self.names))):
            time.sleep(pick.random() * self.contender.jitter)
            values.append(one(name))
        return Spread.of(values)

    def touch(self, name: str) -> float:
        """Seconds from the order to reload to the vassal's hearing of it."""
        began = time.monotonic()
        self.contender.touch(name)
        return self.inbox.wait(RELOADED, name, began, _EVENT_LIMIT).at - began

    def kill(self, name: str) -> float:
        """Seconds from SIGKILL to the next process's start."""
        pidfd = os.pidfd_open(self.inbox.pids[name])
        began = time.monotonic()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        return self.inbox.wait(STARTED, name, began, _EVENT_LIMIT).at - began

    def remove(self, name: str) -> float:
        """Seconds from the file's removal to the process's end."""
        pidfd = os.pidfd_open(self.inbox.pids[name])
        try:
            began = time.monotonic()
            self.contender.remove(name)
            return wait_for_exit(pidfd, _EVENT_LIMIT) - began
        finally:
            os.close(pidfd)

    def add(self, name: str) -> float:
        """Seconds from the file's appearance to the process's start."""
        began = time.monotonic()
        self.contender.add(name)
        return self.inbox.wait(STARTED, name, began, _EVENT_LIMIT).at - began


def measure_events(subject: Subject) -> dict[str, Spread]:
    """Touch, kill, remove and add, each with several vassals; and the CPU time that one touch costs the manager."""
    pick = random.Random(20)
    managers = subject.contender.manager_pids()
    rows = {}
    before = cpu_seconds(managers)
    rows["touch"] = subject.trials(subject.touch, pick)
    rows["touch-cpu"] = Spread.of([(cpu_seconds(managers) - before) / rows["touch"].count])
    rows["kill"] = subject.trials(subject.kill, pick)
    removed: list[str] = []

    def remove_and_note(name: str) -> float:
        removed.append(name)
        return subject.remove(name)

    rows["remove"] = subject.trials(remove_and_note, pick)
    values = []
    for name in removed:
        time.sleep(pick.random() * subject.contender.jitter)
        values.append(subject.add(name))
    rows["add"] = Spread.of(values)
    return rows


def measure_all(subject: Subject, say: Callable[[str], None]) -> dict[str, Spread]:
    """Every row of the table for this contender, in the order in which they disturb it least."""
    say("starting")
    rows = {"start": Spread.of([subject.start()])}
    time.sleep(_SETTLE)
    contender = subject.contender
    managers = contender.manager_pids()
    say("idle")
    before = cpu_seconds(managers)
    time.sleep(subject.effort.idle)
    rows["idle-cpu"] = Spread.of([(cpu_seconds(managers) - before) / subject.effort.idle])
    rows["memory"] = Spread.of([pss_bytes(managers)])
    scratch = contender.shop.directory / "strace.txt"
    calls = system_calls(managers, subject.effort.idle, scratch)
    if calls is not None:
        rows["idle-calls"] = Spread.of([calls * 10 / subject.effort.idle])
    say("status and help")
    for row, command in (("status", contender.status_command()), ("help", contender.help_command())):
        if command is not None:
            rows[row] = Spread.of([time_command(command) for _ in range(subject.effort.trials)])
    say("events")
    return rows | measure_events(subject)


def time_command(command: list[str]) -> float:
    """Seconds that a command takes, from before its start to after its end; its output is read, not shown."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, check=False)
    took = time.monotonic() - began
    if done.returncode not in {0, 3} or not done.stdout:  # supervisorctl status: 3 when not all are running
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace')[-500:]}")
    return took
