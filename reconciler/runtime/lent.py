"""Another user's rights on files, for a moment: what is opened, made or removed then is so as by that user.

Used by `binding` for tenants' sockets, and lent by the composition root to the monitors for tenants' links. It changes
what the kernel calls the file-system ids of this one thread, and with them the capabilities that override permissions;
signals, uid and gid stay. Nothing may be awaited within.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["NotLent", "lent_rights"]

_SAME = -1
# PyDLL: another thread of ours has no business in between. glibc changes these ids of the calling thread alone.
_libc = ctypes.PyDLL(None)


class NotLent(PermissionError):
    """This process may not take on another user's rights."""


@contextmanager
def lent_rights(uid: int, gid: int) -> Iterator[None]:
    """Within this context, this thread has the rights of `uid` and `gid` on files. Raises NotLent."""
    before = _libc.setfsgid(_SAME), _libc.setfsuid(_SAME)
    try:
        _libc.setfsgid(gid)
        _libc.setfsuid(uid)
        if (_libc.setfsgid(_SAME), _libc.setfsuid(_SAME)) != (gid, uid):
            raise NotLent(errno.EPERM, f"can't take on the rights of {uid}:{gid}")
        yield
    finally:
        _libc.setfsuid(before[1])
        _libc.setfsgid(before[0])
        if (_libc.setfsgid(_SAME), _libc.setfsuid(_SAME)) != before:
            # Going on as somebody else would be worse than not going on.
            os.abort()
