"""What the magic variables can say of this machine and this Emperor, asked once.

Called by `directory`, `globbing` and `validate` when a source is opened.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import time
from functools import cache
from importlib import metadata

from emperorctl.monitors.parsing import Facts
from emperorctl.monitors.placeholders import SHARED

__all__ = ["local_facts"]


@cache
def local_facts() -> Facts:
    """The facts of this process; the time is that of the first call."""
    return Facts(
        hostname=socket.gethostname(),
        version=_version(),
        cores=str(os.cpu_count() or 1),
        uid=str(os.getuid()),
        user=_user(os.getuid()),
        gid=str(os.getgid()),
        group=_group(os.getgid()),
        time=time.time(),
        environ={name: os.environ[name] for name in SHARED if name in os.environ},
    )


def _version() -> str:
    try:
        return metadata.version("emperorctl")
    except metadata.PackageNotFoundError:  # run from a working tree
        return ""


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
