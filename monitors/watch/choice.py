"""Which way of watching fits a path: inotify on local file systems, polling where the kernel reports nothing.

Used by `monitors.tree`. Overlay file systems (containers) are local: changes made through them are reported.
"""

from __future__ import annotations

import ctypes
import os
from typing import Literal

__all__ = ["WatchMode", "file_system", "fitting"]

WatchMode = Literal["auto", "inotify", "poll"]

# <linux/magic.h>: file systems whose content is changed by other machines or by a server process.
_SILENT = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x01021997: "9p",
    0x65735546: "FUSE",
    0x00C36400: "Ceph",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x786F4256: "vboxsf",
    0xBACBACBC: "VMware shared folders",
}

_libc = ctypes.CDLL(None, use_errno=True)


def file_system(path: str) -> str:
    """The name of the remote or user-space file system that `path`, or the nearest directory above it, lies on.

    Empty for a local one, and where the kernel does not say.
    """
    buffer = ctypes.create_string_buffer(256)
    while _libc.statfs(os.fsencode(path), buffer) != 0:
        parent = os.path.dirname(path)
        if parent == path:
            return ""
        path = parent
    kind = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF  # f_type is the first field
    return _SILENT.get(kind, "")


def fitting(mode: WatchMode, path: str) -> Literal["inotify", "poll"]:
    """What to use for a path: what was asked for, or what its file system allows."""
    if mode == "auto":
        return "poll" if file_system(path) else "inotify"
    return mode
