"""Going where another process is: its namespaces, its root directory, and with no more privileges than it may gain.

Called by `child` for commands that are run within a vassal (`exec`). What the vassal's main process has is read from
the kernel, through its pidfd and a descriptor of its directory in /proc: a number alone could have become another's.
"""

from __future__ import annotations

import fcntl
import os
import select
import termios

from . import clone  # noqa: TID251
from .execute import Refused  # noqa: TID251
from .lean import signal  # noqa: TID251
from .rights import drop, keep_capabilities, limit_capabilities  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Entered", "enter", "stay_outside", "take_terminal"]

_NAMESPACES = {
    "user": clone.NEWUSER,
    "mnt": clone.NEWNS,
    "cgroup": clone.NEWCGROUP,
    "uts": clone.NEWUTS,
    "ipc": clone.NEWIPC,
    "net": clone.NEWNET,
    "pid": clone.NEWPID,
}


class Entered:
    """Where this process has gone. `forks`: only its children are in the pid namespace."""

    __slots__ = ("_ambient", "_bounding", "_inner", "_inner_ids", "_privileged", "_quiet", "forks")

    def __init__(self, facts: dict[str, str], flags: int) -> None:
        self.forks = bool(flags & _NAMESPACES["pid"])
        self._inner = bool(flags & _NAMESPACES["user"])
        self._bounding = _bits(facts["CapBnd"])
        self._ambient = _bits(facts.get("CapAmb", "0"))
        self._quiet = facts.get("NoNewPrivs", "0") == "1"
        self._inner_ids = (int(facts["Uid"].split()[1]), int(facts["Gid"].split()[1]))
        self._privileged = self._inner or os.geteuid() == 0

    def become(self, ids: list[object] | None) -> None:
        """Take on the identity `ids`, or in a user namespace that which the process has there, with no capability that
        it could not have. Raises OSError, Refused."""
        if self._privileged:
            limit_capabilities(self._bounding)
        if self._inner:
            _become_inner(*self._inner_ids)
        elif ids is not None:
            drop(*ids)  # type: ignore[arg-type]
        if self._privileged and os.geteuid() != 0:
            keep_capabilities(self._ambient)
        if self._quiet:
            clone.no_new_privileges()


def enter(pidfd: int, pid: int) -> Entered:
    """Go into the namespaces and to the root directory of this process. Raises OSError, Refused."""
    # Or what is in there with us could look into the memory of this process, which was the zygote's.
    clone.not_for_others()
    directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    own = os.stat("/")
    root = os.open("root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    flags = sum(
        flag
        for name, flag in _NAMESPACES.items()
        if os.readlink(f"ns/{name}", dir_fd=directory) != os.readlink(f"/proc/self/ns/{name}")
    )
    # It lived until now, so all of this was its own.
    signal.pidfd_send_signal(pidfd, 0)
    if flags:
        clone.enter(pidfd, flags)
    # Read from within: in a user namespace its ids have other numbers.
    entered = Entered(_status(directory), flags)
    os.close(directory)
    found = os.fstat(root)
    if flags & _NAMESPACES["mnt"] or (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
        os.fchdir(root)
        os.chroot(".")
        os.chdir("/")
    os.close(root)
    return entered


def take_terminal() -> None:
    """Make standard input this session's terminal, from which Ctrl-C reaches it. Raises OSError."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def stay_outside(status: int) -> None:
    """Fork: the child returns, within the pid namespace and as the leader of a session of its own; the parent waits for
    its end, and ends as it did."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child:
        os.close(reading)
        os.close(status)
        for standard in (0, 1, 2):
            os.close(standard)
        _end_as(child)
    os.close(writing)
    os.setsid()
    clone.die_with_parent()
    # Whoever waits outside has no number in here by which one could see whether it still does.
    if select.select([reading], [], [], 0)[0]:
        os._exit(127)
    os.close(reading)


def _end_as(child: int) -> NoReturn:
    _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        signum = os.WTERMSIG(ended)
        if signum != signal.SIGKILL:
            signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
    os._exit(os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else 255)


def _become_inner(uid: int, gid: int) -> None:
    try:
        os.setgroups([])
    except PermissionError:
        pass  # denied in this namespace: it has none to give
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise Refused("the kernel kept another uid or gid")


def _status(directory: int) -> dict[str, str]:
    fd = os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        text = os.read(fd, 65536).decode(errors="replace")
    finally:
        os.close(fd)
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _bits(text: str) -> list[int]:
    mask = int(text, 16)
    return [number for number in range(64) if mask >> number & 1]
