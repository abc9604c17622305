"""Giving up rights: another user, and fewer capabilities.

Called by `child`, `cells` and `patch` in the new process, which is single-threaded: the calls below change one thread
alone.
"""

from __future__ import annotations

import ctypes
import errno
import os

from .execute import Refused  # noqa: TID251

__all__ = [
    "Refused",
    "become",
    "become_with_all_rights",
    "drop",
    "keep_capabilities",
    "limit_capabilities",
    "may_limit",
    "show",
]

_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x2008_0522
_SETPCAP = 8
_MOST = 64

_libc = ctypes.PyDLL(None, use_errno=True)
# Dozens of calls for each launch: told once what they take, they need no objects of their own.
_libc.prctl.argtypes = [ctypes.c_int, *(ctypes.c_ulong,) * 4]


_KNOWN = tuple(number for number in range(_MOST) if _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0)
"""Every capability of this kernel. In a new user namespace, each of them can be had again."""


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


def become_with_all_rights(uid: int, gid: int, groups: list[int]) -> None:
    """As `drop`, but every capability stays: for what has to be done as that user in its own user namespace."""
    _prctl(_PR_SET_KEEPCAPS, 1)
    drop(uid, gid, groups)
    _set_capabilities(sum(1 << number for number in _KNOWN), inheritable=0)


def may_limit() -> bool:
    """Whether this process may take capabilities from those to come."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    if _libc.capget(ctypes.byref(header), ctypes.byref(sets)) != 0:
        return False
    return bool(sets[0].effective >> _SETPCAP & 1)


def limit_capabilities(kept: list[int]) -> None:
    """Nothing run from here on can have another capability; these outlive the next change of uid. Raises OSError."""
    for number in _KNOWN:
        if number not in kept:
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


def show() -> None:
    """After a change of user, have /proc/self belong to that user; who has fewer capabilities still can't trace us."""
    _prctl(_PR_SET_DUMPABLE, 1)


def _set_capabilities(mask: int, *, inheritable: int) -> None:
    sets = (_Sets * 2)()
    for half in range(2):
        part, passed = (each >> (32 * half) & 0xFFFF_FFFF for each in (mask, inheritable))
        sets[half] = _Sets(part, part, passed)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _prctl(option: int, first: int, second: int = 0) -> None:
    if _libc.prctl(option, first, second, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
