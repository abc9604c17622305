"""What a launch costs that drops its privileges, and one into namespaces of its own, beside a plain one.

Called by `__main__` (`--isolation`, as root). The launches are real ones, of the runtime alone: from the order to the
word that the program runs. Each kind is launched all at once, so that orders may overtake each other as they do when
an Emperor starts, and then one by one; the kinds take turns, so that a busy moment hits all of them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import Spread
from emperorctl.models.isolation import IPC, MOUNT, NET, PID, UTS, Isolation, Network
from emperorctl.models.observed import LaunchState
from emperorctl.models.vassal import Kind, Launch, Vassal
from emperorctl.reconciler.clock import SystemClock
from emperorctl.reconciler.runtime.host import LocalHost
from emperorctl.reconciler.runtime.host_settings import HostSettings
from emperorctl.reconciler.runtime.spawn import spawn_zygote

__all__ = ["KINDS", "PROMISE", "launches"]

PROMISE = 0.004
"""Seconds that a launch with another user and five namespaces may take, 200 in a row."""

_FIVE = MOUNT | NET | IPC | PID | UTS
_DROP = Isolation(no_new_privileges=True)
KINDS: Mapping[str, tuple[str, Isolation | None, str | None]] = {
    "plain": ("plain", None, None),
    "drop": ("another user, no capabilities", _DROP, "nobody"),
    "clone": ("another user, five namespaces (emperor-use-clone)", Isolation(_FIVE), "nobody"),
    "cell": (
        "another user, five namespaces, /proc, a keeper",
        Isolation(_FIVE, proc=True, network=Network.NONE, init=True, no_new_privileges=True),
        "nobody",
    ),
    "jail": (
        "the same with private /tmp and /dev, all else read-only",
        Isolation(
            _FIVE, "jail", True, True, True, read_only=("/",), inaccessible=("/root",), network=Network.NONE, init=True
        ),
        "nobody",
    ),
}
"""What is measured: a title, the isolation, the user."""

_PROGRAM = shutil.which("sleep") or "sleep"
_ALONE = 20
_PATIENCE = 60.0


def launches(directory: Path, number: int, trials: int) -> dict[str, Spread]:
    """For each kind, and KIND-alone, seconds for one launch."""
    return asyncio.run(_measure(directory, number, trials))


async def _measure(directory: Path, number: int, trials: int) -> dict[str, Spread]:
    wakeup = asyncio.Event()
    settings = HostSettings(f"bench{os.getpid()}", str(directory / "logs"))
    host = LocalHost(
        settings,
        wake=lambda name: wakeup.set(),
        note=lambda name, note: None,
        clock=SystemClock(),
        zygote=spawn_zygote(),
    )
    await host.start()
    found: dict[str, list[float]] = {}
    try:
        measuring = _Measuring(host, wakeup)
        await measuring.seconds("plain", 8)
        for _ in range(trials):
            for kind in KINDS:
                found.setdefault(kind, []).append(await measuring.seconds(kind, number) / number)
                alone = [await measuring.seconds(kind, 1) for _ in range(_ALONE)]
                found.setdefault(f"{kind}-alone", []).append(statistics.median(alone))
    finally:
        await host.close()
    return {kind: Spread.of(values) for kind, values in found.items()}


class _Measuring:
    def __init__(self, host: LocalHost, wakeup: asyncio.Event) -> None:
        self._host = host
        self._wakeup = wakeup
        self._number = 0

    async def seconds(self, kind: str, number: int) -> float:
        """From the first order to the last process that runs; they are ended before this returns."""
        _, isolation, user = KINDS[kind]
        launch = Launch((_PROGRAM, "1000"), user=user, isolation=isolation)
        self._number += 1
        names = [f"{kind}-{self._number}-{index}" for index in range(number)]
        begin = time.perf_counter()
        for name in names:
            self._host.launch(Vassal(name, Kind.NATIVE, "bench", "bench", launch), 1, 1)
        await self._until(names, LaunchState.ALIVE)
        taken = time.perf_counter() - begin
        for name in names:
            self._host.end(name, 1)
        await self._until(names, LaunchState.EXITED)
        for name in names:
            self._host.forget(name)
        return taken

    async def _until(self, names: list[str], state: LaunchState) -> None:
        waiting = list(names)
        async with asyncio.timeout(_PATIENCE):
            while waiting := [name for name in waiting if self._host.observe(name).state is not state]:
                failed = [self._host.observe(name) for name in waiting]
                if any(seen.state is LaunchState.FAILED for seen in failed):
                    raise RuntimeError(f"a launch failed: {failed[0].failure}")
                self._wakeup.clear()
                await self._wakeup.wait()
