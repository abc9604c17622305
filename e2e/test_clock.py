"""The wall clock jumps by a day: nothing fires early, nothing stalls, only the times that people see move."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from e2e.harness import Emperor
from e2e.test_protocol_faults import puppets, reasons

Make = Callable[..., Emperor]

DAY = 86_400


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that shifts the wall clock."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is needed to build the library that shifts the clock")
    path = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    source = Path(__file__).with_name("clock_shift.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, source], check=True, capture_output=True)
    for parent in (path, *path.parents[:2]):
        parent.chmod(0o755)
    return path


class Clock:
    """The wall clock of one Emperor."""

    def __init__(self, e: Emperor, shim: Path) -> None:
        self._file = e.root / "shift"
        self._file.write_bytes(struct.pack("l", 0))
        e.env |= {"LD_PRELOAD": str(shim), "CLOCK_SHIFT": str(self._file)}

    def shift(self, seconds: int) -> None:
        """From now on the wall clock is so many seconds off."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("l", seconds))


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_of_a_day_hurries_and_holds_up_nobody(emperor: Make, shim: Path, jump: int) -> None:
    e = puppets(emperor, "--emperor-required-heartbeat", "5")
    clock = Clock(e, shim)
    e.start()
    e.write("beats.ini", "[uwsgi]\n")
    e.manifest("steady", ["sleep", "1000"], loyalty={"after": "1s"})
    pids = {name: e.wait_running(name) for name in ("beats.ini", "steady")}
    e.wait_condition("beats.ini", "Loyal", "True")
    e.manifest("crashes", ["false"])
    e.wait_phase("crashes", "Blacklisted")
    begun = time.monotonic()
    clock.shift(jump)
    e.manifest("later", ["sleep", "1000"], loyalty={"after": "2s"})
    e.wait_running("later")
    created = e.objects()["later"]["metadata"]["creationTimestamp"]
    assert abs(datetime.fromisoformat(created).timestamp() - time.time() - jump) < 3600, "the clock did jump"
    e.wait_for(lambda: e.objects()["crashes"]["status"]["respawns"] == 1, what="the next try")
    assert time.monotonic() - begun > 1.5, "its next try came early"
    e.wait_condition("later", "Loyal", "True", "Survived")
    clock.shift(0)
    e.wait_for(lambda: e.objects()["crashes"]["status"]["respawns"] == 2, what="the try after that")
    assert {name: e.main_pid(name) for name in pids} == pids
    assert "Hung" not in reasons(e, "beats.ini")
