"""The command socket: what it takes, what it refuses, and where it may lie."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from emperorctl.models.errors import NotFound, UserError
from emperorctl.models.packets import write_packet
from emperorctl.models.status import Note
from emperorctl.reconciler.api import commands
from emperorctl.reconciler.api.commands import PACKET_MAX, CommandSocket, command_place


class Realm:
    """An Emperor that writes down what it is commanded, and events."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.by: list[str] = []
        self.notes: list[Note] = []

    def note(self, name: str, note: Note) -> None:
        assert name == ""
        self.notes.append(note)

    def resolve(self, name: str) -> str:
        if name != "shop.ini":
            raise NotFound(name)
        return name

    def spawn(self, name: str, by: str = "") -> None:
        self.done.append(f"spawn {name}")
        self.by.append(by)

    def respawn(self, name: str, by: str = "") -> None:
        raise UserError("is suspended")

    def halt(self, name: str, by: str = "") -> None:
        raise RuntimeError("a bug")


def packet(**pairs: str) -> bytes:
    return write_packet({key.encode(): value.encode() for key, value in pairs.items()})


def heard(path: Path, *datagrams: bytes) -> Realm:
    """What comes of these datagrams."""
    realm = Realm()

    async def scene() -> None:
        listening = CommandSocket(command_place(str(path)), realm.note)
        listening.open()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(str(path))
                for datagram in datagrams:
                    sender.send(datagram)
            listening.start(realm)
            # All that was sent lies in the socket already: one turn of the loop reads it.
            for _ in range(3):
                await asyncio.sleep(0)
        finally:
            listening.close()

    asyncio.run(scene())
    return realm


def test_a_command_under_either_name(tmp_path: Path) -> None:
    realm = heard(tmp_path / "c", packet(cmd="spawn", vassal="shop.ini"), packet(command="spawn", vassal="shop.ini"))
    assert realm.done == ["spawn shop.ini"] * 2
    assert realm.by == [f"uid {os.geteuid()} (pid {os.getpid()})"] * 2
    assert realm.notes == []


def test_log_is_an_event_and_harmless(tmp_path: Path) -> None:
    (note,) = heard(tmp_path / "c", packet(cmd="log", msg="hello \x1b[31m")).notes
    assert (note.type, note.reason, note.message) == ("Normal", "CommandLog", "hello \\x1b[31m")


@pytest.mark.parametrize(
    ("datagram", "reason", "says"),
    [
        (b"", "BadCommand", "0 bytes are less than a header"),
        (b"\0\xff\xff\0", "BadCommand", "its header says that 65535 bytes follow, and 0 do"),
        (b"\0\x05\0\0\xff\xffcmd", "BadCommand", "says 65535 bytes, and only 3 are left"),
        (b"\0" * (PACKET_MAX + 1), "BadCommand", "is longer than 4096 bytes"),
        (packet(), "CommandRefused", "a packet without a command"),
        (packet(cmd="destroy"), "CommandRefused", "destroy: not a command; known are spawn, respawn, stop and log"),
        (packet(cmd="spawn"), "CommandRefused", "spawn: expected the name of a vassal under vassal"),
        (packet(cmd="log"), "CommandRefused", "log: expected a message under msg"),
        (packet(cmd="spawn", vassal="nobody"), "CommandRefused", 'spawn: vassals "nobody" not found'),
        (packet(cmd="respawn", vassal="shop.ini"), "CommandRefused", "respawn: is suspended"),
        (b"\0\x12\0\0\x03\0cmd\x01\0\xff\x06\0vassal\0\0", "CommandRefused", "\\xff: not a command"),
    ],
)
def test_what_is_refused_is_a_warning_and_the_next_is_heard(
    tmp_path: Path, datagram: bytes, reason: str, says: str
) -> None:
    realm = heard(tmp_path / "c", datagram, packet(cmd="spawn", vassal="shop.ini"))
    (note,) = realm.notes
    assert (note.type, note.reason) == ("Warning", reason)
    assert says in note.message
    assert realm.done == ["spawn shop.ini"]


def test_a_bug_costs_one_command(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    realm = heard(tmp_path / "c", packet(cmd="stop", vassal="shop.ini"), packet(cmd="spawn", vassal="shop.ini"))
    assert realm.done == ["spawn shop.ini"]
    assert "bug while obeying a command: stop" in caplog.text


def test_others_may_not_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "may_command", lambda peer: peer.uid != os.geteuid())
    realm = heard(tmp_path / "c", packet(cmd="spawn", vassal="shop.ini"))
    assert realm.done == []
    (note,) = realm.notes
    assert note.reason == "Forbidden"
    assert f"uid {os.geteuid()} (pid {os.getpid()}) may not use the command socket" in note.message


def test_descriptors_sent_along_do_not_pile_up(tmp_path: Path) -> None:
    path, realm = tmp_path / "c", Realm()

    async def scene() -> int:
        listening = CommandSocket(command_place(str(path)), realm.note)
        listening.open()
        listening.start(realm)
        before = len(os.listdir("/proc/self/fd"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(path))
            for _ in range(8):
                socket.send_fds(sender, [packet(cmd="spawn", vassal="shop.ini")], [0, 1, 2])
        for _ in range(3):
            await asyncio.sleep(0)
        after = len(os.listdir("/proc/self/fd"))
        listening.close()
        return after - before

    assert asyncio.run(scene()) == 0
    assert realm.done == ["spawn shop.ini"] * 8


def bound(path: Path) -> CommandSocket:
    listening = CommandSocket(command_place(str(path)), lambda name, note: None)
    listening.open()
    return listening


def test_it_is_for_its_owner_alone_and_goes_with_the_emperor(tmp_path: Path) -> None:
    path = tmp_path / "run" / "c"
    before = os.umask(0)
    try:
        listening = bound(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listening.close()
    assert not path.exists()
    listening.close()


def test_a_stale_one_is_replaced_and_a_strangers_stays(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(str(path))
        with pytest.raises(UserError, match="somebody listens at"):
            bound(path)
    first = bound(path)
    path.unlink()
    path.write_text("another")
    first.close()
    assert path.read_text() == "another"
    with pytest.raises(UserError, match="is not a socket"):
        bound(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected the path"),
        ("a\0b", "expected the path"),
        ("@abstract", "is an abstract socket"),
        ("127.0.0.1:4040", "is a UDP address"),
        (":4040", "is a UDP address"),
    ],
)
def test_addresses_that_will_not_do(text: str, says: str) -> None:
    with pytest.raises(UserError, match=f"--emperor-command-socket: .*{says}"):
        command_place(text)


def test_a_path_that_is_too_long_or_impossible(tmp_path: Path) -> None:
    place: Callable[[str], CommandSocket] = lambda name: CommandSocket(  # noqa: E731
        command_place(str(tmp_path / name)), lambda _name, note: None
    )
    with pytest.raises(UserError, match="longer than 107 bytes"):
        place("x" * 108).open()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another with --emperor-command-socket"):
        place("file/c").open()
