"""What uWSGI does between its start and the program of a binary patch, for a machine that has no uWSGI.

Called by `child` in the new process, after it has found no uwsgi. The order is uWSGI's: mask and namespaces, commands
as root, the user, commands as the user. Two differences: `chdir`, which uWSGI carries out too late for the program,
counts; and the capabilities that are kept reach the program. Not in here: executing the program itself (`execute`).
"""

from __future__ import annotations

import os

from . import clone  # noqa: TID251
from .execute import STDERR, Steps  # noqa: TID251
from .lean import signal  # noqa: TID251
from .rights import drop, keep_capabilities, limit_capabilities  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any

    from .child import Frame  # noqa: TID251

__all__ = ["carry_out"]


def carry_out(patch: dict[str, Any], env: dict[str, str], frame: Frame, steps: Steps) -> None:
    """Become who and what the program is to be run as.

    Where there are commands, the launch counts as done before the first one, as they may take their time; one that
    fails ends this process with code 1. Raises OSError, Refused.
    """
    env = env | patch["env"]
    if patch["umask"] is not None:
        os.umask(patch["umask"])
    if patch["unshare"]:
        steps.now = "unshare"
        clone.unshare(patch["unshare"])
    if patch["as_root"] or patch["as_user"]:
        os.close(frame.status)
        frame.status = STDERR
    for command in patch["as_root"]:
        _run(command, env)
    kept = patch["capabilities"]
    if kept is not None:
        steps.now = "capabilities"
        limit_capabilities(kept)
    if patch["ids"] is not None:
        steps.now = "user"
        drop(*patch["ids"])
    if kept is not None:
        steps.now = "capabilities"
        keep_capabilities(kept)
    for command in patch["as_user"]:
        _run(command, env)
    if patch["cwd"] is not None:
        steps.now = "chdir"
        steps.facts["path"] = patch["cwd"]
        os.chdir(patch["cwd"])
        del steps.facts["path"]
    # The change of uid cleared it, and the Emperor may have died meanwhile.
    clone.die_with_parent()
    if frame.orphaned():
        os._exit(1)


def _run(command: str, env: dict[str, str]) -> None:
    """Run a command line to its end; leave with code 1 where it fails."""
    pid = os.fork()
    if pid == 0:
        try:
            clone.die_with_parent()
            os.execve("/bin/sh", ["/bin/sh", "-c", command], env)  # noqa: S606
        finally:
            os._exit(127)
    end = os.waitpid(pid, 0)[1]
    if end != 0:
        code = os.waitstatus_to_exitcode(end)
        how = f"exited with code {code}" if code > 0 else f"was killed by {_signal_name(-code)}"
        os.write(STDERR, f'the command "{command}" {how}\n'.encode(errors="surrogateescape"))
        os._exit(1)


def _signal_name(number: int) -> str:
    names = (name for name in dir(signal) if name.startswith("SIG") and not name.startswith("SIG_"))
    return next((name for name in names if getattr(signal, name) == number), f"signal {number}")
