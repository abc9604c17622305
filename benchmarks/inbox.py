"""Where the vassals of a benchmark report: a Unix datagram socket and what was heard on it.

Every measurement waits for a message here (or for a pidfd), so nothing is polled while a time is taken, and the
times are the vassals' own. Written to by `vassal.c`; read by `measure`.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RELOADED", "STARTED", "Inbox", "Message"]

STARTED = "S"
RELOADED = "R"
_MESSAGE_MAX = 512


@dataclass(frozen=True, slots=True)
class Message:
    """One report: `kind` is STARTED or RELOADED, `at` monotonic seconds as the vassal read them."""

    kind: str
    name: str
    pid: int
    at: float


class Inbox:
    """The socket, and the latest pid of every vassal that has reported its start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pids: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def close(self) -> None:
        """Stop listening; vassals that report later are not disturbed."""
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all vassals and throw away what has not been read."""
        while self._next(time.monotonic()) is not None:
            pass
        self.pids.clear()

    def wait(self, kind: str, name: str, since: float, limit: float) -> Message:
        """The first report of this kind from `name` made after `since`; TimeoutError after `limit` seconds."""
        deadline = time.monotonic() + limit
        while (message := self._next(deadline)) is not None:
            if message.kind == kind and message.name == name and message.at >= since:
                return message
        raise TimeoutError(f"{name} did not report {kind} within {limit:.0f} s")

    def starts(self, limit: float) -> list[Message]:
        """All starts that are reported within `limit` seconds."""
        found, deadline = [], time.monotonic() + limit
        while (message := self._next(deadline)) is not None:
            if message.kind == STARTED:
                found.append(message)
        return found

    def wait_for_starts(self, names: set[str], limit: float) -> float:
        """When the last of `names` started; TimeoutError after `limit` seconds."""
        waiting, last = set(names), 0.0
        deadline = time.monotonic() + limit
        while waiting:
            message = self._next(deadline)
            if message is None:
                raise TimeoutError(f"{len(waiting)} of {len(names)} vassals were not started within {limit:.0f} s")
            if message.kind == STARTED and message.name in waiting:
                waiting.discard(message.name)
                last = max(last, message.at)
        return last

    def _next(self, deadline: float) -> Message | None:
        """The next report, or None when there is none by `deadline` (monotonic seconds)."""
        while True:
            try:
                data = self._socket.recv(_MESSAGE_MAX)
            except BlockingIOError:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._poll.poll(remaining * 1000):
                    return None
                continue
            kind, name, pid, nanoseconds = data.decode().split(" ")
            message = Message(kind, name, int(pid), int(nanoseconds) / 1e9)
            if kind == STARTED:
                self.pids[name] = message.pid
            return message
