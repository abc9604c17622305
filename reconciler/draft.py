"""One plan in the making: what has been decided so far, and the few decisions that several sections share. Pure.

Made by `plan` for one look, filled in by `plan` and `vigil` in their order. Not in here: when to decide what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from emperorctl.models.plan import Action, Kill, Look, Memory, State, TellReload, TellStop
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import StopMethod, Vassal
from emperorctl.reconciler.blacklist import BlacklistRule, after_death
from emperorctl.reconciler.throttle import ThrottleRule

__all__ = ["EARLY", "UNKILLABLE_AFTER", "Draft", "Rules", "is_anothers"]

EARLY = 0.0005
"""Timers may fire this many seconds before their time."""
UNKILLABLE_AFTER = 5.0
"""Seconds after SIGKILL until a process that is still there is reported (it sleeps in the kernel)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The budgets' settings, the same for every vassal.

    `heartbeat`: seconds of silence after which one that has sent heartbeats counts as hung, 0 for never. `curse`:
    seconds that one may live on after closing its end of the protocol. `broodlord`: how many zergs there may be in all.
    """

    throttle: ThrottleRule = ThrottleRule()
    blacklist: BlacklistRule = BlacklistRule()
    heartbeat: float = 30.0
    curse: float = 30.0
    broodlord: int = 0


class Draft:
    """`memory` is the plan's own copy, and changes; `wake` is when to look again at the latest."""

    __slots__ = ("actions", "look", "memory", "notes", "rules", "throttle", "wake")

    def __init__(self, look: Look, rules: Rules) -> None:
        self.look = look
        self.rules = rules
        self.memory = look.memory.copy()
        self.throttle = look.throttle
        self.actions: list[Action] = []
        self.notes: list[Note] = []
        self.wake: float | None = None

    def wake_at(self, time: float) -> None:
        """Look again at `time` at the latest."""
        if self.wake is None or time < self.wake:
            self.wake = time

    def due(self, time: float) -> bool:
        """Whether `time` has come; if not, look again then."""
        if self.look.now >= time - EARLY:
            return True
        self.wake_at(time)
        return False

    def say(self, reason: str, message: str, detail: str = "") -> None:
        """Something worth an event."""
        self.notes.append(Note(NoteType.NORMAL, reason, message, detail))

    def warn(self, reason: str, message: str, detail: str = "") -> None:
        """Something that wants attention."""
        self.notes.append(Note(NoteType.WARNING, reason, message, detail))

    def warn_once(self, reason: str, message: str) -> None:
        """The same, at most once in the life of a process."""
        if reason not in self.memory.reported:
            self.memory.reported |= {reason}
            self.warn(reason, message)

    def enter(self, state: State, deadline: float | None = None) -> None:
        """From now on it is in this state."""
        self.memory.state = state
        self.memory.since = self.look.now
        self.memory.deadline = deadline

    def leave(self) -> None:
        """There is no process any more: what was true of it no longer counts."""
        self.enter(State.ABSENT)
        self.memory.loyal = ""
        self.memory.loyal_at = None
        self.memory.overdue = False
        self.memory.blame = ""
        self.memory.answered = 0
        self.memory.reported = frozenset()
        self.memory.hung_at = None
        self.memory.listening_since = 0.0
        self.memory.listening_until = None

    def take_over(self, vassal: Vassal) -> None:
        """What runs from now on is this, as wanted now."""
        desired = self.look.desired
        if desired is not None:
            self.memory.vassal = vassal
            self.memory.generation = desired.generation
            self.memory.orders = desired.orders

    def tell_reload(self, vassal: Vassal, reason: str, message: str) -> None:
        """The process keeps running and reads everything again."""
        self.actions.append(TellReload(vassal, self.memory.number, reason, message))
        self.memory.reloaded_at = self.look.now
        self.memory.last_run = self.look.now
        self.memory.reloads += 1
        self.memory.reload_spawns = self.look.observed.signs.spawns

    def stop(self, vassal: Vassal, reason: str, message: str) -> None:
        """Ask the process to stop, within the grace period of `vassal`; one that can't hear is killed."""
        if vassal.stop.method is StopMethod.PROTOCOL and self.look.observed.signs.closed is not None:
            self.kill(reason, f"{message}; it no longer listens")
            return
        self.actions.append(TellStop(vassal, self.memory.number, reason, message))
        deadline = self.look.now + vassal.stop.grace
        if self.look.mercy is not None:
            deadline = min(deadline, self.look.mercy)
        self.enter(State.STOPPING, deadline)
        self.wake_at(deadline)

    def kill(self, reason: str, message: str) -> None:
        """SIGKILL for the process and everything it started."""
        self.actions.append(Kill(self.memory.number, reason, message))
        deadline = self.look.now + UNKILLABLE_AFTER
        self.enter(State.KILLING, deadline)
        self.wake_at(deadline)

    def stop_as_wanted(self, reason: str, message: str) -> None:
        """Stop what runs; the newest word on how to stop counts, unless it needs what the process does not have."""
        desired, vassal = self.look.desired, self.memory.vassal
        if vassal is None:
            self.kill("Orphaned", "killing: a process whose description is lost")
            return
        if (
            desired is not None
            and desired.vassal is not None
            and desired.vassal.launch.protocol == vassal.launch.protocol
        ):
            vassal = replace(vassal, stop=desired.vassal.stop)
        self.stop(vassal, reason, message)

    def hold_against(self) -> None:
        """It failed before it was loyal."""
        self.memory.failing = True
        entry = after_death(self.memory.blacklist, self.rules.blacklist, self.look.now)
        self.memory.blacklist = entry
        if entry is not None:
            detail = f"for {entry.throttle:g}s (attempt {entry.attempts})"
            self.warn("Blacklisted", "it failed before it was loyal: its next try has to wait", detail)


def is_anothers(look: Look, memory: Memory) -> bool:
    """Whether what is remembered was run for another owner than the one whose file it is now, in tyrant mode."""
    desired, vassal = look.desired, memory.vassal
    if desired is None or desired.owner is None or vassal is None:
        return False
    return vassal.owner != desired.owner
