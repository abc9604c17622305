"""What a uWSGI config reads besides itself, and whether it comes back to where it began: uWSGI would never end then.

Called by `monitors.parsing` for what a config reads again of itself, and by `monitors.passed` for the files that are
passed to all vassals. Not in here: opening any file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from emperorctl.models.errors import ConfigError
from emperorctl.models.magic import Place, expand
from emperorctl.models.uwsgi import SECTION, Pairs

__all__ = ["LOADERS", "Node", "circle", "reads"]

LOADERS = frozenset({"ini", "xml", "xmlconfig", "yaml", "yml", "json", "js", "config", "inherit", "include"})
"""The options that read another config."""
_CONDITION = re.compile(r"(?:if|for|end)(?:-|\Z)|endif\Z|endfor\Z")


@dataclass(frozen=True, slots=True)
class Node:
    """One section of one file, by the file's absolute path."""

    path: str
    section: str = SECTION

    def __str__(self) -> str:
        return self.path if self.section == SECTION else f"{self.path}:{self.section}"


def reads(options: Pairs, place: Place, directory: str) -> Iterator[Node]:
    """What a section with these options reads; `place` is its file's, `directory` what relative paths start from.

    Nothing where conditions decide about it, and nothing that only uWSGI can tell.
    """
    if any(_CONDITION.match(key) for key, _ in options):
        return
    for key, value in options:
        if key not in LOADERS or "://" in value or any(mark in value for mark in ("%(", "$(", "@(")):
            continue
        try:
            path, colon, section = expand(value, place).rpartition(":")
        except ConfigError:
            continue
        if not colon:
            path, section = section, ""
        if path or key == "ini":
            yield Node(_joined(directory, path) if path else place.path, section or SECTION)


def _joined(directory: str, path: str) -> str:
    """The path without detours, from this directory where it is relative."""
    whole = path if path.startswith("/") else f"{directory}/{path}" if directory else path
    parts: list[str] = []
    for part in whole.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" * whole.startswith("/") + "/".join(parts)


def circle(starts: Iterable[Node], following: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """The first way found that leads from one of these back to where it was before; empty where there is none.

    It begins and ends with the same section.
    """
    done: set[Node] = set()
    for start in starts:
        if start in done:
            continue
        way, open_ = [start], [iter(following(start))]
        while open_:
            node = next(open_[-1], None)
            if node is None:
                open_.pop()
                done.add(way.pop())
            elif node in way:
                return [*way[way.index(node) :], node]
            elif node not in done:
                way.append(node)
                open_.append(iter(following(node)))
    return []
