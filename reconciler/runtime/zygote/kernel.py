"""Files that the kernel answers by itself, in /proc, /sys and cgroups: read as a whole, written in one go.

Used by the zygote and its children, and by the Emperor for cgroups. Not in here: what /proc says of processes
(`procfs`).
"""

from __future__ import annotations

import os

__all__ = ["put", "text"]


def put(path: str, words: str) -> None:
    """Write these words into a file that is there. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, words.encode())
    finally:
        os.close(fd)


def text(path: str) -> str:
    """What a file says; empty where it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
