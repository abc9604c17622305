"""Variables whose values lie in files: read by the new process itself, with no more rights than the program will have.

Called by `child`, as the last thing before the program. Nobody else ever has these values: not the Emperor, nor the
zygote. Nothing of a file's content gets into a report.
"""

from __future__ import annotations

import os
import stat

from .execute import Refused, Steps  # noqa: TID251
from .lean import signal  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SECRET_MAX", "read_secrets"]

SECRET_MAX = 64 * 1024
"""The longest value, in bytes."""
_PATIENCE = 5.0


def read_secrets(order: dict[str, Any], steps: Steps) -> None:
    """Put the values into the order's environment, each without a newline at its end. Raises OSError, Refused.

    A file system that does not answer ends this process (SIGALRM): nothing else would wake it.
    """
    steps.now = "secrets"
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    for name, path in order["secrets"]:
        steps.facts.update(variable=name, path=path)
        order["env"][name] = os.fsdecode(_content(path))
    signal.setitimer(signal.ITIMER_REAL, 0)
    steps.facts.clear()


def _content(path: str) -> bytes:
    # Not to wait for whoever writes into a FIFO, nor to get a terminal by it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Refused("it is not a regular file")
        data = b""
        while len(data) <= SECRET_MAX + 1 and (part := os.read(fd, SECRET_MAX + 2 - len(data))):
            data += part
    finally:
        os.close(fd)
    data = data.removesuffix(b"\n")
    if len(data) > SECRET_MAX:
        raise Refused(f"it is longer than {SECRET_MAX} bytes")
    if b"\0" in data:
        raise Refused("it holds a NUL character")
    return data
