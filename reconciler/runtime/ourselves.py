"""What this process asks of the kernel for itself: another name, to become the parent of orphans, what it may do.

Called by the composition root before anything is launched. Every OSError of prctl(2) ends here.
"""

from __future__ import annotations

import ctypes
import os
import resource

from emperorctl.models.errors import UserError, WorldError
from emperorctl.reconciler.runtime.zygote import procfs

__all__ = [
    "NAME_MAX",
    "become_subreaper",
    "hard_limits",
    "is_subreaper",
    "may_change_users",
    "set_name",
    "spare_from_oom",
]

NAME_MAX = 15
"""The longest name of a process that the kernel keeps, in bytes; what is longer is cut off."""
_OOM_SCORE = "/proc/self/oom_score_adj"
_SPARED = -900
_EXPOSED = 100
_CHANGE_USERS = 1 << 6 | 1 << 7
"""CAP_SETGID and CAP_SETUID."""
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_libc = ctypes.CDLL(None, use_errno=True)


def set_name(name: str) -> None:
    """Be called `name` by ps(1), top(1) and pgrep(1). Main thread only. Raises UserError."""
    if not name or not name.isprintable():
        raise UserError("--emperor-procname: expected a name of printable characters")
    cut = name.encode()[:NAME_MAX].decode(errors="ignore")
    _prctl(_PR_SET_NAME, ctypes.c_char_p(cut.encode()))


def become_subreaper() -> None:
    """From now on, orphans among all that this process ever starts become its children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def is_subreaper() -> bool:
    """Whether this process has asked for orphans."""
    answer = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer))
    return bool(answer.value)


def spare_from_oom() -> tuple[int | None, int | None]:
    """Have the kernel end a vassal rather than the Emperor when the host runs out of memory (oom_score_adj, proc(5)).

    Returns the scores that the zygote and a vassal are to have: a vassal that which the Emperor was started with, or,
    where the Emperor may not lower its own, a higher one. None where there is none to be had.
    """
    try:
        with open(_OOM_SCORE, encoding="ascii") as file:
            given = int(file.read())
    except (OSError, ValueError):
        return None, None
    own = min(given, _SPARED)
    try:
        with open(_OOM_SCORE, "w", encoding="ascii") as file:
            file.write(str(own))
    except OSError:
        return given, min(given + _EXPOSED, 1000)
    return own, given if own < given else given + _EXPOSED


def may_change_users(pid: int) -> bool:
    """Whether that process has the capabilities setuid and setgid. False where nobody can tell."""
    return procfs.capabilities(pid) & _CHANGE_USERS == _CHANGE_USERS


def hard_limits() -> dict[str, int | None]:
    """This process's hard limits by their names in manifests; None is unlimited."""
    found = {}
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            hard = resource.getrlimit(getattr(resource, name))[1]
            found[name.removeprefix("RLIMIT_").lower()] = None if hard == resource.RLIM_INFINITY else hard
    return found


def _prctl(option: int, argument: object) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), argument, zero, zero, zero) != 0:
        raise WorldError(f"prctl({option}): {os.strerror(ctypes.get_errno())}")
