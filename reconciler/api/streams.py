"""Answers that are sent bit by bit: long lists, watches, logs.

A reader who stops reading is dropped, and one who leaves ends the work done for him; nothing piles up in
memory but what the connection itself buffers. Starlette's own streaming response is not used: it runs on
anyio's task groups, which cost an import and more for each stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from emperorctl.reconciler.api.answers import failure
from emperorctl.reconciler.api.rations import Ration

__all__ = ["STALL", "Stream", "pieces"]

STALL = 30.0
"""How many seconds a reader may take to make room for more."""


class Stream:
    """A response whose body is `chunks`; ended early when the reader leaves, and when the server closes if `endless`.

    `length` is the body's size in bytes where it is known: then it is in memory. Any other counts as a watch does.
    """

    def __init__(
        self,
        request: Request,
        chunks: AsyncIterator[bytes],
        media_type: str,
        length: int | None = None,
        *,
        endless: bool = True,
    ) -> None:
        self._abort = request.state.abort
        self._closing: asyncio.Event = request.state.closing
        self._ration: Ration = request.state.ration
        self._chunks = chunks
        self._endless = endless and length is None
        self._counted = length is None
        self._headers = [(b"content-type", media_type.encode())]
        if length is not None:
            self._headers.append((b"content-length", str(length).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if not self._counted:
            await self._answer(receive, send)
            return
        if not self._ration.take():
            message = "too many watches, logs and commands are open at once; end one"
            await failure(429, "TooManyRequests", message, close=True)(scope, receive, send)
            return
        try:
            await self._answer(receive, send)
        finally:
            self._ration.give_back()

    async def _answer(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        pump = asyncio.create_task(self._pump(send))
        left = asyncio.create_task(_left(receive))
        tasks: set[asyncio.Task[object]] = {pump, left}
        if self._endless:
            tasks.add(asyncio.create_task(self._closing.wait()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()
        if pump in done:
            pump.result()
        elif left not in done:
            # The server closes: whoever still reads is told that this is the end.
            await self._send(send, b"", more=False)

    async def _pump(self, send: Send) -> None:
        async for chunk in self._chunks:
            if chunk:
                await self._send(send, chunk, more=True)
        await self._send(send, b"", more=False)

    async def _send(self, send: Send, data: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(STALL):
                await send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            self._abort()


async def pieces(parts: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The same parts, one after the other, for a `Stream`."""
    for part in parts:
        yield part


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
