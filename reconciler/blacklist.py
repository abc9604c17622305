"""The blacklist: the budget of one misbehaving vassal. Pure: literal times in, an entry out.

A vassal that dies before it has proved itself (or can't be launched) waits before its next try: three seconds at
first, longer by the delta at each further death, up to a limit and never beyond. Loyalty and the person in charge
take it off the list.
"""

from __future__ import annotations

from dataclasses import dataclass

from emperorctl.models.plan import BlacklistEntry

__all__ = ["BlacklistRule", "after_death"]


@dataclass(frozen=True, slots=True)
class BlacklistRule:
    """All in seconds: the first wait, what each further death adds, and the longest wait."""

    first: float = 3.0
    delta: float = 1.0
    longest: float = 180.0
    enabled: bool = True


def after_death(entry: BlacklistEntry | None, rule: BlacklistRule, now: float) -> BlacklistEntry | None:
    """The entry after one more death at `now`; None where the blacklist is turned off."""
    if not rule.enabled:
        return None
    if entry is None:
        wait = min(rule.first, rule.longest)
        return BlacklistEntry(1, now, now, wait, now + wait)
    wait = min(entry.throttle + rule.delta, rule.longest)
    return BlacklistEntry(entry.attempts + 1, entry.first_attempt, now, wait, now + wait)
