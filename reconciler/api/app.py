"""The ASGI application of the control socket: first who asks and how much, then the routes.

Made and fed by `server`. A request has no effect before its last byte is here: a caller who disconnects
in the middle has asked for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from emperorctl.models.errors import EmperorError
from emperorctl.models.names import printable
from emperorctl.reconciler.api.answers import failure, on_error, on_http_error
from emperorctl.reconciler.api.facade import EmperorFacade
from emperorctl.reconciler.api.peers import Admission, Peer, Reach
from emperorctl.reconciler.api.protocol import BODY_MAX
from emperorctl.reconciler.api.rations import Rations
from emperorctl.reconciler.api.routes import routes

__all__ = ["ControlApp"]

_QUESTIONS = frozenset({"GET", "HEAD"})
_ORDER_COST = 5.0
"""In requests: each order is written down."""
_LOG = logging.getLogger(__name__)


class ControlApp:
    """The gate before the routes. `emperor_of` gives the Emperor that a reach is allowed; `closing` is set when the
    server goes, and ends every stream."""

    def __init__(self, gate: Admission, emperor_of: Callable[[Reach], EmperorFacade], rations: Rations) -> None:
        self.closing = asyncio.Event()
        self._gate = gate
        self._emperor_of = emperor_of
        self._rations = rations
        self._app = Starlette(
            routes=routes(),
            exception_handlers={HTTPException: on_http_error, EmperorError: on_error, Exception: on_error},
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            return
        state = scope["state"]
        state["closing"] = self.closing
        # Routes match the path as it was sent: an encoded "/" is part of a name, not a separator.
        scope["path"] = scope["raw_path"].decode("ascii")
        peer: Peer | None = state.get("peer")
        reach = self._gate.reach(peer)
        if peer is None or reach is None:
            self._refused(scope, 403)
            await failure(403, "Forbidden", self._gate.refusal, close=True)(scope, receive, send)
            return
        cost = 1.0 if scope["method"] in _QUESTIONS else _ORDER_COST
        if reach.uid is not None and not self._rations.request(reach.uid, cost):
            self._refused(scope, 429)
            message = "too many requests; ask again in a second"
            await failure(429, "TooManyRequests", message, close=True)(scope, receive, send)
            return
        state["emperor"] = self._emperor_of(reach)
        state["ration"] = self._rations.of(reach.uid)
        if refusal := _too_much(scope):
            await failure(*refusal, close=True)(scope, receive, send)
            return
        body = await _whole_body(receive)
        if body is None:
            return
        try:
            await self._app(scope, _replay(body, receive), self._overheard(scope, send))
        except Exception:
            # The caller has been answered already; the daemon goes on.
            _LOG.exception("bug while answering %s %s", scope["method"], scope["path"])

    def _overheard(self, scope: Scope, send: Send) -> Send:
        """Pass on what is answered, and take note of orders that are refused."""
        if scope["method"] in _QUESTIONS:
            return send

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                self._refused(scope, message["status"])
            await send(message)

        return heard

    def _refused(self, scope: Scope, code: int) -> None:
        """One line for the log, and not many of one user."""
        peer: Peer | None = scope["state"].get("peer")
        dropped = self._rations.complaint(peer.uid if peer is not None else -1)
        if dropped is not None:
            more = f" ({dropped} more since the last such line)" if dropped else ""
            what = f"{scope['method']} {printable(scope['path'][:200])}"
            _LOG.warning("%s was refused (%d): %s%s", peer or "somebody unknown", code, what, more)


def _too_much(scope: Scope) -> tuple[int, str, str] | None:
    """Why the body won't be read, if so: bodies come with their length, and are short."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return 411, "LengthRequired", "send the body with a Content-Length"
    if int(headers.get(b"content-length", b"0")) > BODY_MAX:
        return 413, "RequestEntityTooLarge", f"the body is longer than {BODY_MAX} bytes"
    return None


async def _whole_body(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
