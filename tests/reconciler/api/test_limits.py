"""Callers who are too many, too slow, too big, or strangers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from emperorctl.reconciler.api import listener, peers, server, streams
from emperorctl.reconciler.api.peers import Peer
from emperorctl.reconciler.api.protocol import BODY_MAX, HEAD_MAX, ControlProtocol
from emperorctl.reconciler.api.server import Limits
from tests.fakes.control import ask, exchange, request, served
from tests.fakes.emperor import FakeEmperor, vassal

VASSALS = "/apis/emperor/v1/vassals"
CLEAR = "/apis/emperor/v1/blacklist/clear"
HASTY = Limits(patience=0.05, keep_alive=1)


@pytest.fixture
def emperor() -> FakeEmperor:
    return FakeEmperor(vassal("shop"))


@pytest.mark.parametrize("peer", [Peer(1, 54321, 54321), None])
def test_strangers_are_forbidden_everything(
    emperor: FakeEmperor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: Peer | None
) -> None:
    monkeypatch.setattr(server, "peer_of", lambda connection: peer)

    async def scenario(path: str) -> None:
        for method, target in [("GET", "/version"), ("GET", VASSALS), ("POST", f"{VASSALS}/shop/stop"), ("GET", "/no")]:
            answer = await ask(path, method, target)
            assert (answer.status, answer.json["reason"]) == (403, "Forbidden")

    served(emperor, tmp_path, scenario)
    assert emperor.orders == []


def test_credentials_that_cant_be_had_are_none() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        peer = peers.peer_of(other)
    assert not peers.may_command(peer) or peer == Peer(0, 0, 0)
    closed = socket.socket(socket.AF_UNIX)
    closed.close()
    assert peers.peer_of(closed) is None


def test_only_so_many_strangers_at_once(emperor: FakeEmperor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(path: str) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(server, "peer_of", lambda connection: Peer(1, 54321, 54321))
            kept = [await asyncio.open_unix_connection(path) for _ in range(2)]
            await asyncio.sleep(0)
            assert (await exchange(path, b"")).startswith(b"HTTP/1.1 503")
        assert (await ask(path, "GET", "/healthz")).status == 200
        for _, writer in kept:
            writer.close()

    served(emperor, tmp_path, scenario, Limits(strangers=2))


def test_only_so_many_connections_at_once(emperor: FakeEmperor, tmp_path: Path) -> None:
    async def scenario(path: str) -> None:
        kept = [await asyncio.open_unix_connection(path) for _ in range(3)]
        assert (await exchange(path, b"")).startswith(b"HTTP/1.1 503")
        for _, writer in kept:
            writer.close()
            await writer.wait_closed()
        # The server learns of the ends in its own time.
        for _ in range(100):
            raw = await exchange(path, request("GET", "/healthz"))
            if raw.startswith(b"HTTP/1.1 200"):
                break
        assert raw.startswith(b"HTTP/1.1 200")

    served(emperor, tmp_path, scenario, Limits(connections=3))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /version HTTP/1.1\r\nHost: x\r\n",
        b"POST " + CLEAR.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT",
    ],
)
def test_a_request_that_never_ends_is_cut_off(emperor: FakeEmperor, tmp_path: Path, sent: bytes) -> None:
    async def scenario(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        try:
            await reader.read()
        except ConnectionResetError:
            pass
        writer.close()

    served(emperor, tmp_path, scenario, HASTY)
    assert emperor.orders == []


def test_dribbling_does_not_buy_time(emperor: FakeEmperor, tmp_path: Path) -> None:
    async def scenario(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n")
        over = asyncio.create_task(reader.read())
        sent = 0
        while not over.done():
            writer.write(b"x")
            sent += 1
            await asyncio.wait({over}, timeout=0.01)
        assert sent < 100
        writer.close()

    served(emperor, tmp_path, scenario, HASTY)


def test_an_idle_connection_is_closed_and_a_busy_one_is_kept(emperor: FakeEmperor, tmp_path: Path) -> None:
    async def scenario(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(3):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(3) == b"ok\n"
        assert await reader.read() == b""
        writer.close()

    served(emperor, tmp_path, scenario, HASTY)


def test_a_head_without_end_is_refused(emperor: FakeEmperor, tmp_path: Path) -> None:
    data = b"GET /version HTTP/1.1\r\nX-Padding: " + b"x" * HEAD_MAX
    assert served(emperor, tmp_path, lambda path: exchange(path, data)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (f"Content-Length: {BODY_MAX + 1}", 413),
        ("Content-Length: 1073741824", 413),
        ("Transfer-Encoding: chunked", 411),
    ],
)
def test_a_long_body_is_refused_unread(emperor: FakeEmperor, tmp_path: Path, more: str, code: int) -> None:
    answer = served(emperor, tmp_path, lambda path: ask(path, "POST", CLEAR, b"", more))
    assert answer.status == code
    assert answer.json["kind"] == "Status"
    assert answer.headers["connection"] == "close"
    assert emperor.orders == []


def test_the_longest_body_is_read(emperor: FakeEmperor, tmp_path: Path) -> None:
    body = b'{"names": null}'.ljust(BODY_MAX)
    assert served(emperor, tmp_path, lambda path: ask(path, "POST", CLEAR, body)).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 100,
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST " + CLEAR.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST " + CLEAR.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST " + CLEAR.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST " + CLEAR.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + b"\x81\x85junk",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01\x02",
        b"GET " + VASSALS.encode() + b"?watch=true HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01\x02",
    ],
)
def test_garbage_hurts_nobody(
    emperor: FakeEmperor, tmp_path: Path, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    async def scenario(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(garbage)
        reading = asyncio.create_task(reader.read())
        done, _ = await asyncio.wait({reading}, timeout=0.2)
        if done:
            reading.exception()  # being cut off is as good an answer as any
        reading.cancel()
        writer.close()
        try:
            answer = await ask(path, "GET", "/healthz")
        except ConnectionError:  # the limits are hasty: a loaded machine may miss them once
            answer = await ask(path, "GET", "/healthz")
        assert answer.status == 200

    served(emperor, tmp_path, scenario, HASTY)
    assert emperor.orders == []
    assert caplog.records == []


def test_pipelined_requests_are_answered_in_order(emperor: FakeEmperor, tmp_path: Path) -> None:
    one = f"POST {VASSALS}/shop/%s HTTP/1.1\r\nHost: x\r\n%s\r\n"
    data = "".join(one % (verb, "") for verb in ("stop", "start")) + one % ("reload", "Connection: close\r\n")
    raw = served(emperor, tmp_path, lambda path: exchange(path, data.encode()))
    assert raw.count(b"HTTP/1.1 200") == 3
    assert emperor.orders == ["stop shop", "start shop", "reload shop"]


def test_who_leaves_in_the_middle_has_asked_for_nothing(emperor: FakeEmperor, tmp_path: Path) -> None:
    async def scenario(path: str) -> None:
        for body in (b"", b'{"na'):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(f"POST {VASSALS}/shop/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode() + body)
            writer.close()
            await writer.wait_closed()
        assert (await ask(path, "GET", "/healthz")).status == 200

    served(emperor, tmp_path, scenario)
    assert emperor.orders == []


def test_a_reader_who_stops_reading_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STALL", 0.05)
    emperor = FakeEmperor(*[vassal(f"app-{number}") for number in range(2000)])

    async def scenario(path: str) -> None:
        dropped = asyncio.Event()
        abort = ControlProtocol._abort

        def seen(connection: ControlProtocol) -> None:
            abort(connection)
            dropped.set()

        monkeypatch.setattr(ControlProtocol, "_abort", seen)
        reader, writer = await asyncio.open_unix_connection(path, limit=1024)
        writer.write(request("GET", VASSALS))
        await dropped.wait()
        assert len(await reader.read()) < 1_000_000
        writer.close()
        assert (await ask(path, "GET", "/healthz")).status == 200

    served(emperor, tmp_path, scenario)


def test_the_refusal_is_a_status(emperor: FakeEmperor, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    listener.refuse(ours, listener.control_place("/e.sock", peers.Admission()).refusal)
    with theirs:
        assert b'"reason":"ServiceUnavailable"' in theirs.recv(4096)
        assert theirs.recv(4096) == b""
