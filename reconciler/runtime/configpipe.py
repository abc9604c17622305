"""The config of a vassal over a socket of its own: sent when the process starts, and again whenever it asks.

Used by `host`. Only byte 2 of the emperor protocol asks: what is sent without being asked for would be what the next
reload reads. Writing never waits: what the vassal does not take stays here, one packet at most, and asking again
meanwhile asks for whatever is the config by then. Not in here: hearing the byte (`protocol`).
"""

from __future__ import annotations

import asyncio
import socket

from emperorctl.models.protocol import config_packet

__all__ = ["ConfigPipe"]


class ConfigPipe:
    """The Emperor's end for one launch. `config` may be replaced at any time."""

    __slots__ = ("_again", "_loop", "_rest", "_sock", "_watching", "config")

    def __init__(self, loop: asyncio.AbstractEventLoop, config: bytes) -> None:
        self.config = config
        self._loop = loop
        self._sock: socket.socket | None = None
        self._rest = memoryview(b"")
        self._again = False
        self._watching = False

    def open(self) -> int:
        """Send the config; the descriptor of the vassal's end, to be closed by whoever called. Raises OSError."""
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        self.push()
        return theirs.detach()

    def push(self) -> None:
        """Send the config as it is now, or as it is once the vassal has taken what lies in its way."""
        if self._rest:
            self._again = True
        else:
            self._rest = memoryview(config_packet(self.config))
            self._write()

    def close(self) -> None:
        """Nothing more is sent."""
        self._rest, self._again = memoryview(b""), False
        if self._sock is not None:
            self._watch(False)
            self._sock.close()
            self._sock = None

    def _write(self) -> None:
        while self._sock is not None and self._rest:
            try:
                self._rest = self._rest[self._sock.send(self._rest, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._watch(True)
                return
            except OSError:
                self.close()
                return
            if not self._rest and self._again:
                self._again = False
                self._rest = memoryview(config_packet(self.config))
        self._watch(False)

    def _watch(self, wanted: bool) -> None:
        if self._sock is None or wanted == self._watching:
            return
        self._watching = wanted
        if wanted:
            self._loop.add_writer(self._sock, self._write)
        else:
            self._loop.remove_writer(self._sock)
