"""What people and machines are told of a vassal: conditions, and the one word derived from them for tables."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Condition", "ConditionType", "Note", "NoteType", "Phase", "Truth"]


class ConditionType(StrEnum):
    """The aspects that every vassal is judged by. Conflict is present only where there is one, Limited only of one that
    runs and has limits."""

    ACCEPTED = "Accepted"
    READY = "Ready"
    LOYAL = "Loyal"
    PROGRESSING = "Progressing"
    CONFLICT = "Conflict"
    LIMITED = "Limited"


class Truth(StrEnum):
    """A condition's status."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One judgement: `reason` is a CamelCase word, `message` a sentence (may be empty when all is well)."""

    type: ConditionType
    status: Truth
    reason: str
    message: str = ""


class Phase(StrEnum):
    """The STATUS column's fixed words; besides them there are `ExitCode:N` and `Signal:N`. Never read by code."""

    RUNNING = "Running"
    PENDING = "Pending"
    STARTING = "Starting"
    RELOADING = "Reloading"
    TERMINATING = "Terminating"
    COMPLETED = "Completed"
    ERROR = "Error"
    UNKNOWN = "Unknown"
    ON_DEMAND = "OnDemand"
    THROTTLED = "Throttled"
    BLACKLISTED = "Blacklisted"
    SUSPENDED = "Suspended"
    INVALID = "Invalid"
    OOM_KILLED = "OOMKilled"


class NoteType(StrEnum):
    """How much attention an event wants."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Note:
    """A decision or a fact worth an event.

    The same `reason` and `message` again is the same event once more; `detail` is for the log alone, and may differ
    each time.
    """

    type: NoteType
    reason: str
    message: str
    detail: str = ""
