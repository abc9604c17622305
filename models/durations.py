"""Durations: written `500ms`, `30s`, `5m`, `2h`, `1d`; shown in kubectl's short form."""

from __future__ import annotations

import re

__all__ = ["format_age", "format_duration", "parse_duration"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_LIMIT = 366 * 86400.0


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `1m30s`. Raises ValueError, saying what was expected."""
    position, seconds = 0, 0.0
    while match := _PART.match(text, position):
        seconds += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if not text or position != len(text):
        raise ValueError(f'expected a duration such as 500ms, 30s, 5m or 1h30m, got "{text[:40]}"')
    if seconds > _LIMIT:
        raise ValueError(f"expected at most 366d, got {text[:40]}")
    return seconds


def format_duration(seconds: float) -> str:
    """The written form of a duration in seconds: the inverse of `parse_duration`, to the millisecond."""
    whole, rest = divmod(round(seconds * 1000), 1000)
    parts = []
    for unit, size in (("h", 3600), ("m", 60)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    if whole:
        parts.append(f"{whole}s")
    if rest:
        parts.append(f"{rest}ms")
    return "".join(parts) or "0s"


def format_age(seconds: float) -> str:
    """An age in seconds as kubectl shows it (`duration.HumanDuration` in apimachinery)."""
    if seconds < -1:
        return "<invalid>"
    total = max(0, int(seconds))
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m" + (f"{total % 60}s" if total % 60 else "")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h" + (f"{minutes % 60}m" if minutes % 60 else "")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d" + (f"{hours % 24}h" if hours % 24 else "")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        years, rest = divmod(days, 365)
        return f"{years}y" + (f"{rest}d" if rest else "")
    return f"{days // 365}y"
