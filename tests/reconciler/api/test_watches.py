from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from emperorctl.reconciler import board as board_module
from tests.fakes.control import ask, served
from tests.fakes.emperor import FakeEmperor, vassal

VASSALS = "/apis/emperor/v1/vassals"
EVENTS = "/apis/emperor/v1/events"


class Stream:
    """The body of a chunked answer, as it comes."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._rest = b""

    async def chunk(self) -> bytes:
        """The next chunk; empty at the proper end."""
        size = int(await self._reader.readline(), 16)
        data = await self._reader.readexactly(size)
        assert await self._reader.readline() == b"\r\n"
        return data

    async def change(self) -> Any:
        while b"\n" not in self._rest:
            data = await self.chunk()
            assert data, "the stream ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def told(self) -> tuple[str, str]:
        change = await self.change()
        return change["type"], change["object"]["metadata"]["name"]


@asynccontextmanager
async def streaming(path: str, target: str) -> Any:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        while (await reader.readline()).strip():
            pass
        yield Stream(reader)
    finally:
        writer.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  (turns of the loop, not time)
        await asyncio.sleep(0)


def watched(emperor: FakeEmperor, path: Path, target: str, scenario: Callable[[Stream], Awaitable[None]]) -> None:
    async def run(socket: str) -> None:
        async with streaming(socket, target) as stream:
            await scenario(stream)

    served(emperor, path, run)


def test_without_a_version_everything_comes_first(tmp_path: Path) -> None:
    emperor = FakeEmperor(vassal("a"), vassal("b"))

    async def scenario(stream: Stream) -> None:
        assert [await stream.told(), await stream.told()] == [("ADDED", "a"), ("ADDED", "b")]
        emperor.put(vassal("c"))
        assert await stream.told() == ("ADDED", "c")
        emperor.put(vassal("a", status_respawns=1))
        change = await stream.change()
        assert change["type"] == "MODIFIED"
        assert change["object"]["status"]["respawns"] == 1
        assert change["object"]["metadata"]["resourceVersion"] == str(emperor.board.version)
        emperor.take("b")
        assert await stream.told() == ("DELETED", "b")

    watched(emperor, tmp_path, f"{VASSALS}?watch=true", scenario)


def test_with_a_version_only_what_came_later(tmp_path: Path) -> None:
    emperor = FakeEmperor(vassal("a"), vassal("b"))
    version = emperor.board.version
    emperor.put(vassal("b"))

    async def scenario(stream: Stream) -> None:
        assert await stream.told() == ("MODIFIED", "b")
        emperor.put(vassal("a"))
        assert await stream.told() == ("MODIFIED", "a")

    watched(emperor, tmp_path, f"{VASSALS}?watch=true&resourceVersion={version}", scenario)


@pytest.mark.parametrize("version", ["9999", "1"])
def test_a_version_of_another_time_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    emperor = FakeEmperor(vassal("a"))
    monkeypatch.setattr(emperor.board, "since", lambda after: None)
    answer = served(emperor, tmp_path, lambda path: ask(path, "GET", f"{VASSALS}?watch=true&resourceVersion={version}"))
    assert (answer.status, answer.json["reason"]) == (410, "Gone")


def test_an_event_version_of_another_run_is_gone(tmp_path: Path) -> None:
    answer = served(FakeEmperor(), tmp_path, lambda path: ask(path, "GET", f"{EVENTS}?watch=true&resourceVersion=7"))
    assert (answer.status, answer.json["reason"]) == (410, "Gone")


def test_falling_too_far_behind_ends_the_watch_with_a_reason(tmp_path: Path) -> None:
    emperor = FakeEmperor(vassal("a"))

    async def scenario(stream: Stream) -> None:
        assert await stream.told() == ("ADDED", "a")
        for _ in range(board_module.HISTORY + 2):
            emperor.board.change("a")
        change = await stream.change()
        assert change["type"] == "ERROR"
        assert change["object"]["code"] == 410
        assert await stream.chunk() == b""

    watched(emperor, tmp_path, f"{VASSALS}?watch=true", scenario)


def test_a_selector_sees_objects_come_and_go(tmp_path: Path) -> None:
    web = {"team": "web"}
    emperor = FakeEmperor(vassal("a", meta_labels=web), vassal("b"))

    async def scenario(stream: Stream) -> None:
        assert await stream.told() == ("ADDED", "a")
        emperor.put(vassal("b", status_respawns=1))
        emperor.put(vassal("b", meta_labels=web))
        assert await stream.told() == ("ADDED", "b")
        emperor.put(vassal("a"))
        assert await stream.told() == ("DELETED", "a")
        emperor.take("a")
        emperor.put(vassal("b", meta_labels=web))
        assert await stream.told() == ("MODIFIED", "b")
        emperor.take("b")
        assert await stream.told() == ("DELETED", "b")

    watched(emperor, tmp_path, f"{VASSALS}?watch=true&labelSelector=team%3Dweb", scenario)


def test_one_vassal_alone_also_before_it_exists(tmp_path: Path) -> None:
    emperor = FakeEmperor(vassal("a"))

    async def scenario(stream: Stream) -> None:
        emperor.put(vassal("a"))
        emperor.put(vassal("b"))
        assert await stream.told() == ("ADDED", "b")
        emperor.put(vassal("a"))
        emperor.take("b")
        assert await stream.told() == ("DELETED", "b")

    watched(emperor, tmp_path, f"{VASSALS}?watch=true&fieldSelector=metadata.name%3Db", scenario)


def test_events(tmp_path: Path) -> None:
    emperor = FakeEmperor(vassal("a"), vassal("b"))
    emperor.note("a", "Spawned")

    async def scenario(stream: Stream) -> None:
        emperor.note("b", "Spawned")
        emperor.note("a", "Crashed", warning=True)
        change = await stream.change()
        assert (change["type"], change["object"]["reason"]) == ("ADDED", "Crashed")
        emperor.note("a", "Crashed", warning=True)
        change = await stream.change()
        assert (change["type"], change["object"]["count"]) == ("MODIFIED", 2)

    watched(emperor, tmp_path, f"{EVENTS}?watch=true&involvedObject=a&types=Warning", scenario)


def test_a_followed_log_goes_on_and_ends_with_its_reader(tmp_path: Path) -> None:
    emperor = FakeEmperor(vassal("a"))
    emperor.logs.texts["a"] = b"one\ntwo\n"

    async def run(path: str) -> None:
        async with streaming(path, f"{VASSALS}/a/log?follow=true&tail=1") as stream:
            assert await stream.chunk() == b"two\n"
            emperor.logs.write("a", b"three\n")
            assert await stream.chunk() == b"three\n"
            assert emperor.logs.readers == 1
        await until(lambda: emperor.logs.readers == 0)

    served(emperor, tmp_path, run)


def test_closing_the_server_ends_every_stream_properly(tmp_path: Path) -> None:
    emperor = FakeEmperor(vassal("a"))
    readers: list[Stream] = []

    async def run() -> None:
        from emperorctl.reconciler.api.server import ControlServer

        server = ControlServer(emperor, str(tmp_path / "e.sock"))
        await server.start()
        async with (
            streaming(server.socket_path, f"{VASSALS}?watch=true") as watch,
            streaming(server.socket_path, f"{VASSALS}/a/log?follow=true") as log,
        ):
            readers.extend((watch, log))
            assert await watch.told() == ("ADDED", "a")
            await until(lambda: emperor.logs.readers == 1)
            started = asyncio.get_running_loop().time()
            await server.close()
            assert asyncio.get_running_loop().time() - started < 0.5
            assert await watch.chunk() == b""
            assert await log.chunk() == b""
        assert emperor.logs.readers == 0
        assert not (tmp_path / "e.sock").exists()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
