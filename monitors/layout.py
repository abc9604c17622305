"""Which entries below which directories belong to a source, and what they are called.

Made by `directory` and `globbing`, used by `tree` and `files`. Pure: it looks at names only.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass, field

from emperorctl.models.names import printable
from emperorctl.models.uwsgi import EXTENSIONS

__all__ = ["KNOWN_EXTENSIONS", "Layout", "has_wildcards", "wanted"]

KNOWN_EXTENSIONS = frozenset(EXTENSIONS) | {".yaml", ".yml", ".json", ".toml"}


def has_wildcards(text: str) -> bool:
    """Whether a path or one component of it is a pattern."""
    return any(char in text for char in "*?[")


def wanted(name: str, extra: tuple[str, ...] = ()) -> bool:
    """Whether a file of this name may be a vassal's: a known extension or an `extra` one, no dotfile, no editor's
    temporary file.

    Backups such as `x.ini~`, `x.ini.bak`, `#x.ini#`, `x.ini.rpmnew`, `x.ini.swp` and vim's `4913` have no known
    extension; what begins like an autosave or a lock (`.#x.ini`, `#x.ini`, `~$x.json`) goes by its beginning.
    """
    known = os.path.splitext(name)[1] in KNOWN_EXTENSIONS or name.endswith(extra)
    return known and not name.startswith((".", "#", "~$"))


def _matcher(pattern: str) -> re.Pattern[str] | None:
    return re.compile(fnmatch.translate(pattern)) if has_wildcards(pattern) else None


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of a source of files.

    `root` is the absolute directory where looking begins; `components` are the patterns below it, the last one
    for files. `given_root` is the root as the person wrote it.
    `flat`: an id is the file's bare name (dir://), not its path (glob://). `extra` are further extensions of files.
    """

    source: str
    root: str
    components: tuple[str, ...]
    given_root: str
    flat: bool
    extra: tuple[str, ...] = ()
    matchers: tuple[re.Pattern[str] | None, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "matchers", tuple(_matcher(part) for part in self.components))

    @property
    def depth(self) -> int:
        """The level of the directories in which files lie; the root is level 0."""
        return len(self.components) - 1

    def literal(self, level: int) -> str | None:
        """The only name that fits at this level, or None where it is a pattern."""
        return self.components[level] if self.matchers[level] is None else None

    def fits(self, level: int, name: str) -> bool:
        """Whether a name found at this level belongs to the source. A dotfile never fits a wildcard."""
        matcher = self.matchers[level]
        if matcher is None:
            if name != self.components[level]:
                return False
        elif name.startswith(".") or not matcher.match(name):
            return False
        return level < self.depth or wanted(name, self.extra)

    def identity(self, path: str) -> str:
        """The id of the uWSGI vassal whose config lies at `path`."""
        if self.flat:
            return os.path.basename(path)
        return os.path.join(self.given_root, os.path.relpath(path, self.root))

    def shown(self, path: str) -> str:
        """A path as reports and messages name it: absolute, safe to print."""
        return printable(path)
