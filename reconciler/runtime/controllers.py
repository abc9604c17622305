"""Where this host lets us limit memory, processor time, processes and disks: controllers of cgroup v2, or of v1.

Used by `limiting`. A controller is on one of the two; on v2 it has to be handed down from our own cgroup, which needs
that no process sits in there, the Emperor's own included. Not in here: what a launch's limits are, and `cgroups`'
containment, which needs no controller.
"""

from __future__ import annotations

import os

from emperorctl.models.names import printable
from emperorctl.reconciler.runtime.cgroups import LEAF, Place, remove
from emperorctl.reconciler.runtime.zygote import kernel, procfs

__all__ = [
    "FILES_V1",
    "FILES_V2",
    "Unavailable",
    "controllers_v2",
    "delegated",
    "enable",
    "handed_down",
    "hierarchies",
    "make_root",
]

FILES_V2 = {"memory": "memory.max", "cpu": "cpu.max", "pids": "pids.max", "io": "io.weight"}
"""What has to be there for a kind of limit, below a cgroup whose parent hands the controller down."""
FILES_V1 = {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "pids": "pids.max"}
_DELEGATED = ("user.delegate", "trusted.delegate")
_UNIT = "run the Emperor as a systemd service with Delegate=yes, such as examples/emperorctl.service"


class Unavailable(Exception):
    """A controller can't be used here: why, and what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message, self.remedy = message, remedy


def controllers_v2(place: Place | None) -> frozenset[str]:
    """What our own cgroup could hand down, if it is allowed to."""
    return frozenset(_words(f"{place.directory}/cgroup.controllers")) if place is not None else frozenset()


def handed_down(directory: str) -> frozenset[str]:
    """What cgroups made in this one have already."""
    return frozenset(_words(f"{directory}/cgroup.subtree_control"))


def hierarchies() -> dict[str, str]:
    """Our own directory in each writable cgroup v1 hierarchy, by the kind of limit."""
    own: dict[str, str] = {}
    for line in kernel.text("/proc/self/cgroup").splitlines():
        names, path = line.partition(":")[2].split(":", 1)
        own |= {name: path for name in names.split(",") if name in FILES_V1}
    found: dict[str, str] = {}
    for line in kernel.text("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        if not rest.startswith("cgroup "):
            continue
        words = fields.split(" ")
        for name in own.keys() & set(rest.split(" ")[2].split(",")) - found.keys():
            inside = own[name] if words[3] == "/" else own[name].removeprefix(words[3])
            directory = words[4] + inside.rstrip("/")
            if os.access(directory, os.W_OK):
                found[name] = directory
    return found


def make_root(directory: str, instance: str) -> str:
    """A directory of our own in a hierarchy, named as those on v2; empty ones of earlier times go. Raises OSError."""
    prefix = f"{directory}/emperorctl-{instance}-"
    for entry in sorted(os.listdir(directory)):
        if entry.startswith(os.path.basename(prefix)):
            remove(f"{directory}/{entry}")
    number = 1
    while True:
        try:
            os.mkdir(f"{prefix}{number}", 0o755)
            return f"{prefix}{number}"
        except FileExistsError:
            number += 1


def delegated(directory: str) -> bool:
    """Whether whoever manages this cgroup has left its inside to us: the service manager says so, or there is none."""
    if os.getpid() == 1 or _is_top(directory):
        return True
    for name in _DELEGATED:
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            continue
    return False


def enable(directory: str, root: str, kinds: frozenset[str], ours: frozenset[int]) -> None:
    """Hand these controllers of cgroup v2 down from our own cgroup to those made in `root`, which lies in it.

    `ours` are the processes that may be moved out of the way, with all their children. Raises Unavailable.
    """
    words = " ".join(sorted(kinds))
    if missing := kinds - set(_words(f"{directory}/cgroup.controllers")):
        raise Unavailable(f"the Emperor's control group has no controller {', '.join(sorted(missing))}", _UNIT)
    try:
        if kinds - set(_words(f"{directory}/cgroup.subtree_control")):
            if not _is_top(directory):
                _make_room(directory, ours)
            _hand_down(directory, kinds)
        _hand_down(root, kinds)
    except OSError as error:
        raise Unavailable(f"the controllers {words} can't be handed down: {error.strerror}", _UNIT) from None


def _make_room(directory: str, ours: frozenset[int]) -> None:
    """The kernel wants no process where controllers are handed down: move into a leaf. Raises Unavailable, OSError."""
    if not _words(f"{directory}/cgroup.procs"):
        return
    if not delegated(directory):
        raise Unavailable("the Emperor's control group is not its own to divide", _UNIT)
    leaf = f"{directory}/{LEAF}"
    for _ in range(10):
        inside = [int(word) for word in _words(f"{directory}/cgroup.procs")]
        if not inside:
            return
        for pid in inside:
            entry = procfs.stat(pid)
            if entry is None:
                continue
            if pid not in ours and entry.parent not in ours:
                raise Unavailable(f"process {pid} ({printable(entry.name)}) is in the Emperor's control group", _UNIT)
            if not os.path.isdir(leaf):
                os.mkdir(leaf, 0o755)
            try:
                kernel.put(f"{leaf}/cgroup.procs", str(pid))
            except ProcessLookupError:
                continue
    raise Unavailable("the Emperor's control group does not become empty", _UNIT)


def _hand_down(directory: str, kinds: frozenset[str]) -> None:
    kernel.put(f"{directory}/cgroup.subtree_control", " ".join(f"+{kind}" for kind in sorted(kinds)))


def _is_top(directory: str) -> bool:
    """Whether this is the very root of cgroup v2, where processes are in nobody's way."""
    return os.path.exists(f"{directory}/cgroup.procs") and not os.path.exists(f"{directory}/cgroup.events")


def _words(path: str) -> list[str]:
    return kernel.text(path).split()
