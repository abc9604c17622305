"""Parsing outside the event loop: the Emperor's end of the parser's process (`worker`).

Used by `files` and `validate` for everything that a stranger wrote or that is large. It starts the process when it is
first needed and again when it has ended by itself; it reaps it by pidfd. One hostile file costs only
itself: files are parsed in one go, and the one a batch died on is tried again alone, in a lane of its own.
Files of different owners never share a batch, so that nobody can speak for another. Each owner has one batch at a
time, several owners have theirs at once, and those whose batches were slow of late wait for each other, not the rest
for them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from emperorctl.models.errors import Problem
from emperorctl.monitors.parsing import Order, Parsed, Setting, too_complex, unparsed
from emperorctl.monitors.wire import MAX_RESULT, decode_result, encode_job

__all__ = ["Deliver", "OutsideParser"]

Deliver = Callable[[Order, Parsed], None]
"""Told each result as it comes, from the event loop."""

_log = logging.getLogger(__name__)

_BATCH_FILES = 64
_BATCH_BYTES = 512 * 1024
_CPU = 1  # seconds, for a batch and for a file alone
_BATCH_WALL = 1.0
_ALONE_WALL = 10.0
_AT_ONCE = 4  # batches of different owners
_QUICK = 0.3  # seconds that a batch of ordinary files stays below, on a busy machine too, …
_DISTRUST = 60.0  # … and for how long one that does not is held against its owner
_LAST_WORD = 5.0  # beyond the wall time: the process itself did not end the child


@dataclass(slots=True)
class _Lane:
    """One owner's. `slow_until` is loop time."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    slow_until: float = float("-inf")


class OutsideParser:
    """The lanes to the parser's process. Of all owners together: some batches at once, one batch of an owner who is
    distrusted, and one file that a batch died on."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._pid = -1
        self._pidfd = -1
        self._lanes: dict[int, _Lane] = {}
        self._batches = asyncio.Semaphore(_AT_ONCE)
        self._distrusted = asyncio.Semaphore(1)
        self._alone = asyncio.Semaphore(1)

    @property
    def pid(self) -> int:
        """The process's id, -1 where none runs."""
        return self._pid

    async def parse(self, orders: Sequence[Order], setting: Setting, deliver: Deliver, *, owner: int = -1) -> None:
        """Parse files of one owner (a uid); every one of them is delivered exactly once."""
        lane = self._lanes.setdefault(owner, _Lane())
        lane.users += 1
        try:
            await self._parse(orders, setting, deliver, lane)
        finally:
            lane.users -= 1
            if not lane.users and lane.slow_until <= asyncio.get_running_loop().time():
                del self._lanes[owner]

    async def _parse(self, orders: Sequence[Order], setting: Setting, deliver: Deliver, lane: _Lane) -> None:
        suspects: list[Order] = []
        rest = list(orders)
        loop = asyncio.get_running_loop()
        while rest:
            batch = _first_batch(rest)
            async with lane.turn, self._distrusted if loop.time() < lane.slow_until else self._batches:
                began = loop.time()
                done = await self._job(batch, setting, deliver, _BATCH_WALL)
                if loop.time() - began > _QUICK:
                    lane.slow_until = loop.time() + _DISTRUST
            if done < len(batch):
                suspects.append(batch[done])
                done += 1
            rest = rest[done:]
        for order in suspects:
            async with lane.turn, self._alone:
                done = await self._job([order], setting, deliver, _ALONE_WALL)
            if not done:
                problem = too_complex(order) if self._control is not None else _no_parser(order)
                deliver(order, unparsed(order, problem))

    async def aclose(self) -> None:
        """End the process, if one runs, and reap it."""
        if self._pidfd < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # it holds nothing; its children have their limits
        self._reap()

    async def _job(self, batch: list[Order], setting: Setting, deliver: Deliver, wall: float) -> int:
        """How many files, from the first on, were parsed and delivered."""
        mine, theirs = socket.socketpair()
        done = 0
        try:
            with theirs:
                if not self._send({"cpu": _CPU, "wall": wall}, theirs):
                    return 0
            mine.setblocking(False)
            async with asyncio.timeout(wall + _LAST_WORD):
                await asyncio.get_running_loop().sock_sendall(mine, encode_job(batch, setting))
                mine.shutdown(socket.SHUT_WR)
                async for line in _lines(mine):
                    if done == len(batch):
                        break
                    deliver(batch[done], decode_result(line, batch[done], setting))
                    done += 1
        except (OSError, TimeoutError, ValueError) as error:
            _log.debug("parsing %s: %s", batch[min(done, len(batch) - 1)].file, error)
        finally:
            mine.close()
        return done

    def _send(self, limits: dict[str, float], theirs: socket.socket) -> bool:
        for _ in range(2):
            try:
                if self._control is None:
                    self._start()
                assert self._control is not None
                socket.send_fds(self._control, [json.dumps(limits).encode()], [theirs.fileno()])
            except (BrokenPipeError, ConnectionResetError):
                self._gone()  # it had just ended for want of work
            except OSError as error:
                _log.warning("the parser for strangers' files can't be used: %s", error)
                return False
            else:
                return True
        return False

    def _start(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-m", "emperorctl.monitors.worker"],
                    {"PATH": os.defpath, "LANG": "C.UTF-8"},
                    file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
                )
        except OSError:
            mine.close()
            raise
        mine.setblocking(False)
        self._control = mine
        self._pidfd = os.pidfd_open(self._pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._gone)

    def _gone(self) -> None:
        if self._pidfd < 0:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._reap()

    def _reap(self) -> None:
        try:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except ChildProcessError:
            pass
        os.close(self._pidfd)
        assert self._control is not None
        self._control.close()
        self._control, self._pidfd, self._pid = None, -1, -1


def _first_batch(orders: list[Order]) -> list[Order]:
    size = 0
    for count, order in enumerate(orders):
        size += len(order.data)
        if count and (count == _BATCH_FILES or size > _BATCH_BYTES):
            return orders[:count]
    return orders


async def _lines(stream: socket.socket) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    buffer = bytearray()
    while chunk := await loop.sock_recv(stream, 1 << 18):
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            yield bytes(buffer[:end])
            del buffer[: end + 1]
        if len(buffer) > MAX_RESULT:
            raise ValueError("a result without end")


def _no_parser(order: Order) -> Problem:
    return Problem(
        "ParserUnavailable",
        "can't be parsed now: the process for files of other users does not start",
        "see the Emperor's log; touch the file to try again",
        file=order.file,
    )
