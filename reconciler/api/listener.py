"""The listening Unix socket: made, guarded and accepted from here, then removed.

Not in here: what is said over a connection (`protocol`). The loop's own `create_unix_server` is not used for
accepting: out of descriptors it logs hundreds of errors a second and leaves callers hanging. Here one
descriptor is held in reserve, so that even then a caller gets an answer, and the log one line a minute.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable

from emperorctl.models.errors import UserError

__all__ = ["PATH_MAX", "Listener"]

PATH_MAX = 107
"""The longest path of a Unix socket, in bytes."""

_BACKLOG = 512
_AT_ONCE = 64
_PAUSE = 1.0
_QUIET = 60.0
_LOG = logging.getLogger(__name__)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"ServiceUnavailable",'
    b'"message":"the Emperor has no file descriptors or connections left; try again later","code":503}\n'
)


class Listener:
    """One Unix socket at `path`; every connection goes to `accepted`, which owns it from then on."""

    def __init__(self, path: str, accepted: Callable[[socket.socket], None]) -> None:
        self.path = path
        self._accepted = accepted
        self._socket: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self._reserve: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._complained = float("-inf")

    def open(self) -> None:
        """Bind and listen, readable and writable for the owner alone. Raises UserError.

        The caller holds the Emperor's lock: a socket that lies there already belongs to nobody.
        """
        if len(os.fsencode(self.path)) > PATH_MAX:
            text = f"the control socket's path is longer than {PATH_MAX} bytes: {self.path}"
            raise UserError(f"{text} (choose a shorter one with --socket)")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            _make_directory(os.path.dirname(self.path) or ".")
            _remove_stale(self.path)
            before = os.umask(0o177)
            try:
                listening.bind(self.path)
            finally:
                os.umask(before)
            status = os.lstat(self.path)
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            text = f"can't listen at the control socket {self.path}: {error.strerror or error}"
            raise UserError(f"{text} (choose another with --socket)") from error
        except UserError:
            listening.close()
            raise
        self._socket = listening
        self._identity = (status.st_dev, status.st_ino)
        self._reserve = _reserve()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept from now on, in this loop."""
        if self._socket is not None:
            self._loop = loop
            loop.add_reader(self._socket, self._ready)

    def close(self) -> None:
        """Accept no more, and remove the socket where it is still ours."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        if self._socket is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket)
            if self._is_ours():
                os.unlink(self.path)
            self._socket.close()
            self._socket = None
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    @staticmethod
    def refuse(connection: socket.socket) -> None:
        """Answer "no room" without reading anything, and close."""
        with connection:
            try:
                connection.setblocking(False)
                connection.send(_FULL)
            except OSError:
                pass

    def _is_ours(self) -> bool:
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _ready(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._no_room(error)
                return
            self._accepted(connection)

    def _no_room(self, error: OSError) -> None:
        assert self._socket is not None and self._loop is not None
        self._complain(error)
        if error.errno == errno.EMFILE and self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            try:
                connection, _address = self._socket.accept()
                self.refuse(connection)
            except OSError:
                pass
            self._reserve = _reserve()
            return
        # Nothing to give: look again in a while, instead of being woken for it without end.
        self._loop.remove_reader(self._socket)
        self._resume = self._loop.call_later(_PAUSE, self._listen_again)

    def _listen_again(self) -> None:
        self._resume = None
        if self._reserve is None:
            self._reserve = _reserve()
        if self._socket is not None and self._loop is not None:
            self._loop.add_reader(self._socket, self._ready)

    def _complain(self, error: OSError) -> None:
        assert self._loop is not None
        now = self._loop.time()
        if now - self._complained >= _QUIET:
            self._complained = now
            _LOG.error("the control socket refuses connections: %s", error.strerror or error)


def _reserve() -> int | None:
    try:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _make_directory(parent: str) -> None:
    path, missing = parent, []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path) or "."
    for directory in reversed(missing):
        os.mkdir(directory)
        # Clients of other users must be able to see the socket to be refused properly, whatever the umask.
        os.chmod(directory, 0o755)  # noqa: S103
    _distrust_planted(os.path.realpath(parent))


def _distrust_planted(path: str) -> None:
    """Refuse a directory that somebody else may have put in our way in /tmp or the like."""
    while path != "/":
        parent = os.path.dirname(path)
        shared = os.stat(parent).st_mode
        owner = os.stat(path).st_uid
        if shared & stat.S_ISVTX and shared & stat.S_IWOTH and owner not in {0, os.geteuid()}:
            raise UserError(f"{path} belongs to another user (uid {owner}): choose another place with --socket")
        path = parent


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(
            f"{path} is there already and is not a socket: move it away, or choose another path with --socket"
        )
    os.unlink(path)
