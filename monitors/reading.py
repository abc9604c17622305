"""Reading one entry of a directory safely: one descriptor, nothing but regular files, never more than the limit.

Called by `monitors.entrance`, and in tyrant mode by `monitors.gate`. It maps every OSError of a file to a Problem; not
in here: what the bytes mean (`parsing`), when to look (`tree`, `watch`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from dataclasses import dataclass
from typing import NamedTuple

from emperorctl.models.errors import Problem
from emperorctl.models.names import printable
from emperorctl.models.source import Touch
from emperorctl.models.vassal import Owner

__all__ = [
    "NATIVE_LIMIT",
    "UWSGI_LIMIT",
    "Busy",
    "Content",
    "Entry",
    "Fingerprint",
    "Gone",
    "Unusable",
    "look",
    "not_regular",
    "nowhere",
    "only_ours",
    "read",
    "read_open",
    "refused",
    "unusable",
]

NATIVE_LIMIT = 256 * 1024
UWSGI_LIMIT = 1024 * 1024
"""The largest native manifest and uWSGI config that are read, in bytes."""

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
# The lease asked for below is broken by this signal, which nobody minds, instead of SIGIO, which kills.
_LEASE_SIGNAL = signal.SIGWINCH


class Fingerprint(NamedTuple):
    """What has to be equal for a file to count as unchanged. Times are in ns.

    `device` to `size` are of what the entry leads to (`size` is the errno, and the rest 0, where it leads nowhere).
    """

    device: int
    inode: int
    mtime: int
    ctime: int
    size: int
    link_mtime: int
    link_ctime: int = 0


class Entry(NamedTuple):
    """Where to find one file: the directory's descriptor (None: `name` is a path), and how to call it in messages."""

    directory: int | None
    name: str
    shown: str


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such entry."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody is writing this file just now: look again when it is closed."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """The entry is there and can't be read as a file. `owner`: see `FileReport`."""

    problem: Problem
    fingerprint: Fingerprint
    touch: Touch
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes with the facts of the very descriptor they were read from. `links` are the names it has."""

    data: bytes
    fingerprint: Fingerprint
    touch: Touch
    uid: int
    gid: int
    mode: int
    links: int = 1


def look(directory: int | None, name: str) -> tuple[Fingerprint, bool] | None:
    """An entry's fingerprint without opening it, and whether it is a link; None where it is gone.

    Raises OSError where the directory itself can't be searched.
    """
    try:
        own = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(own.st_mode):
        return _fingerprint(own, own), False
    try:
        return _fingerprint(os.stat(name, dir_fd=directory), own), True
    except OSError as error:
        return nowhere(error, own), True


def read(entry: Entry, limit: int, *, lease_on: int | None = None) -> Content | Unusable | Gone | Busy:
    """The content of an entry, bounded by `limit` bytes; never waits, whatever the entry is.

    `lease_on`: ask the kernel whether somebody has the file open for writing, if it lies on this device.
    """
    try:
        own = os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False)
    except FileNotFoundError:
        return Gone()
    except OSError as error:
        return Unusable(refused(error, entry, link=False), Fingerprint(0, 0, 0, 0, error.errno or 0, 0), (0, 0))
    link = stat.S_ISLNK(own.st_mode)
    try:
        target = os.stat(entry.name, dir_fd=entry.directory) if link else own
        if not stat.S_ISREG(target.st_mode):  # a device is not even opened: that could have effects
            return unusable(not_regular(target, entry), target, own)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if link else os.O_NOFOLLOW)
        fd = os.open(entry.name, flags, dir_fd=entry.directory)
    except OSError as error:
        if error.errno == errno.ENOENT and not link:
            return Gone()
        if error.errno == errno.ELOOP and not link:
            return Busy()  # replaced by a link between the two calls
        if error.errno == errno.EAGAIN:
            return Busy()  # somebody holds a lease on it
        fingerprint = _fingerprint(target, own) if not link else nowhere(error, own)
        if error.errno == errno.EACCES and link:
            seen = look(entry.directory, entry.name)
            fingerprint = seen[0] if seen else fingerprint
        return Unusable(refused(error, entry, link=link), fingerprint, (own.st_mtime_ns, fingerprint.mtime))
    try:
        return read_open(fd, own, entry, limit, lease_on)
    except OSError as error:
        return unusable(refused(error, entry, link=link), target, own)
    finally:
        os.close(fd)


def read_open(
    fd: int, own: os.stat_result, entry: Entry, limit: int, lease_on: int | None
) -> Content | Unusable | Busy:
    """The content of an open file; `own` is of the entry that led to it. Raises OSError."""
    before = os.fstat(fd)
    if not stat.S_ISREG(before.st_mode):
        return unusable(not_regular(before, entry), before, own)
    if lease_on == before.st_dev and _being_written(fd):
        return Busy()
    if before.st_size > limit:
        return unusable(_too_large(before.st_size, limit, entry), before, own)
    chunks, room = [], limit + 1
    while room > 0 and (chunk := os.read(fd, room)):
        chunks.append(chunk)
        room -= len(chunk)
    if room <= 0:
        return unusable(_too_large(limit + 1, limit, entry), before, own)
    after = os.fstat(fd)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        return Busy()
    fingerprint = _fingerprint(after, own)
    touch = (fingerprint.link_mtime, fingerprint.mtime)
    return Content(b"".join(chunks), fingerprint, touch, after.st_uid, after.st_gid, after.st_mode, after.st_nlink)


def only_ours(uid: int, gid: int, mode: int) -> bool:
    """Whether nobody but root and this process's user may write what has this owner, group and mode."""
    if uid not in (0, os.geteuid()) or mode & stat.S_IWOTH:
        return False
    return not mode & stat.S_IWGRP or gid in (0, os.getegid())


def _being_written(fd: int) -> bool:
    """Whether the kernel refuses a read lease because somebody has the file open for writing.

    A lease needs ownership or CAP_LEASE, and not every file system has them: then nothing is known.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, _LEASE_SIGNAL)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _fingerprint(target: os.stat_result, own: os.stat_result) -> Fingerprint:
    return Fingerprint(
        target.st_dev,
        target.st_ino,
        target.st_mtime_ns,
        target.st_ctime_ns,
        target.st_size,
        own.st_mtime_ns,
        own.st_ctime_ns,
    )


def nowhere(error: OSError, own: os.stat_result) -> Fingerprint:
    """The fingerprint of a link that leads nowhere."""
    return Fingerprint(0, 0, 0, 0, error.errno or 0, own.st_mtime_ns, own.st_ctime_ns)


def unusable(problem: Problem, target: os.stat_result, own: os.stat_result) -> Unusable:
    """The answer to an entry that leads to something of which no more is known than this."""
    return Unusable(problem, _fingerprint(target, own), (own.st_mtime_ns, target.st_mtime_ns))


def not_regular(found: os.stat_result, entry: Entry) -> Problem:
    """The problem of an entry that is no file."""
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "not a file")
    return Problem(
        "NotRegular",
        f"is {kind}; expected a regular file",
        "remove it or rename it to something without this extension",
        file=entry.shown,
    )


def _too_large(size: int, limit: int, entry: Entry) -> Problem:
    return Problem(
        "TooLarge",
        f"has {size} bytes or more; expected at most {limit}",
        "a config this large is most likely not one; move it away or split it",
        file=entry.shown,
    )


def refused(error: OSError, entry: Entry, *, link: bool) -> Problem:
    """The problem of an entry that the kernel does not let us read."""
    target = ""
    if link:
        try:
            target = printable(os.readlink(entry.name, dir_fd=entry.directory))
        except OSError:
            target = "?"
    match error.errno:
        case errno.EACCES | errno.EPERM:
            whose = f" (a link to {target})" if link else ""
            return Problem(
                "PermissionDenied",
                f"may not be read by user id {os.geteuid()}{whose}",
                "give the Emperor's user read permission on it and search permission on its directories",
                file=entry.shown,
            )
        case errno.ENOENT | errno.ENOTDIR if link:
            return Problem(
                "DanglingLink",
                f"is a link to {target}, which does not exist",
                "create the target or remove the link",
                file=entry.shown,
            )
        case errno.ELOOP:
            return Problem(
                "LinkLoop",
                f"is a link to {target}, which leads back to itself",
                "point the link at a file or remove it",
                file=entry.shown,
            )
        case errno.ENAMETOOLONG:
            return Problem("InvalidName", "has a name that is too long", "rename the file", file=entry.shown)
    return Problem(
        "Unreadable",
        f"can't be read: {os.strerror(error.errno or 0)}",
        "look into the system's log for what is wrong with the file system",
        file=entry.shown,
    )
