"""The files of one vassal's log: their names, appending by splice, rotation by rename.

Used by `logs`, which owns the pipes; `logreading` reads them back. One writer per file; nothing here is O_APPEND
(splice refuses it).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import select
import stat
import termios

from emperorctl.models.errors import UserError

__all__ = ["LogFile", "log_file_name", "open_directory"]

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_STEM_MAX = 160
_BLOCK = 64 * 1024


def log_file_name(name: str, owner: int | None = None) -> str:
    """The file name for a vassal's name: readable, at most 200 bytes, and never two vassals' same.

    In tyrant mode each `owner` (a uid) has a file of its own, that no other ever gets to read.

    A name of letters, digits, `.`, `_`, `-` is kept. Any other is escaped and gets a digest, and only such
    a name holds a `%`.
    """
    if owner is not None:
        # No plain name holds a `@`.
        return f"{log_file_name(name).removesuffix('.log')}@{owner}.log"
    if name and not name.startswith((".", "-")) and len(name) <= _STEM_MAX and _PLAIN.issuperset(name):
        return f"{name}.log"
    raw = name.encode("utf-8", "surrogateescape" if _surrogates(name) else "strict")
    escaped = "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02X}" for byte in raw)
    if escaped.startswith((".", "-")):
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    digest = hashlib.blake2b(raw, digest_size=8).hexdigest()
    return f"{escaped[:_STEM_MAX]}%{digest}.log"


def _surrogates(name: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in name)


def open_directory(path: str, *, strict: bool = False) -> None:
    """Make the log directory, or refuse one that others may write in. Raises UserError.

    `strict`: nor may anybody but root and the Emperor's user be able to put another directory in its place.
    """
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError as error:
        raise UserError(f"can't make the log directory {path}: {os.strerror(error.errno or 0)} (--log-dir)") from None
    if not stat.S_ISDIR(found.st_mode):
        raise UserError(f"the log directory {path} is not a directory (choose another with --log-dir)")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise UserError(
            f"others may write in the log directory {path}: it must belong to the Emperor's user, mode 0700"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"the Emperor may not write in the log directory {path} (choose another with --log-dir)")
    if strict:
        _distrust_above(path)


def _distrust_above(path: str) -> None:
    above = os.path.realpath(path)
    while above != "/":
        above = os.path.dirname(above)
        found = os.stat(above)
        # In a sticky directory nobody can rename what is another's.
        shared = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
        if shared or found.st_uid not in (0, os.geteuid()):
            raise UserError(
                f"others may put something else in the place of the log directory {path}, since they may write in"
                f" {above} (choose another with --log-dir)"
            )


class LogFile:
    """NAME.log, its size, and the older NAME.log.1 … NAME.log.N beside it."""

    __slots__ = ("fd", "max_files", "max_size", "path", "rotations", "size")

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        self.path = path
        self.max_size = max_size
        self.max_files = max_files
        self.fd = -1
        self.size = 0
        self.rotations = 0

    def open(self) -> None:
        """Open for writing at the end. Raises OSError."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(22, "not a regular file", self.path)
        self.size = os.lseek(fd, 0, os.SEEK_END)
        self.fd = fd

    def close(self) -> None:
        """Let go of the descriptor; the next write opens again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def take(self, pipe: int, most: int) -> int:
        """Move up to `most` bytes from the pipe, rotating first where the file is full. 0: all writers are gone.

        Raises BlockingIOError where the pipe is empty, other OSErrors where the disk is not willing; then the
        data is still in the pipe.
        """
        if self.fd < 0:
            if _ended(pipe):
                return 0  # without making a file for somebody who said nothing
            self.open()
        if self.size >= self.max_size and _holds_data(pipe):
            self.rotate()
        # Past the limit only by a little: a chunk that ends where the pipe was empty most likely ends a line.
        room = max(self.max_size - self.size, min(self.max_size, _BLOCK))
        moved = os.splice(pipe, self.fd, min(most, room), flags=os.SPLICE_F_NONBLOCK)
        self.size += moved
        return moved

    def rotate(self) -> None:
        """Shift every file by one, drop the oldest, begin a new one. Raises OSError; then the old one goes on."""
        if self.max_files > 0:
            for number in range(self.max_files - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            os.rename(self.path, f"{self.path}.1")
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        self.rotations += 1
        self.close()
        self.open()


def _ended(pipe: int) -> bool:
    """Whether nothing is in there and nothing can come."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return poll.poll(0) == [(pipe, select.POLLHUP)]


def _holds_data(pipe: int) -> bool:
    count = ctypes.c_int()
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count.value > 0
