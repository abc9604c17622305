"""What is known of a vassal's process: facts from the kernel and the emperor protocol, recorded by the runtime.

All times are seconds of the monotonic clock. A launch is known by its `number`, which counts up for each
vassal and is never used twice: a fact of an older launch can't be mistaken for one of the present.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from emperorctl.models.errors import Problem
from emperorctl.models.limits import format_memory
from emperorctl.models.signals import signal_name
from emperorctl.models.sockets import OnDemand

__all__ = [
    "NEVER_LAUNCHED",
    "NOT_LISTENING",
    "Exit",
    "LaunchFailure",
    "LaunchState",
    "Listening",
    "Observed",
    "Process",
    "Signs",
]


_SIGKILL = 9


class LaunchState(StrEnum):
    """How far one launch has come."""

    NONE = "None"
    LAUNCHING = "Launching"
    ALIVE = "Alive"
    EXITED = "Exited"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Process:
    """A process beyond doubt: `start_time` is in clock ticks since boot (field 22 of /proc/PID/stat), the
    pidfd is kept by the runtime. `since` is when the launch was confirmed."""

    pid: int
    start_time: int
    uid: int
    gid: int
    since: float


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: exactly one of `code` and `signal` is set. `because`: what the Emperor ended it for.

    `oom_kills` is how many processes of the launch the kernel killed for want of memory; `memory` their limit (bytes).
    """

    at: float
    code: int | None = None
    signal: int | None = None
    core: bool = False
    because: str = ""
    oom_kills: int = 0
    memory: int | None = None

    @property
    def out_of_memory(self) -> bool:
        """Whether that is what it died of."""
        return self.oom_kills > 0 and self.signal == _SIGKILL and not self.because

    def sentence(self) -> str:
        """How it ended, in a few words."""
        if self.signal is not None:
            text = f"killed by {signal_name(self.signal)}" + (" (core dumped)" if self.core else "")
        else:
            text = f"exited with code {self.code}"
        if self.because:
            return f"{text}: {self.because}"
        if self.out_of_memory:
            limit = "" if self.memory is None else f", its limit is {format_memory(self.memory)}"
            return f"{text}: out of memory{limit}"
        if self.oom_kills:
            which = "one of its processes was" if self.oom_kills == 1 else f"{self.oom_kills} of its processes were"
            return f"{text}, and {which} killed for want of memory"
        return text


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """A launch that never became the program.

    `step` is what failed (`user`, `chdir`, `execve`, `launcher` …), `errno` 0 where the kernel gave none;
    `message` and `remedy` are for people. `transient`: nobody's fault, try again soon (ETXTBSY, EAGAIN, a lost zygote).
    """

    at: float
    step: str
    errno: int
    reason: str
    message: str
    remedy: str = ""
    transient: bool = False

    def sentence(self) -> str:
        """What failed, and what to do."""
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class Signs:
    """What the vassal said in this launch, by a byte of the emperor protocol or by systemd's notifications: when each
    was last said, None for never.

    `closed` is when it closed its end. `garbage` counts bytes that mean nothing. `heartbeat` is byte 26 or WATCHDOG=1.
    `spawns` counts byte 1: one more after each reload the vassal carried out. `reinforcements` counts byte 30.
    `ready`, `reloading` and `stopping` are READY=1, RELOADING=1 and STOPPING=1; `status` is the text of STATUS=.
    Two that differ in their latest heartbeat alone are equal: nothing that people see has changed.
    """

    spawned: float | None = None
    spawns: int = 0
    accepting: float | None = None
    loyal: float | None = None
    will: float | None = None
    heartbeat: float | None = field(default=None, compare=False)
    closed: float | None = None
    garbage: int = 0
    reinforcements: int = 0
    ready: float | None = None
    reloading: float | None = None
    stopping: float | None = None
    status: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """The latest launch of a vassal, as far as the runtime knows.

    `hook` names the hook that is being run for it, empty for none. While there is one nothing else may be launched
    under this name, even where the process is gone. `unlimited` says which of its limits are not enforced, and why;
    empty where all are.
    """

    number: int = 0
    state: LaunchState = LaunchState.NONE
    process: Process | None = None
    exit: Exit | None = None
    failure: LaunchFailure | None = None
    signs: Signs = Signs()
    hook: str = ""
    unlimited: str = ""

    @property
    def its_hook(self) -> str:
        """The hook as a sentence calls it."""
        return f"its {self.hook}" if self.hook.endswith("-hook") else f"its {self.hook} hook"


NEVER_LAUNCHED = Observed()


@dataclass(frozen=True, slots=True)
class Listening:
    """The sockets that the Emperor keeps for an on-demand vassal.

    `on_demand` is what they were last bound (or tried to be bound) for. `demand`: a connection waits at this moment.
    `watching`: the next one to arrive wakes the name. `pending`: it is not known yet whether they can be bound.
    `problem` is why they can't, since `failed_at`.
    `displaced`: what keeps an address from being bound is the vassal's own process, with the sockets it had before.
    `connected_at` is when a connection was last seen to arrive while that was watched for; `open` how many connections
    were open when they were last counted, at `counted_at` (None: they can't be counted here).
    """

    on_demand: OnDemand | None = None
    demand: bool = False
    watching: bool = False
    pending: bool = False
    problem: Problem | None = None
    failed_at: float = 0.0
    displaced: bool = False
    connected_at: float | None = None
    open: int | None = None
    counted_at: float | None = None

    @property
    def ready(self) -> bool:
        """Whether every socket is there."""
        return self.on_demand is not None and not self.pending and self.problem is None


NOT_LISTENING = Listening()
