"""Ways to talk to a control server in tests: inside its loop, or from a thread beside it."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from emperorctl.reconciler.api.peers import Admission
from emperorctl.reconciler.api.server import ControlServer, Limits
from tests.fakes.emperor import FakeEmperor

__all__ = ["Answer", "ask", "exchange", "in_thread", "request", "served"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, body decoded from chunks."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def makefile(self, *_arguments: object) -> io.BytesIO:
        return self._file


def request(method: str, target: str, body: bytes = b"", *more: str) -> bytes:
    """A whole request as bytes, after which the server closes the connection."""
    head = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *more]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


async def exchange(path: str, data: bytes) -> bytes:
    """Everything that comes back for these bytes, until the server closes."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(data)
        return await reader.read()
    finally:
        writer.close()


async def ask(path: str, method: str, target: str, body: bytes = b"", *more: str) -> Answer:
    """One request on its own connection."""
    raw = await exchange(path, request(method, target, body, *more))
    response = HTTPResponse(_Bytes(raw), method=method)  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())


def served(
    emperor: FakeEmperor,
    path: Path,
    scenario: Callable[[str], Awaitable[Any]],
    limits: Limits | None = None,
    gate: Admission | None = None,
) -> Any:
    """Run the scenario, which gets the socket's path, in the loop of a real control server."""

    async def run() -> Any:
        server = ControlServer(emperor, str(path / "e.sock"), limits or Limits(), gate)
        await server.start()
        try:
            return await scenario(server.socket_path)
        finally:
            await server.close()

    return asyncio.run(run())


@contextmanager
def in_thread(emperor: FakeEmperor, path: Path) -> Iterator[Callable[[Callable[[], object]], None]]:
    """A control server at `path` in a thread of its own; yields a way to call something in its loop and wait for it."""
    started = threading.Event()
    loop = asyncio.new_event_loop()
    finish = asyncio.Event()

    async def run() -> None:
        server = ControlServer(emperor, str(path))
        await server.start()
        started.set()
        await finish.wait()
        await server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert started.wait(10)

    def call(function: Callable[[], object]) -> None:
        done = threading.Event()

        def within() -> None:
            function()
            done.set()

        loop.call_soon_threadsafe(within)
        assert done.wait(10)

    try:
        yield call
    finally:
        loop.call_soon_threadsafe(finish.set)
        thread.join(10)
        loop.close()
