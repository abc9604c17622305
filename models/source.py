"""What a monitor says: the files (or records) it looked at and what they claim, or why it can't say.

The unit is the file: a report replaces whatever that file claimed before. Nothing in here starts or stops
anything; the reconciler's desired store draws the conclusions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emperorctl.models.errors import Problem
from emperorctl.models.vassal import Owner, Vassal

__all__ = ["Change", "Claim", "FileReport", "Publish", "Report", "Touch", "Trouble"]

Touch = tuple[int, int]
"""(mtime of the entry itself, mtime of what it leads to), both in ns; equal for a regular file.
Only "different" means anything, never "newer"."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One vassal that a file asks for: the vassal, or why there is none under this name."""

    name: str
    vassal: Vassal | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class FileReport:
    """All that one file says now.

    `claims` empty and `problem` None: the file is gone, or is none of ours any more; its vassals end.
    `problem` set: the file as a whole can't be used; whatever it claimed before stays, with that problem,
    and if it never claimed anything the problem is shown under `fallback_name`.
    `digest` is a hash of the bytes read: the same digest with another `touch` is an order to reload.
    `owner` is who its vassals run as, in tyrant mode; None where that is not known. Another one than before ends
    whatever the file claimed.
    """

    file: str
    claims: tuple[Claim, ...] = ()
    problem: Problem | None = None
    fallback_name: str = ""
    touch: Touch = (0, 0)
    digest: str = ""
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Reports on some files of a source.

    A first listing may come in several changes. `present`, where given, is every file that the source has now:
    what an earlier report named and this set does not is gone, and the source counts as listed once.
    """

    source: str
    files: tuple[FileReport, ...]
    present: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """The source can't be read as a whole (missing, unreadable, overflowed): nothing is concluded from it.

    `problem` None: the trouble is over.
    """

    source: str
    problem: Problem | None


Report = Change | Trouble
Publish = Callable[[Report], None]
