"""Everything that can be wrong with the other end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from emperorctl.cli import connection as connection_module
from emperorctl.cli.client import VASSALS, Client, one_vassal
from emperorctl.models.errors import EmperorUnreachable, UserError


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Client]:
    """Somebody who reads a little, says `answer` and hangs up."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def once() -> None:
            connection, _ = listening.accept()
            # The caller may hang up first.
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        client = Client(str(path))
        yield client
        client.close()
        thread.join(5)


def test_nobody_there(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    with pytest.raises(EmperorUnreachable) as caught:
        Client(str(path)).get("/version")
    assert str(caught.value) == (
        f"The connection to the Emperor at {path} was refused - is it running? Start it with: emperorctl run DIR"
    )


def test_a_stale_socket(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(EmperorUnreachable, match="was refused"):
        Client(str(path)).get("/version")


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmperorUnreachable, match="was refused"):
        Client(str(tmp_path / "file" / "e.sock")).get("/version")


def test_a_path_too_long() -> None:
    with pytest.raises(UserError, match="the socket's path can't be used"):
        Client("/" + "x" * 200).get("/version")


def test_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(connection_module.Connection, "connect", refused)
    with pytest.raises(UserError) as caught:
        Client("/run/x.sock").get("/version")
    assert str(caught.value) == (
        "permission denied on the control socket /run/x.sock: only root and the user who runs the Emperor may use it"
        " (or its group, with --socket-group)"
    )


def test_somebody_elses_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(tmp_path / "e.sock", b"") as client:
        monkeypatch.setattr(connection_module.os, "geteuid", lambda: 54321)
        monkeypatch.setattr(connection_module, "_UCRED", _Elsewhere())
        with pytest.raises(UserError, match="belongs to another user"):
            client.get("/version")


class _Elsewhere:
    size = 12

    def unpack(self, raw: bytes) -> tuple[int, int, int]:
        return 1, 12345, 12345


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "was lost"),
        (b"SSH-2.0-OpenSSH\r\n", "was lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "was lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblah", "is not an Emperor"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}", "is not an Emperor"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n[]", "is not an Emperor"),
    ],
)
def test_strange_answers(tmp_path: Path, answer: bytes, message: str) -> None:
    with answering(tmp_path / "e.sock", answer) as client, pytest.raises(EmperorUnreachable, match=message):
        client.get("/version")


def test_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PATIENCE", 0.05)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "e.sock"))
        listening.listen()
        client = Client(str(tmp_path / "e.sock"))
        with pytest.raises(EmperorUnreachable, match="did not answer within"):
            client.get("/version")
        client.close()


def test_a_stream_cut_short_is_not_an_end(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"
    with answering(tmp_path / "e.sock", answer) as client:
        chunks = client.chunks("/log")
        assert next(chunks) == b"half"
        with pytest.raises(EmperorUnreachable, match="was lost"):
            next(chunks)


def test_a_watch_that_ends_is_told(tmp_path: Path) -> None:
    line = b'{"type":"ADDED","object":{"a":1}}\n'
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(line), line)
    with answering(tmp_path / "e.sock", answer) as client:
        changes = client.changes(VASSALS)
        assert next(changes) == ("ADDED", {"a": 1})
        with pytest.raises(EmperorUnreachable, match="ended the watch"):
            next(changes)


@pytest.mark.parametrize(
    ("name", "path"),
    [("shop", "shop"), ("a/b c?#.ini", "a%2Fb%20c%3F%23.ini"), ("..", ".."), ("é", "%C3%A9"), ("\udce9", "%E9")],
)
def test_names_are_one_segment(name: str, path: str) -> None:
    assert one_vassal(name, "log") == f"{VASSALS}/{path}/log"
