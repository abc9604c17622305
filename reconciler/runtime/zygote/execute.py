"""Finding a program as execvp(3) does, and saying what was found where it can't be executed.

Called by `child`, `cells` and `patch` in the new process. The words for people are made by the Emperor
(`runtime.failures`).
"""

from __future__ import annotations

import errno
import os

from . import orders  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["STDERR", "Refused", "Steps", "find_and_execute", "report"]

STDERR = 2
"""Where failures go once the launch counts as done."""

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_REPORT_MAX = 4000


class Refused(Exception):
    """A step failed without an errno of its own."""


class Steps:
    """Where a new process is on its way to its program, and what is worth telling if that fails."""

    __slots__ = ("facts", "now")

    def __init__(self) -> None:
        self.now = "start"
        self.facts: dict[str, Any] = {}


def report(status: int, steps: Steps, error: BaseException) -> None:
    """Say over the status pipe what failed: in one write, as `orders.report` has it."""
    number = error.errno if isinstance(error, OSError) and error.errno is not None else 0
    facts = {"detail": "" if number else str(error)[:500], **steps.facts, "step": steps.now, "errno": number}
    data = orders.report(facts)
    if status == STDERR:
        data = f"{steps.now} failed: {error}\n".encode(errors="surrogateescape")
    elif len(data) > _REPORT_MAX:
        data = orders.report({"step": steps.now, "errno": number, "detail": ""})
    try:
        os.write(status, data)
    except OSError:
        pass


def find_and_execute(name: str, argv: list[str], env: dict[str, str], steps: Steps) -> NoReturn:
    """Become the program of this path, or of this name in PATH, called with `argv` but for its own name.

    Raises OSError, with what was found in `steps.facts`.
    """
    argv = [name, *argv[1:]]
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
