"""What a notification changes, who may send one, and what a flood of them costs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from emperorctl.models.observed import Signs
from emperorctl.models.status import Note
from emperorctl.models.vassal import Notify
from emperorctl.reconciler.runtime.notify import STATUS_MAX, NotifyDirectory, NotifySocket, told
from emperorctl.reconciler.runtime.ordering import Unusable

NOW = 100.0
UP = Signs(ready=50.0)
RELOADING = Signs(ready=50.0, reloading=60.0)


@pytest.mark.parametrize(
    ("before", "data", "after"),
    [
        (Signs(), b"READY=1", Signs(ready=NOW)),
        (Signs(), b"READY=1\n", Signs(ready=NOW)),
        (Signs(), b"READY=1\0", Signs(ready=NOW)),
        (Signs(), b"X=y\r\nREADY=1\r\n\r\n", Signs(ready=NOW)),
        (Signs(), b"READY=1\nSTATUS=serving", Signs(ready=NOW, status="serving")),
        (Signs(), b"STATUS=one\nSTATUS=two", Signs(status="one")),
        (Signs(), b"WATCHDOG=1", Signs(heartbeat=NOW)),
        (Signs(), b"RELOADING=1\nMONOTONIC_USEC=7", Signs(reloading=NOW)),
        (UP, b"RELOADING=1", Signs(ready=50.0, reloading=NOW)),
        (RELOADING, b"READY=1", Signs(ready=NOW, reloading=60.0)),
        (UP, b"STOPPING=1", Signs(ready=50.0, stopping=NOW)),
        (Signs(ready=50.0, stopping=60.0), b"READY=1", Signs(ready=NOW, stopping=60.0)),
        (Signs(ready=70.0, stopping=60.0), b"STOPPING=1", Signs(ready=70.0, stopping=NOW)),
        (Signs(status="busy"), b"STATUS=", Signs()),
        (Signs(), b"hello", Signs(garbage=1)),
        (Signs(), b"\0", Signs(garbage=1)),
        (Signs(), b"READY=1\0STATUS=x", Signs(garbage=1)),
        (Signs(), bytes(range(1, 9)), Signs(garbage=1)),
    ],
)
def test_what_matters(before: Signs, data: bytes, after: Signs) -> None:
    assert told(before, data, NOW) == (after, True)


@pytest.mark.parametrize(
    ("before", "data", "after"),
    [
        (Signs(), b"", Signs()),
        (Signs(), b"READY=0\nREADY=yes\n READY=1", Signs()),
        (Signs(), b"MAINPID=1\nFDSTORE=1\nBARRIER=1\nERRNO=2\nWATCHDOG=trigger", Signs()),
        (UP, b"READY=1", Signs(ready=NOW)),
        (RELOADING, b"RELOADING=1", Signs(ready=50.0, reloading=NOW)),
        (Signs(stopping=60.0), b"STOPPING=1", Signs(stopping=NOW)),
        (Signs(heartbeat=60.0), b"WATCHDOG=1", Signs(heartbeat=NOW)),
        (Signs(status="same"), b"STATUS=same", Signs(status="same")),
        (Signs(garbage=1), b"hello", Signs(garbage=2)),
    ],
)
def test_what_does_not(before: Signs, data: bytes, after: Signs) -> None:
    assert told(before, data, NOW) == (after, False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"  two words\t", "two words"),
        ("größer".encode(), "größer"),
        (b"bad \xff\xfe", "bad \\xff\\xfe"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        ("\u202eevil".encode(), "\\u202eevil"),
        (b"a=b", "a=b"),
        (b"x" * STATUS_MAX, "x" * STATUS_MAX),
        (b"x" * 4000, "x" * (STATUS_MAX - 1) + "…"),
    ],
)
def test_a_status_is_one_short_printable_line(text: bytes, shown: str) -> None:
    assert told(Signs(), b"STATUS=" + text, NOW)[0].status == shown


@dataclass
class Stage:
    """A notification socket with this very process as its vassal."""

    directory: NotifyDirectory
    place: Path
    notes: list[tuple[str, Note]] = field(default_factory=list)
    name: str = "shop"
    signs: Signs = Signs()
    wakes: int = 0

    def wake(self) -> None:
        self.wakes += 1

    def open(self, order_id: int = 1) -> NotifySocket:
        return self.directory.open(self, order_id, os.geteuid(), self.wake)


def stage(place: Path) -> Stage:
    notes: list[tuple[str, Note]] = []
    directory = NotifyDirectory(asyncio.get_running_loop(), str(place), lambda *note: notes.append(note))
    return Stage(directory, place, notes)


@contextlib.contextmanager
def speaker(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(path)
        sock.setblocking(False)
        yield sock


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until_drained(sock: NotifySocket, made: Stage, status: str) -> None:
    """Say one last thing, when there is room, and wait until it is heard."""
    with speaker(sock.path) as last:
        async with asyncio.timeout(20):
            while True:
                try:
                    last.send(f"STATUS={status}".encode())
                    break
                except BlockingIOError:
                    await asyncio.sleep(0)
            while made.signs.status != status:  # noqa: ASYNC110
                await asyncio.sleep(0)


def test_the_directory_is_closed_to_listing_and_the_socket_to_everybody_else(tmp_path: Path) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        assert not made.place.exists(), "nobody wanted a socket yet"
        sock = made.open()
        assert stat.S_IMODE(made.place.stat().st_mode) == 0o711
        assert stat.S_IMODE(os.stat(sock.path).st_mode) == 0o600
        sock.close()
        assert list(made.place.iterdir()) == []
        made.directory.clear()
        assert not made.place.exists()

    asyncio.run(scene())


def test_what_is_said_before_the_main_process_is_known_is_heard_then(tmp_path: Path) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        sock = made.open()
        with speaker(sock.path) as out:
            out.send(b"READY=1")
        await asyncio.sleep(0)
        assert made.signs.ready is None
        sock.listen(os.getpid(), os.getuid(), Notify.MAIN)
        await until_drained(sock, made, "end")
        assert made.signs.ready is not None
        sock.close()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("is_main", "is_owner", "access", "ignored"),
    [
        (True, True, Notify.MAIN, ""),
        (False, True, Notify.ALL, ""),
        (False, True, Notify.MAIN, "is not the main process, 1 (write readiness: {notify: {access: all}}"),
        (True, False, Notify.ALL, f"only uid {os.getuid() + 1} speaks" if os.getuid() else ""),
    ],
)
def test_who_is_heard(tmp_path: Path, is_main: bool, is_owner: bool, access: Notify, ignored: str) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        sock = made.open()
        uid = os.getuid() if is_owner else os.getuid() + 1
        sock.listen(os.getpid() if is_main else 1, uid, access)
        with speaker(sock.path) as out:
            out.send(b"READY=1")
            out.send(b"READY=1")
        sock.close()
        assert (made.signs.ready is None) is bool(ignored)
        assert made.signs.garbage == (2 if ignored else 0)
        assert [(name, note.reason) for name, note in made.notes] == ([("shop", "NotifyIgnored")] if ignored else [])
        for _, note in made.notes:
            assert f"process {os.getpid()} (uid {os.getuid()})" in note.message and ignored in note.message

    asyncio.run(scene())


def test_descriptors_never_arrive(tmp_path: Path) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        sock = made.open()
        sock.listen(os.getpid(), os.getuid(), Notify.MAIN)
        with speaker(sock.path) as out:
            before = descriptors()
            reading, writing = os.pipe()
            for _ in range(3):
                socket.send_fds(out, [b"FDSTORE=1\nREADY=1"], [writing] * 200)
            os.close(writing)
            await until_drained(sock, made, "end")
            assert os.read(reading, 1) == b"", "nobody holds the other end"
            os.close(reading)
            assert descriptors() == before
        assert made.signs.ready is not None
        sock.close()

    asyncio.run(scene())


def test_a_datagram_too_long_is_garbage_and_an_empty_one_is_not(tmp_path: Path) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        sock = made.open()
        sock.listen(os.getpid(), os.getuid(), Notify.MAIN)
        with speaker(sock.path) as out:
            out.send(b"READY=1\nSTATUS=" + b"x" * 4082)
            out.send(b"")
            out.send(b"WATCHDOG=1\nX=" + b"x" * 4083)
        await until_drained(sock, made, "end")
        assert (made.signs.ready, made.signs.garbage) == (None, 1)
        assert made.signs.heartbeat is not None
        sock.close()

    asyncio.run(scene())


def test_a_flood_wakes_few_times(tmp_path: Path) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        sock = made.open()
        sock.listen(os.getpid(), os.getuid(), Notify.MAIN)
        loop = asyncio.get_running_loop()
        start, sent, refused = loop.time(), 0, 0
        with speaker(sock.path) as out:
            async with asyncio.timeout(20):
                while sent < 150:
                    try:
                        out.send(b"STATUS=%d" % sent)
                        sent += 1
                    except BlockingIOError:
                        refused += 1
                        await asyncio.sleep(0)
        assert refused, "the kernel's queue is what bounds the sender"
        assert 1 <= made.wakes <= 10 + 10 * (loop.time() - start) + 1
        await until_drained(sock, made, "end")
        sock.close()

    asyncio.run(scene())


def test_last_words_are_heard_at_the_close_and_wake_nobody(tmp_path: Path) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        sock = made.open()
        sock.listen(os.getpid(), os.getuid(), Notify.MAIN)
        with speaker(sock.path) as out:
            out.send(b"STOPPING=1\nSTATUS=bye")
        sock.close()
        assert (made.signs.stopping is not None, made.signs.status, made.wakes) == (True, "bye", 0)
        sock.close()

    asyncio.run(scene())


def test_stale_sockets_are_removed_and_nothing_else(tmp_path: Path) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        stale = made.open(1), made.open(2)
        (made.place / "notes.txt").write_text("mine")
        made.directory.clear()
        assert [entry.name for entry in made.place.iterdir()] == ["notes.txt"]
        for sock in stale:
            sock.close()
        made.open(1).close()

    asyncio.run(scene())


def test_a_directory_swept_away_is_made_again(tmp_path: Path) -> None:
    async def scene() -> None:
        made = stage(tmp_path / "n")
        made.open(1).close()
        made.place.rmdir()
        made.open(2).close()

    asyncio.run(scene())


def _link(place: Path) -> None:
    (place.parent / "elsewhere").mkdir()
    place.symlink_to(place.parent / "elsewhere")


def _open_to_all(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


@pytest.mark.parametrize("plant", [_link, _open_to_all, Path.touch])
def test_a_place_that_others_could_have_prepared_is_not_used(tmp_path: Path, plant: object) -> None:
    async def scene() -> None:
        assert callable(plant)
        plant(tmp_path / "n")
        before = descriptors()
        with pytest.raises(Unusable) as caught:
            stage(tmp_path / "n").open()
        assert (caught.value.step, caught.value.reason) == ("notify", "NotifyUnusable")
        assert "belongs to somebody else" in caught.value.message and "--socket" in caught.value.remedy
        assert descriptors() == before

    asyncio.run(scene())


def test_a_path_too_long_says_what_to_do(tmp_path: Path) -> None:
    async def scene() -> None:
        fits = tmp_path / ("x" * (107 - len(str(tmp_path)) - 3))
        stage(fits).open(1).close()
        with pytest.raises(Unusable) as caught:
            stage(fits).open(10)
        assert caught.value.reason == "NotifyPathTooLong"
        assert "107 bytes" in caught.value.message and "shorter --socket" in caught.value.remedy

    asyncio.run(scene())
