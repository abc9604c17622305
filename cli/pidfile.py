"""The Emperor's pid in a file, for those who send signals to it: written whole or not at all, removed if still ours.

Called by `reign`. Nothing but a pid file is ever replaced: no link, no other user's file, no file that holds anything
else.
"""

from __future__ import annotations

import os
import re
import secrets
import stat

from emperorctl.models.errors import UserError
from emperorctl.models.names import printable

__all__ = ["PidFile"]

_OPTION = "--emperor-pidfile"
_PID = re.compile(rb"\s*\d{0,10}\s*")


class PidFile:
    """The file at `path`, which is absolute."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None

    def write(self) -> None:
        """Put this process's pid there. Raises UserError where that can't be done, or should not."""
        self._distrust()
        fresh = f"{self.path}.{secrets.token_hex(4)}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(fresh, flags, 0o644)
            try:
                os.write(descriptor, b"%d\n" % os.getpid())
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._impossible(error) from None
        try:
            os.replace(fresh, self.path)
        except OSError as error:
            os.unlink(fresh)
            raise self._impossible(error) from None
        self._identity = (status.st_dev, status.st_ino)

    def remove(self) -> None:
        """Remove it, unless somebody has put another file there."""
        try:
            status = os.lstat(self.path)
            if (status.st_dev, status.st_ino) == self._identity:
                os.unlink(self.path)
        except OSError:
            # What can't be removed does no harm: its pid is nobody's.
            pass

    def _distrust(self) -> None:
        shown = printable(self.path)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            if os.path.islink(self.path):
                raise UserError(f"{_OPTION}: {shown} is a link: remove it, or give another path") from None
            raise self._impossible(error) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{_OPTION}: {shown} is there already and is not a regular file: give another path")
            if status.st_uid not in {0, os.geteuid()}:
                raise UserError(f"{_OPTION}: {shown} belongs to another user (uid {status.st_uid}): give another path")
            if not _PID.fullmatch(os.read(descriptor, 32)):
                raise UserError(f"{_OPTION}: {shown} holds something else than a pid: give another path")
        finally:
            os.close(descriptor)

    def _impossible(self, error: OSError) -> UserError:
        return UserError(f"{_OPTION}: can't write {printable(self.path)}: {error.strerror} (give another path)")
