"""Entries of the blacklist as API objects: the budget, how the vassal last ended, and the last that it printed.

Called by `routes`. The lines are read when one entry is asked for, never for the list: a thousand files take longer to
read than the whole rest of that answer. What is in the log is not judged here: it may be older than the last try.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from emperorctl.models.vassal import Kind
from emperorctl.reconciler.api.answers import object_bytes
from emperorctl.reconciler.api.facade import LogView

__all__ = ["BYTES", "LINES", "entries", "entry", "entry_with_log", "not_captured"]

LINES = 10
"""How many of the last lines an entry holds, …"""
BYTES = 4096
"""… and how many bytes at most; the oldest are left out."""
_BATCH = 200


def entry(vassal: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a vassal that is on the blacklist."""
    metadata = vassal["metadata"]
    return {
        "apiVersion": "emperor/v1",
        "kind": "BlacklistEntry",
        "metadata": {"name": metadata["name"], "labels": metadata.get("labels") or {}},
        **vassal["status"]["blacklist"],
    }


async def entries(objects: Sequence[bytes]) -> list[bytes]:
    """The encoded entries of those of these encoded vassals that are on the blacklist; lets the loop breathe."""
    found = []
    for index, encoded in enumerate(objects):
        vassal = json.loads(encoded)
        if vassal["status"].get("blacklist"):
            found.append(object_bytes(entry(vassal)))
        if index % _BATCH == _BATCH - 1:
            await asyncio.sleep(0)
    return found


async def entry_with_log(vassal: Mapping[str, Any], logs: LogView) -> dict[str, Any]:
    """The same, with the last lines that the vassal printed, or a sentence why there are none."""
    name, status = vassal["metadata"]["name"], vassal["status"]
    message = not_captured(name, status)
    lines = [] if message else _lines(await logs.tail(name, LINES, BYTES + 1))
    if not (message or lines):
        message = "it has printed nothing"
    return {**entry(vassal), "log": {"lines": lines, "message": message}}


def not_captured(name: str, status: Mapping[str, Any]) -> str:
    """Where the output of a vassal goes, if not into its log; empty if it does."""
    if status.get("log") or status.get("kind") != Kind.UWSGI:
        return ""
    return (
        f'the output of "{name}" is not captured: it goes to the Emperor\'s stderr, or to the logto of its own'
        " config. To have it captured, start the Emperor with: emperorctl run --uwsgi-logs capture"
    )


def _lines(text: bytes) -> list[str]:
    if len(text) <= BYTES:
        return text.decode(errors="backslashreplace").removesuffix("\n").split("\n") if text else []
    text = text[-BYTES:]
    # Not to begin within a character: the bytes after its first are 10xxxxxx, three at most.
    start = next((index for index in range(4) if text[index] & 0xC0 != 0x80), 0)
    return ("…" + text[start:].decode(errors="backslashreplace").removesuffix("\n")).split("\n")
