"""The kinds of objects that `get` shows: what each is called, where it is, its columns; and arguments that name it.

Used by every command that takes a TYPE. Not in here: what a row says (`rows`), or how it is printed (`printing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from emperorctl.cli.client import BLACKLIST, MONITORS, VASSALS
from emperorctl.cli.rows import (
    BLACKLIST_COLUMNS,
    BLACKLIST_WIDE,
    COLUMNS,
    MONITOR_COLUMNS,
    MONITOR_WIDE,
    WIDE,
    blacklist_row,
    monitor_row,
    vassal_row,
)
from emperorctl.models.errors import UserError

__all__ = ["BLACKLIST_ENTRY", "MONITOR", "VASSAL", "Kind", "Target", "read_targets", "vassal_names"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: `word` as in `vassal.emperor/NAME`, `aliases` what people may call it, `path` of its list.

    `row` makes the cells of `columns`, and with its argument `wide` those of `wide` as well.
    """

    word: str
    aliases: frozenset[str]
    path: str
    columns: Sequence[str]
    wide: Sequence[str]
    coloured: Sequence[str]
    row: Callable[..., list[str]]


VASSAL = Kind(
    word="vassal",
    aliases=frozenset({"vassals", "vassal", "v", "vassals.emperor", "vassal.emperor"}),
    path=VASSALS,
    columns=COLUMNS,
    wide=WIDE,
    coloured=("STATUS", "LOYAL"),
    row=vassal_row,
)
BLACKLIST_ENTRY = Kind(
    word="blacklistentry",
    aliases=frozenset(
        {"blacklist", "blacklistentries", "blacklistentry", "bl", "blacklistentries.emperor", "blacklistentry.emperor"}
    ),
    path=BLACKLIST,
    columns=BLACKLIST_COLUMNS,
    wide=BLACKLIST_WIDE,
    coloured=("LAST EXIT",),
    row=blacklist_row,
)
MONITOR = Kind(
    word="monitor",
    aliases=frozenset({"monitors", "monitor", "mon", "monitors.emperor", "monitor.emperor"}),
    path=MONITORS,
    columns=MONITOR_COLUMNS,
    wide=MONITOR_WIDE,
    coloured=("STATE",),
    row=monitor_row,
)
_BY_ALIAS: Mapping[str, Kind] = {alias: kind for kind in (VASSAL, BLACKLIST_ENTRY, MONITOR) for alias in kind.aliases}


@dataclass(frozen=True, slots=True)
class Target:
    """Objects of one kind: those named, or all where `names` is empty."""

    kind: Kind
    names: tuple[str, ...] = ()


def read_targets(words: Sequence[str] | None) -> list[Target]:
    """What `TYPE[,TYPE…] [NAME…]` or `TYPE/NAME…` asks for, each kind once. Raises UserError."""
    if not words:
        raise UserError("required resource not specified: expected for example vassals, or vassal NAME")
    if "/" in words[0]:
        return _slashed(words)
    if any(not name for name in words[1:]):
        raise UserError("a name is empty")
    # Twice the same kind is once that kind.
    kinds = dict.fromkeys(_kind(word) for word in words[0].split(","))
    return [Target(kind, tuple(words[1:])) for kind in kinds]


def vassal_names(words: Sequence[str] | None) -> list[str]:
    """The names in such arguments where only vassals will do; empty means all of them. Raises UserError."""
    targets = read_targets(words)
    if any(target.kind is not VASSAL for target in targets):
        raise UserError(
            "only vassals can be described; for an entry of the blacklist see: emperorctl get blacklist NAME -o yaml,"
            " for a source: emperorctl get monitor NAME -o yaml"
        )
    return list(targets[0].names)


def _slashed(words: Sequence[str]) -> list[Target]:
    names: dict[Kind, list[str]] = {}
    for word in words:
        kind, slash, name = word.partition("/")
        if not slash or not name:
            raise UserError(f'expected TYPE/NAME like the others, got "{word}"')
        names.setdefault(_kind(kind), []).append(name)
    return [Target(kind, tuple(own)) for kind, own in names.items()]


def _kind(word: str) -> Kind:
    try:
        return _BY_ALIAS[word.lower()]
    except KeyError:
        hint = ": see emperorctl events" if word.lower() in {"events", "event", "ev"} else ""
        raise UserError(f'the server doesn\'t have a resource type "{word}"{hint}') from None
