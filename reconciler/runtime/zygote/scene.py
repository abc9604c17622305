"""What a vassal sees of the file system: its own mount namespace, arranged as the order says.

Called by `cells` in the new process, which has a mount namespace of its own and still the Emperor's rights (or, in a
user namespace, all rights there). Sources of binds are opened with the rights of the vassal's user, so that nobody is
shown what they could not have reached; all else is found as `mounting` finds it.
"""

from __future__ import annotations

import errno
import os
import stat

from .execute import Refused, Steps  # noqa: TID251
from .lean import TOLERANT  # noqa: TID251
from .mounting import (  # noqa: TID251
    NODEV,
    NOEXEC,
    NOSUID,
    RDONLY,
    Untrusted,
    attach,
    change,
    copy_tree,
    find,
    make_private,
    new_file_system,
    swap_root,
    unmount,
)

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any

__all__ = ["arrange"]

_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108
_TMP_OPTIONS = {"mode": "1777", "size": "10%"}
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_KERNELS = ("/dev", "/proc", "/sys")
"""What stays writable where everything else is not: there are no files of anybody's."""
_TTY_GROUP = 5


_OWN_FIELDS = frozenset({"readOnlyPaths", "readWritePaths", "inaccessiblePaths", "bindPaths"})


class _OutOfReach(Exception):
    """Nothing usable lies there, in a place where the vassal's user may not look: he is not told."""


def arrange(plan: dict[str, Any], steps: Steps) -> None:
    """Make the namespace as `plan` says (see `runtime.confinement`). Raises OSError, Refused; `steps.facts` says of
    which path."""
    steps.now = "mounts"
    make_private()
    _Scene(plan, steps).make()


class _Scene:
    """The namespace under way. `_top` is the mount that is or becomes its root."""

    def __init__(self, plan: dict[str, Any], steps: Steps) -> None:
        self._plan = plan
        self._steps = steps
        self._top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._trusted = {0, plan["emperor"]}
        self._ours: set[int] = set()
        """Device numbers of our own empty file systems, in which places may be made."""

    def make(self) -> None:
        plan = self._plan
        here = os.getcwd()
        # Before anything covers them: they are the host's.
        binds = [(self._source(source), target, read_only) for source, target, read_only in plan["binds"]]
        notify = copy_tree(self._find("notify", plan["notify"])) if plan["notify"] else -1
        devices = self._host_devices() if plan["dev"] and plan["user"] else {}
        if plan["root"]:
            place = self._find("chroot", plan["root"])
            tree = copy_tree(place)
            attach(tree, place)
            self._top = tree
        if plan["tmp"]:
            self._temporary()
        if plan["proc"]:
            attach(new_file_system("proc", NOSUID | NODEV | NOEXEC), self._find("proc", "/proc"))
        if plan["dev"]:
            self._dev(devices)
        self._limit_writing()
        for tree, target, read_only in sorted(binds, key=lambda bind: bind[1].count("/")):
            if read_only:
                change(tree, RDONLY)
            try:
                self._bind(tree, target)
            except _OutOfReach:
                continue
        if notify >= 0 and self._is_covered(plan["notify"]):
            attach(notify, self._find("notify", plan["notify"], make=notify))
        self._hide()
        if plan["root"]:
            self._steps.now = "chroot"
            swap_root(self._top)
        # The directory that it stands in may be one that has just been covered.
        try:
            os.chdir("/" if plan["root"] else here)
        except OSError:
            os.chdir("/")

    # --- finding ---

    def _find(self, what: str, path: str, make: int = -1) -> int:
        """What lies there; where nothing does, in a file system of our own, something like `make`."""
        self._steps.now = "mounts"
        self._steps.facts |= {"field": what, "path": path}
        try:
            return find(self._top, path, trusted=self._trusted)
        except (Untrusted, FileNotFoundError, NotADirectoryError) as error:
            if what in _OWN_FIELDS and not self._is_in_reach(path):
                raise _OutOfReach from None
            if isinstance(error, Untrusted):
                self._steps.facts["link"] = str(error)
                raise Refused("an untrusted link is in the way") from None
            if make < 0 or isinstance(error, NotADirectoryError):
                raise
            return self._made(path, os.fstat(make).st_mode)

    def _is_in_reach(self, path: str) -> bool:
        """Whether the vassal's user can find out for himself what lies there, or that nothing does."""
        with _RightsOf(self._plan["ids"]):
            try:
                os.close(find(self._top, path, trusted=self._trusted))
            except PermissionError:
                return False
            except (OSError, Untrusted):
                pass
        return True

    def _made(self, path: str, mode: int) -> int:
        """The place, made: directories on the way, then a directory or a file."""
        *parents, last = [part for part in path.split("/") if part]
        here = os.dup(self._top)
        for part in parents:
            here = self._step(here, part)
        if os.fstat(here).st_dev not in self._ours:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if stat.S_ISDIR(mode):
            os.mkdir(last, 0o755, dir_fd=here)
        else:
            os.close(os.open(last, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=here))
        return os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)

    def _step(self, here: int, part: str) -> int:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            return os.open(part, flags, dir_fd=here)
        except FileNotFoundError:
            if os.fstat(here).st_dev not in self._ours:
                raise
        os.mkdir(part, 0o755, dir_fd=here)
        return os.open(part, flags, dir_fd=here)

    def _is_covered(self, path: str) -> bool:
        try:
            os.close(self._find("notify", path))
        except FileNotFoundError:
            return True
        return False

    def _source(self, path: str) -> int:
        """A tree of the host's, reached as the vassal's user would reach it."""
        ids = self._plan["ids"]
        own = () if ids is None else (ids[0],)
        self._steps.facts |= {"field": "bindPaths", "path": path}
        with _RightsOf(ids):
            try:
                fd = find(self._top, path, trusted=self._trusted, own=own)
            except Untrusted as link:
                self._steps.facts["link"] = str(link)
                raise Refused("an untrusted link is in the way") from None
        return copy_tree(fd)

    # --- the parts ---

    def _bind(self, tree: int, target: str) -> None:
        place = self._find("bindPaths", target, make=tree)
        try:
            attach(tree, place)
        except OSError:  # a file over a directory, or the other way round
            if self._is_in_reach(target):
                raise

    def _temporary(self) -> None:
        for path in _TEMPORARY:
            try:
                place = self._find("privateTmp", path)
            except FileNotFoundError:
                continue
            self._attach_ours("tmpfs", NOSUID | NODEV, place, _TMP_OPTIONS)

    def _attach_ours(self, kind: str, attributes: int, place: int, options: dict[str, str]) -> int:
        tree = new_file_system(kind, attributes, **options)
        attach(tree, place)
        self._ours.add(os.fstat(tree).st_dev)
        return tree

    def _host_devices(self) -> dict[str, int]:
        """In a user namespace no device can be made: the host's are shown."""
        return {name: copy_tree(self._find("privateDevices", f"/dev/{name}")) for name in _DEVICES}

    def _dev(self, shown: dict[str, int]) -> None:
        log = None
        with TOLERANT:
            log = os.readlink("/dev/log")
        place = self._find("privateDevices", "/dev")
        dev = self._attach_ours("tmpfs", NOSUID | NOEXEC, place, {"mode": "755", "size": "1m"})
        mask = os.umask(0)
        for name, (major, minor) in _DEVICES.items():
            if name in shown:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=dev))
                attach(shown[name], os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=dev))
            else:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
        for name, target in (_DEVICE_LINKS | ({"log": log} if log else {})).items():
            os.symlink(target, name, dir_fd=dev)
        for name in ("pts", "shm"):
            os.mkdir(name, 0o755, dir_fd=dev)
        os.umask(mask)
        options = {"ptmxmode": "0666", "mode": "0620"} | ({} if self._plan["user"] else {"gid": str(_TTY_GROUP)})
        attach(
            new_file_system("devpts", NOSUID | NOEXEC, **options), os.open("pts", os.O_PATH | os.O_CLOEXEC, dir_fd=dev)
        )
        shm = os.open("shm", os.O_PATH | os.O_CLOEXEC, dir_fd=dev)
        self._attach_ours("tmpfs", NOSUID | NODEV, shm, _TMP_OPTIONS)
        change(dev, RDONLY, deep=False)

    def _limit_writing(self) -> None:
        """Copies first, all of them as the host has them; then from the outside in."""
        trees: list[tuple[str, int]] = []
        everything = False
        for field, paths in (("readOnlyPaths", self._plan["ro"]), ("readWritePaths", self._plan["rw"])):
            for path in paths:
                if path == "/":
                    everything = True
                    continue
                try:
                    tree = copy_tree(self._find(field, path))
                except _OutOfReach:
                    continue
                if field == "readOnlyPaths":
                    change(tree, RDONLY)
                trees.append((path, tree))
        if everything:
            spared = []
            for path in (*_KERNELS, *(_TEMPORARY if self._plan["tmp"] else ())):
                try:
                    spared.append((path, copy_tree(self._find("readOnlyPaths", path))))
                except FileNotFoundError:
                    continue
            self._steps.facts["path"] = "/"
            change(self._top, RDONLY)
            trees += [(path, tree) for path, tree in spared if path not in self._plan["ro"]]
        for path, tree in sorted(trees, key=lambda item: item[0].count("/")):
            attach(tree, self._find("readOnlyPaths", path))

    def _hide(self) -> None:
        paths = [path for path in self._plan["hide"] if not _within(path, self._plan["hide"])]
        empty = -1
        for path in sorted(paths):
            try:
                place = self._find("inaccessiblePaths", path)
            except _OutOfReach:
                continue
            if stat.S_ISDIR(os.fstat(place).st_mode):
                tree = new_file_system("tmpfs", RDONLY | NOSUID | NODEV | NOEXEC, mode="000", size="4k")
            else:
                empty = empty if empty >= 0 else self._empty_file()
                tree = copy_tree(empty)
                change(tree, RDONLY | NOSUID | NODEV | NOEXEC)
            attach(tree, place)
        if empty >= 0:
            unmount(b"/proc")

    def _empty_file(self) -> int:
        """A file that nobody may open. Only of what is attached there can be copies: so it lies over /proc for now."""
        scratch = new_file_system("tmpfs", NOSUID | NODEV | NOEXEC, mode="700", size="4k")
        os.close(os.open("empty", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o000, dir_fd=scratch))
        attach(scratch, os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return os.open("empty", os.O_PATH | os.O_CLOEXEC, dir_fd=scratch)


def _within(path: str, others: list[str]) -> bool:
    return any(path.startswith(f"{other}/") for other in others)


class _RightsOf:
    """Within it, the effective rights of the vassal's user; the capabilities come back with the uid."""

    def __init__(self, ids: list[Any] | None) -> None:
        self._ids = ids if os.geteuid() == 0 else None
        self._before = (0, list[int]())

    def __enter__(self) -> None:
        if self._ids is not None:
            uid, gid, groups = self._ids
            self._before = os.getegid(), os.getgroups()
            os.setgroups(groups)
            os.setegid(gid)
            os.seteuid(uid)

    def __exit__(self, *_: object) -> None:
        if self._ids is not None:
            os.seteuid(0)
            os.setegid(self._before[0])
            os.setgroups(self._before[1])
