"""Captured output: from each vassal's pipe into its log file, without passing through Python, without losing a byte.

Used by `host` (pipes) and by the control socket (`path`, `tail`, `read`, `follow`). A disk that is full or failing
leaves the data in the pipe, where the vassal waits, until a timer finds the disk willing again. Descriptors stay
bounded: one read end per running vassal, one per reader, and a few hundred files open at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import Logs
from emperorctl.reconciler.runtime import logfiles, logreading

__all__ = ["LogPipe", "LogStore"]

OPEN_MAX = 256
_CHUNK = 256 * 1024
_PIPE_SIZE = 1024 * 1024
_RETRY_FIRST = 0.25
_RETRY_MAX = 5.0
_READ = 64 * 1024


@dataclass(slots=True, eq=False)
class LogPipe:
    """The read end of one launch's output. `ended` is called once, when the last writer has gone."""

    stream: _Stream
    fd: int
    ended: Callable[[], None]
    stuck: bool = False

    @property
    def path(self) -> str:
        """Of the file that it goes to."""
        return self.stream.file.path


@dataclass(slots=True, eq=False)
class _Stream:
    """One vassal's log."""

    name: str
    file: logfiles.LogFile
    pipes: list[LogPipe] = field(default_factory=list)
    followers: list[asyncio.Event] = field(default_factory=list)
    failing: bool = False


class LogStore:
    """All log files of one Emperor. `owner_of` says whose a vassal is now, in tyrant mode: a uid."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        directory: str,
        note: Callable[[str, Note], None],
        open_max: int = OPEN_MAX,
    ) -> None:
        self._loop = loop
        self._directory = directory
        self._note = note
        self._open_max = open_max
        self.owner_of: Callable[[str], int | None] = _nobody
        self._streams: dict[str, _Stream] = {}  # by path
        self._open: OrderedDict[str, _Stream] = OrderedDict()
        self._stuck: set[LogPipe] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._delay = _RETRY_FIRST
        self._big_pipes = os.geteuid() == 0

    def path(self, name: str) -> str:
        """Where this vassal's output goes, or would."""
        return self._path(name, self.owner_of(name))

    def _path(self, name: str, owner: int | None) -> str:
        return f"{self._directory}/{logfiles.log_file_name(name, owner)}"

    def open(
        self, name: str, limits: Logs, uid: int, ended: Callable[[], None], *, owner: int | None = None
    ) -> tuple[LogPipe, int]:
        """A new pipe for a launch, and its write end for the vassal, which its user may open again; `owner` is whose
        vassal it is, in tyrant mode. Raises OSError."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(reading, False)
            if self._big_pipes:
                # An ordinary user's pipes count against a limit that is better left to the vassals.
                try:
                    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
                except OSError:
                    self._big_pipes = False
            if uid != os.geteuid():
                # Or /dev/stdout could not be opened by it.
                with contextlib.suppress(PermissionError):
                    os.fchown(writing, uid, -1)
            stream = self._stream(name, limits, owner)
            pipe = LogPipe(stream, reading, ended)
            self._loop.add_reader(reading, self._readable, pipe)
        except BaseException:
            os.close(reading)
            os.close(writing)
            raise
        stream.pipes.append(pipe)
        return pipe, writing

    def forget(self, name: str) -> None:
        """Drop what is kept in memory of a vassal that runs no more; its files stay."""
        self._forget(self._streams.get(self.path(name)))

    def _forget(self, stream: _Stream | None) -> None:
        if stream is not None and not stream.pipes and not stream.followers:
            self._close_file(stream)
            self._streams.pop(stream.file.path, None)

    async def tail(self, name: str, lines: int, most: int = logreading.SEARCHED) -> bytes:
        """The last `lines` lines, all that is kept where negative; of that the last `most` bytes."""
        kept = bytearray()
        async with aclosing(self.read(name, lines, most)) as pieces:
            async for data in pieces:
                kept += data
                if len(kept) > most:
                    del kept[:-most]
        return bytes(kept)

    def read(self, name: str, lines: int, most: int = logreading.SEARCHED) -> AsyncGenerator[bytes, None]:
        """The last `lines` lines in pieces: all where negative, else what of them begins in the last `most` bytes."""
        # Whose it is counts now: whoever asks has just been found to be the owner.
        return self._read(name, self.owner_of(name), lines, most)

    def follow(self, name: str, lines: int) -> AsyncGenerator[bytes, None]:
        """The last `lines` lines, then whatever is written, across rotations, until the caller stops listening."""
        return self._follow(name, self.owner_of(name), lines)

    async def _read(self, name: str, owner: int | None, lines: int, most: int) -> AsyncGenerator[bytes, None]:
        with self._reading(name, owner) as (file, _):
            async with aclosing(logreading.past(file, lines, logreading.end_of(file), most)) as pieces:
                async for data in pieces:
                    yield data

    async def _follow(self, name: str, owner: int | None, lines: int) -> AsyncGenerator[bytes, None]:
        with self._reading(name, owner) as (file, wake):
            end = logreading.end_of(file)
            async with aclosing(logreading.past(file, lines, end)) as pieces:
                async for data in pieces:
                    yield data
            age, position = end.age, end.offset
            while True:
                fd, found = logreading.open_age(file, age)
                if found != age:
                    age, position = found, 0
                try:
                    while fd >= 0 and age == found:
                        wake.clear()
                        while data := os.pread(fd, _READ, position):
                            position += len(data)
                            yield data
                        if age == file.rotations:
                            await wake.wait()
                        else:
                            age, position = age + 1, 0
                finally:
                    if fd >= 0:
                        os.close(fd)
                if fd < 0:
                    wake.clear()
                    await wake.wait()

    @contextlib.contextmanager
    def _reading(self, name: str, owner: int | None) -> Iterator[tuple[logfiles.LogFile, asyncio.Event]]:
        """A vassal's log while somebody reads it, and what is set when more is written."""
        stream, wake = self._stream(name, None, owner), asyncio.Event()
        stream.followers.append(wake)
        try:
            yield stream.file, wake
        finally:
            stream.followers.remove(wake)
            self._forget(stream)

    def close(self) -> None:
        """Take what is still in the pipes, then let go of everything."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for stream in list(self._streams.values()):
            for pipe in list(stream.pipes):
                self._empty(pipe)
                self._end(pipe)
            self._close_file(stream)
        self._streams.clear()

    # --- the pipes ---

    def _readable(self, pipe: LogPipe) -> None:
        stream = pipe.stream
        try:
            self._make_room(stream)
            moved = stream.file.take(pipe.fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(pipe, error)
            return
        if moved == 0:
            self._end(pipe)
            return
        self._recover(pipe)
        for follower in stream.followers:
            follower.set()

    def _end(self, pipe: LogPipe) -> None:
        self._loop.remove_reader(pipe.fd)
        self._stuck.discard(pipe)
        os.close(pipe.fd)
        pipe.fd = -1
        pipe.stream.pipes.remove(pipe)
        pipe.ended()
        if pipe.stream.file.path != self.path(pipe.stream.name):
            # A former owner's, whom nobody will forget by this name any more.
            self._forget(pipe.stream)

    def _empty(self, pipe: LogPipe) -> None:
        """All that is in the pipe; bounded, in case somebody still writes."""
        taken = 0
        while taken < 4 * _PIPE_SIZE:
            try:
                self._make_room(pipe.stream)
                moved = pipe.stream.file.take(pipe.fd, _CHUNK)
            except OSError:
                return
            if not moved:
                return
            taken += moved

    def _fail(self, pipe: LogPipe, error: OSError) -> None:
        if not pipe.stuck:
            pipe.stuck = True
            self._stuck.add(pipe)
            self._loop.remove_reader(pipe.fd)
        stream = pipe.stream
        if not stream.failing:
            stream.failing = True
            words = os.strerror(error.errno or 0)
            message = f"the log {stream.file.path} can't be written: {words}; the vassal waits when its pipe is full"
            self._note(stream.name, Note(NoteType.WARNING, "LogWriteFailed", message))
        if self._retry is None:
            self._retry = self._loop.call_later(self._delay, self._try_again)

    def _recover(self, pipe: LogPipe) -> None:
        stream = pipe.stream
        if pipe.stuck:
            pipe.stuck = False
            self._stuck.discard(pipe)
            self._loop.add_reader(pipe.fd, self._readable, pipe)
        if stream.failing:
            stream.failing = False
            self._note(stream.name, Note(NoteType.NORMAL, "LogWriteRecovered", f"{stream.file.path} is written again"))

    def _try_again(self) -> None:
        self._retry = None
        self._delay = min(self._delay * 2, _RETRY_MAX)
        # One that fails tells enough about a full disk; the others wait for the next time.
        for pipe in list(self._stuck):
            self._readable(pipe)
            if pipe.stuck and pipe.fd >= 0:
                break
        if not self._stuck:
            self._delay = _RETRY_FIRST
        elif self._retry is None:
            self._retry = self._loop.call_later(self._delay, self._try_again)

    # --- the files ---

    def _stream(self, name: str, limits: Logs | None, owner: int | None) -> _Stream:
        path = self._path(name, owner)
        stream = self._streams.get(path)
        if stream is None:
            known = limits or Logs()
            stream = _Stream(name, logfiles.LogFile(path, known.max_size, known.max_files))
            self._streams[path] = stream
        elif limits is not None:
            stream.file.max_size = limits.max_size
            stream.file.max_files = limits.max_files
        return stream

    def _make_room(self, stream: _Stream) -> None:
        """Have this file among the open ones, and not too many of them."""
        if stream.file.path in self._open:
            self._open.move_to_end(stream.file.path)
            return
        while len(self._open) >= self._open_max:
            _, oldest = self._open.popitem(last=False)
            oldest.file.close()
        self._open[stream.file.path] = stream

    def _close_file(self, stream: _Stream) -> None:
        self._open.pop(stream.file.path, None)
        stream.file.close()


def _nobody(name: str) -> int | None:
    """Without tyrant mode, names alone count."""
    return None
