"""Making one child of the Emperor: clone3 and clone through ctypes, and the few calls that `os` lacks.

Called by `main` in the zygote, which is single-threaded: that is what makes running Python after a raw clone safe.
CLONE_PARENT makes the new process the Emperor's child, not the zygote's. What namespaces are for is in `cells`.
"""

from __future__ import annotations

import ctypes
import errno
import os

from .lean import signal  # noqa: TID251

__all__ = [
    "NEWCGROUP",
    "NEWIPC",
    "NEWNET",
    "NEWNS",
    "NEWPID",
    "NEWUSER",
    "NEWUTS",
    "Cloned",
    "Cloner",
    "adopt_orphans",
    "close_from",
    "close_on_exec_from",
    "default_signals",
    "die_with_parent",
    "enter",
    "no_new_privileges",
    "not_for_others",
    "prctl",
    "set_name",
    "unshare",
]

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000
NEWUSER, NEWPID, NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000
"""The flags of clone(2) for each kind of namespace."""

_CLONE_PARENT = 0x0000_8000
_CLONE_PIDFD = 0x0000_1000
_CLONE_INTO_CGROUP = 0x2_0000_0000
_SYS_CLONE3 = 435
_SYS_CLOSE_RANGE = 436
_SYS_CLONE = {"x86_64": 56, "i386": 120, "i686": 120, "armv7l": 120, "ppc64le": 120}
_SYS_CLONE_GENERIC = 220  # aarch64, riscv64, loongarch64
_SYS_RT_SIGACTION = {"x86_64": 13, "aarch64": 134, "riscv64": 134, "loongarch64": 134}
_CLOSE_RANGE_CLOEXEC = 4
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.E2BIG, errno.EOPNOTSUPP, errno.EACCES}

# PyDLL keeps the interpreter's lock: the child must not find it held by nobody.
_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_NULL = ctypes.c_void_p(None)


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


class Cloned:
    """`pid` is 0 in the child. `joined`: it was born in its cgroup; otherwise the child has to join it itself."""

    __slots__ = ("joined", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, joined: bool) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.joined = joined


class Cloner:
    """Clones, remembering what this kernel (or a seccomp filter in front of it) refuses."""

    def __init__(self, *, clone3: bool = True) -> None:
        self._clone3 = clone3
        self._pidfd = ctypes.c_int(-1)
        self._args = _CloneArgs()

    def clone(self, cgroup: int | None, namespaces: int = 0, *, sibling: bool = True) -> Cloned:
        """Clone into the cgroup of this directory descriptor, if given, and into new namespaces of these flags.

        `sibling`: a child of the Emperor, otherwise of this process. Raises OSError (EAGAIN, ENOMEM …).
        """
        flags = namespaces | (_CLONE_PARENT if sibling else 0)
        if self._clone3:
            try:
                return self._by_clone3(cgroup, flags)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                if cgroup is None and not namespaces:
                    self._clone3 = False
        return self._by_clone(flags)

    def _by_clone3(self, cgroup: int | None, flags: int) -> Cloned:
        args = self._args
        args.flags = flags | _CLONE_PIDFD
        args.pidfd = ctypes.addressof(self._pidfd)
        # With CLONE_PARENT the exit signal is the zygote's own (SIGCHLD), and anything but 0 is refused here.
        args.exit_signal = 0 if flags & _CLONE_PARENT else signal.SIGCHLD
        args.cgroup = 0
        if cgroup is not None:
            args.flags |= _CLONE_INTO_CGROUP
            args.cgroup = cgroup
        pid = _syscall(ctypes.c_long(_SYS_CLONE3), ctypes.byref(args), ctypes.c_size_t(ctypes.sizeof(args)))
        if pid < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return Cloned(pid, self._pidfd.value, cgroup is not None)

    def _by_clone(self, flags: int) -> Cloned:
        number = _SYS_CLONE.get(os.uname().machine, _SYS_CLONE_GENERIC)
        flags |= _CLONE_PIDFD | signal.SIGCHLD
        pid = _syscall(ctypes.c_long(number), ctypes.c_ulong(flags), _NULL, ctypes.byref(self._pidfd), _NULL, _NULL)
        if pid < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return Cloned(pid, self._pidfd.value, False)


def close_on_exec_from(first: int) -> None:
    """Nothing from this descriptor up will reach the next program."""
    result = _syscall(
        ctypes.c_long(_SYS_CLOSE_RANGE),
        ctypes.c_uint(first),
        ctypes.c_uint(0xFFFF_FFFF),
        ctypes.c_uint(_CLOSE_RANGE_CLOEXEC),
    )
    if result == 0:
        return
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        if fd >= first:
            try:
                os.set_inheritable(fd, False)
            except OSError as error:
                # The directory's own descriptor is closed by now.
                if error.errno != errno.EBADF:
                    raise


def default_signals() -> None:
    """Every signal back to its default, whatever our parent ignored."""
    for signum in signal.valid_signals():
        try:
            signal.signal(signum, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # KILL and STOP
    number = _SYS_RT_SIGACTION.get(os.uname().machine)
    if number is not None:
        # The C library keeps 32 and 33 for itself and lets nobody touch them; ignored, they would be inherited.
        action = (ctypes.c_ulong * 4)()
        for internal in (32, 33):
            _syscall(ctypes.c_long(number), ctypes.c_long(internal), ctypes.byref(action), _NULL, ctypes.c_size_t(8))


def die_with_parent() -> None:
    """SIGKILL for this process when its parent dies. A later change of uid would clear it again."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """From now on, what any descendant leaves behind becomes this process's own child."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """No program run from here on gains anything from set-user-id bits or file capabilities."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_name(name: str) -> None:
    """What `ps -o comm` shows for this process, 15 bytes at most."""
    prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def enter(fd: int, flags: int) -> None:
    """See setns(2): namespaces of a process (by its pidfd), or the one of a file in /proc. Raises OSError."""
    if _libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def not_for_others() -> None:
    """Nobody but root may look into this process, whoever it runs as."""
    prctl(_PR_SET_DUMPABLE, 0)


def close_from(first: int) -> None:
    """Close this descriptor and all above it."""
    number = ctypes.c_long(_SYS_CLOSE_RANGE)
    if _syscall(number, ctypes.c_uint(first), ctypes.c_uint(0xFFFF_FFFF), ctypes.c_uint(0)) != 0:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def unshare(flags: int) -> None:
    """See unshare(2). Raises OSError."""
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def prctl(option: int, value: object) -> None:
    """See prctl(2). Raises OSError."""
    argument = ctypes.c_ulong(value) if isinstance(value, int) else value
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), argument, zero, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
