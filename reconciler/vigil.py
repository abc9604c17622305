"""The vigil over a running process: what it says, what it no longer says, and what follows. Pure.

Called by `plan` once the step towards what is wanted has been taken. The rules are the uWSGI manual's: a silence after
the first heartbeat is a reload, then death; the end of the protocol is a curse with a tolerance; byte 22 is a wish to
go, byte 30 a call for reinforcements.
"""

from __future__ import annotations

from emperorctl.models.plan import Reinforce, State
from emperorctl.models.vassal import Kind, ReloadMethod
from emperorctl.reconciler.draft import Draft
from emperorctl.reconciler.slumber import VOLUNTARY, rest_when_idle

__all__ = ["CURSE_SEEN", "HUNG", "LATE", "heed"]

HUNG = "Hung"
"""The reason of whatever is done about a silence."""

CURSE_SEEN = 1.0
"""Seconds until the end of the protocol is spoken of: in a death it comes a moment before the exit."""
LATE = 1.0
"""Seconds that our own look may be late; later than that, we were held up, and the silence may be ours."""


def heed(draft: Draft) -> None:
    """Draw the conclusions from the signs of a process that is to go on running."""
    for look in (_garbage, _call, _will, _curse, _silence, rest_when_idle):
        if draft.memory.state is not State.RUNNING:
            return
        look(draft)


def _garbage(draft: Draft) -> None:
    if draft.look.observed.signs.garbage:
        text = "it sends what means nothing over UWSGI_EMPEROR_FD or NOTIFY_SOCKET: ignored"
        draft.warn_once("ProtocolGarbage", text)


def _call(draft: Draft) -> None:
    """Byte 30: one zerg for each call, as far as the broodlord's budget goes."""
    memory, look, vassal = draft.memory, draft.look, draft.memory.vassal
    calls = look.observed.signs.reinforcements - memory.answered
    if calls <= 0 or vassal is None:
        return
    memory.answered += calls
    room = draft.rules.broodlord - look.zergs
    if vassal.kind is not Kind.UWSGI or vassal.zerg_of:
        draft.warn_once("NoReinforcements", "it calls for reinforcements, which only a uWSGI config can have")
    elif vassal.section:
        text = "it calls for reinforcements, which a section of its own can't have: they are run with the section zerg"
        draft.warn_once("NoReinforcements", f"{text} of the whole file (give it a file of its own)")
    elif room <= 0:
        text = f"it calls for reinforcements, but there are {look.zergs} of {draft.rules.broodlord} zergs"
        draft.warn("NoReinforcements", f"{text} (raise --emperor-broodlord)")
    else:
        draft.actions += [Reinforce(vassal, "Reinforced", "it called: one more zerg is sent")] * min(calls, room)


def _will(draft: Draft) -> None:
    """Byte 22: it wants to go. It is stopped, and started again as long as its file asks for it; on demand if so."""
    if draft.look.observed.signs.will is not None:
        draft.memory.blame = VOLUNTARY
        draft.stop_as_wanted("Voluntary", "stopping: it asked for it")


def _curse(draft: Draft) -> None:
    memory, closed = draft.memory, draft.look.observed.signs.closed
    if closed is None or memory.vassal is None or not memory.vassal.launch.protocol:
        return
    tolerance = draft.rules.curse
    if draft.due(closed + tolerance):
        memory.blame = f"it had closed its protocol socket {tolerance:g}s before"
        draft.kill("Cursed", f"killing: {memory.blame}")
    elif draft.due(closed + CURSE_SEEN):
        text = f"it closed its protocol socket and lives on: killed {tolerance:g}s later unless it ends by itself"
        draft.warn_once("Cursed", text)


def _silence(draft: Draft) -> None:
    memory, look = draft.memory, draft.look
    beat, allowed = look.observed.signs.heartbeat, draft.rules.heartbeat
    if beat is None or allowed <= 0 or memory.vassal is None:
        return
    if memory.hung_at is not None:
        _second_chance(draft, beat, memory.hung_at)
        return
    # A reload may take as long as the silence that is allowed.
    due = max(beat, memory.listening_since, memory.reloaded_at or 0.0) + allowed
    meant, memory.listening_until = memory.listening_until, due
    if not draft.due(due):
        return
    if meant is not None and look.now - meant > LATE:
        memory.listening_since = look.now
        memory.listening_until = look.now + allowed
        draft.wake_at(memory.listening_until)
        return
    _hung(draft, allowed)


def _second_chance(draft: Draft, beat: float, hung_at: float) -> None:
    memory = draft.memory
    if beat > hung_at:
        memory.hung_at = None
        memory.listening_until = None
        draft.say("HeartbeatBack", "it sends heartbeats again")
        _silence(draft)
    elif memory.vassal is not None and draft.due(hung_at + memory.vassal.stop.grace):
        memory.blame = "it sent no heartbeat, not even after it was told to reload"
        draft.kill(HUNG, f"killing: {memory.blame}")
    else:
        # A heartbeat wakes nobody: without a look before the grace is over, the next silence would be seen that late.
        draft.wake_at(draft.look.now + draft.rules.heartbeat)


def _hung(draft: Draft, allowed: float) -> None:
    """The manual's first answer is a graceful reload."""
    memory, vassal = draft.memory, draft.memory.vassal
    assert vassal is not None
    text = f"it has sent no heartbeat for {allowed:g}s"
    method = vassal.reload.method
    unheard = method is ReloadMethod.PROTOCOL and draft.look.observed.signs.closed is not None
    if method is ReloadMethod.RESTART or unheard:
        memory.blame = text
        draft.stop_as_wanted(HUNG, f"stopping: {text}")
        return
    memory.hung_at = draft.look.now
    draft.tell_reload(vassal, HUNG, f"reloading: {text}; it is killed if it stays silent")
    draft.wake_at(draft.look.now + min(vassal.stop.grace, allowed))
