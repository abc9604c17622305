"""One Emperor per control socket: a lock file beside it, which says who holds it.

Called by the `run` command before anything is started. The lock is the kernel's (flock) and ends with its holder;
the text in the file is only for people.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from dataclasses import dataclass

from emperorctl.models.errors import UserError

__all__ = ["Lock", "acquire", "instance_of"]


@dataclass(slots=True)
class Lock:
    """A held lock."""

    path: str
    fd: int

    def release(self) -> None:
        """Let another Emperor in. The file stays: removing it would let two hold "the" lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def instance_of(socket_path: str) -> str:
    """A short name for the Emperor of this control socket, the same on every start: 12 hexadecimal digits."""
    return hashlib.blake2b(os.fsencode(os.path.realpath(socket_path)), digest_size=6).hexdigest()


def acquire(socket_path: str) -> Lock:
    """Become the one Emperor of this control socket. Raises UserError saying who is, or why it can't be done."""
    path = f"{socket_path}.lock"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o755, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(
            f"can't lock {path}: {os.strerror(error.errno or 0)} (choose another place with --socket)"
        ) from None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        # Where others may write to the directory, it could be some other file under this name.
        os.close(fd)
        raise UserError(f"can't lock {path}: it is not a file of its own (remove it)")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(fd)
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(f"can't lock {path}: {os.strerror(error.errno or 0)}") from None
        raise UserError(
            f"another Emperor holds {socket_path}: {holder} (stop it, or give this one another --socket)"
        ) from None
    text = json.dumps({"pid": os.getpid(), "since": time.time(), "command": _command()}) + "\n"
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode(), 0)
    return Lock(path, fd)


def _holder(fd: int) -> str:
    try:
        told = json.loads(os.pread(fd, 8192, 0))
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(told["since"]))
        return f"pid {int(told['pid'])}, since {since}, {str(told['command'])[:200]!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said who it is yet"


def _command() -> str:
    try:
        with open("/proc/self/cmdline", "rb") as file:
            return file.read(4096).rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
