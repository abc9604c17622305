"""API objects as table rows, and times as ages. Pure: `now` is given, in wall seconds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from emperorctl.models.durations import format_age, format_duration

__all__ = [
    "BLACKLIST_COLUMNS",
    "BLACKLIST_WIDE",
    "COLUMNS",
    "EVENT_COLUMNS",
    "MONITOR_COLUMNS",
    "MONITOR_WIDE",
    "WIDE",
    "age",
    "blacklist_row",
    "event_row",
    "labels_cell",
    "monitor_row",
    "seen",
    "until",
    "vassal_row",
]

COLUMNS = ("NAME", "READY", "STATUS", "LOYAL", "RESTARTS", "AGE")
WIDE = ("PID", "UID", "MONITOR", "SOCKET", "LAST-RELOAD")
BLACKLIST_COLUMNS = ("NAME", "ATTEMPTS", "THROTTLE", "FIRST", "LAST", "NEXT TRY", "LAST EXIT")
BLACKLIST_WIDE = ("MESSAGE",)
MONITOR_COLUMNS = ("NAME", "STATE", "WATCH", "VASSALS", "LAST SYNC", "LAST ERROR")
MONITOR_WIDE = ("WORKING DIR", "MESSAGE")
EVENT_COLUMNS = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")
_NONE = "<none>"


def age(timestamp: str | None, now: float) -> str:
    """How long ago an API time was, in kubectl's short form."""
    if not timestamp:
        return "<unknown>"
    try:
        return format_age(now - datetime.fromisoformat(timestamp).timestamp())
    except ValueError:
        return "<unknown>"


def until(timestamp: str | None, now: float) -> str:
    """How long until an API time: `in 12s`, or `now`."""
    try:
        seconds = datetime.fromisoformat(timestamp or "").timestamp() - now
    except ValueError:
        return "<unknown>"
    return f"in {format_age(seconds)}" if seconds >= 1 else "now"


def vassal_row(vassal: Mapping[str, Any], now: float, *, wide: bool = False) -> list[str]:
    """One vassal under COLUMNS, and with `wide` under WIDE as well."""
    metadata, status = vassal["metadata"], vassal["status"]
    restarts = str(status["respawns"])
    if status["respawns"] and status.get("lastRespawn"):
        restarts += f" ({age(status['lastRespawn'], now)} ago)"
    row = [
        metadata["name"],
        f"{status['ready']}/{status['wanted']}",
        status["phase"],
        _condition(status, "Loyal"),
        restarts,
        age(metadata["creationTimestamp"], now),
    ]
    if wide:
        process = status["processes"][0] if status["processes"] else None
        row += [
            str(process["pid"]) if process else _NONE,
            str(process["uid"]) if process else _NONE,
            status["source"] or _NONE,
            ",".join(status.get("sockets") or ()) or _NONE,
            age(status["lastReload"], now) if status.get("lastReload") else _NONE,
        ]
    return row


def blacklist_row(entry: Mapping[str, Any], now: float, *, wide: bool = False) -> list[str]:
    """One entry of the blacklist under BLACKLIST_COLUMNS, and with `wide` under BLACKLIST_WIDE as well."""
    last = entry.get("lastExit") or {}
    row = [
        entry["metadata"]["name"],
        str(entry["attempts"]),
        format_duration(entry["throttle"]),
        f"{age(entry['firstAttempt'], now)} ago",
        f"{age(entry['lastAttempt'], now)} ago",
        until(entry["nextTry"], now),
        _exit_word(last),
    ]
    return [*row, last.get("message") or _NONE] if wide else row


def monitor_row(monitor: Mapping[str, Any], now: float, *, wide: bool = False) -> list[str]:
    """One source under MONITOR_COLUMNS, and with `wide` under MONITOR_WIDE as well."""
    status = monitor["status"]
    error = status.get("lastError")
    row = [
        monitor["metadata"]["name"],
        status["state"],
        status["watch"],
        str(status["vassals"]),
        f"{age(status['lastSync'], now)} ago" if status.get("lastSync") else _NONE,
        f"{error['reason']} ({age(error['at'], now)} ago)" if error else _NONE,
    ]
    return [*row, status.get("workingDir") or _NONE, error["message"] if error else _NONE] if wide else row


def _exit_word(last: Mapping[str, Any]) -> str:
    """How a process ended, in the words of the STATUS column; for a launch that failed, its reason."""
    if last.get("signal"):
        return f"Signal:{last['signal']}"
    if last.get("code"):
        return f"ExitCode:{last['code']}"
    return str(last.get("reason") or _NONE)


def labels_cell(item: Mapping[str, Any]) -> str:
    """All labels in one cell."""
    labels = item["metadata"].get("labels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or _NONE


def event_row(event: Mapping[str, Any], now: float) -> list[str]:
    """One event under EVENT_COLUMNS."""
    involved = event["involvedObject"]
    kind = str(involved["kind"]).lower()
    return [
        seen(event, now),
        event["type"],
        event["reason"],
        # There is only one.
        kind if kind == "emperor" else f"{kind}/{involved['name']}",
        " ".join(event["message"].split()),
    ]


def seen(event: Mapping[str, Any], now: float) -> str:
    """When an event was last seen, and how often: `3m (x5 over 10m)`."""
    last = age(event["lastTimestamp"], now)
    if event["count"] <= 1:
        return last
    return f"{last} (x{event['count']} over {age(event['firstTimestamp'], now)})"


def _condition(status: Mapping[str, Any], kind: str) -> str:
    for condition in status["conditions"]:
        if condition["type"] == kind:
            return str(condition["status"])
    return "Unknown"
