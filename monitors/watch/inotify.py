"""Watching by inotify: one descriptor in the event loop, shared by all monitors of an Emperor.

Used by `watch.choice`. The kernel counts inotify instances per user (128 by default), so there is one
instance with many subscribers, not one per source. Not in here: what a hint leads to.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct

from emperorctl.monitors.watch.base import Hint, OnHint, WatchExhausted

__all__ = ["Inotify", "InotifyWatcher"]

IN_MODIFY = 0x00000002
IN_ATTRIB = 0x00000004
IN_CLOSE_WRITE = 0x00000008
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400
IN_MOVE_SELF = 0x00000800
IN_UNMOUNT = 0x00002000
IN_Q_OVERFLOW = 0x00004000
IN_IGNORED = 0x00008000
IN_ONLYDIR = 0x01000000
IN_DONT_FOLLOW = 0x02000000
IN_MASK_ADD = 0x20000000
IN_ISDIR = 0x40000000

_SELF = IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
_ENTRIES = _SELF | IN_CLOSE_WRITE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_EVENT = struct.Struct("iIII")
_BUFFER = 64 * 1024
_READS_PER_TURN = 16
_LIMITS = {
    errno.EMFILE: "fs.inotify.max_user_instances (or the limit on open files)",
    errno.ENFILE: "fs.file-max",
    errno.ENOMEM: "the memory of this machine",
    errno.ENOSPC: "fs.inotify.max_user_watches",
}
_Key = tuple[str, bool]  # the path as given, and whether it is watched for itself alone

_libc = ctypes.CDLL(None, use_errno=True)


def _exhausted(code: int) -> WatchExhausted:
    return WatchExhausted(f"inotify: {os.strerror(code)}; raise {_LIMITS[code]}")


class Inotify:
    """The shared instance. Opened by the first subscriber, closed by the last.

    When the kernel drops events, every subscriber gets LOST.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._subscribers: set[InotifyWatcher] = set()
        self._watches: dict[int, set[tuple[InotifyWatcher, _Key]]] = {}

    def subscribe(self, on_hint: OnHint) -> InotifyWatcher:
        """A watcher that shares this instance. Raises WatchExhausted."""
        if self._fd < 0:
            fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
            if fd < 0:
                code = ctypes.get_errno()
                if code in _LIMITS:
                    raise _exhausted(code)
                raise WatchExhausted(f"inotify: {os.strerror(code)}")
            self._fd = fd
            asyncio.get_running_loop().add_reader(fd, self._readable)
        watcher = InotifyWatcher(self, on_hint)
        self._subscribers.add(watcher)
        return watcher

    def add(self, watcher: InotifyWatcher, key: _Key) -> int:
        """The watch descriptor for a path, -1 where it can't be watched. Raises WatchExhausted."""
        path, alone = key
        # MASK_ADD: another subscriber may watch the same inode with other events.
        mask = (_SELF | IN_DONT_FOLLOW if alone else _ENTRIES | IN_ONLYDIR) | IN_MASK_ADD
        wd = int(_libc.inotify_add_watch(self._fd, os.fsencode(path), mask))
        if wd < 0:
            code = ctypes.get_errno()
            if code in _LIMITS:
                raise _exhausted(code)
            return -1
        self._watches.setdefault(wd, set()).add((watcher, key))
        return wd

    def remove(self, watcher: InotifyWatcher, key: _Key, wd: int) -> None:
        """Drop one subscriber of a watch descriptor; the kernel's watch goes with the last."""
        subscribers = self._watches.get(wd)
        if subscribers is None:
            return
        subscribers.discard((watcher, key))
        if not subscribers:
            del self._watches[wd]
            _libc.inotify_rm_watch(self._fd, wd)  # EINVAL: the kernel was faster

    def unsubscribe(self, watcher: InotifyWatcher) -> None:
        """Forget a subscriber that holds no watches any more."""
        self._subscribers.discard(watcher)
        if not self._subscribers and self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        for _ in range(_READS_PER_TURN):
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return
            position = 0
            while position < len(data):
                wd, mask, _cookie, length = _EVENT.unpack_from(data, position)
                position += _EVENT.size
                name = data[position : position + length].rstrip(b"\0")
                position += length
                self._dispatch(wd, mask, os.fsdecode(name))
            if self._fd < 0:
                return

    def _dispatch(self, wd: int, mask: int, name: str) -> None:
        if mask & IN_Q_OVERFLOW:
            for watcher in tuple(self._subscribers):
                watcher.on_hint(Hint.LOST, "", "")
            return
        if mask & IN_IGNORED:
            for watcher, key in self._watches.pop(wd, ()):
                if watcher.lost(key, wd):
                    watcher.on_hint(Hint.ITSELF, key[0], "")
            return
        hint = _meaning(mask, name)
        if hint is None:
            return
        for watcher, (path, alone) in tuple(self._watches.get(wd, ())):
            if hint is Hint.ITSELF or not alone:
                watcher.on_hint(hint, path, name)


def _meaning(mask: int, name: str) -> Hint | None:
    if not name:
        return Hint.ITSELF if mask & (_SELF | IN_UNMOUNT) else None
    if mask & (IN_MOVED_FROM | IN_DELETE):
        return Hint.GONE
    # A directory is complete when it is there; a file that was opened for writing will be closed.
    if mask & (IN_CLOSE_WRITE | IN_MOVED_TO | IN_ATTRIB) or (mask & IN_CREATE and mask & IN_ISDIR):
        return Hint.NOW
    return Hint.SOON


class InotifyWatcher:
    """One monitor's share of the instance; implements `Watcher`."""

    kind = "inotify"

    def __init__(self, shared: Inotify, on_hint: OnHint) -> None:
        self._shared = shared
        self.on_hint = on_hint
        self._held: dict[_Key, int] = {}

    def entries(self, path: str) -> bool:
        """See `Watcher`."""
        return self._hold((path, False))

    def itself(self, path: str) -> bool:
        """See `Watcher`."""
        return self._hold((path, True))

    def drop_entries(self, path: str) -> None:
        """See `Watcher`."""
        self._release((path, False))

    def drop_itself(self, path: str) -> None:
        """See `Watcher`."""
        self._release((path, True))

    def lost(self, key: _Key, wd: int) -> bool:
        """The kernel ended a watch by itself; True where it was still wanted."""
        if self._held.get(key) != wd:
            return False
        del self._held[key]
        return True

    def close(self) -> None:
        """See `Watcher`."""
        for key in tuple(self._held):
            self._release(key)
        self._shared.unsubscribe(self)

    def _hold(self, key: _Key) -> bool:
        wd = self._shared.add(self, key)
        old = self._held.get(key)
        if old is not None and old != wd:  # the path leads to another inode now
            self._release(key)
        if wd < 0:
            return False
        self._held[key] = wd
        return True

    def _release(self, key: _Key) -> None:
        wd = self._held.pop(key, None)
        if wd is not None:
            self._shared.remove(self, key, wd)
