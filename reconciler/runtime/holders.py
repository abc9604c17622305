"""Who holds a TCP address: looked up in /proc when a bind has failed, never before.

Used by `sockets`, in a thread: it reads the host's table of listening sockets and every process's descriptors, for a
bounded time. Where the answer can't be seen (another user's process, another network namespace) there is none.
"""

from __future__ import annotations

import os
import time

from emperorctl.models.names import printable
from emperorctl.models.sockets import Address

__all__ = ["holder_of", "name_of"]

_LISTEN = "0A"
_PATIENCE = 1.0
_LINES_MAX = 200_000


def holder_of(address: Address, patience: float = _PATIENCE) -> int:
    """The pid of a process that listens on this port, 0 where none is found within `patience` seconds."""
    deadline = time.monotonic() + patience
    links = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(table, address.port)}
    if not links:
        return 0
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return 0
    for pid in pids:
        if time.monotonic() > deadline:
            break
        if _holds(pid, links):
            return int(pid)
    return 0


def name_of(pid: int) -> str:
    """The name of a process, empty where it is gone."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return printable(file.read().strip())
    except OSError:
        return ""


def _listening(table: str, port: int) -> list[str]:
    found = []
    try:
        with open(f"/proc/self/net/{table}", encoding="ascii", errors="replace") as file:
            for number, line in enumerate(file):
                fields = line.split()
                if number > _LINES_MAX:
                    break
                if len(fields) > 9 and fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.append(fields[9])
    except (OSError, ValueError):
        pass
    return found


def _holds(pid: str, links: set[str]) -> bool:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    if os.readlink(entry.path) in links:
                        return True
                except OSError:
                    continue
    except OSError:
        pass
    return False
