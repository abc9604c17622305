"""A command that a person wants run within a vassal, and how it ended: what `exec` asks for, and what it is told.

Used by the API, the Emperor and the runtime. Pure data; not in here: how it is run (`reconciler.runtime.execs`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Execution", "Size"]


@dataclass(frozen=True, slots=True)
class Size:
    """A terminal's size, in characters."""

    rows: int = 24
    columns: int = 80


@dataclass(frozen=True, slots=True)
class Execution:
    """`command` is never empty. `terminal`: it gets one of this size, and `term` says which kind (TERM); otherwise its
    streams are apart, and it has a standard input only where `stdin` says so."""

    command: tuple[str, ...]
    stdin: bool = False
    terminal: Size | None = None
    term: str = ""
