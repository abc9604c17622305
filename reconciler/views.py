"""A vassal's record as the object that people and programs see, in Kubernetes' shape.

Called by the board, for one name at a time. Monotonic times become RFC 3339 wall times here and nowhere else.

What it shows is what the controller saw at its last look, but for the latest heartbeat, which asks for no look: it is
as of when the object was rendered, and makes no new version of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from emperorctl.models.observed import LaunchState
from emperorctl.models.plan import State
from emperorctl.models.status import Truth
from emperorctl.reconciler.clock import Clock
from emperorctl.reconciler.controller import Record

__all__ = ["API_VERSION", "timestamp", "vassal_object"]

API_VERSION = "emperor/v1"
_When = Callable[[float | None], str | None]


def timestamp(wall: float) -> str:
    """Wall seconds as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def vassal_object(
    name: str, record: Record, clock: Clock, *, log: str = "", heartbeat: float | None = None
) -> dict[str, Any]:
    """The whole object but its resourceVersion; `log` is the path of its log file or empty, `heartbeat` when the latest
    came (monotonic)."""
    offset = clock.wall() - clock.monotonic()

    def when(monotonic: float | None) -> str | None:
        return None if monotonic is None else timestamp(monotonic + offset)

    desired, memory, observed = record.desired, record.memory, record.observed
    vassal = (desired.vassal if desired else None) or memory.vassal
    wanted = desired is not None and desired.vassal is not None and not desired.suspended
    owner = desired.owner if desired else (vassal.owner if vassal else None)
    processes = []
    if observed.process is not None and observed.state is LaunchState.ALIVE:
        process = observed.process
        processes.append(
            {
                "pid": process.pid,
                "startTime": process.start_time,
                "uid": process.uid,
                "gid": process.gid,
                "since": when(process.since),
            }
        )
    ready = any(item.type == "Ready" and item.status is Truth.TRUE for item in record.conditions)
    return {
        "apiVersion": API_VERSION,
        "kind": "Vassal",
        "metadata": {
            "name": name,
            "labels": dict(vassal.labels) if vassal else {},
            "annotations": dict(vassal.annotations) if vassal else {},
            "generation": desired.generation if desired else memory.generation,
            "creationTimestamp": timestamp(record.born),
        },
        "spec": dict(vassal.spec) if vassal else {},
        "status": {
            "phase": str(record.phase),
            "observedGeneration": memory.generation,
            "kind": str(vassal.kind) if vassal else "",
            "source": desired.source if desired else "",
            "file": desired.file if desired else "",
            "owner": f"{owner.uid}:{owner.gid}" if owner is not None else "",
            "conditions": [
                {
                    "type": str(item.type),
                    "status": str(item.status),
                    "reason": str(item.reason),
                    "message": item.message,
                    "lastTransitionTime": timestamp(record.stamps[item.type]),
                    "observedGeneration": memory.generation,
                }
                for item in record.conditions
            ],
            "processes": processes,
            "ready": int(ready and memory.state is State.RUNNING),
            "wanted": int(wanted),
            "respawns": memory.respawns,
            "lastRespawn": when(memory.respawned_at),
            "lastReload": when(memory.reloaded_at),
            "reloads": memory.reloads,
            "firstRun": when(memory.first_run),
            "lastRun": when(memory.last_run),
            "lastExit": _last_exit(record, when),
            "blacklist": _blacklist(record, when),
            "throttledUntil": when(memory.throttled_until),
            "suspended": bool(desired and desired.suspended),
            "suspendedBy": str(desired.suspended_by) if desired and desired.suspended else "",
            "message": observed.signs.status,
            "lastHeartbeat": when(heartbeat),
            "sockets": list(map(str, vassal.on_demand.addresses)) if vassal and vassal.on_demand else [],
            "zergOf": vassal.zerg_of if vassal else "",
            "log": log,
        },
    }


def _last_exit(record: Record, when: _When) -> Mapping[str, Any] | None:
    failure, end = record.memory.last_failure, record.memory.last_exit
    if failure is not None:
        return {"reason": failure.reason, "message": failure.sentence(), "at": when(failure.at)}
    if end is None:
        return None
    told = {"message": end.sentence(), "at": when(end.at)}
    if end.signal is not None:
        return {"signal": end.signal, "reason": "Signaled", **told}
    return {"code": end.code, "reason": "Completed" if end.code == 0 else "Error", **told}


def _blacklist(record: Record, when: _When) -> Mapping[str, Any] | None:
    entry = record.memory.blacklist
    if entry is None:
        return None
    return {
        "attempts": entry.attempts,
        "firstAttempt": when(entry.first_attempt),
        "lastAttempt": when(entry.last_attempt),
        "throttle": entry.throttle,
        "nextTry": when(entry.next_try),
        "lastExit": _last_exit(record, when),
    }
