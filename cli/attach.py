"""The client's side of `exec`: the descriptors that the Emperor gives, and copying between them and this terminal.

Used by `exec` alone. What the command reads and writes goes straight to it; the connection to the Emperor says only
that we are still there, and at the end how the command ended.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from dataclasses import dataclass

from emperorctl.cli.client import Client, Refusal
from emperorctl.cli.term import Harmless
from emperorctl.models.errors import EmperorUnreachable

__all__ = ["Command", "converse", "open_command"]

_CHUNK = 64 * 1024
_FDS_MAX = 3
_BUSY = {errno.EAGAIN, errno.EINTR}


@dataclass(slots=True)
class Command:
    """A command that runs; `ends` are the far ends of its terminal, or of its streams."""

    connection: socket.socket
    ends: list[int]


def open_command(socket_path: str, path: str, asked: object) -> Command:
    """Have the Emperor run it. Raises Refusal, EmperorUnreachable, UserError."""
    client = Client(socket_path)
    with client.named_errors():
        connection = client.connect()
        try:
            body = json.dumps(asked).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            return Command(connection, _answer(connection))
        except BaseException:
            connection.close()
            raise


def _answer(connection: socket.socket) -> list[int]:
    """The descriptors. Whatever else comes is a refusal."""
    data, ends = b"", array.array("i")
    while True:
        part, ancillary, _, _ = connection.recvmsg(_CHUNK, socket.CMSG_SPACE(_FDS_MAX * ends.itemsize))
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                ends.frombytes(content[: len(content) - len(content) % ends.itemsize])
        if not part:
            raise ConnectionResetError(errno.ECONNRESET, "the Emperor hung up")
        data += part
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            continue
        if head.split(None, 2)[1] == b"101":
            if ends:
                return ends.tolist()
            continue
        with contextlib.suppress(ValueError):
            status = json.loads(rest)
            raise Refusal(str(status["reason"]), str(status["message"]))


def converse(command: Command, *, terminal: bool, stdin: bool) -> int:
    """Copy until it has ended; its exit code, 128 and the signal where one ended it. Raises EmperorUnreachable."""
    command.connection.settimeout(None)
    with command.connection:
        if terminal:
            (master,) = command.ends
            with _raw(master):
                return _copy(command.connection, {master: 1}, 0 if stdin else -1, master)
        feed = command.ends.pop(0) if stdin else -1
        out, err = command.ends
        return _copy(command.connection, {out: 1, err: 2}, 0 if stdin else -1, feed)


@contextlib.contextmanager
def _raw(master: int) -> Iterator[None]:
    """This terminal passes every key on, and the other one is always as large as this."""

    def resize(*_: object) -> None:
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(0)
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))

    before = termios.tcgetattr(0)
    handler = signal.signal(signal.SIGWINCH, resize)
    try:
        tty.setraw(0, termios.TCSADRAIN)  # what was typed already is for the command
        resize()
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)


def _copy(connection: socket.socket, outputs: dict[int, int], source: int, feed: int) -> int:
    """`outputs` are descriptors of the command's, each with where it goes; `source` is read into `feed`."""
    shown = {fd: Harmless() if feed != fd and os.isatty(to) else None for fd, to in outputs.items()}
    waiting, said = b"", b""
    over = False
    if feed >= 0:
        os.set_blocking(feed, False)
    while outputs or not over:
        reading = [*outputs, *([] if over else [connection.fileno()])]
        if source >= 0 and not waiting and not over:
            reading.append(source)
        readable, writable, _ = select.select(reading, [feed] if waiting else [], [])
        for fd in [fd for fd in readable if fd in outputs]:
            data = _read(fd)
            filtered = shown[fd]
            text = data if filtered is None else filtered.feed(data) if data else filtered.end()
            _write(outputs[fd], text)
            if not data:
                del outputs[fd]
        if connection.fileno() in readable:
            part = _hear(connection)
            said += part
            over = not part
        if source in readable:
            waiting = _read(source)
            if not waiting:
                source = -1
                if feed not in shown:
                    os.close(feed)
                    feed = -1
        if writable or waiting:
            waiting = _pour(feed, waiting)
    return _code(said)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return b"" if not select.select([fd], [], [], None)[0] else _read(fd)
    except OSError:
        return b""  # of a terminal: everybody has closed the other end


def _hear(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_CHUNK)
    except OSError:
        return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _pour(feed: int, waiting: bytes) -> bytes:
    """What is left of it."""
    try:
        return waiting[os.write(feed, waiting) :]
    except OSError as error:
        return waiting if error.errno in _BUSY else b""  # it does not read any more


def _code(said: bytes) -> int:
    try:
        end = json.loads(said)
        return 128 + int(end["signal"]) if end.get("signal") else int(end["code"])
    except (ValueError, KeyError, TypeError, AttributeError):
        sys.stdout.flush()
        raise EmperorUnreachable("the connection to the Emperor was lost: the command was ended") from None
