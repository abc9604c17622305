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
from emperorctl.reconciler.api.peers import EVERYTHING, Admission, Peer, Reach, peer_of
from emperorctl.reconciler.api.rations import Allowance, Rations

if TYPE_CHECKING:
    from emperorctl.reconciler.api.app import ControlApp
    from emperorctl.reconciler.api.protocol import ControlProtocol, Http
    from emperorctl.reconciler.api.realm import Realms

__all__ = ["ControlServer", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the control socket takes. Times are in seconds.

    `connections` is the most at once, `others` the most of those by users who don't reach everything, `strangers` of
    those who reach nothing, or as whom no vassal runs. `each` is what one of them may have.
    `patience` is how long a request may take to arrive, `keep_alive` how long a connection may wait for
    the next one, `farewell` how long answers may still take when the server closes.
    """

    connections: int = 512
    strangers: int = 16
    patience: float = 10.0
    keep_alive: int = 5
    farewell: float = 1.0
    others: int = 384
    each: Allowance = Allowance()


@dataclass(frozen=True, slots=True)
class _Guest:
    """How somebody who is in was counted; `uid` None: not at all."""

    uid: int | None
    stranger: bool


class ControlServer:
    """The API of one Emperor at one Unix socket, for those whom `gate` lets in. The caller holds the Emperor's lock."""

    def __init__(
        self, emperor: EmperorFacade, socket_path: str, limits: Limits = Limits(), gate: Admission | None = None
    ) -> None:
        self.socket_path = socket_path
        self._emperor = emperor
        self._limits = limits
        self._gate = gate or Admission()
        self._rations: Rations
        self._realms: Realms | None = None
        self._others = self._strangers = 0
        self._listener = Listener(control_place(socket_path, self._gate), self._accept)
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

        loop = asyncio.get_running_loop()
        self._rations = Rations(self._limits.each, loop.time)
        if self._gate.tyrant:
            from emperorctl.reconciler.api.realm import Realms  # noqa: PLC0415

            self._realms = Realms(self._emperor)
            self._realms.open()
        self._app = ControlApp(self._gate, self._emperor_of, self._rations)
        self._http = Http(self._app, self._limits.keep_alive)
        self._listener.start(loop)

    async def close(self) -> None:
        """Remove the socket, end every watch and log stream, and let running answers finish for a moment."""
        self._listener.close()
        if self._app is None or self._http is None:
            return
        self._app.closing.set()
        await self._open.close(self._http.answers, self._limits.farewell)

    def _emperor_of(self, reach: Reach) -> EmperorFacade:
        return self._emperor if self._realms is None else self._realms.of(reach)

    def _accept(self, connection: socket.socket) -> None:
        assert self._http is not None
        peer = peer_of(connection)
        guest = self._admitted(peer)
        if guest is None:
            refuse(connection, self._listener.place.refusal)
            return
        protocol = self._http.connection(peer, self._limits.patience)

        def lost(gone: ControlProtocol) -> None:
            self._open.discard(gone)
            self._left(guest)

        protocol.on_lost = lost
        self._open.join(connection, protocol)

    def _admitted(self, peer: Peer | None) -> _Guest | None:
        """How to count this one among those who are in; None where there is no room."""
        limits, reach = self._limits, self._gate.reach(peer)
        if len(self._open) >= limits.connections:
            return None
        if reach == EVERYTHING:
            return _Guest(None, False)
        uid = peer.uid if peer is not None else -1
        stranger = reach is None or self._realms is None or not self._realms.rules(uid)
        if self._others >= limits.others or (stranger and self._strangers >= limits.strangers):
            return None
        if not self._rations.connect(uid):
            return None
        self._others += 1
        self._strangers += stranger
        return _Guest(uid, stranger)

    def _left(self, guest: _Guest) -> None:
        if guest.uid is not None:
            self._rations.disconnect(guest.uid)
            self._others -= 1
            self._strangers -= guest.stranger
