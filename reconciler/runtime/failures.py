"""A launch that failed, in words: step and errno, as the new process reported them, to reason, message and remedy.

Used by `host`. The one place where the errnos of a launch get their meaning.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from emperorctl.models.names import printable
from emperorctl.models.observed import LaunchFailure
from emperorctl.models.vassal import Kind, Vassal
from emperorctl.reconciler.runtime import confinement
from emperorctl.reconciler.runtime.identity import IdentityError

__all__ = ["cancelled", "explain", "from_identity", "unusable"]

_SHORTAGE = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
_CLONE_STEPS = {"clone", "cgroup", "descriptors"}


def explain(vassal: Vassal, report: Mapping[str, Any], at: float) -> LaunchFailure:
    """The failure that the zygote or the child reported. `at` is monotonic seconds."""
    step = str(report.get("step", ""))
    number = int(report.get("errno", 0))
    transient = number in _SHORTAGE
    if step == "execve":
        reason, message, remedy, transient = _execve(vassal, report, number)
    elif step == "chdir":
        reason, message, remedy = _chdir(vassal, report, number)
    elif step == "user":
        reason, message, remedy = _user(vassal, report, number)
    elif step in ("rlimits", "nice"):
        reason, message, remedy = _limits(vassal, report, step, number)
    elif step == "limits":
        reason, message = "LimitNotEnforced", f"its limits can't be set: {_words(number)}"
        remedy = "emperorctl doctor says what this host can enforce"
    elif step == "secrets":
        reason = "SecretUnreadable"
        why = _words(number) if number else str(report.get("detail", ""))
        path, variable = (printable(str(report.get(key, ""))) for key in ("path", "variable"))
        message = f"the value of {variable} can't be taken from {path}: {printable(why)}"
        remedy = "the vassal's own user has to be able to read it; at most 64 KiB, without NUL characters"
    elif step in confinement.STEPS and vassal.launch.isolation is not None:
        root = os.geteuid() == 0
        reason, message, remedy = confinement.explain(vassal.launch.isolation, report, root=root)
    elif step in ("unshare", "capabilities"):
        reason, message = "NotPermitted", f"{step} failed: {_words(number)}"
        remedy = "run the Emperor as root, or ask for fewer (unshare, cap; isolation.capabilities)"
    elif step == "launcher":
        reason, message, transient = (
            "LauncherLost",
            "the zygote was lost in the middle of the launch",
            True,
        )
        remedy = "it is tried again by itself"
    elif step in _CLONE_STEPS:
        reason = "NoResources" if transient else "LaunchFailed"
        message = f"the process could not be made ({step}: {_words(number)})"
        remedy = "see to the host's limits (processes, descriptors, memory)"
        if number == errno.EMFILE:
            remedy = "raise the Emperor's limit on open files (ulimit -n, or LimitNOFILE= in its unit)"
        transient = True
    elif step == "enter" and number in (errno.EACCES, errno.EPERM):
        reason, message = "NotPermitted", "this Emperor may not go where the vassal's process is"
        remedy = "run it as root, or let --cap keep sys_ptrace, sys_admin and sys_chroot, too"
    else:
        detail = _words(number) if number else str(report.get("detail", ""))
        reason, message, remedy = "LaunchFailed", f"{step} failed: {printable(detail)}", ""
    return LaunchFailure(at, step, number, reason, message, remedy, transient)


def from_identity(error: IdentityError, at: float) -> LaunchFailure:
    """The user or group can't be found."""
    return LaunchFailure(at, "user", 0, error.reason, printable(error.message), error.remedy, error.transient)


def unusable(step: str, reason: str, message: str, remedy: str, at: float) -> LaunchFailure:
    """What can be seen to fail without trying."""
    return LaunchFailure(at, step, 0, reason, message, remedy)


def cancelled(at: float) -> LaunchFailure:
    """Ended before its turn came."""
    return LaunchFailure(at, "launcher", 0, "Cancelled", "ended before it was started", transient=True)


def _execve(vassal: Vassal, report: Mapping[str, Any], number: int) -> tuple[str, str, str, bool]:
    path = printable(str(report.get("path", vassal.launch.command[0])))
    seen = report.get("seen", "")
    interpreter = printable(str(report.get("interpreter", "")))
    if seen == "directory":
        return "IsDirectory", f"{path} is a directory", "name the program itself in `command`", False
    if seen == "file" and number in (errno.ENOENT, errno.ENOTDIR):
        if report.get("carriage_return"):
            return (
                "MissingInterpreter",
                f"the script's interpreter {interpreter} is not found ({path} has carriage returns)",
                "save the script with Unix line ends",
                False,
            )
        if "interpreter" in report:
            return (
                "MissingInterpreter",
                f"the script's interpreter {interpreter} does not exist ({path})",
                "install it, or correct the script's first line",
                False,
            )
        return (
            "MissingInterpreter",
            f"{path} exists, but the loader that it asks for does not",
            "install the libraries for this program's architecture",
            False,
        )
    if number in (errno.ENOENT, errno.ENOTDIR):
        return (*_missing(vassal, report, path), False)
    if number == errno.EACCES:
        if seen == "not executable":
            return "NotExecutable", f"{path} is not executable", f"chmod +x {path}", False
        if interpreter:
            message = f"the script's interpreter {interpreter} may not be executed ({path})"
        else:
            message = f"{path} may not be executed by this user"
        return "NotExecutable", message, "see the permissions of the file and the directories above it (noexec?)", False
    if number == errno.ENOEXEC:
        if "interpreter" in report:
            return (
                "NotAProgram",
                f"the script's interpreter {interpreter} is no program",
                "correct the first line",
                False,
            )
        return (
            "NotAProgram",
            f"{path} is neither a program for this machine nor a script with a #! line",
            "add a first line such as #!/bin/sh, or name the interpreter in `command`",
            False,
        )
    if number == errno.E2BIG:
        return (
            "TooLong",
            "the command and its environment are longer than the kernel accepts",
            "shorten `command` or `env` (128 KiB for a single string)",
            False,
        )
    if number == errno.ETXTBSY:
        return "TextBusy", f"{path} is being written", "it is tried again by itself", True
    if number == errno.EAGAIN:
        return (
            "NprocLimit",
            "the user already runs as many processes as RLIMIT_NPROC allows",
            "raise the limit, or end some of them",
            True,
        )
    detail = _words(number) if number else printable(str(report.get("detail", "")))
    return "ExecFailed", f"{path} can't be executed: {detail}", "", number in _SHORTAGE


def _missing(vassal: Vassal, report: Mapping[str, Any], path: str) -> tuple[str, str, str]:
    if report.get("patched"):
        message = f"there is no uwsgi binary, and the program {path} of the binary patch does not exist either"
        return "MissingProgram", message, "install the program, or correct the patch"
    if vassal.kind is Kind.UWSGI and os.path.basename(vassal.launch.command[0]) == "uwsgi":
        message = f"there is no uwsgi binary ({path})"
        if why := vassal.spec.get("binaryPatch", {}).get("because"):
            message += f", and the config does not do without it: {why}"
        return "MissingProgram", message, "pip install uwsgi, or give --binary-path"
    if "searched" in report:
        searched = printable(str(report["searched"]))[:300]
        return (
            "MissingProgram",
            f'there is no program "{path}" in PATH ({searched})',
            "install it, or give its full path in `command`",
        )
    return "MissingProgram", f"{path} does not exist", "install the program, or correct `command`"


def _chdir(vassal: Vassal, report: Mapping[str, Any], number: int) -> tuple[str, str, str]:
    path = printable(str(report.get("path", vassal.launch.working_dir or "")))
    if number == errno.ENOENT:
        return "MissingDirectory", f"the working directory {path} does not exist", "create it, or correct `workingDir`"
    if number == errno.ENOTDIR:
        return "MissingDirectory", f"the working directory {path} is not a directory", "correct `workingDir`"
    if number == errno.EACCES:
        return (
            "ForbiddenDirectory",
            f"the vassal's user may not enter the working directory {path}",
            "give that user the x permission on it and on all directories above it",
        )
    return "BadDirectory", f"the working directory {path} can't be entered: {_words(number)}", "correct `workingDir`"


def _user(vassal: Vassal, report: Mapping[str, Any], number: int) -> tuple[str, str, str]:
    launch = vassal.launch
    names = (launch.user, launch.group, *((launch.patch.user, launch.patch.group) if launch.patch else ()))
    wanted = printable(next(filter(None, names), ""))
    if number == errno.EPERM:
        return (
            "NotPermitted",
            f'the Emperor does not run as root and can\'t switch to "{wanted}"',
            "run the Emperor as root, or drop `user` and `group`",
        )
    detail = _words(number) if number else printable(str(report.get("detail", "")))
    return "UserSwitchFailed", f'switching to "{wanted}" failed: {detail}', ""


def _limits(vassal: Vassal, report: Mapping[str, Any], step: str, number: int) -> tuple[str, str, str]:
    detail = _words(number) if number else printable(str(report.get("detail", "")))
    if step == "nice":
        return (
            "NotPermitted",
            f"the niceness {vassal.launch.nice} can't be set: {detail}",
            "only root (CAP_SYS_NICE) may lower it below the present one",
        )
    name = printable(str(report.get("detail", ""))) or "nofile"
    words = _words(number) if number else "soft above hard"
    return (
        "NotPermitted",
        f"the limit {name} can't be set: {words}",
        "the soft limit may not exceed the hard one, and raising the hard one needs CAP_SYS_RESOURCE",
    )


def _words(number: int) -> str:
    return os.strerror(number) if number else "unknown error"
