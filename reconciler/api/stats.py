"""The Imperial Bureau of Statistics: one JSON document for everybody who connects, as uWSGI serves it.

Made and closed by the command line's composition root. A caller who says nothing gets the bare document; one who
begins to speak HTTP gets it as the answer to a GET. The document is public to whoever can connect: names, pids and
times, and nothing can be ordered here. What it says is in `reconciler.stats`, where it may listen in `addresses`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from time import thread_time
from typing import TYPE_CHECKING, Any

from emperorctl.reconciler.api.connections import Connections
from emperorctl.reconciler.api.listener import Listener, Place

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from emperorctl.reconciler.api.protocol import Http

__all__ = ["GREETING", "Shared", "StatsLimits", "StatsServer"]

GREETING = 0.1
"""Seconds that a caller has to begin an HTTP request; who is silent until then wants the bare document."""
_SHARE = 9
"""A document is good for that many times the processor time that it took: making them takes a tenth of it at most."""
_SPARE = 64 * 1024
"""Bytes that are read from a caller who was answered, and not understood; more of them end the connection."""
_PIECE = 32 * 1024
"""Bytes of a document that wait in memory for one slow reader."""
_METHOD = re.compile(rb"[A-Z]{1,16}")
_REQUEST = re.compile(rb"[A-Z]{1,16} ")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StatsLimits:
    """How much the stats server takes. Times are in seconds.

    `connections` is the most at once, and never more than a quarter of all descriptors; further callers wait in the
    kernel's queue. `greeting` is explained above; `patience` is how long a connection may take as a whole, `farewell`
    how long when the server closes.
    """

    connections: int = 1024
    greeting: float = GREETING
    patience: float = 10.0
    farewell: float = 1.0


class Shared:
    """One document for all who ask in the same moment.

    `time` is the clock of `arrived`, `spent` that of what making one costs. Both in seconds: the processor's, so that a
    busy machine, where all takes longer, does not make the document older.
    """

    def __init__(
        self, render: Callable[[], bytes], time: Callable[[], float], spent: Callable[[], float] = thread_time
    ) -> None:
        self._render = render
        self._time = time
        self._spent = spent
        self._document = b""
        self._made = float("-inf")
        self._good_until = float("-inf")

    def document(self, arrived: float) -> bytes:
        """The document for a caller of that time: made since then, or a moment ago."""
        begun = self._time()
        if self._made < arrived and begun > self._good_until:
            before = self._spent()
            self._document = self._render()
            self._made = begun
            self._good_until = self._time() + _SHARE * (self._spent() - before)
        return self._document


class StatsServer:
    """The statistics at one place; `render` makes the document."""

    def __init__(self, place: Place, render: Callable[[], bytes], limits: StatsLimits = StatsLimits()) -> None:
        self.limits = limits
        self._render = render
        self._listener = Listener(place, self._accept)
        self._callers: Connections[_Caller] = Connections("the stats server")
        self._most = _at_most(limits.connections)
        self._shared: Shared | None = None
        self._http: Http | None = None

    def open(self) -> None:
        """Bind; who connects from now on waits for `start`. Raises UserError where that can't be done."""
        self._listener.open()

    def start(self) -> None:
        """Answer from now on, in the running loop."""
        from emperorctl.reconciler.api.protocol import Http  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        self._shared = Shared(self._render, loop.time)
        self._http = Http(self.app, keep_alive=1)
        self._listener.start(loop)

    async def close(self) -> None:
        """Stop listening, and end every connection; answers on their way may take a moment."""
        self._listener.close()
        await self._callers.close(self._http.answers if self._http is not None else (), self.limits.farewell)

    def document(self, arrived: float) -> bytes:
        """What a caller of that time of the loop is told."""
        assert self._shared is not None
        return self._shared.document(arrived)

    def speak_http(self, caller: _Caller, heard: bytes) -> None:
        """Let an HTTP connection take over, which begins with these bytes."""
        assert self._http is not None
        protocol = self._http.connection(None, self.limits.patience)
        protocol.on_lost = lambda _protocol: self.lost(caller)
        protocol.app_state["arrived"] = caller.arrived
        caller.shutdown = protocol.shutdown  # type: ignore[method-assign]
        caller.transport.set_protocol(protocol)
        protocol.connection_made(caller.transport)
        protocol.data_received(heard)

    def lost(self, caller: _Caller) -> None:
        """That connection is over."""
        caller.disarm()
        self._callers.discard(caller)
        if len(self._callers) < self._most:
            self._listener.resume()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface, for those who speak HTTP: the document, wherever they look for it."""
        if scope["type"] != "http":
            return
        if scope["method"] not in {"GET", "HEAD"}:
            from emperorctl.reconciler.api.answers import failure  # noqa: PLC0415

            refusal = failure(405, "MethodNotAllowed", "the statistics can only be read: GET or HEAD", close=True)
            refusal.headers["allow"] = "GET, HEAD"
            await refusal(scope, receive, send)
            return
        document = self.document(scope["state"]["arrived"])
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(document)),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(document), _PIECE):
            piece = document[start : start + _PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _accept(self, connection: socket.socket) -> None:
        self._callers.join(connection, _Caller(self))
        if len(self._callers) >= self._most:
            self._listener.pause()


class _Caller(asyncio.Protocol):
    """One connection until it is clear how it wants its answer, and to its end if it does not speak HTTP."""

    def __init__(self, bureau: StatsServer) -> None:
        self.transport: Any = None
        self.arrived = asyncio.get_running_loop().time()
        self._bureau = bureau
        self._heard = b""
        self._answered = False
        self._document = memoryview(b"")
        self._paused = False
        self._spare = _SPARE
        self._timers: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait a moment for a request."""
        self.transport = transport
        self.transport.set_write_buffer_limits(_PIECE)
        loop, limits = asyncio.get_running_loop(), self._bureau.limits
        # Kept for an HTTP connection too: whoever does not read his answer is cut off.
        self._timers.append(loop.call_later(limits.patience, self.transport.abort))
        self._timers.append(loop.call_later(limits.greeting, self.shutdown))

    def data_received(self, data: bytes) -> None:
        """The beginning of a request, or anything else."""
        if self._answered:
            self._spare -= len(data)
            if self._spare < 0:
                self.transport.abort()
            return
        self._heard += data
        if _REQUEST.match(self._heard):
            self._answered = True
            self._bureau.speak_http(self, self._heard)
        elif not _METHOD.fullmatch(self._heard):
            self.shutdown()

    def eof_received(self) -> bool:
        """He says no more, but may listen. Once answered, the connection closes behind the answer."""
        if self._answered:
            return False
        self.shutdown()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Over."""
        self._bureau.lost(self)

    def shutdown(self) -> None:
        """Tell him the bare document now, and close."""
        if self._answered or self.transport is None:
            return
        self._answered = True
        try:
            self._document = memoryview(self._bureau.document(self.arrived))
        except Exception:
            _LOG.exception("bug while making the statistics")
            self.transport.abort()
            return
        # From here on the transport asks for more whenever it has room.
        self.transport.set_write_buffer_limits(0)
        self.resume_writing()

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._paused = True

    def resume_writing(self) -> None:
        """Pass on as much of the document as there is room for, and close behind its end."""
        self._paused = False
        while self._document and not self._paused:
            piece, self._document = self._document[:_PIECE], self._document[_PIECE:]
            self.transport.write(piece)
        if self._document or self._paused:
            return
        if self._heard:
            # Closed with bytes unread, the kernel would take back what he has not read yet: he closes first.
            self.transport.write_eof()
        else:
            self.transport.close()

    def disarm(self) -> None:
        """No time limit counts any more."""
        for timer in self._timers:
            timer.cancel()


def _at_most(connections: int) -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft // 4))
