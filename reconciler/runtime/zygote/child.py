"""The steps of a new process between clone and execve, in the only order that is safe.

Called by `main` in the child; never returns. What fails is reported over the status pipe as one JSON object:
`step`, `errno`, `detail`, and for `execve` what was found at the path. The words for people are made by the
Emperor (`runtime.failures`).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
from typing import Any, NoReturn

from . import clone  # noqa: TID251

__all__ = ["PROTOCOL_FD", "Frame", "become"]

PROTOCOL_FD = 3
"""Where the vassal finds its end of the emperor protocol, or behind its listening sockets where it gets any there."""

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_REPORT_MAX = 4000
_NOT_RUN = 127


class Frame:
    """What a new process finds around it: descriptors already received, and facts of the zygote.

    `fds` maps a role (`in`, `out`, `err`, `protocol`, `listen0`, `listen1` …) to a descriptor.
    `join` is the directory of a cgroup still to be joined.
    """

    __slots__ = ("emperor", "fds", "join", "nofile", "status")

    def __init__(self, status: int, emperor: int, fds: dict[str, int], nofile: tuple[int, int]) -> None:
        self.status = status
        self.emperor = emperor
        self.fds = fds
        self.nofile = nofile
        self.join: int | None = None


class _Refused(Exception):
    """A step failed without an errno of its own."""


def become(order: dict[str, Any], frame: Frame) -> NoReturn:
    """Turn this process into the program of the order, or report why not and exit."""
    steps = _Steps()
    try:
        _prepare(order, frame, steps)
        steps.now = "execve"
        if "LISTEN_FDS" in order["env"] and "listen0" in frame.fds:
            order["env"]["LISTEN_PID"] = str(os.getpid())
        _execute(order["argv"], order["env"], steps)
    except BaseException as error:
        _report(frame.status, steps, error)
    os._exit(_NOT_RUN)


class _Steps:
    """Where we are, and what is worth telling if it fails."""

    __slots__ = ("facts", "now")

    def __init__(self) -> None:
        self.now = "start"
        self.facts: dict[str, Any] = {}


def _prepare(order: dict[str, Any], frame: Frame, steps: _Steps) -> None:
    if frame.join is not None:
        steps.now = "cgroup"
        _join(frame.join)
    steps.now = "setsid"
    os.setsid()
    steps.now = "descriptors"
    _descriptors(frame)
    steps.now = "rlimits"
    _rlimits(order, frame, steps)
    if order.get("nice") is not None:
        steps.now = "nice"
        os.setpriority(os.PRIO_PROCESS, 0, order["nice"])
    if order.get("ids") is not None:
        steps.now = "user"
        _drop(*order["ids"])
    # Only now: the directory must be one that the vassal's own user may enter.
    if order.get("cwd") is not None:
        steps.now = "chdir"
        os.chdir(order["cwd"])
    if order.get("umask") is not None:
        os.umask(order["umask"])
    if order.get("no_new_privs"):
        steps.now = "no_new_privs"
        clone.no_new_privileges()
    # Last, because a change of uid clears it; and the Emperor may have died before it was set.
    steps.now = "deathsig"
    clone.die_with_parent()
    if os.getppid() != frame.emperor:
        os._exit(_NOT_RUN)
    # Dispositions are default in the zygote already; it only blocks everything.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _join(directory: int) -> None:
    fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    os.write(fd, b"0")
    os.close(fd)


def _descriptors(frame: Frame) -> None:
    fds = frame.fds
    targets = {role: number for number, role in enumerate(("in", "out", "err")) if role in fds}
    listening = sum(role.startswith("listen") for role in fds)
    targets |= {f"listen{number}": PROTOCOL_FD + number for number in range(listening)}
    first_closed = PROTOCOL_FD + listening
    if "protocol" in fds:
        targets["protocol"] = first_closed
        first_closed += 1
    # First out of the way with whatever lies where something else belongs.
    if PROTOCOL_FD <= frame.status < first_closed:
        frame.status = fcntl.fcntl(frame.status, fcntl.F_DUPFD_CLOEXEC, first_closed)
    for role, fd in fds.items():
        if PROTOCOL_FD <= fd < first_closed and fd != targets[role]:
            fds[role] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first_closed)
    for role, target in targets.items():
        if fds[role] == target:
            os.set_inheritable(target, True)
        else:
            os.dup2(fds[role], target)
    clone.close_on_exec_from(first_closed)


def _rlimits(order: dict[str, Any], frame: Frame, steps: _Steps) -> None:
    # The zygote's own limit was raised for its own needs.
    resource.setrlimit(resource.RLIMIT_NOFILE, frame.nofile)
    for name, number, soft, hard in order.get("rlimits") or ():
        steps.facts["detail"] = name
        resource.setrlimit(number, (soft, hard))
    steps.facts.pop("detail", None)


def _drop(uid: int, gid: int, groups: list[int]) -> None:
    """Groups, then gid, then uid; and believe none of it until it has been read back."""
    if not (0 <= uid < 2**31 and 0 <= gid < 2**31):
        raise _Refused("uid or gid out of range")
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise _Refused("the kernel kept another uid or gid")
    if sorted(set(os.getgroups()) - {gid}) != sorted(set(groups) - {gid}):
        raise _Refused("the kernel kept other groups")


def _execute(argv: list[str], env: dict[str, str], steps: _Steps) -> None:
    name = argv[0]
    if "/" in name:
        candidates = [name]
    else:
        path = env.get("PATH", _DEFAULT_PATH)
        candidates = [f"{directory}/{name}" for directory in path.split(":") if directory]
        steps.facts["searched"] = path
    steps.facts["path"] = name
    failure: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, argv, env)  # noqa: S606
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES) and not os.path.exists(candidate):
                # A directory in PATH that this user may not search does not make the program "not executable".
                failure = failure or (FileNotFoundError(errno.ENOENT, "") if "searched" in steps.facts else error)
                continue
            # Something lies there: people want to hear about that, unless a later directory has the program.
            if failure is None or "seen" not in steps.facts:
                failure = error
                steps.facts["path"] = candidate
                steps.facts.pop("searched", None)
                _look(candidate, steps.facts)
            if error.errno not in (errno.EACCES, errno.ENOENT, errno.ENOTDIR):
                break
    raise failure or FileNotFoundError(errno.ENOENT, "the search path is empty")


def _look(path: str, facts: dict[str, Any]) -> None:
    """What kind of thing could not be executed; seen with the vassal's own rights."""
    facts["seen"] = "directory" if os.path.isdir(path) else "file"
    if not os.access(path, os.X_OK):
        facts["seen"] = "directory" if os.path.isdir(path) else "not executable"
    if facts["seen"] == "directory":
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        line = os.read(fd, 256).split(b"\n", 1)[0]
    except OSError:
        return
    finally:
        os.close(fd)
    if line.startswith(b"#!"):
        facts["carriage_return"] = line.endswith(b"\r")
        words = line[2:].rstrip(b"\r").split(None, 1)
        facts["interpreter"] = os.fsdecode(words[0]) if words else ""


def _report(status: int, steps: _Steps, error: BaseException) -> None:
    number = error.errno if isinstance(error, OSError) and error.errno is not None else 0
    facts = {"detail": "" if number else str(error)[:500], **steps.facts, "step": steps.now, "errno": number}
    data = json.dumps(facts).encode()
    if len(data) > _REPORT_MAX:
        data = json.dumps({"step": steps.now, "errno": number, "detail": ""}).encode()
    try:
        os.write(status, data)
    except OSError:
        pass
