"""The mount calls that `os` lacks, and finding a place in the file system without being led astray.

Called by `scene` in the new process. Everything works on descriptors: what was found is what is mounted on, whatever is
renamed or replaced meanwhile. A link is followed only where nobody but root, or the Emperor's own user, could have made
it. Needs Linux 5.12.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "NODEV",
    "NOEXEC",
    "NOSUID",
    "RDONLY",
    "Untrusted",
    "attach",
    "change",
    "copy_tree",
    "find",
    "make_private",
    "new_file_system",
    "swap_root",
    "unmount",
]

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 428, 429, 430, 431, 432
_SYS_OPENAT2, _SYS_MOUNT_SETATTR = 437, 442
_AT_EMPTY_PATH, _AT_RECURSIVE, _OPEN_TREE_CLONE = 0x1000, 0x8000, 1
_MOVE_BOTH_EMPTY = 0x04 | 0x40
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE, _CLOEXEC = 1, 6, 1
_MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x4000, 0x4_0000, 2
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
_LINKS_MAX = 40

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class Untrusted(Exception):
    """A link on the way that somebody else could have made."""


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | object | None) -> int:
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = _syscall(ctypes.c_long(number), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def make_private() -> None:
    """What is mounted from now on is seen here alone, and what is mounted elsewhere is not seen here."""
    if _libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def copy_tree(fd: int) -> int:
    """What lies there, with all that is mounted in it, as a tree of its own that can be attached elsewhere."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE
    return _call(_SYS_OPEN_TREE, fd, b"", flags)


def attach(tree: int, place: int) -> None:
    """Cover the place with the tree."""
    _call(_SYS_MOVE_MOUNT, tree, b"", place, b"", _MOVE_BOTH_EMPTY)


def change(tree: int, add: int = 0, remove: int = 0, *, deep: bool = True) -> None:
    """Set and clear attributes of a mount; `deep`: and of all mounted in it."""
    attributes = _MountAttr(add, remove, 0, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if deep else 0)
    size = ctypes.sizeof(attributes)
    _call(_SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attributes), size)


def new_file_system(kind: str, attributes: int, **options: str) -> int:
    """A fresh file system of this kind, not attached anywhere yet."""
    context = _call(_SYS_FSOPEN, kind.encode(), _CLOEXEC)
    try:
        for name, value in options.items():
            _call(_SYS_FSCONFIG, context, _FSCONFIG_SET_STRING, name.encode(), value.encode(), 0)
        _call(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(_SYS_FSMOUNT, context, _CLOEXEC, attributes)
    finally:
        os.close(context)


def unmount(path: bytes) -> None:
    """Take away what covers this path."""
    if _libc.umount2(path, ctypes.c_int(_MNT_DETACH)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def swap_root(top: int) -> None:
    """This mount becomes the root, and nothing of the old one is left to be found."""
    os.fchdir(top)
    if _libc.pivot_root(b".", b".") != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # The old root lies over the new one now.
    unmount(b".")
    os.chdir("/")


def find(top: int, path: str, *, trusted: Iterable[int], own: Iterable[int] = ()) -> int:
    """A descriptor (O_PATH) of what lies at an absolute path below `top`.

    Links are followed only where they, and the directory that they lie in, belong to `trusted` users and nobody else
    may write there; those that belong to one of `own` are followed too. Raises OSError; Untrusted for another link.
    """
    try:
        return _open(top, path.lstrip("/") or ".", _RESOLVE_IN_ROOT | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return _walk(top, path, frozenset(trusted), frozenset(own))


def _open(directory: int, name: str, resolve: int, flags: int = 0) -> int:
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC | flags, 0, resolve)
    return _call(_SYS_OPENAT2, directory, os.fsencode(name), ctypes.byref(how), ctypes.sizeof(how))


def _walk(top: int, path: str, trusted: frozenset[int], own: frozenset[int]) -> int:
    """Part by part; `..` in a link never leads above `top`."""
    above: list[int] = []
    here = os.dup(top)
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    links = 0
    try:
        while todo:
            part = todo.pop()
            if part == "..":
                if above:
                    os.close(here)
                    here = above.pop()
                continue
            there = _open(here, part, _RESOLVE_NO_MAGICLINKS, os.O_NOFOLLOW)
            found = os.fstat(there)
            if not stat.S_ISLNK(found.st_mode):
                above.append(here)
                here = there
                continue
            target = os.readlink("", dir_fd=there)
            os.close(there)
            links += 1
            if links > _LINKS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            directory = os.fstat(here)
            safe = found.st_uid in trusted and directory.st_uid in trusted and not directory.st_mode & 0o022
            if not (safe or (found.st_uid in own and not _swappable(directory, trusted | own))):
                raise Untrusted(part)
            if target.startswith("/"):
                above.append(here)
                here = os.dup(top)
                while above:
                    os.close(above.pop())
            todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        result, here = here, -1
        return result
    finally:
        for fd in (*above, here):
            if fd >= 0:
                os.close(fd)


def _swappable(directory: os.stat_result, known: frozenset[int]) -> bool:
    """Whether somebody unknown could put another link in the place of one that is there."""
    sticky = directory.st_mode & stat.S_ISVTX and directory.st_uid in known
    return directory.st_uid not in known or (bool(directory.st_mode & 0o022) and not sticky)
