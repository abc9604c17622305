"""The stats server: silent callers, HTTP, garbage, slow readers, crowds."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.errors import UserError
from emperorctl.reconciler.api import stats as bureau
from emperorctl.reconciler.api.addresses import Address, TcpAddress, UnixAddress
from emperorctl.reconciler.api.listener import Listener, Place
from emperorctl.reconciler.api.stats import Shared, StatsLimits, StatsServer
from tests.fakes.control import exchange, request
from tests.fakes.time import VirtualTime

HASTY = StatsLimits(greeting=0.01)
PATIENT = StatsLimits(greeting=60.0)
"""Whoever is answered is so for what he said, and not because time is up."""


class Office:
    """Documents that are counted."""

    def __init__(self, size: int = 0) -> None:
        self.rendered = 0
        self.size = size
        self.broken = False

    def render(self) -> bytes:
        if self.broken:
            raise RuntimeError("a bug")
        self.rendered += 1
        return json.dumps({"number": self.rendered, "filling": "x" * self.size}).encode()


def place(address: Address) -> Place:
    return Place(address, "the stats server", "--emperor-stats", private=False)


def served(office: Office, path: Path, scenario: Callable[[str], Awaitable[Any]], limits: StatsLimits = HASTY) -> Any:
    async def run() -> Any:
        target = str(path / "stats.sock")
        server = StatsServer(place(UnixAddress(target)), office.render, limits)
        server.open()
        server.start()
        try:
            return await scenario(target)
        finally:
            await server.close()
            assert not os.path.lexists(target)

    return asyncio.run(run())


def answered(raw: bytes, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    class Sock:
        def makefile(self, *_arguments: object) -> io.BytesIO:
            return io.BytesIO(raw)

    response = HTTPResponse(Sock(), method=method)  # type: ignore[arg-type]
    response.begin()
    return response, response.read()


def test_who_says_nothing_gets_the_bare_document(tmp_path: Path) -> None:
    raw = served(Office(), tmp_path, lambda path: exchange(path, b""))
    assert json.loads(raw) == {"number": 1, "filling": ""}


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_get_is_answered_in_http(tmp_path: Path, size: int) -> None:
    raw = served(Office(size), tmp_path, lambda path: exchange(path, request("GET", "/any/where?x=1")), PATIENT)
    response, body = answered(raw)
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["connection"] == "close"
    assert len(json.loads(body)["filling"]) == size


def test_a_request_may_come_in_pieces(tmp_path: Path) -> None:
    async def scenario(path: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        for piece in (b"G", b"ET", b" / HT", b"TP/1.0\r\n", b"\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        raw = await reader.read()
        writer.close()
        return raw

    response, body = answered(served(Office(), tmp_path, scenario, PATIENT))
    assert response.status == 200 and json.loads(body)["number"] == 1


def test_a_head_has_no_body(tmp_path: Path) -> None:
    raw = served(Office(), tmp_path, lambda path: exchange(path, request("HEAD", "/")), PATIENT)
    response, body = answered(raw, "HEAD")
    assert response.status == 200 and int(response.headers["content-length"]) > 0 and body == b""
    assert raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_nothing_can_be_ordered_here(tmp_path: Path, method: str) -> None:
    office = Office()
    raw = served(office, tmp_path, lambda path: exchange(path, request(method, "/", b"{}")), PATIENT)
    response, body = answered(raw)
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(body)["reason"] == "MethodNotAllowed"
    assert office.rendered == 0


@pytest.mark.parametrize("garbage", [b"\0", b"get / http/1.0\r\n\r\n", b"\x16\x03\x01" * 99, b"A" * 17, b"x" * 60_000])
def test_whatever_else_is_said_gets_the_bare_document(tmp_path: Path, garbage: bytes) -> None:
    raw = served(Office(), tmp_path, lambda path: exchange(path, garbage), PATIENT)
    assert json.loads(raw)["number"] == 1


def test_half_a_method_is_not_waited_for(tmp_path: Path) -> None:
    assert json.loads(served(Office(), tmp_path, lambda path: exchange(path, b"GE")))["number"] == 1


def test_something_like_http_is_refused_as_http(tmp_path: Path) -> None:
    raw = served(Office(), tmp_path, lambda path: exchange(path, b"GET over here\r\n\r\n"), PATIENT)
    assert raw.startswith(b"HTTP/1.1 400")


def test_who_has_nothing_more_to_say_is_answered_at_once(tmp_path: Path) -> None:
    async def scenario(path: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write_eof()
        raw = await reader.read()
        writer.close()
        return raw

    assert json.loads(served(Office(), tmp_path, scenario, PATIENT))["number"] == 1


def test_endless_talk_is_cut_off(tmp_path: Path) -> None:
    async def scenario(path: str) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()
        assert json.loads(await exchange(path, b""))

    served(Office(), tmp_path, scenario)


@pytest.mark.parametrize("opening", [b"", b"\0", request("GET", "/")])
def test_who_does_not_read_is_dropped(tmp_path: Path, opening: bytes) -> None:
    async def scenario(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path, limit=1024)
        writer.write(opening)
        lost = asyncio.Event()
        over = bureau.StatsServer.lost

        def seen(server: StatsServer, caller: Any) -> None:
            over(server, caller)
            lost.set()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(bureau.StatsServer, "lost", seen)
            await lost.wait()
        writer.close()
        assert len(await reader.read()) < 4_000_000

    served(Office(4_000_000), tmp_path, scenario, StatsLimits(greeting=0.01, patience=0.1))


def test_a_crowd_shares_one_document(tmp_path: Path) -> None:
    office = Office()

    async def scenario(path: str) -> None:
        crowd = [await asyncio.open_unix_connection(path) for _ in range(200)]
        # The last to come is the last to be let in: when he has his answer, all are there.
        answers = [await exchange(path, b"\0")]
        for _, writer in crowd:
            writer.write(b"\0")
        answers += await asyncio.gather(*(reader.read() for reader, _ in crowd))
        for _, writer in crowd:
            writer.close()
        assert {json.loads(raw)["number"] for raw in answers} == {1}

    served(office, tmp_path, scenario, PATIENT)
    assert office.rendered == 1


@pytest.mark.parametrize("opening", [b"", b"GET / HTTP/1.0\r\n\r\n"])
def test_who_finds_no_room_waits_and_is_served(tmp_path: Path, opening: bytes) -> None:
    async def scenario(path: str) -> None:
        answers = await asyncio.gather(*(exchange(path, opening) for _ in range(100)))
        assert all(b'"number": ' in raw for raw in answers)

    served(Office(), tmp_path, scenario, StatsLimits(connections=3, greeting=0.001))


def test_a_bug_costs_one_caller_his_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    office = Office()

    async def scenario(path: str) -> None:
        office.broken = True
        try:
            assert await exchange(path, b"") == b""
        except ConnectionError:
            pass
        office.broken = False
        assert json.loads(await exchange(path, b""))["number"] == 1

    served(office, tmp_path, scenario)
    assert [record.message for record in caplog.records] == ["bug while making the statistics"]


def test_a_document_is_as_new_as_its_reader_and_costs_a_tenth_of_the_time() -> None:
    time, office = VirtualTime(100.0), Office()

    def render() -> bytes:
        time.now += 0.1
        return office.render()

    shared = Shared(render, time.time, time.time)
    assert b'"number": 1' in shared.document(99.0)  # made at 100.0, done at 100.1
    assert b'"number": 1' in shared.document(99.9)
    time.now = 100.9
    assert b'"number": 1' in shared.document(100.9)  # a moment ago
    time.now = 101.5
    assert b'"number": 1' in shared.document(99.5)  # as new as he is
    assert b'"number": 2' in shared.document(101.5)


def test_waiting_for_the_processor_makes_no_document_older() -> None:
    time, spent, office = VirtualTime(100.0), VirtualTime(0.0), Office()

    def render() -> bytes:
        time.now += 3.0
        spent.now += 0.1
        return office.render()

    shared = Shared(render, time.time, spent.time)
    assert b'"number": 1' in shared.document(99.0)  # made at 100.0, done at 103.0
    time.now = 103.8
    assert b'"number": 1' in shared.document(103.8)
    time.now = 104.0
    assert b'"number": 2' in shared.document(104.0)


def test_over_tcp(tmp_path: Path, free_port: int) -> None:
    async def run() -> None:
        address = TcpAddress("127.0.0.1", free_port)
        server = StatsServer(place(address), Office().render, HASTY)
        server.open()
        server.start()
        with pytest.raises(UserError, match=r"Address already in use \(stop what listens there, or choose another"):
            StatsServer(place(address), Office().render).open()
        reader, writer = await asyncio.open_connection("127.0.0.1", free_port)
        assert json.loads(await reader.read())["number"] == 1
        writer.close()
        await server.close()

    asyncio.run(run())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0, 0o666), (0o077, 0o600)])
def test_the_umask_decides_who_may_connect(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "stats.sock"
    before = os.umask(umask)
    try:
        listener = Listener(place(UnixAddress(str(path))), lambda connection: connection.close())
        listener.open()
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    listener.close()
    assert not path.exists()


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "stats.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(UserError, match=r"somebody listens at .* already.*--emperor-stats"):
            Listener(place(UnixAddress(str(path))), lambda connection: connection.close()).open()
        assert path.exists()
    listener = Listener(place(UnixAddress(str(path))), lambda connection: connection.close())
    listener.open()  # stale now
    listener.close()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
