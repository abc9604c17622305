"""Everybody who is connected to one server: taken in from its listener, and seen out when it closes.

Used by the control socket and the stats server. Not in here: what a connection says (`protocol`, `stats`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar, cast

__all__ = ["Connections", "Guest"]

_LOG = logging.getLogger(__name__)


class Guest(Protocol):
    """One connection's asyncio protocol; it calls `Connections.discard` when it is over."""

    transport: Any

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, or never was."""
        ...

    def shutdown(self) -> None:
        """End when what is being answered has been answered."""
        ...


G = TypeVar("G", bound=Guest)


class Connections(Generic[G]):
    """The open connections of one server; `what` names it in the log."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._open: set[G] = set()
        self._joining: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[G]:
        return iter(self._open)

    def join(self, connection: socket.socket, guest: G) -> None:
        """Let `guest` speak over this accepted connection."""
        self._open.add(guest)
        task = asyncio.get_running_loop().create_task(self._join(connection, guest))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    def discard(self, guest: G) -> None:
        """That one is over."""
        self._open.discard(guest)

    async def close(self, answers: Iterable[asyncio.Task[Any]], farewell: float) -> None:
        """Ask everybody to end, wait `farewell` seconds for `answers` that are being made, and cut off the rest.

        Nobody must join any more.
        """
        if self._joining:
            await asyncio.wait(tuple(self._joining))
        for guest in tuple(self._open):
            guest.shutdown()
        if running := tuple(answers):
            await asyncio.wait(running, timeout=farewell)
        for guest in tuple(self._open):
            guest.transport.abort()
        # Let the loop tell the connections that they are over.
        await asyncio.sleep(0)

    async def _join(self, connection: socket.socket, guest: G) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast("asyncio.Protocol", guest), connection
            )
        except OSError as error:
            _LOG.warning("a connection to %s failed: %s", self._what, error)
            connection.close()
            guest.connection_lost(error)
