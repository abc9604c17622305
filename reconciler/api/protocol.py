"""One HTTP connection: uvicorn's HTTP protocol class, with what a daemon of root needs around it.

Made by `server` for every accepted connection and by `stats` for those that speak HTTP, under our own listener
(uvicorn's `Server` wakes ten times a second for nothing). Adds a time limit on how long a request may take to arrive;
parses nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import Any, cast

import h11

from emperorctl.reconciler.api.peers import Peer
from emperorctl.reconciler.api.uvicorn_parts import Config, H11Protocol, ServerState

__all__ = ["BODY_MAX", "HEAD_MAX", "ControlProtocol", "Http"]

HEAD_MAX = 16 * 1024
"""The longest part of a request head that may wait for the rest, in bytes."""
BODY_MAX = 64 * 1024
"""The longest request body, in bytes."""

# Ill-formed requests are the caller's affair and answered as such; only our own errors are worth a line.
_LOG = logging.getLogger(__name__)
_LOG.setLevel(logging.ERROR)


class Http:
    """What the connections of one server share. `app` answers; `keep_alive` is how many seconds a connection may wait
    for the next request."""

    def __init__(self, app: Any, keep_alive: int) -> None:
        self._config = _make_config(app, keep_alive)
        self._state = ServerState()

    @property
    def answers(self) -> set[asyncio.Task[None]]:
        """The answers that are being made."""
        return self._state.tasks

    def connection(self, peer: Peer | None, patience: float) -> ControlProtocol:
        """The protocol of one more connection."""
        return ControlProtocol(self._config, self._state, peer, patience)


def _make_config(app: Any, keep_alive: int) -> Config:
    """uvicorn's settings: its HTTP class and nothing else."""
    config = Config(
        app,
        http=ControlProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=keep_alive,
        h11_max_incomplete_event_size=HEAD_MAX,
    )
    config.load()
    return config


class ControlProtocol(H11Protocol):
    """A connection of `peer`; `patience` is how many seconds a request may take to arrive as a whole.

    `on_lost` is called when it is over.
    """

    def __init__(self, config: Config, state: ServerState, peer: Peer | None, patience: float) -> None:
        super().__init__(
            config, state, {"peer": peer, "abort": self._abort, "take_over": self.take_over}, asyncio.get_running_loop()
        )
        self.logger = _LOG
        self.access_log = False
        self.peer = peer
        self.on_lost: Callable[[ControlProtocol], None] | None = None
        self._patience = patience
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ready for the first request, which has to come in time."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self._patience, self._abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Over."""
        self._disarm()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        try:
            super().data_received(data)
        except (h11.LocalProtocolError, ValueError):
            # Such as a second request in the middle of a refusal, or a length of a thousand digits.
            self._abort()
        self._watch_arrival()

    def on_response_complete(self) -> None:
        """The answer is out; a pipelined request may be there already, in part or whole."""
        super().on_response_complete()
        self._watch_arrival()

    def take_over(self) -> socket.socket | None:
        """End this conversation but not the connection, which is the caller's from now on; None where it is gone."""
        transport, cycle = self.transport, self.cycle
        if transport.is_closing() or cycle is None or cycle.disconnected:
            return None
        taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        cycle.disconnected = True
        self._disarm()
        self._abort()
        return taken

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP. With an answer still under way there is nobody left to talk to."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._abort()
        else:
            super().send_400_response(msg)

    def _watch_arrival(self) -> None:
        """Keep the time limit while a request has arrived in part, however slowly its bytes come."""
        state = self.conn.their_state
        partial = state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))
        if not partial or self.transport.is_closing():
            self._disarm()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._patience, self._abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self) -> None:
        transport = cast("asyncio.Transport | None", self.transport)
        if transport is not None:
            transport.abort()
