"""One listening socket: bound as asked, or a problem that says why not and what to do.

Used by `sockets`. The one place where the errnos of socket, bind and listen get their words. A file that is not a
socket is never removed, a socket that somebody answers on neither. Not in here: whose socket it is (`sockets`), who
else holds an address (`holders`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from emperorctl.models.errors import Problem
from emperorctl.models.sockets import Address, Family
from emperorctl.reconciler.runtime.lent import NotLent, lent_rights

__all__ = ["Bound", "CannotListen", "Ids", "bind", "broken", "retire", "tend", "waiting"]

_UCRED = struct.Struct("3i")
_FAMILIES = {Family.INET: socket.AF_INET, Family.INET6: socket.AF_INET6}
_DEAD = select.POLLHUP | select.POLLERR | select.POLLNVAL
_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a link", stat.S_IFIFO: "a FIFO", stat.S_IFREG: "a file"}

Ids = tuple[int, int]
"""uid and gid of a socket's file, -1 for as it is."""


class CannotListen(Exception):
    """The address can't be had. `in_use`: somebody else listens on it; `pid` who, 0 where that is not known."""

    def __init__(self, problem: Problem, *, in_use: bool = False, pid: int = 0) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.in_use = in_use
        self.pid = pid


@dataclass(slots=True)
class Bound:
    """A listening socket, and for one in the file system the identity of its file."""

    fd: int
    address: Address
    file: tuple[int, int] | None = None


def bind(address: Address, ids: Ids) -> Bound:
    """Bind and listen. Raises CannotListen. The socket blocks, as programs that are given one expect."""
    try:
        if address.family in _FAMILIES:
            return _bind_inet(address)
        if address.family is Family.ABSTRACT:
            return _bind_abstract(address)
        with _rights_for(address):
            return _bind_unix(address, ids)
    except OSError as error:
        raise _refused(address, error) from None


def _rights_for(address: Address) -> contextlib.AbstractContextManager[None]:
    """What is done to the file of a tenant's socket is done with that tenant's rights, wherever its path leads."""
    return lent_rights(*address.bound_as) if address.bound_as is not None else contextlib.nullcontext()


def tend(bound: Bound, address: Address, ids: Ids) -> None:
    """Give a socket that stays what may differ from before: backlog, mode and owner. Raises CannotListen."""
    try:
        if address.backlog != bound.address.backlog:
            with _borrowed(bound.fd) as sock:
                sock.listen(address.backlog)
        if bound.file is not None:
            with _rights_for(address):
                _own(address, bound.file, ids, mode=address.mode)
    except OSError as error:
        raise _refused(address, error) from None
    bound.address = address


def waiting(sockets: Iterable[Bound]) -> bool:
    """Whether a connection waits in one of them."""
    return any(events & select.POLLIN and not events & _DEAD for events in _look(sockets))


def broken(bound: Bound) -> bool:
    """Whether the socket listens no more: a program that shared it has shut it down."""
    return any(events & _DEAD for events in _look((bound,)))


def _look(sockets: Iterable[Bound]) -> list[int]:
    poll = select.poll()
    for bound in sockets:
        poll.register(bound.fd, select.POLLIN)
    return [events for _, events in poll.poll(0)]


def retire(bound: Bound) -> None:
    """Close it, and remove its file if that is still ours."""
    os.close(bound.fd)
    if bound.file is None:
        return
    try:
        with _rights_for(bound.address):
            _remove(bound)
    except PermissionError:
        # Its directory has become another's.
        pass


def _remove(bound: Bound) -> None:
    directory, name = os.path.split(bound.address.path)
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) == bound.file:
            os.unlink(name, dir_fd=fd)
    except OSError:
        # Gone already, or in a place that has become another's.
        pass
    finally:
        os.close(fd)


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def _bind_inet(address: Address) -> Bound:
    with socket.socket(_FAMILIES[address.family], socket.SOCK_STREAM) as sock:
        # A connection of an earlier life that still lingers must not keep the address.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(address.backlog)
        return Bound(sock.detach(), address)


def _bind_abstract(address: Address) -> Bound:
    name = "\0" + address.path
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.bind(name)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _in_use(address, _answering(name)[1]) from None
            raise
        sock.listen(address.backlog)
        return Bound(sock.detach(), address)


def _bind_unix(address: Address, ids: Ids) -> Bound:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        # The file gets the mode of the unbound socket: there is no moment with another one.
        os.fchmod(sock.fileno(), address.mode)
        try:
            _bind_file(sock, address.path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _clear(address)
            _bind_file(sock, address.path)
        bound = Bound(-1, address, _identity(address.path))
        try:
            if ids != (-1, -1):
                _own(address, bound.file, ids)
            sock.listen(address.backlog)
        except BaseException:
            bound.fd = sock.detach()
            retire(bound)
            raise
        bound.fd = sock.detach()
        return bound


def _bind_file(sock: socket.socket, path: str) -> None:
    before = os.umask(0)
    try:
        sock.bind(path)
    finally:
        os.umask(before)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _own(address: Address, file: tuple[int, int] | None, ids: Ids, *, mode: int | None = None) -> None:
    """Owner, group and mode of the socket's file, by a descriptor of that very file and not by a path."""
    fd = os.open(address.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISSOCK(found.st_mode) or (found.st_dev, found.st_ino) != file:
            raise _replaced(address)
        path = f"/proc/self/fd/{fd}"
        if mode is not None and stat.S_IMODE(found.st_mode) != mode:
            os.chmod(path, mode)
        if (ids[0] not in (-1, found.st_uid)) or (ids[1] not in (-1, found.st_gid)):
            os.chown(path, *ids)
    finally:
        os.close(fd)


def _clear(address: Address) -> None:
    """Remove the socket of a process that is gone. Raises CannotListen for everything else that lies there."""
    directory, name = os.path.split(address.path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISSOCK(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
            message = f"{address} exists and is {kind}, not a socket; it is left alone"
            raise CannotListen(Problem("NotASocket", message, "move it away, or choose another path"))
        live, pid = _answering(address.path)
        if live:
            raise _in_use(address, pid)
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    finally:
        os.close(fd)


def _answering(path: str) -> tuple[bool, int]:
    """Whether somebody has this Unix socket, and who listens there, 0 where that can't be seen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False, 0
        except OSError:
            # Too many wait, it is of another type, or may not be connected to: it is somebody's in any case.
            return True, 0
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return True, _UCRED.unpack(credentials)[0]


def _in_use(address: Address, pid: int = 0) -> CannotListen:
    problem = Problem("AddressInUse", f"{address} is in use", "end whoever holds it, or choose another address")
    return CannotListen(problem, in_use=True, pid=pid)


def _replaced(address: Address) -> CannotListen:
    message = f"{address} is no longer the file that was made for this socket"
    return CannotListen(Problem("Replaced", message, "remove it, and touch the vassal's file"))


def _refused(address: Address, error: OSError) -> CannotListen:
    uid = os.geteuid() if address.bound_as is None else address.bound_as[0]
    if isinstance(error, NotLent):
        message = f"{address} would have to be made with the rights of user id {uid}, which this Emperor has not"
        remedy = "listen at a port or an abstract address, or run the Emperor as root, without --uid"
        return CannotListen(Problem("NotPermitted", message, remedy))
    match error.errno:
        case errno.EADDRINUSE:
            return _in_use(address)
        case errno.EADDRNOTAVAIL:
            message, remedy = f"no interface of this host has the address of {address}", "correct the address"
            return CannotListen(Problem("NoSuchAddress", message, remedy))
        case errno.EAFNOSUPPORT:
            return CannotListen(Problem("NotSupported", f"this host has no IPv6: {address}", "use an IPv4 address"))
        case errno.ENOENT | errno.ENOTDIR:
            message = f"the directory {os.path.dirname(str(address))} does not exist"
            return CannotListen(Problem("MissingDirectory", message, "create it, or choose another path"))
        case errno.EACCES | errno.EPERM if address.port:
            message = f"port {address.port} may not be bound by user id {os.geteuid()}"
            return CannotListen(Problem("NotPermitted", message, "run the Emperor as root, or choose a port from 1024"))
        case errno.EACCES | errno.EPERM | errno.EROFS:
            message = f"{address} can't be made by user id {uid}: {os.strerror(error.errno)}"
            return CannotListen(
                Problem(
                    "NotPermitted", message, "give this user write permission on the directory, or choose another path"
                )
            )
    remedy = "raise the limit on open files (LimitNOFILE= of the Emperor's unit)" if error.errno in _SHORTAGE else ""
    text = os.strerror(error.errno or 0)
    return CannotListen(Problem("CannotBind", f"{address} can't be bound: {text}", remedy))
