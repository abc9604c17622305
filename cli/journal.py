"""The Emperor's own log: lines on standard error, as text or as JSON.

Made by `run`. A thread writes, so that a reader that stalls holds up nobody; what it can't keep up with is counted
and said, never silently gone. What goes in here is for people; programs ask the control socket.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from emperorctl.models.names import printable
from emperorctl.models.status import Note, NoteType

__all__ = ["Journal"]

LIMIT = 20_000
"""Lines that may wait to be written."""
GATHER = 0.02
"""Seconds that a line waits for others: waking the writer costs more than many lines."""
MESSAGE_MAX = 1024
"""Characters of a note's message; the rest of it is left out."""
BURST = 2000
"""Notes of one vassal (in tyrant mode: of one user's vassals) that are written at once, …"""
RATE = 10.0
"""… and in a second for longer. Nobody can fill the disk that this log goes to by keeping the Emperor busy."""
_SAY_AGAIN = 60.0
_KNOWN_MAX = 8192


@dataclass(slots=True)
class _Share:
    """What one of them may still have written; `kept_back` notes have not been."""

    left: float
    counted: float
    kept_back: int = 0


class Journal(logging.Handler):
    """Writes notes and log records to a descriptor; also a handler for `logging`."""

    def __init__(self, descriptor: int, form: Literal["text", "json"]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._json = form == "json"
        self._lines: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._dropped = 0
        # Each is written by one thread alone.
        self._taken = 0
        self._written = 0
        self._second = -1
        self._stamp = ""
        self._pending: list[bytes] = []
        self._later: Callable[[float, Callable[[], object]], object] | None = None
        self._shares: dict[str | int, _Share] = {}
        self.owner_of: Callable[[str], int | None] | None = None
        """Whose a vassal is, in tyrant mode."""
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    def gather(self, later: Callable[[float, Callable[[], object]], object]) -> None:
        """From now on hand lines to the writer a few at a time: `later` is the loop's `call_later`."""
        self._later = later

    def note(self, name: str, note: Note) -> None:
        """One event of a vassal or a source."""
        if not self._may(name):
            return
        text = f"{note.message} ({note.detail})" if note.detail else note.message
        if len(text) > MESSAGE_MAX:
            text = text[: MESSAGE_MAX - 1] + "…"
        self.line(text, level=str(note.type), reason=note.reason, name=name)

    def line(self, message: str, *, level: str = "Normal", reason: str = "", name: str = "") -> None:
        """One line, dropped and counted when too many wait."""
        if self._taken - self._written >= LIMIT:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._put(f"{dropped} lines were dropped: standard error did not take them", "Warning", "LogOverflow", "")
        self._put(message, level, reason, name)

    def emit(self, record: logging.LogRecord) -> None:
        """A record of the standard library's logging, tracebacks included."""
        try:
            level = "Warning" if record.levelno >= logging.WARNING else "Normal"
            self.line(self.format(record), level=level, reason="Log", name=record.name)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, for two seconds at most."""
        for name in self._shares:
            self._own_up(name)
        self._later = None
        self._pass_on()
        self._lines.put(None)
        if self._writer is not threading.current_thread():
            self._writer.join(2.0)
        super().close()

    def _may(self, name: str) -> bool:
        """Whether one more note about this vassal or source is written. The Emperor's own always are."""
        if not name:
            return True
        owner = self.owner_of(name) if self.owner_of is not None else None
        key = name if owner is None else owner
        now = time.monotonic()
        share = self._shares.get(key)
        if share is None:
            if len(self._shares) >= _KNOWN_MAX:
                self._shares = {one: kept for one, kept in self._shares.items() if kept.kept_back}
            share = self._shares[key] = _Share(BURST, now)
        share.left = min(BURST, share.left + (now - share.counted) * RATE)
        share.counted = now
        if share.left >= 1.0:
            share.left -= 1.0
            return True
        share.kept_back += 1
        if share.kept_back == 1 and self._later is not None:
            self._later(_SAY_AGAIN, lambda: self._own_up(key))
        return False

    def _own_up(self, key: str | int) -> None:
        """Say how much has been kept back."""
        share = self._shares.get(key)
        if share is None or not share.kept_back:
            return
        count, share.kept_back = share.kept_back, 0
        whose = f"the vassals of user id {key}" if isinstance(key, int) else key
        self.line(f"{count} events of {whose} were left out: too many at once", level="Warning", reason="LogOverflow")

    def _put(self, message: str, level: str, reason: str, name: str) -> None:
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        stamp = f"{self._stamp}.{int(now * 1000) % 1000:03d}Z"
        if self._json:
            whole = {"time": stamp, "level": level, "reason": reason, "name": name, "message": message}
            text = json.dumps({key: value for key, value in whole.items() if value})
        else:
            lines = [printable(line) for line in message.split("\n")]
            mark = "W" if level == NoteType.WARNING else " "
            head = " ".join(part for part in (printable(name), f"{reason}:" if reason else "") if part)
            text = f"{stamp} {mark} {head + ' ' if head else ''}" + "\n    ".join(lines)
        self._taken += 1
        self._pending.append(text.encode(errors="backslashreplace") + b"\n")
        if self._later is None:
            self._pass_on()
        elif len(self._pending) == 1:
            self._later(GATHER, self._pass_on)

    def _pass_on(self) -> None:
        """Give the writer what has gathered."""
        if self._pending:
            self._lines.put(self._pending)
            self._pending = []

    def _write(self) -> None:
        while (lines := self._lines.get()) is not None:
            data = memoryview(b"".join(lines))
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except OSError:
                    break  # Nobody listens any more: the Emperor goes on.
            self._written += len(lines)
