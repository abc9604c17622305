"""`emperorctl describe`: everything about a vassal, for a person who wants to know why."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

from emperorctl.cli.client import EVENTS, VASSALS, Client, Refusal, one_vassal
from emperorctl.cli.kinds import vassal_names
from emperorctl.cli.options import Selector, Socket, Targets, connect
from emperorctl.cli.rows import age, seen, until
from emperorctl.cli.table import aligned
from emperorctl.cli.term import cell, colour_wanted, complain, style_of
from emperorctl.cli.why import why
from emperorctl.models.durations import format_duration
from emperorctl.models.errors import UserError

__all__ = ["describe", "lines_of"]

_NONE = "<none>"


def describe(
    ctx: typer.Context,
    targets: Targets = None,
    *,
    selector: Selector = "",
    socket: Socket = None,
) -> None:
    """Show all there is to know about vassals.

    That is spec, processes, conditions, last exit and recent events, and why it is not running.
    For example: emperorctl describe vassal shop.
    """
    names = vassal_names(targets)
    if names and selector:
        raise UserError("name cannot be provided when a selector is specified")
    client = connect(ctx, socket)
    found, refusals = _found(client, names, selector)
    for number, vassal in enumerate(found):
        events = client.get(EVENTS, involvedKind="Vassal", involvedObject=vassal["metadata"]["name"])["items"]
        if number:
            sys.stdout.write("\n\n")
        _show(lines_of(vassal, events, time.time()))
    for refusal in refusals:
        complain(str(refusal), prefix="")
    if refusals:
        raise typer.Exit(1)
    if not found:
        sys.stderr.write("No resources found\n")


def lines_of(vassal: Mapping[str, Any], events: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """The whole description, a line each; `now` is in wall seconds."""
    metadata, status = vassal["metadata"], vassal["status"]
    generation, observed = metadata["generation"], status["observedGeneration"]
    fields: list[tuple[str, str | list[str]]] = [
        ("Name", metadata["name"]),
        ("Labels", _pairs(metadata.get("labels"), "=")),
        ("Annotations", _pairs(metadata.get("annotations"), ": ")),
        ("Kind", status["kind"] or _NONE),
        ("Source", status["source"] or _NONE),
        ("File", status["file"] or _NONE),
        ("Created", _moment(metadata["creationTimestamp"], now)),
        ("Generation", f"{generation}" + ("" if observed == generation else f" (running: {observed or _NONE})")),
        ("Status", status["phase"]),
        ("Ready", f"{status['ready']}/{status['wanted']}"),
        ("Restarts", str(status["respawns"]) + _ago(", the last", status.get("lastRespawn"), now)),
        ("First Run", _moment(status.get("firstRun"), now)),
        ("Last Run", _moment(status.get("lastRun"), now)),
        ("Reloads", str(status.get("reloads", 0))),
        ("Last Reload", _moment(status.get("lastReload"), now)),
        ("Last Exit", _last_exit(status.get("lastExit"), now)),
        ("Blacklist", _blacklist(status.get("blacklist"), now)),
        ("Log", status.get("log") or _NONE),
    ]
    if owner := status.get("owner"):
        fields.insert(6, ("Owner", owner))
    if until_then := status.get("throttledUntil"):
        fields.append(("Throttled", f"next try {until(until_then, now)}"))
    if beat := status.get("lastHeartbeat"):
        fields.append(("Last Heartbeat", _moment(beat, now)))
    if message := status.get("message"):
        fields.append(("Message", _line(message)))
    if sockets := status.get("sockets"):
        fields.append(("On Demand", list(sockets)))
    if leader := status.get("zergOf"):
        fields.append(("Zerg Of", leader))
    if reason := why(vassal, now):
        fields.append(("Why", reason))
    return [
        *_fields(fields),
        *_block("Spec", list(_tree(vassal["spec"], "  "))),
        *_block("Processes", _processes(status["processes"], now)),
        *_block("Conditions", _conditions(status["conditions"], now)),
        *_block("Events", _events(events, now)),
    ]


def _found(client: Client, names: Sequence[str], selector: str) -> tuple[list[dict[str, Any]], list[Refusal]]:
    if not names:
        return client.get(VASSALS, labelSelector=selector)["items"], []
    found, refusals = [], []
    for name in names:
        try:
            found.append(client.get(one_vassal(name)))
        except Refusal as refusal:
            refusals.append(refusal)
    return found, refusals


def _show(lines: Sequence[str]) -> None:
    text = "\n".join(lines) + "\n"
    if not colour_wanted(sys.stdout):
        sys.stdout.write(text)
        return
    import re

    from rich.console import Console
    from rich.text import Text

    words = sorted({match for line in lines for match in line.split() if style_of(match)})
    styled = Text(text, end="")
    styled.highlight_regex(r"(?m)^[A-Z][A-Za-z ]*:", "bold")
    for word in words:
        styled.highlight_regex(rf"(?<!\S){re.escape(word)}(?!\S)", style_of(word))
    Console(highlight=False, soft_wrap=True).print(styled, end="")


def _fields(fields: Iterable[tuple[str, str | list[str]]]) -> list[str]:
    rows: list[tuple[str, str]] = []
    for key, value in fields:
        values = [value] if isinstance(value, str) else value
        rows += [(f"{key}:" if not number else "", text) for number, text in enumerate(values)]
    return aligned(rows)


def _block(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *lines] if lines else [f"{title}:  {_NONE}"]


def _pairs(mapping: Mapping[str, str] | None, between: str) -> list[str]:
    return [f"{key}{between}{value}" for key, value in sorted((mapping or {}).items())] or [_NONE]


def _ago(before: str, timestamp: str | None, now: float) -> str:
    return f"{before} {age(timestamp, now)} ago" if timestamp else ""


def _moment(timestamp: str | None, now: float) -> str:
    return f"{timestamp} ({age(timestamp, now)} ago)" if timestamp else _NONE


def _last_exit(last: Mapping[str, Any] | None, now: float) -> str:
    if last is None:
        return _NONE
    return f"{last['reason']}: {last['message']}{_ago(',', last.get('at'), now)}"


def _blacklist(entry: Mapping[str, Any] | None, now: float) -> str:
    if entry is None:
        return _NONE
    attempts = f"{entry['attempts']} attempt" + ("" if entry["attempts"] == 1 else "s")
    throttle = format_duration(entry["throttle"])
    due = f"next try {until(entry['nextTry'], now)}"
    return f"{attempts} since {age(entry['firstAttempt'], now)}, {due} (waits {throttle})"


def _tree(value: Mapping[str, Any], indent: str) -> Iterable[str]:
    """Nested fields under their own names, one a line."""
    width = max((len(key) for key in value), default=0) + 1
    for key, item in value.items():
        name = cell(f"{key}:")
        if isinstance(item, Mapping) and list(item.values()) == [{}]:
            # A choice without settings of its own, such as `reload: {restart: {}}`.
            yield f"{indent}{name:<{width}}  {cell(next(iter(item)))}"
        elif isinstance(item, Mapping) and item:
            yield f"{indent}{name}"
            yield from _tree(item, indent + "  ")
        else:
            yield f"{indent}{name:<{width}}  {cell(_plain(item))}"


def _pairs_inline(value: Mapping[str, Any]) -> str:
    """A mapping within a list."""
    return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"


def _plain(value: Any) -> str:
    match value:
        case None | {} | [] | "":
            return _NONE
        case bool():
            return "true" if value else "false"
        case list():
            import shlex

            text = " ".join(_pairs_inline(item) if isinstance(item, dict) else shlex.quote(str(item)) for item in value)
        case _:
            text = str(value)
    # A line break would cut the value off: show it instead.
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\f", "\\f")


def _processes(processes: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    if not processes:
        return []
    rows = [("PID", "UID", "GID", "Age"), ("---", "---", "---", "---")]
    rows += [
        (str(process["pid"]), str(process["uid"]), str(process["gid"]), age(process["since"], now))
        for process in processes
    ]
    return aligned(rows, indent="  ")


def _conditions(conditions: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    if not conditions:
        return []
    rows = [("Type", "Status", "Reason", "Age", "Message"), ("----", "------", "------", "---", "-------")]
    rows += [
        (item["type"], item["status"], item["reason"], age(item["lastTransitionTime"], now), _line(item["message"]))
        for item in conditions
    ]
    return aligned(rows, indent="  ")


def _events(events: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    if not events:
        return []
    rows = [("Type", "Reason", "Age", "From", "Message"), ("----", "------", "---", "----", "-------")]
    rows += [(item["type"], item["reason"], seen(item, now), "emperor", _line(item["message"])) for item in events]
    return aligned(rows, indent="  ")


def _line(message: str) -> str:
    return " ".join(message.split())
