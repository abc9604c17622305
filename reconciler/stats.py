"""The statistics document of the Imperial Bureau: uWSGI's, field for field, from the controller's records. Pure.

Called by the Emperor's facade, for the stats server and the control socket. Whatever reads `uwsgi --emperor-stats`
reads this: the same members in the same order, integers throughout, times in Unix seconds (0: it has not happened),
flags 0 or 1. `cursed` is a time, as the real one has it. `ready` is more than there: uWSGI leaves it at 0 after a
reload, whose vassals do not say it again; here one that accepts requests is ready. Not in here: who may ask, and how
it is sent (`api.stats`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from emperorctl.models.observed import LaunchState, Observed
from emperorctl.models.plan import BlacklistEntry, Memory
from emperorctl.models.status import Condition, ConditionType, Truth
from emperorctl.models.vassal import Desired, Kind, Vassal
from emperorctl.reconciler.controller import Record

__all__ = ["Bureau", "Facts", "Now", "monitor_argument"]

_RUNS = frozenset({LaunchState.LAUNCHING, LaunchState.ALIVE})
_BARE = ("dir://", "glob://")
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",\n\t\t\t", ":"))


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


class Bureau:
    """Writes the document again and again; `observe` gives the newest facts of a name's process, as a record may hold
    older ones. A vassal of which nothing has changed since the last time costs a comparison."""

    def __init__(self, observe: Callable[[str], Observed], facts: Facts) -> None:
        self._observe = observe
        self._facts = facts
        self._pages: dict[str, _Page] = {}
        self._offset = 0.0

    def write(self, records: Mapping[str, Record], now: Now) -> bytes:
        """The whole document, in uWSGI's layout: one member a line, indented by tabs."""
        # Times of the same offset are the same from document to document, to the second; a set clock makes all anew.
        before = self._pages if abs(now.offset - self._offset) < 0.1 else {}
        if not before:
            self._offset = now.offset
        self._pages, blacklist = {}, []
        for name, record in records.items():
            observed = self._observe(name)
            entry = record.memory.blacklist
            if entry is not None:
                blacklist.append(_item(_held(name, entry, self._offset)))
            if not _is_listed(record, observed):
                continue
            page = before.get(name)
            if page is None or not page.is_of(record, observed):
                text = _item(_vassal(name, record, observed, self._offset, self._facts))
                page = _Page(record.memory, record.desired, record.conditions, observed, text)
            self._pages[name] = page
        facts = self._facts
        members = {
            "version": _text(facts.version),
            "pid": _text(facts.pid),
            "uid": _text(facts.uid),
            "gid": _text(facts.gid),
            "cwd": _text(facts.cwd),
            "emperor": _list(f"\t\t{_text(source)}" for source in facts.emperor),
            "emperor_tyrant": _text(int(facts.tyrant)),
            "throttle_level": _text(round(now.throttle * 1000)),
            "vassals": _list(page.text for page in self._pages.values()),
            "blacklist": _list(blacklist),
        }
        whole = "{\n" + ",\n".join(f'\t"{key}":{text}' for key, text in members.items()) + "\n}"
        return whole.encode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class _Page:
    """One vassal's part as it was written, and what it was written from."""

    memory: Memory
    desired: Desired | None
    conditions: tuple[Condition, ...]
    observed: Observed
    text: str

    def is_of(self, record: Record, observed: Observed) -> bool:
        """Whether these are still the same: every look at a vassal leaves new values."""
        return (
            self.observed is observed
            and self.memory is record.memory
            and self.desired is record.desired
            and self.conditions is record.conditions
        )


def _list(items: Iterable[str]) -> str:
    return "[\n" + ",\n".join(items) + "\n\t]"


def _item(members: Mapping[str, Any]) -> str:
    # Indented by the separator: json's own indentation is written in Python, and takes several times as long.
    return "\t\t{\n\t\t\t" + _text(members)[1:-1] + "\n\t\t}"


def _text(value: object) -> str:
    return _ENCODER.encode(value)


def _is_listed(record: Record, observed: Observed) -> bool:
    """Whether it is among the vassals: it runs, or nothing but its turn keeps it from running."""
    if observed.state in _RUNS:
        return True
    desired, memory = record.desired, record.memory
    if desired is None or desired.vassal is None or desired.suspended:
        return False
    asleep = any(item.reason == "Asleep" for item in record.conditions)
    return asleep or (memory.blacklist is None and not memory.abandoned)


def _vassal(name: str, record: Record, observed: Observed, offset: float, facts: Facts) -> dict[str, Any]:
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
        "on_demand": _socket(record),
        "uid": process.uid if process else facts.uid,
        "gid": process.gid if process else facts.gid,
        "monitor": monitor_argument(vassal.source if vassal else ""),
        **_attributes(vassal),
        "respawns": memory.respawns + memory.reloads,
    }


def _socket(record: Record) -> str:
    """The address that starts it, all of them where there are several; empty for one that always runs."""
    vassal = record.desired.vassal if record.desired else record.memory.vassal
    return "" if vassal is None or vassal.on_demand is None else ",".join(map(str, vassal.on_demand.addresses))


def _attributes(vassal: Vassal | None) -> dict[str, Any]:
    """uWSGI 2.1 lists the attributes of a vassal, as what is no JSON: here they are an object, where there are any."""
    if vassal is None or vassal.kind is not Kind.UWSGI or not (vassal.labels or vassal.annotations):
        return {}
    return {"attrs": {**vassal.labels, **vassal.annotations}}


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
