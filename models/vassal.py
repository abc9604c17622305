"""What a vassal is, whichever file it was written in: the resolved, immutable desired state of one application.

Made by the parsers (`manifest`, `uwsgi`), compared and carried about by everything else. Not in here:
what a vassal is doing (`observed`), what people see of it (`status`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from emperorctl.models.errors import Problem
from emperorctl.models.isolation import Isolation
from emperorctl.models.limits import NO_LIMITS, Limits
from emperorctl.models.patches import Patch
from emperorctl.models.protocol import ToVassal
from emperorctl.models.sockets import OnDemand

__all__ = [
    "EMPTY",
    "Desired",
    "Hook",
    "Hooks",
    "Kind",
    "Launch",
    "Logs",
    "Notify",
    "Owner",
    "Reload",
    "ReloadMethod",
    "Rlimit",
    "Stop",
    "StopMethod",
    "Suspender",
    "Vassal",
]

EMPTY: Mapping[str, Any] = MappingProxyType({})


class Kind(StrEnum):
    """Which kind of file a vassal comes from."""

    UWSGI = "uwsgi"
    NATIVE = "native"


class ReloadMethod(StrEnum):
    """How a running vassal is made to reload."""

    SIGNAL = "signal"
    RESTART = "restart"
    PROTOCOL = "protocol"


class StopMethod(StrEnum):
    """How a running vassal is asked to stop."""

    SIGNAL = "signal"
    PROTOCOL = "protocol"


class Notify(StrEnum):
    """Who may speak for a vassal over systemd's notification socket."""

    NONE = "none"
    MAIN = "main"
    ALL = "all"


class Suspender(StrEnum):
    """Who holds a suspended vassal down."""

    PERSON = "person"
    COMMAND = "command"
    FILE = "file"


class Owner(NamedTuple):
    """Whose a file is: user and group id."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Rlimit:
    """One resource limit: `name` as in `RLIMIT_NOFILE` without its prefix, lower case; None is unlimited."""

    name: str
    soft: int | None
    hard: int | None


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that can only change by starting a new process.

    `command` is never empty. `env` is what the file asks for, on top of the base environment:
    the Emperor's own where `inherit_env`, otherwise a short list. `user` and `group` are names or decimal
    ids, None for the Emperor's own. `protocol`: the process gets `UWSGI_EMPEROR_FD`.
    `capture`: stdout and stderr go to the vassal's log file instead of the Emperor's stderr.
    `notify`: the process gets `NOTIFY_SOCKET`, and may speak there.
    `override` and `fallback` are programs tried before and after the command's own, with the same arguments: the first
    that can be executed runs. `patch`: what to do where none of them is there.
    `config_pipe`: the process gets its config over `UWSGI_EMPEROR_FD_CONFIG`.
    `secrets` are variables whose values the new process reads from files, by name and path, in its own identity.
    `init_groups`: it gets all groups of its user, even where that is given as a number.
    `isolation`: what it is kept apart from; None for nothing at all.
    """

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    inherit_env: bool = False
    working_dir: str | None = None
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    nice: int | None = None
    rlimits: tuple[Rlimit, ...] = ()
    protocol: bool = False
    capture: bool = True
    notify: Notify = Notify.NONE
    override: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    patch: Patch | None = None
    config_pipe: bool = False
    secrets: tuple[tuple[str, str], ...] = ()
    init_groups: bool = False
    isolation: Isolation | None = None


@dataclass(frozen=True, slots=True)
class Reload:
    """How to reload; `signal` is a signal number, used by `ReloadMethod.SIGNAL` alone."""

    method: ReloadMethod = ReloadMethod.RESTART
    signal: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """How to stop; `grace` is in seconds, after which everything of the vassal gets SIGKILL.

    `graceful`: by the protocol it is asked to finish its requests first.
    """

    method: StopMethod = StopMethod.SIGNAL
    signal: int = 15
    grace: float = 30.0
    graceful: bool = False

    @property
    def byte(self) -> ToVassal:
        """What the protocol says for it."""
        return ToVassal.STOP_GRACEFULLY if self.graceful else ToVassal.STOP


@dataclass(frozen=True, slots=True)
class Logs:
    """How captured output is kept: `max_size` in bytes per file, `max_files` older ones beside it."""

    max_size: int = 10 * 1024 * 1024
    max_files: int = 3


@dataclass(frozen=True, slots=True)
class Hook:
    """One program that is run at a certain moment of a launch, `timeout` seconds at most; `command` is never empty.

    `as_emperor`: in the Emperor's identity rather than the vassal's.
    """

    command: tuple[str, ...]
    timeout: float = 30.0
    as_emperor: bool = False


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one vassal, each the programs to run one after another. A launch keeps those it began with."""

    pre_start: tuple[Hook, ...] = ()
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    post_stop: tuple[Hook, ...] = ()

    @property
    def moments(self) -> tuple[tuple[Hook, ...], ...]:
        """Those of each moment, in the order of the fields."""
        return self.pre_start, self.post_start, self.pre_stop, self.post_stop


@dataclass(frozen=True, slots=True)
class Vassal:
    """One application as its file describes it.

    `file` is the path as the source gave it (shown to people); `line` the first line of its part of the file.
    `content` is a digest of whatever the running program reads again on a reload (a uWSGI config's text;
    empty for a native manifest): a difference there, and none in `launch`, asks for a reload.
    `loyal_after` is in seconds. `spec` is the effective description for people, JSON-ready.
    `zerg_of` is the name of the vassal that it reinforces, empty for all others.
    `on_demand`: the sockets that start it. They are not part of `launch`: where they change, a sleeping vassal's are
    only bound anew. `suspend`: its file holds it down.
    `config` is the text that travels to the process, for a launch with `config_pipe`.
    `origins` say where the values of its spec come from (see `merging`). `late`: some are filled in when it is launched
    (see `late`).
    `section`: the vassal is the section `uwsgi:SECTION` of a uWSGI config, empty for one that is the whole file.
    `limits` are not part of `launch`: a changed value is applied to what runs.
    `owner` is whose file it comes from, and who it runs as, in tyrant mode alone.
    """

    name: str
    kind: Kind
    source: str
    file: str
    launch: Launch
    reload: Reload = Reload()
    stop: Stop = Stop()
    logs: Logs = Logs()
    hooks: Hooks = Hooks()
    loyal_after: float = 10.0
    content: str = ""
    zerg_of: str = ""
    on_demand: OnDemand | None = None
    suspend: bool = False
    config: bytes = b""
    line: int | None = field(default=None, compare=False)
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    annotations: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    spec: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    origins: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    late: bool = False
    section: str = ""
    limits: Limits = NO_LIMITS
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """What the store wants of one name: the last good vassal, and what was ordered since.

    `generation` counts the contents accepted (0: none yet). `orders` counts orders to reload (touches,
    `reload NAME`); `pardons` counts everything that overrules the budgets (those, edits, `blacklist clear`).
    `problem` is why the newest content is not accepted; `conflict` names another claimant of this name.
    `warm`: it came with the first snapshot of its source, whose spawns the throttle does not count.
    `modified` is the modification time of what its file leads to, in ns since the epoch.
    `suspended_by` is who holds it down, of several the one that has to give way first, where it is `suspended`.
    `owner` is whose its file is now, in tyrant mode: what ran for another has to go before anything is started.
    """

    name: str
    source: str
    file: str
    vassal: Vassal | None = None
    generation: int = 0
    orders: int = 0
    pardons: int = 0
    suspended: bool = False
    suspended_by: Suspender = Suspender.PERSON
    warm: bool = False
    modified: int = 0
    problem: Problem | None = None
    conflict: Problem | None = None
    owner: Owner | None = None
