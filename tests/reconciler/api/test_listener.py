from __future__ import annotations

import asyncio
import os
import resource
import socket
import stat
from pathlib import Path

import pytest

from emperorctl.models.errors import UserError
from emperorctl.reconciler.api.listener import PATH_MAX, Listener, control_place
from emperorctl.reconciler.api.peers import Admission, Peer, may_command, peer_of
from tests.fakes.control import ask, served
from tests.fakes.emperor import FakeEmperor


def opened(path: Path) -> Listener:
    listener = Listener(control_place(str(path), Admission()), lambda connection: connection.close())
    listener.open()
    return listener


def test_the_socket_is_for_its_owner_alone_and_the_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "run" / "emperor" / "e.sock"
    before = os.umask(0o077)
    try:
        listener = opened(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert path.parent.stat().st_uid == os.geteuid()
    listener.close()
    assert not path.exists()


def test_the_umask_is_as_before(tmp_path: Path) -> None:
    before = os.umask(0o022)
    listener = opened(tmp_path / "e.sock")
    listener.close()
    assert os.umask(before) == 0o022


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    opened(path).close()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_nothing_but_a_socket_is_ever_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "e.sock"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case _:
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(str(tmp_path / "other.sock"))
            path.symlink_to("other.sock")
    with pytest.raises(UserError, match="is not a socket: move it away"):
        opened(path)
    assert os.path.lexists(path)


def test_closing_leaves_a_socket_that_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    listener = opened(path)
    path.rename(tmp_path / "moved.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
    listener.close()
    assert path.exists()


def test_a_path_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"longer than {PATH_MAX} bytes"):
        opened(tmp_path / ("x" * 110))


def test_an_impossible_directory_is_named() -> None:
    with pytest.raises(UserError, match=r"can't listen at the control socket /proc/nope/e\.sock"):
        opened(Path("/proc/nope/e.sock"))


def test_a_directory_planted_in_a_shared_one_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a directory of somebody else's")
    tmp_path.chmod(0o1777)
    planted = tmp_path / "planted"
    planted.mkdir()
    os.chown(planted, 65534, 65534)
    with pytest.raises(UserError, match="belongs to another user"):
        opened(planted / "e.sock")


def test_the_kernel_says_who_connected() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.geteuid(), os.getegid(), frozenset(os.getgroups()))


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        (None, False),
        (Peer(1, 0, 0), True),
        (Peer(1, os.geteuid(), 5), True),
        (Peer(1, 54321, 0), False),
        (Peer(1, 0xFFFFFFFF, 0), False),
    ],
)
def test_root_and_our_own_user_may_command(peer: Peer | None, may: bool) -> None:
    assert may_command(peer) is may


def test_out_of_descriptors_a_caller_still_gets_an_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    emperor = FakeEmperor()

    async def scenario(path: str) -> None:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        for client in clients:
            client.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        loop = asyncio.get_running_loop()
        try:
            for client in clients:
                await loop.sock_connect(client, path)
                assert b"503 Service Unavailable" in await loop.sock_recv(client, 4096)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                client.close()
        assert (await ask(path, "GET", "/healthz")).status == 200

    served(emperor, tmp_path, scenario)
    assert [record.message for record in caplog.records] == [
        "the control socket refuses connections: Too many open files"
    ]
