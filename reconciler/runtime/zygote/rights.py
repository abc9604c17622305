"""Giving up rights: another user, and fewer capabilities.

Called by `child` and `patch` in the new process, which is single-threaded: the calls below change one thread alone.
"""

from __future__ import annotations

import ctypes
import errno
import os

from .execute import Refused  # noqa: TID251

__all__ = ["Refused", "become", "drop", "keep_capabilities", "limit_capabilities", "seal", "show"]

_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x2008_0522
_MOST = 64

_libc = ctypes.PyDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def drop(uid: int, gid: int, groups: list[int]) -> None:
    """Groups, then gid, then uid; and believe none of it until it has been read back. Raises OSError, Refused."""
    if not (0 <= uid < 2**31 and 0 <= gid < 2**31):
        raise Refused("uid or gid out of range")
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise Refused("the kernel kept another uid or gid")
    if sorted(set(os.getgroups()) - {gid}) != sorted(set(groups) - {gid}):
        raise Refused("the kernel kept other groups")


def limit_capabilities(kept: list[int]) -> None:
    """Nothing run from here on can have another capability; these outlive the next change of uid. Raises OSError."""
    for number in range(_MOST):
        if number not in kept and _libc.prctl(_PR_CAPBSET_READ, _long(number), _long(0), _long(0), _long(0)) == 1:
            _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_SET_KEEPCAPS, 1)


def keep_capabilities(kept: list[int]) -> None:
    """Have exactly these, and let the programs that are executed have them, whoever runs them. Raises OSError."""
    mask = sum(1 << number for number in kept)
    _set_capabilities(mask, inheritable=mask)
    for number in kept:
        try:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel without ambient capabilities, or without this one
                raise


def become(uid: int, gid: int, groups: list[int], kept: list[int]) -> None:
    """Go on as this user with no more than these capabilities, and hand none of them to a program that is executed.

    Nothing that is executed from here on, set-user-id programs and root's included, can have another. Raises OSError,
    Refused.
    """
    limit_capabilities(kept)
    drop(uid, gid, groups)
    _set_capabilities(sum(1 << number for number in kept), inheritable=0)
    _prctl(_PR_SET_KEEPCAPS, 0)


def seal() -> None:
    """No program run from here on gains anything, whatever its set-user-id bit says. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def show() -> None:
    """After a change of user, have /proc/self belong to that user; who has fewer capabilities still can't trace us."""
    _prctl(_PR_SET_DUMPABLE, 1)


def _set_capabilities(mask: int, *, inheritable: int) -> None:
    sets = (_Sets * 2)()
    for half in range(2):
        part, inherited = (bits >> (32 * half) & 0xFFFF_FFFF for bits in (mask, inheritable))
        sets[half] = _Sets(part, part, inherited)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _long(value: int) -> ctypes.c_ulong:
    return ctypes.c_ulong(value)


def _prctl(option: int, first: int, second: int = 0) -> None:
    if _libc.prctl(ctypes.c_int(option), _long(first), _long(second), _long(0), _long(0)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
