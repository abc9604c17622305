"""The throttle: the budget on spawns of the whole Emperor. Pure: literal times in, a time out.

The rule is the uWSGI manual's: when more vassals than the burst are spawned within one second, a delta is added
to the current throttle, and the next spawn waits that long; each spawn that does not trigger this halves it.
A burst of 1 is the manual's rule to the letter. A spawn that has to wait gets its own time set aside at once,
so that waiting costs nothing and the first to come is the first to go.

There are two budgets of this rule (`models.plan.Throttles`): one for vassals that failed and have not proved
themselves since, one for all others, so that a crowd in a crash loop never uses up the turns of those that are well.

Exempt, and never brought here: the first snapshot of each source (paced by the launcher alone), the starting half
of a reload, and whatever a person orders.
"""

from __future__ import annotations

from dataclasses import dataclass

from emperorctl.models.plan import Throttle

__all__ = ["ThrottleRule", "reserve"]

_NEGLIGIBLE = 0.001


@dataclass(frozen=True, slots=True)
class ThrottleRule:
    """`delta` and `longest` in seconds; `burst` spawns within a second before the rule bites (at least 1)."""

    delta: float = 1.0
    burst: int = 100
    longest: float = 180.0


def reserve(throttle: Throttle, rule: ThrottleRule, now: float) -> tuple[Throttle, float]:
    """Set aside the time of one spawn: the throttle afterwards, and that time (`now` if it need not wait)."""
    at = max(now, throttle.open_at)
    if at - throttle.window < 1.0:
        window, spawned = throttle.window, throttle.spawned + 1
    else:
        window, spawned = at, 1
    if spawned > rule.burst:
        delta = min(throttle.delta + rule.delta, rule.longest)
    else:
        delta = throttle.delta / 2
        if delta < _NEGLIGIBLE:
            delta = 0.0
    return Throttle(delta=delta, window=window, spawned=spawned, open_at=at + delta), at
