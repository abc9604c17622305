"""Who else could change what is read or run: every part of a path, links and what they lead to included.

Used by the composition root at start, for what the Emperor itself runs, and by `checks`. It looks at owners and modes
alone, changes nothing, and raises nothing.
"""

from __future__ import annotations

import os
import stat
import sys

__all__ = ["installation", "weak_spots"]

_LINKS_MAX = 40


def weak_spots(path: str, *, also: frozenset[int] = frozenset()) -> list[str]:
    """Why somebody else than root, this user and those of `also` could put something else in this place.

    A sentence for each such part of the path; what does not exist yet is nobody's. A directory with the sticky bit is
    as good as closed for what lies in it already.
    """
    trusted = {0, os.geteuid()} | also
    found: dict[str, None] = {}
    waiting = [os.path.abspath(path)]
    seen: set[str] = set()
    while waiting and len(seen) < _LINKS_MAX * 64:
        current = ""
        for part in waiting.pop().split("/"):
            current = "/" if not part and not current else f"{current.rstrip('/')}/{part}" if part else current
            if current in seen:
                continue
            seen.add(current)
            try:
                status = os.lstat(current)
            except OSError:
                break
            if status.st_uid not in trusted:
                found[f"{current} belongs to uid {status.st_uid}"] = None
            if stat.S_ISLNK(status.st_mode):
                waiting.append(os.path.normpath(os.path.join(os.path.dirname(current), os.readlink(current))))
            elif (who := _writers(status)) is not None:
                found[f"{current} can be written by {who}"] = None
    return list(found)


def installation() -> list[str]:
    """The same for all that this program is made of: interpreter, packages, and wherever else it imports from."""
    places = [sys.executable, sys.prefix, sys.base_prefix, os.path.abspath(__file__), *filter(os.path.isabs, sys.path)]
    return list(dict.fromkeys(spot for place in dict.fromkeys(places) for spot in weak_spots(place)))


def _writers(status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return None
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    # Root's own group is root.
    return f"group {status.st_gid}" if status.st_mode & stat.S_IWGRP and status.st_gid != 0 else None
