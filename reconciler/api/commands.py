"""The command socket, as uWSGI's Emperor has it: one datagram is one order, in a packet of uWSGI's, never answered.

Made by the composition root where one is asked for. The kernel says who sends; only root and the Emperor's own user
may. Whatever else arrives is worth a warning, and nothing more. Packets are bounded, and descriptors sent along never
arrive. Not in here: what an order does (`emperor`), the packet itself (`models.packets`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from emperorctl.models.errors import UserError
from emperorctl.models.names import printable
from emperorctl.models.packets import BadPacket, read_packet
from emperorctl.models.status import Note, NoteType
from emperorctl.reconciler.api.addresses import UnixAddress
from emperorctl.reconciler.api.listener import PATH_MAX, Place, make_directory, remove_stale
from emperorctl.reconciler.api.peers import Peer, may_command

__all__ = ["OPTION", "PACKET_MAX", "CommandSocket", "Commanded", "command_place"]

OPTION = "--emperor-command-socket"
PACKET_MAX = 4096
"""The longest packet that is taken, in bytes; uWSGI reads no more either."""
_AT_ONCE = 64
_UCRED = struct.Struct("iII")
_ROOM = socket.CMSG_SPACE(_UCRED.size)
_LOG = logging.getLogger(__name__)


class Commanded(Protocol):
    """What the command socket needs of the Emperor. Each raises UserError where it can't be done."""

    def resolve(self, name: str) -> str:
        """The full name of the one vassal meant."""
        ...

    def spawn(self, name: str, by: str = "") -> None:
        """Let a vassal run that waits for a command."""
        ...

    def respawn(self, name: str, by: str = "") -> None:
        """Reload a vassal."""
        ...

    def halt(self, name: str, by: str = "") -> None:
        """Stop a vassal, and let it wait for a command."""
        ...


def command_place(text: str) -> Place:
    """Where `text` says that the socket is to be. Raises UserError: only paths will do."""
    if not text or "\0" in text:
        raise UserError(f"{OPTION}: expected the path of a Unix socket")
    if text.startswith("@"):
        raise UserError(f"{OPTION}: {printable(text)} is an abstract socket, open to everyone: give a path")
    if ":" in text and not text.startswith(("/", "./", "../")):
        raise UserError(
            f"{OPTION}: {printable(text)} is a UDP address, over which nobody can tell who sends:"
            " give the path of a Unix socket"
        )
    return Place(UnixAddress(os.path.abspath(text)), "the command socket", OPTION)


class CommandSocket:
    """One socket; `note` gets what is worth an event of the Emperor's."""

    def __init__(self, place: Place, note: Callable[[str, Note], None]) -> None:
        self._place = place
        self._path = str(place.address)
        self._note = note
        self._emperor: Commanded | None = None
        self._socket: socket.socket | None = None
        self._identity = (0, 0)
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Bind, for the owner alone. Raises UserError, naming the option that chooses another place."""
        if len(os.fsencode(self._path)) > PATH_MAX:
            raise UserError(f"{OPTION}: the path is longer than {PATH_MAX} bytes: {printable(self._path)}")
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            # Before it can be reached, so that every datagram has a sender.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            make_directory(os.path.dirname(self._path), OPTION)
            remove_stale(self._path, self._place)
            before = os.umask(0o177)
            try:
                made.bind(self._path)
            finally:
                os.umask(before)
            status = os.lstat(self._path)
        except OSError as error:
            made.close()
            text = f"can't listen at {self._place.what} {printable(self._path)}: {error.strerror or error}"
            raise UserError(f"{text} (choose another with {OPTION})") from error
        except UserError:
            made.close()
            raise
        self._socket, self._identity = made, (status.st_dev, status.st_ino)

    def start(self, emperor: Commanded) -> None:
        """Pass orders on to `emperor` from now on, in the running loop."""
        assert self._socket is not None
        self._emperor = emperor
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._ready)

    def close(self) -> None:
        """Take no more, and remove the socket where it is still ours."""
        made, self._socket = self._socket, None
        if made is None:
            return
        if self._loop is not None:
            self._loop.remove_reader(made)
        try:
            status = os.lstat(self._path)
            if (status.st_dev, status.st_ino) == self._identity:
                os.unlink(self._path)
        except OSError:
            # Gone already, or its directory is: there is nothing to remove.
            pass
        made.close()

    def _ready(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                data, ancillary, flags, _sender = self._socket.recvmsg(PACKET_MAX, _ROOM, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return
            sender = _sender_of(ancillary)
            if not may_command(sender):
                who = str(sender) if sender else "somebody unknown"
                self._warn("Forbidden", f"{who} may not use the command socket: only root and the Emperor's user may")
            elif flags & socket.MSG_TRUNC:
                self._warn("BadCommand", f"a packet on the command socket is longer than {PACKET_MAX} bytes")
            else:
                self._take(data, sender)

    def _take(self, data: bytes, sender: Peer | None) -> None:
        try:
            order = {_text(key): _text(value) for key, value in read_packet(data).items()}
        except BadPacket as error:
            self._warn("BadCommand", f"what came over the command socket is no packet: {error}")
            return
        try:
            self._obey(order, sender)
        except UserError as error:
            self._warn("CommandRefused", f"{_word(order)}: {error}")
        except Exception:
            _LOG.exception("bug while obeying a command: %s", _word(order))

    def _obey(self, order: Mapping[str, str], sender: Peer | None) -> None:
        word, emperor = _word(order), self._emperor
        assert emperor is not None
        acts = {"spawn": emperor.spawn, "respawn": emperor.respawn, "stop": emperor.halt}
        if word == "log":
            if not order.get("msg"):
                raise UserError("expected a message under msg")
            self._note("", Note(NoteType.NORMAL, "CommandLog", printable(order["msg"])))
        elif word in acts:
            if not order.get("vassal"):
                raise UserError("expected the name of a vassal under vassal")
            acts[word](emperor.resolve(order["vassal"]), str(sender))
        elif word:
            raise UserError(f"not a command; known are {', '.join(acts)} and log")
        else:
            raise UserError("a packet without a command: expected one under cmd")

    def _warn(self, reason: str, message: str) -> None:
        self._note("", Note(NoteType.WARNING, reason, message))


def _word(order: Mapping[str, str]) -> str:
    return printable((order.get("cmd") or order.get("command") or "")[:64])


def _text(data: bytes) -> str:
    """Bytes that are not UTF-8 name nothing, and are shown as escapes."""
    return data.decode("utf-8", "surrogateescape")


def _sender_of(ancillary: list[tuple[int, int, bytes]]) -> Peer | None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) >= _UCRED.size:
            return Peer(*_UCRED.unpack_from(data))
    return None
