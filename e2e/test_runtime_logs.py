"""The log pipeline with real processes: every byte arrives, whatever the rate, the rotation or the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.runtime_court import as_root, court, native, python
from emperorctl.models.vassal import Logs

NUMBERS = """
import sys
for n in range({count}):
    sys.stdout.write("%012d line of some length to be counted\\n" % n)
sys.stdout.flush()
"""
SIZE = 47


def kept(log: Path) -> bytes:
    """All that is kept, the oldest first."""
    files = sorted(log.parent.glob(f"{log.name}.*"), key=lambda path: -int(path.suffix[1:]))
    return b"".join(path.read_bytes() for path in [*files, log])


def test_many_megabytes_through_rotation_lose_no_byte(tmp_path: Path) -> None:
    count = 1_000_000

    async def scene() -> None:
        async with court(tmp_path) as made:
            limits = Logs(max_size=2 * 1024 * 1024, max_files=60)
            started = time.monotonic()
            made.host.launch(native("a", *python(NUMBERS.format(count=count)), logs=limits), 1, 1)
            await made.over("a")
            log = Path(made.host.logs.path("a"))
            async with asyncio.timeout(20):
                while made.host._orders:
                    await asyncio.sleep(0.005)
            data = kept(log)
            print(f"{len(data) / 1e6:.0f} MB in {time.monotonic() - started:.2f} s")
            assert len(data) == SIZE * count
            assert [int(line[:12]) for line in data.splitlines()] == list(range(count))
            rotated = list(log.parent.glob("a.log.*"))
            assert len(rotated) >= 20
            assert all(path.stat().st_size <= limits.max_size + 64 * 1024 for path in rotated)

    asyncio.run(scene())


def test_the_oldest_goes_first_and_no_more_are_kept_than_asked(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            limits = Logs(max_size=100_000, max_files=2)
            made.host.launch(native("a", *python(NUMBERS.format(count=20_000)), logs=limits), 1, 1)
            await made.over("a")
            while made.host._orders:
                await asyncio.sleep(0.005)
            log = Path(made.host.logs.path("a"))
            assert sorted(path.name for path in log.parent.glob("a.log*")) == ["a.log", "a.log.1", "a.log.2"]
            lines = kept(log).splitlines()[1:]
            assert int(lines[-1][:12]) == 19_999
            assert [int(line[:12]) for line in lines] == list(range(20_000 - len(lines), 20_000))
            assert (await made.host.logs.tail("a", 3)).splitlines() == lines[-3:]
            assert (await made.host.logs.tail("a", 3500)).splitlines() == lines[-3500:]
            assert await made.host.logs.tail("a", 0) == b""

    asyncio.run(scene())


def test_follow_goes_on_across_rotations_and_relaunches(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            limits = Logs(max_size=50_000, max_files=30)
            seen = bytearray()
            following = made.host.logs.follow("a", 5)

            async def listen() -> None:
                async for part in following:
                    seen.extend(part)
                    if seen.count(b"\n") >= 15_000:
                        return

            listener = asyncio.create_task(listen())
            for number in (1, 2, 3):
                made.host.launch(native("a", *python(NUMBERS.format(count=5_000)), logs=limits), number, 1)
                await made.until("a", lambda seen, number=number: seen.number == number and seen.exit is not None)
                while made.host._orders:
                    await asyncio.sleep(0.005)
            await asyncio.wait_for(listener, 10)
            await following.aclose()
            assert [int(line[:12]) for line in seen.splitlines()] == [*range(5_000)] * 3
            tailing = made.host.logs.follow("a", 2)
            assert [int(line[:12]) for line in (await anext(tailing)).splitlines()] == [4998, 4999]
            await tailing.aclose()

    asyncio.run(scene())


def test_a_forgotten_vassals_follower_hears_of_the_next_launch(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            following = made.host.logs.follow("a", 0)
            first = asyncio.create_task(anext(following))
            await asyncio.sleep(0.05)
            made.host.forget("a")
            made.host.launch(native("a", "echo", "hello"), 1, 1)
            assert await asyncio.wait_for(first, 5) == b"hello\n"
            await following.aclose()

    asyncio.run(scene())


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(directory)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("can't mount a tmpfs here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@as_root
def test_a_full_disk_makes_the_vassal_wait_and_loses_nothing(tmp_path: Path) -> None:
    count = 60_000

    async def scene() -> None:
        with small_disk(tmp_path / "logs", "1m"):
            ballast = tmp_path / "logs" / "ballast"
            ballast.write_bytes(b"x" * 300_000)
            async with court(tmp_path) as made:
                made.host.launch(native("a", *python(NUMBERS.format(count=count)), logs=Logs(2**30, 1)), 1, 1)
                async with asyncio.timeout(10):
                    while not made.notes:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.6)
                assert [note.reason for _, note in made.notes] == ["LogWriteFailed"]
                assert made.host.observe("a").exit is None
                made.host.launch(native("b", "true"), 1, 1)
                await made.over("b")
                subprocess.run(["mount", "-o", "remount,size=16m", str(tmp_path / "logs")], check=True)
                await made.over("a")
                while made.host._orders:
                    await asyncio.sleep(0.01)
                assert [note.reason for _, note in made.notes] == ["LogWriteFailed", "LogWriteRecovered"]
                data = (tmp_path / "logs" / "a.log").read_bytes()
                assert [int(line[:12]) for line in data.splitlines()] == list(range(count))

    asyncio.run(scene())


def test_a_log_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            (tmp_path / "victim").write_bytes(b"precious\n")
            os.symlink(tmp_path / "victim", made.host.logs.path("a"))
            made.host.launch(native("a", "echo", "hello"), 1, 1)
            await made.over("a")
            assert made.notes[0][1].reason == "LogWriteFailed"
            assert (tmp_path / "victim").read_bytes() == b"precious\n"

    asyncio.run(scene())


def test_a_loud_vassal_does_not_starve_a_quiet_one(tmp_path: Path) -> None:
    loud = "import os\nwhile True: os.write(1, b'x' * 65535 + b'\\n')"

    async def scene() -> None:
        async with court(tmp_path) as made:
            for number in range(3):
                made.host.launch(native(f"loud{number}", *python(loud), logs=Logs(4 << 20, 1)), 1, 1)
                await made.alive(f"loud{number}")
            worst = 0.0
            for number in range(1, 11):
                started = time.monotonic()
                made.host.launch(native("quiet", "sh", "-c", "echo hello"), number, 1)
                await made.until("quiet", lambda seen, n=number: seen.number == n and seen.exit is not None)
                worst = max(worst, time.monotonic() - started)
            print(f"launch to exit beside three loud ones: at worst {worst * 1000:.0f} ms")
            assert worst < 1.0
            assert (await made.log("quiet")).startswith(b"hello\n")

    asyncio.run(scene())


def test_open_files_stay_bounded(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            made.host.logs._open_max = 5
            for number in range(40):
                made.host.launch(native(f"v{number}", "sh", "-c", f"echo {number}; sleep 0.3; echo {number}"), 1, 1)
            for number in range(40):
                await made.over(f"v{number}")
            while made.host._orders:
                await asyncio.sleep(0.01)
            assert len(made.host.logs._open) <= 5
            for number in range(40):
                assert Path(made.host.logs.path(f"v{number}")).read_text() == f"{number}\n" * 2

    asyncio.run(scene())
