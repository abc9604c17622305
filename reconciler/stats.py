"""The statistics document of the Imperial Bureau: uWSGI's, field for field, from the controller's records. Pure.

Called by the Emperor's facade, for the stats server and the control socket. Whatever reads `uwsgi --emperor-stats`
reads this: the same members in the same order, integers throughout, times in Unix seconds (0: it has not happened),
flags 0 or 1. `cursed` is a time, as the real one has it. `ready` is more than there: uWSGI leaves it at 0 after a
reload, whose vassals do not say it again; here one that accepts requests is ready. Not in here: who may ask, and how
it is sent (`api.stats`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emperorctl.models.observed import LaunchState, Observed
from emperorctl.models.plan import BlacklistEntry
from emperorctl.models.status import ConditionType, Truth
from emperorctl.reconciler.controller import Record

__all__ = ["Facts", "Now", "encode", "monitor_argument", "stats_document"]

_RUNS = frozenset({LaunchState.LAUNCHING, LaunchState.ALIVE})
_BARE = ("dir://", "glob://")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the document says of the Emperor itself; `emperor` are its sources as `monitor_argument` writes them."""

    version: str
    pid: int
    uid: int
    gid: int
    cwd: str
    emperor: tuple[str, ...]
    tyrant: bool


@dataclass(frozen=True, slots=True)
class Now:
    """What changes by the moment: the current `throttle` in seconds; `offset` is wall minus monotonic time."""

    throttle: float
    offset: float


def monitor_argument(source: str) -> str:
    """A source as uWSGI names it: the path alone for directories and patterns, the whole address for others."""
    for scheme in _BARE:
        if source.startswith(scheme):
            return source.removeprefix(scheme)
    return source


def stats_document(
    records: Mapping[str, Record], observe: Callable[[str], Observed], *, facts: Facts, now: Now
) -> dict[str, Any]:
    """The whole document. `observe` gives the newest facts of a name's process: a record may hold older ones."""
    vassals, blacklist = [], []
    for name, record in records.items():
        observed = observe(name)
        if _is_listed(record, observed):
            vassals.append(_vassal(name, record, observed, now.offset))
            if vassals[-1]["pid"] < 0:
                vassals[-1].update(uid=facts.uid, gid=facts.gid)
        if record.memory.blacklist is not None:
            blacklist.append(_held(name, record.memory.blacklist, now.offset))
    return {
        "version": facts.version,
        "pid": facts.pid,
        "uid": facts.uid,
        "gid": facts.gid,
        "cwd": facts.cwd,
        "emperor": list(facts.emperor),
        "emperor_tyrant": int(facts.tyrant),
        "throttle_level": round(now.throttle * 1000),
        "vassals": vassals,
        "blacklist": blacklist,
    }


def encode(document: Mapping[str, Any]) -> bytes:
    """The document in uWSGI's layout: one member a line, indented by tabs."""
    # Indented by hand: json's own indentation is written in Python, and takes ten times as long.
    parts = []
    for key, value in document.items():
        match value:
            case [dict(), *_]:
                items = ",\n".join(f"\t\t{{\n\t\t\t{_text(item, 3)[1:-1]}\n\t\t}}" for item in value)
                parts.append(f'\t"{key}":[\n{items}\n\t]')
            case list():
                items = ",\n".join(f"\t\t{_text(item, 2)}" for item in value)
                parts.append(f'\t"{key}":[\n{items}\n\t]')
            case _:
                parts.append(f'\t"{key}":{_text(value, 1)}')
    whole = "{\n" + ",\n".join(parts) + "\n}"
    return whole.encode(errors="backslashreplace")


def _text(value: object, depth: int) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",\n" + "\t" * depth, ":"))


def _is_listed(record: Record, observed: Observed) -> bool:
    """Whether it is among the vassals: it runs, or nothing but its turn keeps it from running."""
    if observed.state in _RUNS:
        return True
    desired, memory = record.desired, record.memory
    if desired is None or desired.vassal is None or desired.suspended:
        return False
    return memory.blacklist is None and not memory.abandoned


def _vassal(name: str, record: Record, observed: Observed, offset: float) -> dict[str, Any]:
    desired, memory, signs = record.desired, record.memory, observed.signs

    def when(monotonic: float | None) -> int:
        return 0 if monotonic is None else int(monotonic + offset)

    process = observed.process if observed.state is LaunchState.ALIVE else None
    vassal = memory.vassal or (desired.vassal if desired else None)
    accepting, last_accepting = _accepting(record, observed, offset)
    ready, last_ready = accepting, signs.spawned
    if _said_since(signs.spawned, record):
        ready = True
    elif signs.spawned is None and process is not None and not _speaks(record):
        ready, last_ready = True, process.since
    return {
        "id": name,
        "pid": process.pid if process else -1,
        "born": int(record.born),
        "last_mod": desired.modified // 1_000_000_000 if desired else 0,
        "last_heartbeat": when(signs.heartbeat),
        "loyal": int(process is not None and bool(memory.loyal or signs.loyal is not None)),
        "ready": int(process is not None and ready),
        "accepting": int(process is not None and accepting),
        "last_loyal": when(max(memory.loyal_at or 0.0, signs.loyal or 0.0) or None),
        "last_ready": when(last_ready),
        "last_accepting": last_accepting,
        "first_run": when(memory.first_run),
        "last_run": when(memory.last_run),
        "cursed": when(signs.closed) if process else 0,
        "zerg": int(bool(vassal and vassal.zerg_of)),
        "on_demand": "",
        "uid": process.uid if process else -1,
        "gid": process.gid if process else -1,
        "monitor": monitor_argument(vassal.source if vassal else ""),
        "respawns": memory.respawns + memory.reloads,
    }


def _accepting(record: Record, observed: Observed, offset: float) -> tuple[bool, int]:
    """Whether it accepts requests, and since when in Unix seconds."""
    signs = observed.signs
    if signs.accepting is not None:
        return _said_since(signs.accepting, record), int(signs.accepting + offset)
    if _speaks(record) or observed.state is not LaunchState.ALIVE:
        return False, 0
    ready = any(item.type is ConditionType.READY and item.status is Truth.TRUE for item in record.conditions)
    return ready, int(record.stamps.get(ConditionType.READY, 0.0)) if ready else 0


def _said_since(said: float | None, record: Record) -> bool:
    """Whether the vassal said it in this run: an order to reload that keeps the process begins another."""
    return said is not None and said >= (record.memory.last_run or 0.0)


def _speaks(record: Record) -> bool:
    """Whether the emperor protocol is how this vassal tells what it is doing."""
    vassal = record.memory.vassal
    return vassal is not None and vassal.launch.protocol


def _held(name: str, entry: BlacklistEntry, offset: float) -> dict[str, Any]:
    return {
        "id": name,
        "throttle_level": round(entry.throttle * 1000),
        "attempt": entry.attempts,
        "first_attempt": int(entry.first_attempt + offset),
        "last_attempt": int(entry.last_attempt + offset),
    }
