"""systemd's notification protocol (sd_notify(3)): one datagram socket per launch that wants one, into `Signs`.

Used by `host`. Who sent a datagram is the kernel's word (SCM_CREDENTIALS); nothing that a vassal writes selects a
process, and descriptors sent along never arrive. A vassal that never stops talking is heard ten times a second.
Not in here: what follows from a sign.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import replace

from emperorctl.models.names import printable
from emperorctl.models.observed import Signs
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import Notify
from emperorctl.reconciler.runtime.ordering import Unusable
from emperorctl.reconciler.runtime.protocol import Speaker

__all__ = ["STATUS_MAX", "NotifyDirectory", "NotifySocket", "told"]

STATUS_MAX = 256
"""Characters of a STATUS= text that are kept."""
PATH_MAX = 107
"""Bytes of a socket's path (sun_path without its final NUL)."""

_DATAGRAM_MAX = 4096
_UCRED = struct.Struct("3i")
_ANCILLARY = socket.CMSG_SPACE(_UCRED.size)
"""Room for the sender's credentials and nothing more: the kernel closes descriptors that do not fit."""
_BATCH = 64
_RATE = 10.0
_BURST = 10.0
_LAST_WORDS = 512
_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def told(signs: Signs, data: bytes, now: float) -> tuple[Signs, bool]:
    """The signs after this datagram, and whether anything changed its meaning. `now` is monotonic.

    Unknown assignments are ignored, as the protocol wants; a datagram without any assignment is garbage.
    """
    if not data:
        return signs, False
    lines = data.removesuffix(b"\0").replace(b"\r", b"\n").split(b"\n")
    if b"\0" in data[:-1] or not any(b"=" in line for line in lines):
        return replace(signs, garbage=signs.garbage + 1), not signs.garbage
    changes: dict[str, float | str] = {}
    matters = False
    ready = signs.ready
    if b"READY=1" in lines:
        changes["ready"] = now
        matters = ready is None or ready < max(signs.reloading or 0.0, signs.stopping or 0.0)
        ready = now
    if b"RELOADING=1" in lines:
        changes["reloading"] = now
        matters = matters or signs.reloading is None or signs.reloading < (ready or 0.0) < now
    if b"STOPPING=1" in lines:
        changes["stopping"] = now
        matters = matters or signs.stopping is None or signs.stopping < (ready or 0.0)
    if b"WATCHDOG=1" in lines:
        changes["heartbeat"] = now
        matters = matters or signs.heartbeat is None
    status = next((line[7:] for line in lines if line.startswith(b"STATUS=")), None)
    if status is not None and (text := _line(status)) != signs.status:
        changes["status"] = text
        matters = True
    return (replace(signs, **changes) if changes else signs), matters  # type: ignore[arg-type]


def _line(text: bytes) -> str:
    shown = printable(text.decode("utf-8", "surrogateescape").strip())
    return shown if len(shown) <= STATUS_MAX else shown[: STATUS_MAX - 1] + "…"


class NotifySocket:
    """The Emperor's end for one launch: it holds what is said until `listen` tells it whose word counts.

    `changed` is called when a fact changed its meaning, at most ten times a second beyond a burst.
    """

    __slots__ = (
        "_access",
        "_changed",
        "_credit",
        "_ignored",
        "_loop",
        "_main",
        "_note",
        "_paused",
        "_since",
        "_sock",
        "_speaker",
        "_uid",
        "path",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        speaker: Speaker,
        changed: Callable[[], None],
        note: Callable[[str, Note], None],
    ) -> None:
        self.path: str = sock.getsockname()
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._speaker = speaker
        self._changed = changed
        self._note = note
        self._access = Notify.NONE
        self._main = 0
        self._uid = 0
        self._ignored = False
        self._credit = _BURST
        self._since = loop.time()
        self._paused: asyncio.TimerHandle | None = None

    def listen(self, main: int, uid: int, access: Notify) -> None:
        """The main process is known: hear what it has said so far, and whatever comes."""
        self._main = main
        self._uid = uid
        self._access = access
        if self._sock is not None:
            self._loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        """The process is gone: hear its last words (bounded), then close, and remove the socket's file."""
        if self._sock is None:
            return
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        if self._main:
            self._loop.remove_reader(self._sock)
            self._hear(_LAST_WORDS)
        self._sock.close()
        self._sock = None
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def _readable(self) -> None:
        now = self._loop.time()
        self._credit = min(_BURST, self._credit + (now - self._since) * _RATE) - 1.0
        self._since = now
        if self._hear(_BATCH):
            self._changed()
        if self._credit < 1.0 and self._sock is not None:
            # What it goes on saying waits in the kernel, whose queue is short: the sender waits with it.
            self._loop.remove_reader(self._sock)
            self._paused = self._loop.call_later(1.0 / _RATE, self._resume)

    def _resume(self) -> None:
        self._paused = None
        if self._sock is not None:
            self._loop.add_reader(self._sock, self._readable)

    def _hear(self, most: int) -> bool:
        """Take at most that many datagrams; True when a fact changed its meaning."""
        assert self._sock is not None
        speaker, before, matters = self._speaker, self._speaker.signs, False
        for _ in range(most):
            try:
                data, ancillary, flags, _sender = self._sock.recvmsg(_DATAGRAM_MAX, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                break
            pid, uid = _sender_of(ancillary)
            if not self._admits(pid, uid):
                continue
            if flags & socket.MSG_TRUNC:
                speaker.signs = replace(speaker.signs, garbage=speaker.signs.garbage + 1)
                matters = matters or not before.garbage
                continue
            speaker.signs, matter = told(speaker.signs, data, self._loop.time())
            matters = matters or matter
        return matters

    def _admits(self, pid: int, uid: int) -> bool:
        """Whether this sender may speak for the vassal; the first that may not is worth a note."""
        owner = uid in (self._uid, 0)
        if owner and (pid == self._main or self._access is Notify.ALL):
            return True
        signs = self._speaker.signs
        self._speaker.signs = replace(signs, garbage=signs.garbage + 1)
        if not self._ignored:
            self._ignored = True
            text = f"process {pid} (uid {uid}) spoke on the notification socket and is ignored: "
            if owner:
                text += (
                    f"it is not the main process, {self._main}"
                    " (write readiness: {notify: {access: all}} to hear every process of the vassal)"
                )
            else:
                text += f"only uid {self._uid} speaks for this vassal"
            self._note(self._speaker.name, Note(NoteType.WARNING, "NotifyIgnored", text))
        return False


def _sender_of(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """The sender's pid and uid; (0, -1) where the kernel does not say."""
    sender = (0, -1)
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= _UCRED.size:
            sender = _UCRED.unpack_from(data)[:2]
        elif kind == socket.SCM_RIGHTS:
            # There is no room for them; should a kernel think otherwise, they still must not pile up.
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            for fd in fds:
                os.close(fd)
    return sender


class NotifyDirectory:
    """Where the sockets lie: a directory that others may pass through but neither list nor write.

    It is made when the first vassal wants a socket. `note` gets what is worth a warning.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str, note: Callable[[str, Note], None]) -> None:
        self._loop = loop
        self._path = os.path.abspath(path)
        self._note = note
        self._made = False

    def clear(self) -> None:
        """Remove the directory with every socket in it: those of an Emperor that could not do it itself, or ours."""
        self._made = False
        with contextlib.suppress(OSError):
            if not self._is_ours():
                return
            with os.scandir(self._path) as entries:
                sockets = [entry.path for entry in entries if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)]
            for path in sockets:
                os.unlink(path)
            os.rmdir(self._path)

    def open(self, speaker: Speaker, order_id: int, uid: int, changed: Callable[[], None]) -> NotifySocket:
        """A socket that this uid alone (and root) can reach. Raises Unusable, and OSError where resources run out."""
        path = f"{self._path}/{order_id}"
        if len(os.fsencode(path)) > PATH_MAX:
            raise Unusable(
                "notify",
                "NotifyPathTooLong",
                f"the path of the notification socket, {printable(path)}, is longer than {PATH_MAX} bytes",
                "give the Emperor a shorter --socket",
            )
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            # Before it can be reached, so that every datagram has a sender.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._bind(sock, path)
            os.chmod(path, 0o600)
            if uid != os.geteuid():
                os.chown(path, uid, -1)
                self._warn_of_walls(speaker, uid)
        except OSError as error:
            sock.close()
            with contextlib.suppress(OSError):
                os.unlink(path)
            if error.errno in _SHORTAGE:
                raise
            raise Unusable(
                "notify",
                "NotifyUnusable",
                f"the notification socket {printable(path)} can't be made: {error.strerror or error}",
                "see to that directory, or give the Emperor another --socket",
            ) from None
        return NotifySocket(self._loop, sock, speaker, changed, self._note)

    def _bind(self, sock: socket.socket, path: str) -> None:
        if not self._made:
            self._make()
        try:
            sock.bind(path)
        except FileNotFoundError:
            # Somebody has cleaned up.
            self._make()
            sock.bind(path)

    def _make(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._path, 0o700)
        if not self._is_ours():
            raise PermissionError(errno.EPERM, "the directory belongs to somebody else")
        # Whatever the umask says.
        os.chmod(self._path, 0o711)  # noqa: S103
        self._made = True

    def _is_ours(self) -> bool:
        found = os.lstat(self._path)
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022

    def _warn_of_walls(self, speaker: Speaker, uid: int) -> None:
        """A vassal that can't get there would never be ready, and nothing would say why."""
        place = self._path
        while uid and (place := os.path.dirname(place)) != "/":
            if not os.stat(place).st_mode & 0o001:
                text = f"uid {uid} may not be able to reach its notification socket: {place} is closed to others"
                remedy = f"chmod o+x {place}, or give the Emperor another --socket"
                self._note(speaker.name, Note(NoteType.WARNING, "NotifyUnreachable", f"{text} ({remedy})"))
                return
