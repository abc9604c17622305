"""What the tests of the runtime share: a LocalHost with real processes, and a daemon that hides well."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from emperorctl.models.observed import LaunchState, Observed
from emperorctl.models.status import Note
from emperorctl.models.vassal import Kind, Launch, Logs, Vassal
from emperorctl.reconciler.clock import SystemClock
from emperorctl.reconciler.runtime.cgroups import find_place
from emperorctl.reconciler.runtime.host import LocalHost
from emperorctl.reconciler.runtime.host_settings import HostSettings
from emperorctl.reconciler.runtime.spawn import ZygoteHandle, spawn_zygote

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: switches users")
both = pytest.mark.parametrize("containment", ["cgroup", "tree"])


class Court:
    """A LocalHost under test, and what it said."""

    def __init__(
        self, directory: Path, containment: str, zygote: ZygoteHandle | None = None, instance: str = ""
    ) -> None:
        if containment == "cgroup" and find_place() is None:
            pytest.skip("no writable cgroup v2 here")
        self.notes: list[tuple[str, Note]] = []
        self.changed = asyncio.Event()
        self.zygote = zygote or spawn_zygote()
        self.host = LocalHost(
            HostSettings(instance or f"t{os.getpid()}", str(directory / "logs"), containment=containment),
            wake=lambda name: self.changed.set(),
            note=lambda name, note: self.notes.append((name, note)),
            clock=SystemClock(),
            zygote=self.zygote,
        )

    async def until(self, name: str, truth: Callable[[Observed], bool], patience: float = 10.0) -> Observed:
        async with asyncio.timeout(patience):
            while not truth(self.host.observe(name)):
                self.changed.clear()
                await self.changed.wait()
        return self.host.observe(name)

    async def over(self, name: str) -> Observed:
        return await self.until(name, lambda seen: seen.state in (LaunchState.EXITED, LaunchState.FAILED))

    async def alive(self, name: str) -> Observed:
        seen = await self.until(name, lambda seen: seen.state is not LaunchState.LAUNCHING)
        assert seen.state is LaunchState.ALIVE, seen
        return seen

    async def log(self, name: str, wanted: bytes = b"\n") -> bytes:
        async with asyncio.timeout(10):
            while wanted not in (data := await self.host.logs.tail(name, -1)):
                await asyncio.sleep(0.005)
        return data


@contextlib.asynccontextmanager
async def court(directory: Path, containment: str = "auto") -> AsyncIterator[Court]:
    made = Court(directory, containment)
    await made.host.start()
    try:
        yield made
    finally:
        await made.host.close()


def native(name: str, *command: str, **launch: object) -> Vassal:
    logs = launch.pop("logs", Logs())
    return Vassal(name, Kind.NATIVE, "test", "test", Launch(command, **launch), logs=logs)  # type: ignore[arg-type]


def python(code: str) -> tuple[str, ...]:
    return ("/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable, "-I", "-S", "-c", code)


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def is_directly_ours(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1]) == os.getpid()


DAEMON = """
import os, signal, sys, time
os.makedirs("PLACE/pids")
def mark():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    open("PLACE/pids/%d" % os.getpid(), "w").close()
for double in (False, True):
    if os.fork() == 0:
        os.setsid()
        if double and os.fork() != 0:
            os._exit(0)
        mark()
        while True:
            time.sleep(10)
mark()
while len(os.listdir("PLACE/pids")) < 3:
    time.sleep(0.005)
print("ready", flush=True)
while True: time.sleep(1)
"""
