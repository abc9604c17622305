"""The control socket: listens, makes a connection of every caller, and closes it all down again.

Started and closed by the Emperor, in its event loop. Nothing wakes up while nobody asks. What is answered is
in `routes`, who may ask in `peers`.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emperorctl.reconciler.api.connections import Connections
from emperorctl.reconciler.api.facade import EmperorFacade
from emperorctl.reconciler.api.listener import Listener, control_place, refuse
from emperorctl.reconciler.api.peers import may_command, peer_of

if TYPE_CHECKING:
    from emperorctl.reconciler.api.app import ControlApp
    from emperorctl.reconciler.api.protocol import ControlProtocol, Http

__all__ = ["ControlServer", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the control socket takes. Times are in seconds.

    `connections` is the most at once, `strangers` the most of those by users who may not command anyway.
    `patience` is how long a request may take to arrive, `keep_alive` how long a connection may wait for
    the next one, `farewell` how long answers may still take when the server closes.
    """

    connections: int = 512
    strangers: int = 16
    patience: float = 10.0
    keep_alive: int = 5
    farewell: float = 1.0


class ControlServer:
    """The API of one Emperor at one Unix socket. The caller holds the Emperor's lock."""

    def __init__(self, emperor: EmperorFacade, socket_path: str, limits: Limits = Limits()) -> None:
        self.socket_path = socket_path
        self._emperor = emperor
        self._limits = limits
        self._listener = Listener(control_place(socket_path), self._accept)
        self._open: Connections[ControlProtocol] = Connections("the control socket")
        self._app: ControlApp | None = None
        self._http: Http | None = None

    async def start(self) -> None:
        """Bind and answer from now on. Raises UserError where the socket can't be made.

        Callers can connect (and wait) before the HTTP libraries are loaded, which takes some 80 ms.
        """
        self._listener.open()
        from emperorctl.reconciler.api.app import ControlApp  # noqa: PLC0415
        from emperorctl.reconciler.api.protocol import Http  # noqa: PLC0415

        self._app = ControlApp(self._emperor)
        self._http = Http(self._app, self._limits.keep_alive)
        self._listener.start(asyncio.get_running_loop())

    async def close(self) -> None:
        """Remove the socket, end every watch and log stream, and let running answers finish for a moment."""
        self._listener.close()
        if self._app is None or self._http is None:
            return
        self._app.closing.set()
        await self._open.close(self._http.answers, self._limits.farewell)

    def _accept(self, connection: socket.socket) -> None:
        assert self._http is not None
        peer = peer_of(connection)
        welcome = may_command(peer) or self._strangers() < self._limits.strangers
        if not welcome or len(self._open) >= self._limits.connections:
            refuse(connection, self._listener.place.refusal)
            return
        protocol = self._http.connection(peer, self._limits.patience)
        protocol.on_lost = self._open.discard
        self._open.join(connection, protocol)

    def _strangers(self) -> int:
        return sum(not may_command(connection.peer) for connection in self._open)
