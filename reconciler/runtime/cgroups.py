"""Containment by cgroup v2: one cgroup per launch, with a generated name, never used again.

Used by `host` (containment) and `leftovers`. No controller is used, so it works beside controllers on cgroup v1, and
in a subtree delegated to an ordinary user. A cgroup that was ever killed kills what is cloned into it: hence never
used again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emperorctl.reconciler.runtime.containment import Contained
from emperorctl.reconciler.runtime.launcher import Fate
from emperorctl.reconciler.runtime.zygote import kernel, procfs

__all__ = ["LEAF", "Cgroups", "Place", "find_place", "kill", "members", "old_roots", "remove"]

PREFIX = "emperorctl-"
LEAF = "emperorctl.self"
"""Where the Emperor itself goes when its cgroup has to be empty, for controllers to be handed down from it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where our cgroups may be made: `directory` on the file system, `path` within the hierarchy."""

    directory: str
    path: str


def find_place() -> Place | None:
    """Our own cgroup, if it is a writable cgroup v2 (the unified mount of a hybrid system included)."""
    own = ""
    for line in kernel.text("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            own = line[3:].removesuffix(f"/{LEAF}") or "/"
    if not own.startswith("/") or "/.." in own:
        return None
    for line in kernel.text("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        if not rest.startswith("cgroup2 "):
            continue
        words = fields.split(" ")
        root, mount = _unescaped(words[3]), _unescaped(words[4])
        inside = own if root == "/" else own.removeprefix(root)
        if root != "/" and inside == own:
            continue
        directory = mount + inside.rstrip("/")
        if os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK):
            return Place(directory, own.rstrip("/"))
    return None


def old_roots(place: Place, instance: str) -> list[str]:
    """Directories that Emperors of this instance made here."""
    prefix = f"{PREFIX}{instance}-"
    try:
        entries = os.listdir(place.directory)
    except OSError:
        return []
    return [f"{place.directory}/{entry}" for entry in sorted(entries) if entry.startswith(prefix)]


def members(directory: str) -> list[int]:
    """Every process in this cgroup and below it."""
    found: list[int] = []
    for inner, _, _ in os.walk(directory):
        found.extend(int(word) for word in kernel.text(f"{inner}/cgroup.procs").split())
    return found


def kill(directory: str) -> bool:
    """SIGKILL for everything in this cgroup and below it. False when it is gone."""
    try:
        kernel.put(f"{directory}/cgroup.kill", "1")
    except OSError:
        return False
    return True


def remove(directory: str) -> bool:
    """Remove an empty cgroup with all in it. False while something is still dying there."""
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass
    for inner, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(inner)
    return not os.path.exists(directory)


class Cgroups:
    """All launches of one Emperor, in one cgroup made for it."""

    kind = "cgroup"

    def __init__(self, root: str, is_known: Callable[[int], bool]) -> None:
        self.root = root
        self._is_known = is_known

    @classmethod
    def make(cls, place: Place, instance: str, is_known: Callable[[int], bool]) -> Cgroups | None:
        """Make the root cgroup; None where that is not possible or the kernel has no `cgroup.kill` (before 5.14)."""
        for number in range(1, 10_000):
            root = f"{place.directory}/{PREFIX}{instance}-{number}"
            try:
                os.mkdir(root, 0o755)
            except FileExistsError:
                continue
            except OSError:
                return None
            if os.access(f"{root}/cgroup.kill", os.W_OK):
                return cls(root, is_known)
            remove(root)
            return None
        return None

    def place(self, order_id: int) -> str:
        """A name that nobody has had before and nobody else can choose."""
        return f"{self.root}/{order_id}"

    def kill(self, launch: Contained) -> None:
        """One write."""
        kill(self.place(launch.id))

    def clear(self, launches: Sequence[Contained]) -> set[int]:
        """Usually one rmdir each, which succeeds only where nothing is left."""
        return {launch.id for launch in launches if self._cleared(self.place(launch.id))}

    def _cleared(self, directory: str) -> bool:
        try:
            os.rmdir(directory)
            return True
        except FileNotFoundError:
            return True
        except OSError:
            kill(directory)
        return remove(directory)

    def fate(self, launch: Contained) -> tuple[Fate, int]:
        """A child of ours in its cgroup decides; so does a zombie, which only its /proc entry still places."""
        directory = self.place(launch.id)
        me = os.getpid()
        for pid in members(directory):
            entry = procfs.stat(pid)
            if entry is not None and entry.parent == me and entry.name != procfs.KEEPER_NAME:
                return (Fate.STARTING if entry.name == procfs.ZYGOTE_NAME else Fate.STARTED), pid
        suffix = directory.removeprefix(os.path.dirname(self.root))
        for pid in procfs.children(me) or ():
            entry = procfs.stat(pid)
            if self._is_known(pid) or entry is None or entry.name == procfs.KEEPER_NAME:
                continue
            if kernel.text(f"/proc/{pid}/cgroup").rstrip().endswith(suffix):
                return Fate.STARTED, pid
        return Fate.NOT_STARTED, 0

    def close(self) -> None:
        """The zygote does this too, whoever is last."""
        remove(self.root)


def _unescaped(field: str) -> str:
    r"""A mountinfo field: space, tab, newline and backslash are written as `\040` and so on."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field
