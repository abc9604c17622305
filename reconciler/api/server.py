"""The control socket: listens, makes a connection of every caller, and closes it all down again.

Started and closed by the Emperor, in its event loop. Nothing wakes up while nobody asks. What is answered is
in `routes`, who may ask in `peers`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emperorctl.reconciler.api.facade import EmperorFacade
from emperorctl.reconciler.api.listener import Listener
from emperorctl.reconciler.api.peers import may_command, peer_of

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from emperorctl.reconciler.api.app import ControlApp
    from emperorctl.reconciler.api.protocol import ControlProtocol

__all__ = ["ControlServer", "Limits"]

_LOG = logging.getLogger(__name__)


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
        self._emperor = emperor
        self._limits = limits
        self._listener = Listener(socket_path, self._accept)
        self._open: set[ControlProtocol] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._app: ControlApp | None = None
        self._config: Config | None = None
        self._state: ServerState | None = None
        self._make: type[ControlProtocol] | None = None

    @property
    def socket_path(self) -> str:
        """Where it listens."""
        return self._listener.path

    async def start(self) -> None:
        """Bind and answer from now on. Raises UserError where the socket can't be made.

        Callers can connect (and wait) before the HTTP libraries are loaded, which takes some 80 ms.
        """
        self._listener.open()
        from uvicorn.server import ServerState  # noqa: PLC0415

        from emperorctl.reconciler.api.app import ControlApp  # noqa: PLC0415
        from emperorctl.reconciler.api.protocol import ControlProtocol, make_config  # noqa: PLC0415

        self._app = ControlApp(self._emperor)
        self._config = make_config(self._app, self._limits.keep_alive)
        self._state = ServerState()
        self._make = ControlProtocol
        self._listener.start(asyncio.get_running_loop())

    async def close(self) -> None:
        """Remove the socket, end every watch and log stream, and let running answers finish for a moment."""
        self._listener.close()
        if self._app is None or self._state is None:
            return
        self._app.closing.set()
        if self._joining:
            await asyncio.wait(tuple(self._joining))
        for connection in tuple(self._open):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(tuple(self._state.tasks), timeout=self._limits.farewell)
        for connection in tuple(self._open):
            connection.transport.abort()
        # Let the loop tell the connections that they are over.
        await asyncio.sleep(0)

    def _accept(self, connection: socket.socket) -> None:
        assert self._config is not None and self._state is not None and self._make is not None
        peer = peer_of(connection)
        welcome = may_command(peer) or self._strangers() < self._limits.strangers
        if not welcome or len(self._open) >= self._limits.connections:
            Listener.refuse(connection)
            return
        protocol = self._make(self._config, self._state, peer, self._limits.patience)
        protocol.on_lost = self._open.discard
        self._open.add(protocol)
        task = asyncio.get_running_loop().create_task(self._join(connection, protocol))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    def _strangers(self) -> int:
        return sum(not may_command(connection.peer) for connection in self._open)

    async def _join(self, connection: socket.socket, protocol: ControlProtocol) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection)
        except OSError as error:
            _LOG.warning("a control connection failed: %s", error)
            self._open.discard(protocol)
            connection.close()
