"""The directories and files of one source as last seen, and what has to be watched for them.

Owned by one `files.FileMonitor`. It lists and compares and translates hints into places to look at; it reads no file,
publishes nothing, and concludes nothing from what it can't list.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from emperorctl.models.errors import Problem
from emperorctl.models.source import FileReport
from emperorctl.monitors.layout import Layout
from emperorctl.monitors.on_demand import OnDemandRule
from emperorctl.monitors.reading import Fingerprint, look
from emperorctl.monitors.watch.base import Watcher
from emperorctl.monitors.watch.tracing import StepKind, trace

__all__ = ["File", "Findings", "Folder", "Tree"]

_RACY = 50_000_000  # ns; a second change within the clock's tick would leave the fingerprint as it is
_Spot = tuple[str, str]  # a watched path, and the name of an entry in it ("": the path itself)


@dataclass(slots=True, eq=False)
class File:
    """One file of a source. `report` is what was last published of it, `turn` counts how often it was looked at.

    `beside` is the fingerprint of the file that holds its on-demand address. `busy_since`: the loop time at which
    somebody was first found writing it.
    """

    folder: Folder
    name: str
    shown: str
    fingerprint: Fingerprint | None = None
    beside: Fingerprint | None = None
    report: FileReport | None = None
    turn: int = 0
    racy: bool = False
    busy_since: float | None = None
    spots: frozenset[_Spot] = frozenset()

    @property
    def path(self) -> str:
        """The absolute path, as the file system needs it."""
        return os.path.join(self.folder.path, self.name)

    def remember(self, fingerprint: Fingerprint) -> None:
        """It was looked into just now, with this fingerprint."""
        self.fingerprint = fingerprint
        newest = max(fingerprint.mtime, fingerprint.ctime, fingerprint.link_mtime)
        self.racy = time.time_ns() - newest < _RACY


@dataclass(slots=True, eq=False)
class Folder:
    """One directory of a source; on the last level its `files` count, above it its `folders`."""

    path: str
    level: int
    parent: Folder | None
    identity: tuple[int, int] | None = None
    files: dict[str, File] = field(default_factory=dict)
    folders: dict[str, Folder] = field(default_factory=dict)
    spots: frozenset[_Spot] = frozenset()


@dataclass(slots=True)
class Findings:
    """What a listing found: files that differ, files that seem to be gone, and why the source can't be listed.

    `replaced`: the source's own directory is another one than before.
    """

    changed: list[File] = field(default_factory=list)
    absent: list[File] = field(default_factory=list)
    trouble: Problem | None = None
    replaced: bool = False


class Tree:
    """`breathe` is awaited now and then during long listings, so that the event loop stays alive."""

    def __init__(self, layout: Layout, breathe: Callable[[], Awaitable[None]], on_demand: OnDemandRule) -> None:
        self.layout = layout
        self._on_demand = on_demand
        self.root = Folder(layout.root, 0, None)
        self.folders: dict[str, Folder] = {layout.root: self.root}
        self.watcher: Watcher | None = None
        self._breathe = breathe
        self._routes: dict[_Spot, set[File | Folder]] = defaultdict(set)
        self._routed: Counter[str] = Counter()  # names routed in each directory

    def files(self, folder: Folder | None = None) -> Iterator[File]:
        """Every file that is known, below one folder or altogether."""
        folder = folder or self.root
        yield from folder.files.values()
        for below in folder.folders.values():
            yield from self.files(below)

    def routes(self, path: str, name: str) -> tuple[File | Folder, ...]:
        """What depends on an entry that lies elsewhere: links through it, the source's own path."""
        return tuple(self._routes.get((path, name), ()))

    def file(self, folder: Folder, name: str) -> File:
        """The file of that name, made known if it was not."""
        known = folder.files.get(name)
        if known is None:
            known = folder.files[name] = File(folder, name, self.layout.shown(os.path.join(folder.path, name)))
        return known

    def forget(self, file: File) -> None:
        """The file is gone; its folder too, if nothing is left of either."""
        self._follow(file, frozenset())
        file.turn += 1
        file.folder.files.pop(file.name, None)

    def forget_folder(self, folder: Folder) -> None:
        """A directory below the root, all of whose files were forgotten, is gone."""
        if folder.parent is None:
            return
        for below in tuple(folder.folders.values()):
            self.forget_folder(below)
        self._follow(folder, frozenset())
        self.folders.pop(folder.path, None)
        if self.watcher is not None and not self._routed[folder.path]:
            self.watcher.drop_entries(folder.path)
        if folder.parent.folders.get(os.path.basename(folder.path)) is folder:
            del folder.parent.folders[os.path.basename(folder.path)]

    def use(self, watcher: Watcher) -> None:
        """Watch with another watcher from now on; a listing and a look at every link set its watches."""
        if self.watcher is not None:
            self.watcher.close()
        self.watcher = watcher
        self._routes.clear()
        self._routed.clear()
        for file in self.files():
            if file.spots:
                file.spots, file.fingerprint = frozenset(), None
        for folder in self.folders.values():
            folder.spots = frozenset()

    async def list_all(self) -> Findings:
        """Compare everything with what was last seen."""
        findings = Findings()
        before = self.root.identity
        self.follow_folder(self.root)
        await self.list_folder(self.root, findings)
        findings.replaced = before is not None and before != self.root.identity
        return findings

    async def list_folder(self, folder: Folder, findings: Findings) -> None:
        """Compare one directory and what lies below it. Raises WatchExhausted."""
        if self.watcher is not None:  # before the listing: what changes from here on is seen
            self.watcher.entries(folder.path)
        level, literal = folder.level, self.layout.literal(folder.level)
        try:
            flags = os.O_DIRECTORY | os.O_CLOEXEC | (os.O_RDONLY if literal is None else os.O_PATH)
            fd = os.open(folder.path, flags)
        except OSError as error:
            self._unlistable(folder, error, findings)
            return
        try:
            about = os.fstat(fd)
            identity = (about.st_dev, about.st_ino)
            names = [literal] if literal is not None else os.listdir(fd)
            if folder is self.root and not names and self._unmounted(identity):
                findings.trouble = _unmounted_problem(folder.path)
                return
            folder.identity = identity
            # In order: of several files that claim one name, the same is the first at every start.
            names = sorted(name for name in names if self.layout.fits(level, name))
            if level == self.layout.depth:
                await self._compare_files(folder, fd, names, findings)
            else:
                await self._compare_folders(folder, names, findings)
        except OSError as error:  # a listing cut short is no listing
            self._unlistable(folder, error, findings)
        finally:
            os.close(fd)

    async def list_child(self, folder: Folder, name: str, findings: Findings) -> None:
        """Look at one entry of a directory above the last level: come, gone or replaced."""
        path = os.path.join(folder.path, name)
        known = folder.folders.get(name)
        if os.path.isdir(path):
            if known is None:
                known = folder.folders[name] = self.folders[path] = Folder(path, folder.level + 1, folder)
            if os.path.islink(path):
                self.follow_folder(known)
            await self.list_folder(known, findings)
        elif known is not None:
            self._left(known, findings)

    def follow_link(self, file: File, link: bool) -> None:
        """Watch everything that decides what a link leads to. Raises WatchExhausted."""
        if link or file.spots:
            self._follow(file, self._spots(file.path, self.root.spots) if link else frozenset())

    def follow_folder(self, folder: Folder) -> None:
        """Watch everything along a directory's path, but not its entries. Raises WatchExhausted."""
        spots = self._spots(folder.path, frozenset())
        if self.watcher is not None and self.watcher.entries(folder.path):
            # The directory is watched along with its entries; watching its parent would only be noise.
            spots = frozenset(spot for spot in spots if not spot[1])
        self._follow(folder, spots)

    def _spots(self, path: str, known: frozenset[_Spot]) -> frozenset[_Spot]:
        spots = set()
        for step in trace(path):
            if step.kind in (StepKind.DIRECTORY, StepKind.LINK):
                spots.add((step.path, ""))
            else:
                spots.add((step.parent, step.name))
        return frozenset(spots - known)

    def _follow(self, target: File | Folder, spots: frozenset[_Spot]) -> None:
        if self.watcher is None:
            return
        for spot in spots:
            if spot not in self._routes:
                self._routed[spot[0]] += bool(spot[1])
            self._routes[spot].add(target)
            # Also where it is watched already: the path may lead to another inode now.
            if spot[1]:
                self.watcher.entries(spot[0])
            else:
                self.watcher.itself(spot[0])
        for spot in target.spots - spots:
            self._unroute(spot, target)
        target.spots = spots

    def _unroute(self, spot: _Spot, target: File | Folder) -> None:
        assert self.watcher is not None
        targets = self._routes.get(spot)
        if targets is None:
            return
        targets.discard(target)
        if targets:
            return
        del self._routes[spot]
        path, name = spot
        if not name:
            self.watcher.drop_itself(path)
            return
        self._routed[path] -= 1
        if not self._routed[path]:
            del self._routed[path]
            if path not in self.folders:
                self.watcher.drop_entries(path)

    async def _compare_files(self, folder: Folder, fd: int, names: list[str], findings: Findings) -> None:
        known = folder.files
        for count, name in enumerate(names):
            if count & 127 == 127:
                await self._breathe()
            seen = look(fd, name)
            if seen is None:
                continue
            file = known.get(name)
            if file is None:
                file = self.file(folder, name)
            if seen[0] != file.fingerprint or file.racy or self._on_demand.fingerprint(fd, name) != file.beside:
                findings.changed.append(file)
        if len(known) > len(names):
            here = set(names)
            findings.absent.extend(file for name, file in known.items() if name not in here)
        elif folder.level == self.layout.depth and self.layout.literal(folder.level) is not None:
            findings.absent.extend(file for file in known.values() if look(fd, file.name) is None)

    async def _compare_folders(self, folder: Folder, names: list[str], findings: Findings) -> None:
        for name in names:
            await self._breathe()
            await self.list_child(folder, name, findings)
        here = set(names)
        for name, below in tuple(folder.folders.items()):
            if name not in here:
                self._left(below, findings)

    def _left(self, folder: Folder, findings: Findings) -> None:
        files = list(self.files(folder))
        findings.absent.extend(files)
        if not files:
            self.forget_folder(folder)

    def _unlistable(self, folder: Folder, error: OSError, findings: Findings) -> None:
        if folder is self.root:
            findings.trouble = _trouble(folder.path, error)
        elif error.errno in (errno.ENOENT, errno.ENOTDIR):
            self._left(folder, findings)
        else:  # what is known there stays, and says why
            findings.changed.extend(self.files(folder))

    def _unmounted(self, identity: tuple[int, int]) -> bool:
        known = self.root.identity
        return known is not None and known[0] != identity[0] and next(self.files(), None) is not None


def _unmounted_problem(path: str) -> Problem:
    return Problem(
        "Unmounted",
        "is empty now and on another file system than before",
        "mount it again; if it is meant to be empty, restart the Emperor",
        file=path,
    )


def _trouble(path: str, error: OSError) -> Problem:
    match error.errno:
        case errno.ENOENT:
            return Problem("SourceMissing", "does not exist", "create the directory; it is watched for", file=path)
        case errno.ENOTDIR:
            return Problem("NotADirectory", "is not a directory", "give a directory or a pattern", file=path)
        case errno.EACCES | errno.EPERM:
            message = f"may not be listed by user id {os.geteuid()}"
            return Problem("PermissionDenied", message, "give it read and search permission", file=path)
        case errno.ELOOP:
            return Problem(
                "LinkLoop", "is a link that leads back to itself", "point the link at a directory", file=path
            )
    message = f"can't be listed: {os.strerror(error.errno or 0)}"
    return Problem("Unreadable", message, "see the system's log", file=path)
