"""The ASGI application of the control socket: first who asks and how much, then the routes.

Made and fed by `server`. A request has no effect before its last byte is here: a caller who disconnects
in the middle has asked for nothing.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from emperorctl.models.errors import EmperorError
from emperorctl.reconciler.api.answers import failure, on_error, on_http_error
from emperorctl.reconciler.api.facade import EmperorFacade
from emperorctl.reconciler.api.peers import may_command
from emperorctl.reconciler.api.protocol import BODY_MAX
from emperorctl.reconciler.api.routes import Api

__all__ = ["ControlApp"]

_LOG = logging.getLogger(__name__)


class ControlApp:
    """The gate before the routes. `closing` is set when the server goes, and ends every stream."""

    def __init__(self, emperor: EmperorFacade) -> None:
        self.closing = asyncio.Event()
        self._app = Starlette(
            routes=Api(emperor).routes(),
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
        if not may_command(state.get("peer")):
            message = "only root and the user who runs the Emperor may use its control socket"
            await failure(403, "Forbidden", message, close=True)(scope, receive, send)
            return
        if refusal := _too_much(scope):
            await failure(*refusal, close=True)(scope, receive, send)
            return
        body = await _whole_body(receive)
        if body is None:
            return
        try:
            await self._app(scope, _replay(body, receive), send)
        except Exception:
            # The caller has been answered already; the daemon goes on.
            _LOG.exception("bug while answering %s %s", scope["method"], scope["path"])


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
