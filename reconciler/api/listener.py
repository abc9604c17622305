"""A listening socket, Unix or TCP: made, guarded and accepted from here, then removed.

Used by the control socket and the stats server. Not in here: what is said over a connection (`protocol`, `stats`).
The loop's own `create_server` is not used for accepting: out of descriptors it logs hundreds of errors a second and
leaves callers hanging. Here one descriptor is held in reserve, so that even then a caller gets an answer, and the log
one line a minute.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass

from emperorctl.models.errors import UserError
from emperorctl.reconciler.api.addresses import Address, UnixAddress
from emperorctl.reconciler.api.peers import Admission

__all__ = ["PATH_MAX", "Listener", "Place", "control_place", "make_directory", "refuse", "remove_stale"]

PATH_MAX = 107
"""The longest path of a Unix socket, in bytes."""

_BACKLOG = 1024
_AT_ONCE = 64
_PAUSE = 1.0
_QUIET = 60.0
_LOG = logging.getLogger(__name__)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"ServiceUnavailable",'
    b'"message":"the Emperor has no file descriptors or connections left; try again later","code":503}\n'
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen, and how it is spoken of: `what` it is, and the `option` that chooses another.

    Of a Unix socket: `private` is for the owner alone, otherwise the umask decides. `guarded`: the caller holds a
    lock, so that a socket which lies there already belongs to nobody. `refusal` is what callers are told who can't
    be served. A `private` one may be reached by the members of `group` (an id) as well, or with `everybody` by all.
    """

    address: Address
    what: str
    option: str
    private: bool = True
    guarded: bool = False
    refusal: bytes = b""
    group: int | None = None
    everybody: bool = False


def control_place(path: str, gate: Admission) -> Place:
    """The control socket at `path`, for those whom the gate may let in. The caller holds the Emperor's lock."""
    address = UnixAddress(path)
    return Place(
        address, "the control socket", "--socket", guarded=True, refusal=_FULL, group=gate.group, everybody=gate.tyrant
    )


def refuse(connection: socket.socket, refusal: bytes) -> None:
    """Say so without reading anything, and close."""
    with connection:
        try:
            connection.setblocking(False)
            connection.send(refusal)
        except OSError:
            pass


class Listener:
    """One listening socket; every connection goes to `accepted`, which owns it from then on."""

    def __init__(self, place: Place, accepted: Callable[[socket.socket], None]) -> None:
        self.place = place
        self._accepted = accepted
        self._socket: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self._reserve: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._paused = False
        self._complained = float("-inf")

    def open(self) -> None:
        """Bind and listen. Raises UserError, naming the option that chooses another place."""
        address = self.place.address
        if isinstance(address, UnixAddress):
            self._socket = self._bound_unix(address.path)
            status = os.lstat(address.path)
            self._identity = (status.st_dev, status.st_ino)
        else:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            self._socket = self._bound(family, lambda made: made.bind((address.host, address.port)))
        self._reserve = _reserve()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept from now on, in this loop."""
        if self._socket is not None:
            self._loop = loop
            loop.add_reader(self._socket, self._ready)

    def pause(self) -> None:
        """Let callers wait in the kernel's queue until `resume`."""
        self._paused = True
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        """There is room again."""
        if self._paused:
            self._paused = False
            if self._resume is None:
                self._listen_again()

    def close(self) -> None:
        """Accept no more, and remove a Unix socket where it is still ours."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        if self._socket is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket)
            if self._is_ours():
                os.unlink(str(self.place.address))
            self._socket.close()
            self._socket = None
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _bound_unix(self, path: str) -> socket.socket:
        if len(os.fsencode(path)) > PATH_MAX:
            text = f"{self.place.what}'s path is longer than {PATH_MAX} bytes: {path}"
            raise UserError(f"{text} (choose a shorter one with {self.place.option})")

        def bind(made: socket.socket) -> None:
            make_directory(os.path.dirname(path) or ".", self.place.option)
            remove_stale(path, self.place)
            # Nobody can execute a socket: who may connect is who may write.
            before = os.umask(0o177)
            try:
                if not self.place.private:
                    os.umask(before | 0o111)
                made.bind(path)
            finally:
                os.umask(before)
            if self.place.group is not None or self.place.everybody:
                _admit(path, self.place)

        return self._bound(socket.AF_UNIX, bind)

    def _bound(self, family: socket.AddressFamily, bind: Callable[[socket.socket], None]) -> socket.socket:
        try:
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise self._impossible(error) from error
        try:
            if family != socket.AF_UNIX:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bind(made)
            made.listen(_BACKLOG)
        except OSError as error:
            made.close()
            raise self._impossible(error) from error
        except UserError:
            made.close()
            raise
        return made

    def _impossible(self, error: OSError) -> UserError:
        text = f"can't listen at {self.place.what} {self.place.address}: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:
            return UserError(f"{text} (stop what listens there, or choose another with {self.place.option})")
        return UserError(f"{text} (choose another with {self.place.option})")

    def _is_ours(self) -> bool:
        if self._identity is None:
            return False
        try:
            status = os.lstat(str(self.place.address))
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _ready(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket is None or self._paused:
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
                refuse(connection, self.place.refusal)
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
        if self._socket is not None and self._loop is not None and not self._paused:
            self._loop.add_reader(self._socket, self._ready)

    def _complain(self, error: OSError) -> None:
        assert self._loop is not None
        now = self._loop.time()
        if now - self._complained >= _QUIET:
            self._complained = now
            _LOG.error("%s refuses connections: %s", self.place.what, error.strerror or error)


def _reserve() -> int | None:
    try:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _admit(path: str, place: Place) -> None:
    """Let others than its owner reach a socket that was just bound. Raises UserError, OSError."""
    # By a descriptor of the socket itself: what lies at the path may have been exchanged since.
    held = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found, link = os.fstat(held), f"/proc/self/fd/{held}"
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise UserError(f"{path} was replaced by somebody else: choose a directory that only the Emperor writes in")
        if place.group is not None:
            try:
                os.chown(link, -1, place.group)
            except PermissionError:
                text = f"the Emperor may not give {path} to group {place.group}"
                raise UserError(f"{text}: its user is no member (--socket-group)") from None
        os.chmod(link, 0o666 if place.everybody else 0o660)
    finally:
        os.close(held)


def make_directory(parent: str, option: str) -> None:
    """The directory of a socket, made where it is missing. Raises UserError where it can't be trusted, and OSError."""
    path, missing = parent, []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path) or "."
    for directory in reversed(missing):
        os.mkdir(directory)
        # Clients of other users must be able to see the socket to be refused properly, whatever the umask.
        os.chmod(directory, 0o755)  # noqa: S103
    _distrust_planted(os.path.realpath(parent), option)


def _distrust_planted(path: str, option: str) -> None:
    """Refuse a directory that somebody else may have put in our way in /tmp or the like."""
    while path != "/":
        parent = os.path.dirname(path)
        shared = os.stat(parent).st_mode
        owner = os.stat(path).st_uid
        if shared & stat.S_ISVTX and shared & stat.S_IWOTH and owner not in {0, os.geteuid()}:
            raise UserError(f"{path} belongs to another user (uid {owner}): choose another place with {option}")
        path = parent


def remove_stale(path: str, place: Place) -> None:
    """Clear the path of a socket that nobody listens at. Raises UserError where there is anything else, and OSError."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(
            f"{path} is there already and is not a socket: move it away, or choose another path with {place.option}"
        )
    if not place.guarded and _is_alive(path):
        raise UserError(
            f"somebody listens at {path} already: stop that program, or choose another path with {place.option}"
        )
    os.unlink(path)


def _is_alive(path: str) -> bool:
    """Whether a process still has this socket: only a refusal says that it has not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            pass
        return True
