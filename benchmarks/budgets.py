"""The budgets under stress: a crowd in a crash loop, a crowd killed at once, a crowd of heartbeats.

Called by `__main__`. Each runs under an Emperor of its own.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from types import MappingProxyType

from benchmarks.contenders import Emperorctl, Workshop
from benchmarks.kernel import cpu_seconds
from benchmarks.measure import Spread, Subject, time_command
from emperorctl.models.plan import Throttle
from emperorctl.reconciler.throttle import ThrottleRule, reserve

__all__ = ["Beating", "Crashing", "crash_loop", "heartbeats", "killed_at_once"]

GROWN = 180.0
"""Seconds between two tries of one vassal once its blacklist entry has grown."""
_HURRIED = 20
_PROBES = 20
_LOYAL = 1.2
"""Seconds until a vassal that was started again is loyal again, so that its next death is not held against it."""


class Crashing(Emperorctl):
    """All but the first fail at once, and are tried every 20 seconds."""

    title = "crash loop"
    options = ("--emperor-throttle", "1000", "--throttle-burst", "100", "--emperor-max-throttle", f"{_HURRIED}000")

    def __init__(self, shop: Workshop) -> None:
        super().__init__(shop)
        self.healthy = self.name(0)

    def text(self, name: str) -> str:
        text = super().text(name)
        return text if name == self.healthy else text.replace("env: {", 'env: {BENCH_FAIL: "1", ')


class Beating(Emperorctl):
    """Each speaks the emperor protocol, and sends a heartbeat a second."""

    title = "heartbeats"
    reload = "{protocol: {}}"
    env = MappingProxyType({"BENCH_BEAT": "1"})


def crash_loop(subject: Subject) -> dict[str, Spread]:
    """What the crowd costs, and what it costs the others, while each is tried every 3 to 20 s.

    That is far more often than with a grown blacklist, whose share is worked out from the cost of one try.
    """
    contender = subject.contender
    assert isinstance(contender, Crashing)
    healthy, pick = contender.healthy, random.Random(3)
    contender.prepare(subject.names)
    contender.start()
    subject.inbox.wait_for_starts({healthy}, 60)
    time.sleep(5)
    managers = contender.manager_pids()
    before, began, tries = cpu_seconds(managers), time.monotonic(), _attempts(contender)
    tables, respawns = [], []
    for _ in range(_PROBES):
        time.sleep(_LOYAL + pick.random())
        command = contender.status_command()
        assert command is not None
        tables.append(time_command(command))
        respawns.append(subject.kill(healthy))
    took, used = time.monotonic() - began, cpu_seconds(managers) - before
    each = used / max(1, _attempts(contender) - tries)
    print(f"  measured over {took:.0f} s at {used / took:.1%} of a core", flush=True)
    return {
        "crash-cpu": Spread.of([each * len(subject.names) / GROWN]),
        "crash-try": Spread.of([each]),
        "crash-get": Spread.of(tables),
        "crash-kill": Spread.of(respawns),
    }


def killed_at_once(subject: Subject) -> dict[str, Spread]:
    """A crowd of loyal vassals gets SIGKILL at the same moment."""
    subject.start()
    time.sleep(3)
    pidfds = [os.pidfd_open(subject.inbox.pids[name]) for name in subject.names]
    began = time.monotonic()
    for pidfd in pidfds:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
    throttle, due = Throttle(), 0.0
    for _ in subject.names:
        throttle, due = reserve(throttle, ThrottleRule(), 0.0)
    starts = subject.inbox.starts(due + 15)
    started = {message.name for message in starts}
    if missing := set(subject.names) - started:
        raise RuntimeError(f"{len(missing)} were lost")
    return {
        "mass-back": Spread.of([max(message.at for message in starts) - began]),
        "mass-due": Spread.of([due]),
        "mass-twice": Spread.of([len(starts) - len(started)]),
    }


def heartbeats(subject: Subject) -> dict[str, Spread]:
    """A heartbeat a second from each."""
    subject.start()
    time.sleep(3)
    managers = subject.contender.manager_pids()
    before = cpu_seconds(managers)
    time.sleep(subject.effort.idle)
    return {"beat-cpu": Spread.of([(cpu_seconds(managers) - before) / subject.effort.idle])}


def _attempts(contender: Emperorctl) -> int:
    """How often vassals were started again so far, by the Emperor's own account."""
    command = contender.status_command()
    assert command is not None
    done = subprocess.run([*command, "-o", "json"], capture_output=True, check=True, text=True)
    return sum(int(line.split(":")[1].rstrip(",")) for line in done.stdout.splitlines() if '"respawns":' in line)
