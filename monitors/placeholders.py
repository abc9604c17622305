"""What `$(ENV)` and `@(file)` of a manifest read: the Emperor's environment, and files, as far as its author may.

Used by `parsing` and `defaults`. A stranger's manifest learns of the Emperor's environment only what every vassal is
told anyway, and of files only what everybody may read. Files are found step by step: a link counts only where nobody
else could have put it. Nothing here ever waits: only regular files are opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.names import printable
from emperorctl.monitors.reading import only_ours

__all__ = ["CONTENT_MAX", "SHARED", "Reach"]

CONTENT_MAX = 64 * 1024
"""The largest file that can be put in, in bytes."""
SHARED = ("HOME", "LANG", "PATH", "TZ")
"""The variables of the Emperor that a stranger's manifest may use."""

_LINKS_MAX = 40


@dataclass(frozen=True, slots=True)
class Reach:
    """What one manifest may read. `directory` is what files are relative to; `environ` the variables it may use.

    `own`: it was written by root or the Emperor's user, and is not a stranger's.
    """

    directory: str
    environ: Mapping[str, str]
    own: bool

    def variable(self, name: str) -> str:
        """A variable's value. Raises ConfigError."""
        if not self.own and name not in SHARED:
            message = f"the environment variable $({name}) is not for this file: it is parsed as a stranger's"
            known = " ".join(SHARED)
            remedy = (
                f"use {known}, write the value out, or let root or the Emperor's user own the file and keep it small"
            )
            raise ConfigError(Problem("VariableRefused", message, f"{remedy}; $$( is a literal $("))
        value = self.environ.get(name)
        if value is None:
            message = f"the environment variable {name} is not set for the Emperor"
            raise ConfigError(Problem("UnknownVariable", message, "set it, or write $$( for a literal $("))
        try:
            value.encode()
        except UnicodeEncodeError:
            message = f"the environment variable {name} is not UTF-8"
            raise ConfigError(Problem("NotUtf8", message, "write the value out")) from None
        return value

    def content(self, name: str) -> str:
        """A file's content without the end of its last line. Raises ConfigError."""
        shown = printable(name[:200])
        if "\0" in name or len(name) > 4095:
            raise _refused("InvalidName", "@(…)", "is no path that a file can have", "correct it")
        try:
            path = os.path.join(self.directory, name).encode()
        except UnicodeEncodeError:
            raise _refused("InvalidName", shown, "is not UTF-8", "rename it") from None
        try:
            data = self._read(path, shown)
        except OSError as error:
            raise _mapped(error, shown) from None
        if len(data) > CONTENT_MAX:
            message = f"has more than {CONTENT_MAX // 1024} KiB"
            raise _refused("TooLarge", shown, message, "let the program read the file itself")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise _refused("NotUtf8", shown, "is not UTF-8", "let the program read the file itself") from None
        if "\0" in text:
            raise _refused("Binary", shown, "holds a NUL character", "let the program read the file itself")
        return text.removesuffix("\n").removesuffix("\r")

    def _read(self, path: bytes, shown: str) -> bytes:
        directory, name = self._found(path, shown)
        try:
            before = os.stat(name, dir_fd=directory, follow_symlinks=False)
            self._judge(before, os.fstat(directory), shown)  # a device is not even opened: that could have effects
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
            fd = os.open(name, flags, dir_fd=directory)
            try:
                self._judge(os.fstat(fd), os.fstat(directory), shown)
                chunks, room = [], CONTENT_MAX + 1
                while room > 0 and (chunk := os.read(fd, room)):
                    chunks.append(chunk)
                    room -= len(chunk)
            finally:
                os.close(fd)
        finally:
            os.close(directory)
        return b"".join(chunks)

    def _judge(self, found: os.stat_result, directory: os.stat_result, shown: str) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise _refused("NotRegular", shown, "is not a regular file", "name a regular file")
        if not self.own and not found.st_mode & stat.S_IROTH:
            message = "may not be read by everybody, and this manifest is parsed as a stranger's"
            raise _refused("PermissionDenied", shown, message, "let the program read the file itself")
        if found.st_nlink > 1 and not _trusted(directory):
            message = "has another name, and lies where others may have put it"
            raise _refused("LinkRefused", shown, message, "copy it, or name the other file")

    def _found(self, path: bytes, shown: str) -> tuple[int, bytes]:
        """The directory (to be closed) that the file lies in, and its name there, all links followed."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(b"/", flags)
        try:
            ahead, links = _parts(path), 0
            while True:
                if not ahead:
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                part = ahead.pop()
                mode = os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    links += 1
                    if links > _LINKS_MAX:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    if not _trusted(os.fstat(fd)):
                        message = f"leads over the link {printable(os.fsdecode(part))}, which others may have made"
                        raise _refused("LinkRefused", shown, message, "name the file that it leads to")
                    target = os.readlink(part, dir_fd=fd)
                    ahead += _parts(target)
                    below = os.open(b"/", flags) if target.startswith(b"/") else None
                elif not ahead:
                    return os.dup(fd), part
                else:
                    below = os.open(part, flags, dir_fd=fd)
                if below is not None:
                    os.close(fd)
                    fd = below
        finally:
            os.close(fd)


def _parts(path: bytes) -> list[bytes]:
    """The steps of a path, the first one last."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


def _trusted(directory: os.stat_result) -> bool:
    """Whether only root and this process's user can have put there what lies in a directory."""
    return only_ours(directory.st_uid, directory.st_gid, directory.st_mode)


def _refused(reason: str, shown: str, message: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(reason, f"the file {shown} {message}", f"{remedy}; @@( is a literal @("))


def _mapped(error: OSError, shown: str) -> ConfigError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return _refused("NotFound", shown, "does not exist", "create it, or correct its name")
        case errno.EACCES | errno.EPERM:
            message = f"may not be read by user id {os.geteuid()}"
            return _refused("PermissionDenied", shown, message, "change its mode, or that of its directories")
        case errno.EISDIR:
            return _refused("NotRegular", shown, "is not a regular file", "name a regular file")
        case errno.ELOOP:
            return _refused("LinkLoop", shown, "leads over too many links", "name the file that they lead to")
    return _refused(
        "Unreadable", shown, f"can't be read: {os.strerror(error.errno or 0)}", "look into the system's log"
    )
