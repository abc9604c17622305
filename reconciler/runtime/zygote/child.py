"""The steps of a new process between clone and execve, in the only order that is safe.

Called by `main` in the child; never returns. What fails is reported over the status pipe (`orders.report`):
`step`, `errno`, `detail`, and for `execve` what was found at the path. The words for people are made by the
Emperor (`runtime.failures`).
"""

from __future__ import annotations

import fcntl
import os
import resource
import select

from . import cells, clone, confine, usernet  # noqa: TID251
from .entering import enter, stay_outside, take_terminal  # noqa: TID251
from .execute import Steps, find_and_execute, report  # noqa: TID251
from .lean import signal, socket  # noqa: TID251
from .patch import carry_out  # noqa: TID251
from .rights import drop  # noqa: TID251
from .secretfiles import read_secrets  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["FIRST_FD", "Frame", "become"]

FIRST_FD = 3
"""Where the vassal finds the first of its descriptors beyond the standard ones; the others follow in their order."""

_STANDARD = {"in": 0, "out": 1, "err": 2}
_NOT_RUN = 127


class Frame:
    """What a new process finds around it: descriptors already received, and facts of the zygote.

    `fds` maps a role (`in`, `out`, `err`, then any others in the order of their places: `listen0`, `listen1` …, then
    `protocol`, `config`; and `enter`, the pidfd of a process to go where it is) to a descriptor. `emperor` is the
    Emperor's pid, `watch` its pidfd (-1 without). `join` is the directory of a cgroup still to be joined. `score` is
    how ready the kernel is to take it when memory is short; None for as ready as it is to take the zygote. The rest is
    the cell's (`cells`): `born` in the new process alone, `gate` to wait at, the pidfd of its `keeper`, the socket to
    `talk` to it, and flags of namespaces of its that were `entered` already. `network` is a socket to who minds its way
    out of a network of its own (`usernet`), and `here` the directory of this process in /proc.
    """

    __slots__ = (
        *("born", "emperor", "entered", "fds", "gate", "join", "keeper", "nofile", "score", "status", "talk"),
        *("here", "network", "watch"),
    )

    def __init__(
        self, status: int, emperor: int, fds: dict[str, int], nofile: tuple[int, int], *, watch: int = -1
    ) -> None:
        self.status = status
        self.emperor = emperor
        self.fds = fds
        self.nofile = nofile
        self.watch = watch
        self.join: int | None = None
        self.score: int | None = None
        self.born = False
        self.gate = -1
        self.entered = 0
        self.keeper = -1
        self.talk: socket.socket | None = None
        self.network: socket.socket | None = None
        self.here = -1

    def enter_cgroup(self) -> None:
        """Join the cgroup that could not be given at birth. Raises OSError."""
        assert self.join is not None
        fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.join)
        os.write(fd, b"0")
        os.close(fd)

    def orphaned(self) -> bool:
        """Whether the Emperor is dead."""
        if os.getppid() not in (self.emperor, 0):
            return True
        # From within a pid namespace a parent outside has no number.
        return self.watch >= 0 and bool(select.select([self.watch], [], [], 0)[0])


def become(order: dict[str, Any], frame: Frame) -> NoReturn:
    """Turn this process into the program of the order, or report why not and exit."""
    steps = Steps()
    try:
        _prepare(order, frame, steps)
        if order.get("secrets"):
            read_secrets(order, steps)
        if "listen0" in frame.fds:
            order["env"]["LISTEN_PID"] = str(os.getpid())
        _execute(order, frame, steps)
    except BaseException as error:
        report(frame.status, steps, error)
    os._exit(_NOT_RUN)


def _prepare(order: dict[str, Any], frame: Frame, steps: Steps) -> None:
    if frame.join is not None:
        steps.now = "cgroup"
        frame.enter_cgroup()
    if "limits" in order:
        steps.now = "limits"
        confine.join(order["limits"])
    if frame.score is not None:
        steps.now = "oom_score"
        confine.expose(frame.score)
    # The zygote ignores it.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    steps.now = "setsid"
    os.setsid()
    isolation = order.get("isolation")
    frame.fds.pop("network", None)
    if frame.network is not None:
        frame.here = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if isolation is not None:
        if frame.talk is not None:
            cells.move_in(isolation, frame, steps)
        else:
            cells.settle(isolation, frame, steps)
    if frame.network is not None:
        usernet.go_online(frame, steps)
    entering = frame.fds.pop("enter", -1)
    steps.now = "descriptors"
    _descriptors(frame)
    inside = None
    if entering >= 0:
        steps.now = "enter"
        inside = enter(entering, order["enter"])
    steps.now = "rlimits"
    _rlimits(order, frame, steps)
    if order.get("nice") is not None:
        steps.now = "nice"
        os.setpriority(os.PRIO_PROCESS, 0, order["nice"])
    if inside is not None:
        steps.now = "user"
        inside.become(order.get("ids"))
    elif isolation is not None:
        cells.limit(isolation, order.get("ids"), steps)
    elif order.get("ids") is not None:
        steps.now = "user"
        drop(*order["ids"])
    # Only now: the directory must be one that the vassal's own user may enter.
    if order.get("cwd") is not None:
        steps.now = "chdir"
        os.chdir(order["cwd"])
    if order.get("umask") is not None:
        os.umask(order["umask"])
    if isolation is not None and isolation["no_new_privileges"]:
        steps.now = "no_new_privs"
        clone.no_new_privileges()
    # Last, because a change of uid clears it; and the Emperor may have died before it was set.
    steps.now = "deathsig"
    clone.die_with_parent()
    if frame.orphaned():
        os._exit(_NOT_RUN)
    # Other dispositions are default in the zygote already; it only blocks everything.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if inside is not None and inside.forks:
        steps.now = "fork"
        stay_outside(frame.status)
    if order.get("terminal"):
        steps.now = "terminal"
        take_terminal()


def _descriptors(frame: Frame) -> None:
    fds = frame.fds
    for role, target in _STANDARD.items():
        if role in fds:
            os.dup2(fds[role], target)
    others = [fd for role, fd in fds.items() if role not in _STANDARD]
    places = range(FIRST_FD, FIRST_FD + len(others))
    # Out of the way first, whatever lies where another is to come.
    if frame.status in places:
        frame.status = fcntl.fcntl(frame.status, fcntl.F_DUPFD_CLOEXEC, places.stop)
    if frame.watch in places:
        frame.watch = fcntl.fcntl(frame.watch, fcntl.F_DUPFD_CLOEXEC, places.stop)
    others = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, places.stop) if fd in places else fd for fd in others]
    for fd, target in zip(others, places, strict=True):
        os.dup2(fd, target)
    clone.close_on_exec_from(places.stop)


def _rlimits(order: dict[str, Any], frame: Frame, steps: Steps) -> None:
    # The zygote's own limit was raised for its own needs.
    resource.setrlimit(resource.RLIMIT_NOFILE, frame.nofile)
    for name, number, soft, hard in order.get("rlimits") or ():
        steps.facts["detail"] = name
        resource.setrlimit(number, (soft, hard))
    steps.facts.pop("detail", None)


def _execute(order: dict[str, Any], frame: Frame, steps: Steps) -> NoReturn:
    """Become the first program that can be executed; where nothing is there at all, do what it would have done."""
    steps.now = "execve"
    argv, env = order["argv"], order["env"]
    failure: OSError | None = None
    for program in [*order.get("override", ()), argv[0], *order.get("fallback", ())]:
        tried = Steps()
        try:
            find_and_execute(program, argv, env, tried)
        except OSError as error:
            if program == argv[0]:
                # People want to hear of the program that they expect to run.
                failure, steps.facts = error, tried.facts
    patch = order.get("patch")
    if patch is not None and isinstance(failure, FileNotFoundError) and "seen" not in steps.facts:
        steps.facts = {"patched": True}
        carry_out(patch, env, frame, steps)
        steps.now = "execve"
        find_and_execute(patch["argv"][0], patch["argv"], env | patch["env"], steps)
    raise failure or OSError(0, "nothing to execute")
