"""Logs read back in pieces, on real files."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import pytest

from emperorctl.reconciler.runtime import logreading
from emperorctl.reconciler.runtime.logfiles import LogFile

PIECE = 256 * 1024


def written(directory: Path, *parts: bytes) -> LogFile:
    """A log whose files hold these, the oldest first."""
    for age, part in enumerate(reversed(parts)):
        (directory / ("a.log" if age == 0 else f"a.log.{age}")).write_bytes(part)
    return LogFile(str(directory / "a.log"), 1 << 20, 1000)


async def pieces(file: LogFile, lines: int, most: int = logreading.SEARCHED) -> list[bytes]:
    return [data async for data in logreading.past(file, lines, logreading.end_of(file), most)]


def last(file: LogFile, lines: int, most: int = logreading.SEARCHED) -> bytes:
    return b"".join(asyncio.run(pieces(file, lines, most)))


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 5, 9, 10, 11, 100, 10**17, -1])
@pytest.mark.parametrize("cuts", [(3, 8), (0, 10), (10, 10), (5, 5), (0, 0)])
def test_lines_are_counted_across_files(tmp_path: Path, lines: int, cuts: tuple[int, int]) -> None:
    everything = [b"%d\n" % number for number in range(10)]
    first, second = cuts
    file = written(
        tmp_path, *(b"".join(part) for part in (everything[:first], everything[first:second], everything[second:]))
    )
    wanted = everything if lines < 0 else everything[max(0, 10 - lines) :] if lines else []
    assert last(file, lines) == b"".join(wanted)


def test_an_unfinished_line_counts_and_nothing_is_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, b"one\ntwo")
    assert last(file, 1) == b"two"
    assert last(file, 2) == b"one\ntwo"
    assert last(LogFile(str(tmp_path / "b.log"), 10, 3), 5) == b""
    os.unlink(file.path)
    Path(f"{file.path}.1").write_bytes(b"older\n")
    assert last(file, 1) == last(file, -1) == b"older\n"


def test_lines_that_cross_blocks(tmp_path: Path) -> None:
    text = b"".join(b"%06d" % number + b"x" * (number % 977) + b"\n" for number in range(2000))
    file = written(tmp_path, text)
    for lines in (1, 131, 132, 133, 500, 1999, 2000):
        assert last(file, lines) == b"".join(text.splitlines(keepends=True)[-lines:])


def test_a_long_log_comes_in_small_pieces_and_a_search_has_an_end(tmp_path: Path) -> None:
    file = written(tmp_path, b"x" * 3_000_000, b"y" * 1_000_000)
    found = asyncio.run(pieces(file, -1))
    assert b"".join(found) == b"x" * 3_000_000 + b"y" * 1_000_000
    assert max(map(len, found)) <= PIECE
    assert last(file, 1, 100_000) == b"y" * 100_000
    assert last(file, 1, 1_500_000) == b"x" * 500_000 + b"y" * 1_000_000


def test_many_files_take_one_descriptor(tmp_path: Path) -> None:
    file = written(tmp_path, *(b"%d\n" % number for number in range(200)))

    async def scene() -> bytes:
        # What is there by now, and a few more.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
        try:
            return b"".join(await pieces(file, -1)) + b"".join(await pieces(file, 150))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    everything = [b"%d\n" % number for number in range(200)]
    assert asyncio.run(scene()) == b"".join(everything + everything[50:])


def test_a_rotation_while_it_is_read_loses_and_repeats_nothing(tmp_path: Path) -> None:
    big = b"".join(b"%07d\n" % number for number in range(100_000))
    file = written(tmp_path, big[:400_000], big[400_000:])
    file.open()

    async def scene() -> bytes:
        found = b""
        async for data in logreading.past(file, -1, logreading.end_of(file)):
            if found == b"":
                file.rotate()
                Path(file.path).write_bytes(b"written later")
            found += data
        return found

    assert asyncio.run(scene()) == big
    file.close()


def test_only_what_was_there_at_the_beginning(tmp_path: Path) -> None:
    file = written(tmp_path, b"one\n")
    end = logreading.end_of(file)
    Path(file.path).write_bytes(b"one\ntwo\n")

    async def scene() -> list[bytes]:
        return [data async for data in logreading.past(file, 1, end)]

    assert asyncio.run(scene()) == [b"one\n"]
