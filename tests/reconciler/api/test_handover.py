from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.errors import UserError
from emperorctl.models.execution import Execution, Size
from emperorctl.models.observed import Exit
from emperorctl.reconciler.api.answers import Refused
from emperorctl.reconciler.api.handover import read_execution
from emperorctl.reconciler.api.peers import Admission
from emperorctl.reconciler.api.rations import Allowance
from emperorctl.reconciler.api.server import Limits
from tests.fakes.control import ask, request, served
from tests.fakes.emperor import FakeEmperor, vassal

EXEC = "/apis/emperor/v1/vassals/shop/exec"
BODY = b'{"command": ["id"]}'
NOBODY = Admission(tyrant=True, masters=frozenset())


class FakeAttached:
    def __init__(self) -> None:
        self.over: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.killed = False
        self.ends = list(os.pipe())

    def take(self) -> list[int]:
        return self.ends

    def kill(self) -> None:
        self.killed = True


class Running(FakeEmperor):
    """Every command can be run."""

    def __init__(self) -> None:
        super().__init__(vassal("shop"))
        self.attached: list[FakeAttached] = []

    def owner(self, name: str) -> int | None:
        return os.geteuid()

    async def execute(self, name: str, what: Execution, by: str = "", uid: int | None = None) -> Any:
        self.orders.append(f"exec {name} {uid} {' '.join(what.command)}")
        self.attached.append(FakeAttached())
        return self.attached[-1]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"command": ["id", "-u"]}', Execution(("id", "-u"))),
        (b'{"command": ["cat"], "stdin": true, "terminal": null}', Execution(("cat",), True)),
        (
            b'{"command": ["sh"], "stdin": true, "terminal": {"rows": 3, "columns": 4}, "term": "xterm"}',
            Execution(("sh",), True, Size(3, 4), "xterm"),
        ),
    ],
)
def test_what_is_asked_for(body: bytes, what: Execution) -> None:
    assert read_execution(body) == what


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b"{}", b"[" * 5000, b'{"command": "id"}', b'{"command": [1]}',
        b'{"command": ["id"], "user": "root"}',
        b'{"command": ["id"], "stdin": 1}', b'{"command": ["id"], "terminal": true}',
        b'{"command": ["id"], "terminal": {"rows": 1}}', b'{"command": ["id"], "terminal": {"rows": 1, "columns": -1}}',
        b'{"command": ["id"], "terminal": {"rows": 1, "columns": true}}', b'{"command": ["id"], "term": 1}',
        b'{"command": ["id"], "terminal": {"rows": 1, "columns": 65536}}',
    ],
)  # fmt: skip
def test_a_body_that_asks_for_nothing_known(body: bytes) -> None:
    with pytest.raises(Refused, match="expected a body such as"):
        read_execution(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"command": []}', b'{"command": [""]}', b'{"command": ["a\\u0000b"]}',
        b'{"command": ["id"], "term": "\\u001b"}',
        json.dumps({"command": ["x"] * 1001}).encode(), json.dumps({"command": ["x"], "term": "x" * 65}).encode(),
    ],
)  # fmt: skip
def test_a_command_that_can_not_be(body: bytes) -> None:
    with pytest.raises(UserError, match="expected"):
        read_execution(body)


async def handed_over(path: str) -> tuple[socket.socket, list[int]]:
    """The connection after the answer, and what was given with it."""
    loop = asyncio.get_running_loop()
    caller = socket.socket(socket.AF_UNIX)
    caller.setblocking(False)
    await loop.sock_connect(caller, path)
    head = f"POST {EXEC} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    await loop.sock_sendall(caller, head + BODY)
    data, fds = b"", array.array("i")
    while not data.endswith(b"\r\n\r\n!"):
        try:
            part, ancillary, _, _ = caller.recvmsg(4096, 1024)
        except BlockingIOError:
            await asyncio.sleep(0)
            continue
        assert part, data
        data += part
        for _, _, content in ancillary:
            fds.frombytes(content)
    assert data.startswith(b"HTTP/1.1 101 ")
    return caller, fds.tolist()


async def until(look: Any) -> None:
    async with asyncio.timeout(20):
        while not look():  # noqa: ASYNC110
            await asyncio.sleep(0)


def test_the_far_ends_are_given_and_the_end_is_told(tmp_path: Path) -> None:
    emperor = Running()

    async def scenario(path: str) -> None:
        caller, fds = await handed_over(path)
        (attached,) = emperor.attached
        assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(fds[0]).st_ino] * 2
        os.write(fds[1], b"x")
        assert os.read(fds[0], 1) == b"x"
        attached.over.set_result(Exit(0.0, code=7))
        assert await asyncio.get_running_loop().sock_recv(caller, 100) == b'{"code": 7}\n'
        assert await asyncio.get_running_loop().sock_recv(caller, 100) == b""
        assert attached.killed
        for fd in fds:
            os.close(fd)
        caller.close()

    served(emperor, tmp_path, scenario)


def test_who_hangs_up_ends_it(tmp_path: Path) -> None:
    emperor = Running()

    async def scenario(path: str) -> None:
        caller, fds = await handed_over(path)
        assert not emperor.attached[0].killed
        caller.close()
        await until(lambda: emperor.attached[0].killed)
        for fd in fds:
            os.close(fd)

    served(emperor, tmp_path, scenario)


def test_the_end_of_the_server_ends_it(tmp_path: Path) -> None:
    emperor = Running()
    kept = []

    async def scenario(path: str) -> None:
        kept.append(await handed_over(path))

    served(emperor, tmp_path, scenario)
    assert emperor.attached[0].killed
    for caller, fds in kept:
        caller.close()
        for fd in fds:
            os.close(fd)


def test_commands_are_rationed_as_watches_are(tmp_path: Path) -> None:
    emperor = Running()

    async def scenario(path: str) -> None:
        caller, fds = await handed_over(path)
        answer = await ask(path, "POST", EXEC, BODY)
        assert (answer.status, answer.json["reason"]) == (429, "TooManyRequests")
        assert (await ask(path, "GET", "/apis/emperor/v1/events?watch=true")).status == 429
        caller.close()
        await until(lambda: emperor.attached[0].killed)
        caller2, more = await handed_over(path)
        caller2.close()
        for fd in [*fds, *more]:
            os.close(fd)

    served(emperor, tmp_path, scenario, Limits(each=Allowance(watches=1)), NOBODY)
    assert emperor.orders == [f"exec shop {os.geteuid()} id"] * 2


def test_a_refused_command_gives_its_place_back(tmp_path: Path) -> None:
    emperor = FakeEmperor(vassal("shop"))
    emperor.owner = lambda name: os.geteuid()  # type: ignore[method-assign]

    async def scenario(path: str) -> None:
        for _ in range(3):
            answer = await ask(path, "POST", EXEC, BODY)
            assert (answer.status, answer.json["reason"]) == (409, "NotRunning")

    served(emperor, tmp_path, scenario, Limits(each=Allowance(watches=1)), NOBODY)


def test_what_was_sent_too_early_is_not_obeyed(tmp_path: Path) -> None:
    """A second request behind the first is no request: the connection is the command's."""
    emperor = Running()

    async def scenario(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        one = f"POST {EXEC} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
        writer.write(one + request("POST", "/apis/emperor/v1/reload"))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await until(lambda: emperor.attached[0].killed)

    served(emperor, tmp_path, scenario)
    assert emperor.orders == ["exec shop None id"]
