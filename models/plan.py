"""The plan: what has to be done to one vassal now, as a value, and what to remember until next time."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter

from emperorctl.models.errors import Problem
from emperorctl.models.observed import NOT_LISTENING, Exit, LaunchFailure, Listening, Observed
from emperorctl.models.sockets import OnDemand
from emperorctl.models.status import Condition, Note
from emperorctl.models.vassal import Desired, Vassal

__all__ = [
    "Action",
    "BlacklistEntry",
    "Count",
    "Dismiss",
    "Forget",
    "Hush",
    "Kill",
    "Limit",
    "Listen",
    "Look",
    "Memory",
    "Plan",
    "Reinforce",
    "Spawn",
    "State",
    "TellReload",
    "TellStop",
    "Throttle",
    "Throttles",
    "Watch",
]


class State(StrEnum):
    """Where the one process of a vassal stands, as the plan last left it."""

    ABSENT = "Absent"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    KILLING = "Killing"


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start launch `number` of this vassal. `urgent`: ahead of all that wait to be launched."""

    vassal: Vassal
    number: int
    reason: str
    message: str
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class TellReload:
    """Make the running process reload, by its vassal's reload method (never `restart`: that is a stop)."""

    vassal: Vassal
    number: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class TellStop:
    """Ask the running process to stop, by its vassal's stop method."""

    vassal: Vassal
    number: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL for the process and everything it started."""

    number: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing is wanted under this name and nothing runs: drop every trace of it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Reinforce:
    """Want one more zerg of this vassal, which has called for it."""

    vassal: Vassal
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Want this zerg no more: it has ended, and whoever needs it calls again."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Bind these sockets, as far as they are not bound yet. What comes of it is told once it is known."""

    on_demand: OnDemand


@dataclass(frozen=True, slots=True)
class Hush:
    """Close every socket that is kept for this name."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Look again when the next connection arrives."""


@dataclass(frozen=True, slots=True)
class Count:
    """Count the open connections, and look again."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Hold the running process, and all that it started, to these limits from now on."""

    vassal: Vassal
    number: int
    reason: str
    message: str


Action = Spawn | TellReload | TellStop | Kill | Forget | Reinforce | Dismiss | Listen | Hush | Watch | Count | Limit


@dataclass(frozen=True, slots=True)
class BlacklistEntry:
    """The budget of one misbehaving vassal. Times are monotonic seconds, `throttle` is seconds."""

    attempts: int
    first_attempt: float
    last_attempt: float
    throttle: float
    next_try: float


@dataclass(frozen=True, slots=True)
class Throttle:
    """One budget on spawns of the whole Emperor (the uWSGI manual's throttle, with a burst before it bites).

    `delta` is the current wait in seconds; `window` when the second now counted began, `spawned` how many
    spawns it has seen; `open_at` the earliest time of the next spawn. Times may lie ahead: every waiting spawn
    has its own set aside.
    """

    delta: float = 0.0
    window: float = float("-inf")
    spawned: int = 0
    open_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Throttles:
    """The two budgets: `retries` for vassals that failed and have not proved themselves since, `steady` for all others.

    A crowd that fails over and over can't use up the turns of those that are well.
    """

    steady: Throttle = Throttle()
    retries: Throttle = Throttle()

    @property
    def delta(self) -> float:
        """The longer of the two present waits, in seconds."""
        return max(self.steady.delta, self.retries.delta)


@dataclass(slots=True)
class Memory:
    """All that the plan remembers of one vassal between two looks; serialisable.

    A plan works on a copy of its own: whoever holds one never sees it change.

    `number` is the latest launch's; `vassal`, `generation` and `orders` are what the process was launched
    or last reloaded with. `since` is when `state` was entered; `deadline` when it becomes overdue.
    `respawns` counts starts after the first. `loyal` is the evidence of loyalty (a CamelCase word) or empty.
    `throttled_until` is the time that the throttle has set aside for the next spawn. `ordered`: why the next spawn is
    part of a reload or of a person's order and not throttled (a CamelCase word). `abandoned`: exit code 26, not
    started again until a pardon. `overdue`: it survived SIGKILL so long that this has been reported.

    `first_run` is when it was first launched, `last_run` when the present or latest process was launched or told to
    reload; `reloads` counts the reloads that kept the process.

    `failing`: it died (or could not be launched) before it was loyal, and has not been since. `blame`: what the
    Emperor is ending it for, although it is wanted, empty for every other end. `answered`, `reported`: how many calls
    for reinforcements of this launch have been answered, and what has been said of it once (CamelCase words).
    `hung_at` is when it was told to reload for want of a heartbeat. `listening_since` is from when on silence counts,
    `listening_until` when it was last meant to be looked into; both change without anybody having to know.

    Of one that is started on demand: `given` are the sockets that its latest process got; `bound` those that were
    there last, `bind_failures` how often in a row others could not be had since, `bind_problem` why. `slept`: its last
    process ended as one does that is not needed now. `busy_at` is when its process was last seen to have a connection.
    """

    state: State = State.ABSENT
    number: int = 0
    vassal: Vassal | None = None
    generation: int = 0
    orders: int = 0
    pardons: int = 0
    since: float = 0.0
    deadline: float | None = None
    respawns: int = 0
    respawned_at: float | None = None
    reloaded_at: float | None = None
    reload_spawns: int = 0
    loyal: str = ""
    loyal_at: float | None = None
    last_exit: Exit | None = None
    last_failure: LaunchFailure | None = None
    blacklist: BlacklistEntry | None = None
    throttled_until: float | None = None
    ordered: str = ""
    abandoned: bool = False
    overdue: bool = False
    first_run: float | None = None
    last_run: float | None = None
    reloads: int = 0
    failing: bool = False
    blame: str = ""
    answered: int = 0
    reported: frozenset[str] = frozenset()
    hung_at: float | None = None
    listening_since: float = field(default=0.0, compare=False)
    listening_until: float | None = field(default=None, compare=False)
    given: OnDemand | None = None
    bound: OnDemand | None = None
    bind_failures: int = 0
    bind_problem: Problem | None = None
    slept: bool = False
    busy_at: float = field(default=0.0, compare=False)

    def copy(self) -> Memory:
        """The same memory, to be changed apart."""
        return Memory(*_VALUES(self))


_VALUES = attrgetter(*(item.name for item in fields(Memory)))


@dataclass(frozen=True, slots=True)
class Look:
    """All that one plan is made from. `desired` None: nothing is wanted under this name. `now` is monotonic seconds.

    `mercy` is set once the Emperor is ending: every vassal has to go, and whatever is left then is killed.
    `zergs` is how many zergs the whole Emperor wants now.
    """

    desired: Desired | None
    observed: Observed
    memory: Memory
    throttle: Throttles
    now: float
    mercy: float | None = None
    zergs: int = 0
    listening: Listening = NOT_LISTENING


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of one look. `requeue_after` is in seconds, None when only an event can change anything."""

    actions: tuple[Action, ...]
    memory: Memory
    throttle: Throttles
    conditions: tuple[Condition, ...]
    phase: str
    notes: tuple[Note, ...] = ()
    requeue_after: float | None = None
