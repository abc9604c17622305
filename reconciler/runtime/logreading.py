"""One vassal's log read back, in pieces: from the last so many lines up to a moment, across its files.

Used by `logs`. Nobody who reads costs more than one descriptor and one piece of memory, however much there is and
however many files it lies in. Files are found by their age, counted in rotations, so that a rotation in between loses
and repeats nothing; what is dropped while it waits to be read is left out. Disks are waited for in threads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from emperorctl.reconciler.runtime.logfiles import LogFile

__all__ = ["SEARCHED", "Place", "end_of", "open_age", "past"]

SEARCHED = 64 * 1024 * 1024
"""How many bytes are looked through for the beginning of the last so many lines; what lies before is left out."""
_PIECE = 256 * 1024
_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """A byte of a log: in the file that was written after `age` rotations, at `offset`."""

    age: int
    offset: int


def end_of(file: LogFile) -> Place:
    """Where the log ends at this moment."""
    fd = _open(file.path)
    if fd < 0:
        return Place(file.rotations, 0)
    try:
        return Place(file.rotations, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def open_age(file: LogFile, age: int) -> tuple[int, int]:
    """The file that was being written after so many rotations, or the oldest one still there: descriptor and age.

    The descriptor is -1 where there is none.
    """
    behind = min(file.rotations - age, file.max_files)
    while behind > 0:
        fd = _open(f"{file.path}.{behind}")
        if fd >= 0:
            return fd, file.rotations - behind
        behind -= 1
    return _open(file.path), file.rotations


async def past(file: LogFile, lines: int, end: Place, most: int = SEARCHED) -> AsyncGenerator[bytes, None]:
    """The last `lines` lines before `end`, all that is kept where negative; they begin in the last `most` bytes."""
    begin = Place(end.age - file.max_files, 0) if lines < 0 else await _begin(file, lines, end, most)
    age, offset = begin.age, begin.offset
    while age <= end.age:
        fd, found = open_age(file, age)
        if fd < 0:
            return
        try:
            if found != age:
                age, offset = found, 0
            while age <= end.age:
                room = _PIECE if age < end.age else min(_PIECE, end.offset - offset)
                data = await asyncio.to_thread(os.pread, fd, room, offset) if room > 0 else b""
                if not data:
                    break
                offset += len(data)
                yield data
        finally:
            os.close(fd)
        age, offset = age + 1, 0


async def _begin(file: LogFile, lines: int, end: Place, most: int) -> Place:
    """Where the last `lines` lines before `end` begin: looked for backwards, newest file first."""
    if lines == 0:
        return end
    search = _Search(lines, most)
    begin = end
    for age in range(end.age, end.age - file.max_files - 1, -1):
        fd, found = open_age(file, age)
        if fd < 0 or found != age:
            if fd >= 0:
                os.close(fd)
            if age == end.age:
                continue  # nothing has been written since the last rotation
            break
        try:
            size = end.offset if age == end.age else os.fstat(fd).st_size
            offset = await asyncio.to_thread(search.back, fd, size)
        finally:
            os.close(fd)
        begin = Place(age, offset)
        if search.over:
            break
    return begin


class _Search:
    """Counts lines backwards through files, newest first. Blocks on the disk."""

    def __init__(self, lines: int, most: int) -> None:
        self.over = False
        self._left = lines
        self._most = most
        self._fresh = True  # the newline of the very last line begins no other

    def back(self, fd: int, end: int) -> int:
        """Where what is wanted begins in this file, of which `end` bytes count; `over` where it begins here."""
        while end > 0 and not self.over:
            start = max(0, end - min(_BLOCK, self._most))
            data = os.pread(fd, end - start, start)
            stop = len(data) - (self._fresh and data.endswith(b"\n"))
            self._fresh = False
            count = data.count(b"\n", 0, stop)
            if count >= self._left:
                for _ in range(self._left):
                    stop = data.rfind(b"\n", 0, stop)
                start += stop + 1
                self.over = True
            self._left -= count
            self._most -= len(data)
            self.over = self.over or self._most <= 0 or not data
            end = start
        return end


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return -1
