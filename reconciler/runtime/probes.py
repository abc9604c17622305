"""Trying what the kernel allows: system calls that do nothing, and namespaces in a child that ends at once.

Used by `checks`. Nothing is left behind: no process, no directory, no descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping
from types import MappingProxyType

from emperorctl.models.isolation import IPC, MOUNT, NET, PID, USER, UTS
from emperorctl.reconciler.runtime.cgroups import remove

__all__ = ["SYSCALLS", "has_cgroup_kill", "has_syscall", "inotify", "namespaces"]

SYSCALLS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "pidfd_open": ("5.4", "no Emperor runs here"),
        "clone3": ("5.7", "vassals join their control groups after their birth instead of being born in them"),
        "close_range": ("5.9", "each launch closes descriptors one by one"),
        "openat2": ("5.6", "files are opened part by part"),
        "mount_setattr": ("5.12", "trees of mounts can't be made read-only for a vassal"),
    }
)
"""What is used, since which Linux it is there, and what it is like without."""
_NUMBERS = {"pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "mount_setattr": 442}
_NAMESPACES = {"user": USER, "fs": MOUNT, "net": NET, "ipc": IPC, "pid": PID, "uts": UTS}
_IN_CLOEXEC = 0o2000000
_libc = ctypes.PyDLL(None, use_errno=True)


def has_syscall(name: str) -> bool:
    """Whether this system call is there: called with arguments that it has to refuse."""
    wrong = ctypes.c_long(-1)
    zero = ctypes.c_long(0)
    arguments = (wrong, zero, zero, zero, zero) if name != "close_range" else (wrong, zero, wrong, zero, zero)
    result = _libc.syscall(ctypes.c_long(_NUMBERS[name]), *arguments)
    return result >= 0 or ctypes.get_errno() != errno.ENOSYS


def namespaces() -> dict[str, str | None]:
    """For each kind of namespace: None where a child could make one, or why not. An ordinary user tries inside a user
    namespace."""
    extra = 0 if os.geteuid() == 0 else USER
    return {name: _unshared(flag | extra) for name, flag in _NAMESPACES.items()}


def inotify() -> str | None:
    """None where an instance can be had, or why not."""
    fd = _libc.inotify_init1(ctypes.c_int(_IN_CLOEXEC))
    if fd < 0:
        return os.strerror(ctypes.get_errno())
    os.close(fd)
    return None


def has_cgroup_kill(directory: str) -> bool:
    """Whether a cgroup made here could be killed as a whole."""
    trial = f"{directory}/emperorctl.probe-{os.getpid()}"
    try:
        os.mkdir(trial, 0o755)
    except OSError:
        return False
    try:
        return os.access(f"{trial}/cgroup.kill", os.W_OK)
    finally:
        remove(trial)


def _unshared(flags: int) -> str | None:
    pid = os.fork()
    if pid == 0:
        # Nothing but the call: this may be the copy of a big process.
        os._exit(ctypes.get_errno() & 0xFF or 255 if _libc.unshare(ctypes.c_int(flags)) != 0 else 0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if code == 0 else os.strerror(code) if 0 < code < 255 else "unknown error"
