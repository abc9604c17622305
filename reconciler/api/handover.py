"""A connection that is given up for another use: what `exec` runs is spoken with directly, not through the Emperor.

The answer to the request is 101; with its last byte come the far ends of the command's terminal (one descriptor) or of
its streams (standard input where it has one, output, errors), made by the Emperor, never by the caller. What is left of
the connection says one thing in each direction: the caller's end is the command's end, and the Emperor's last line is
how it ended, as JSON. Called by `routes`; not in here: the command itself (`runtime.execs`).
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from emperorctl.models.errors import UserError
from emperorctl.models.execution import Execution, Size
from emperorctl.reconciler.api.answers import Refused
from emperorctl.reconciler.api.facade import Attached
from emperorctl.reconciler.api.rations import Ration

__all__ = ["UPGRADE", "Handover", "read_execution"]

UPGRADE = "emperorctl-exec"
_HEAD = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n\r\n".encode()
_MARK = b"!"
_WORDS_MAX = 1000
_SIZE_MAX = 10_000


class Handover:
    """The response that gives the connection to `attached`; `ration` is given back when all is over."""

    def __init__(self, request: Request, attached: Attached, ration: Ration) -> None:
        self._take_over: Callable[[], socket.socket | None] = request.state.take_over
        self._closing: asyncio.Event = request.state.closing
        self._attached = attached
        self._ration = ration

    async def __call__(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        """The ASGI interface."""
        connection = self._take_over()
        try:
            if connection is not None:
                with connection:
                    await self._converse(connection)
        finally:
            self._attached.kill()
            self._ration.give_back()

    async def _converse(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ends = self._attached.take()
        try:
            # The caller may have stopped reading; that is no reason to wait for him.
            connection.setblocking(False)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", ends))]
            if connection.sendmsg([_HEAD]) != len(_HEAD) or connection.sendmsg([_MARK], rights) != 1:
                return
        except OSError:
            return
        finally:
            for fd in ends:
                os.close(fd)
        left = asyncio.create_task(_left(loop, connection))
        closing = asyncio.create_task(self._closing.wait())
        over = self._attached.over
        awaited: set[asyncio.Future[Any]] = {left, closing, over}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                end = over.result()
                told = {"code": end.code} if end.signal is None else {"signal": end.signal}
                try:
                    connection.sendmsg([json.dumps(told).encode() + b"\n"])
                except OSError:
                    pass  # nobody is there to be told
        finally:
            for task in (left, closing):
                task.cancel()
            await asyncio.gather(left, closing, return_exceptions=True)


async def _left(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """Until the caller hangs up; what he says has no meaning."""
    try:
        while await loop.sock_recv(connection, 4096):
            pass
    except OSError:
        pass


def read_execution(body: bytes) -> Execution:
    """What the body asks for. Raises Refused, UserError."""
    wrong = Refused(400, "BadRequest", 'expected a body such as {"command": ["id"], "stdin": false, "terminal": null}')
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(document, dict) or document.keys() - {"command", "stdin", "terminal", "term"}:
        raise wrong
    command, stdin, term = document.get("command"), document.get("stdin", False), document.get("term", "")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise wrong
    if not isinstance(stdin, bool) or not isinstance(term, str):
        raise wrong
    if not command or not command[0] or len(command) > _WORDS_MAX or any("\0" in word for word in command):
        raise UserError(f"expected a command of 1 to {_WORDS_MAX} words, without NUL characters")
    if len(term) > 64 or not (term.isascii() and term.isprintable()):
        raise UserError("term: expected the name of a terminal")
    return Execution(tuple(command), stdin, _size(document.get("terminal"), wrong), term)


def _size(value: object, wrong: Refused) -> Size | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"rows", "columns"}:
        raise wrong
    for number in value.values():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _SIZE_MAX:
            raise wrong
    return Size(value["rows"], value["columns"])
