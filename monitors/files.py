"""The monitor behind dir:// and glob://: lists, reads, parses, publishes, and watches for what changes.

Made by `directory.open_directory` and `globbing.open_glob`. Where to look is the `tree`'s matter, when is
`pending`'s, what the bytes mean is `parsing`'s. Every hint only leads to another look, and what is published is
the difference to what was published before: a lost or doubled hint does no harm.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import defaultdict
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from emperorctl.models.errors import Problem
from emperorctl.models.manifest import FORMATS
from emperorctl.models.merging import Layers
from emperorctl.models.source import Change, FileReport, Trouble
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import Owner
from emperorctl.monitors.base import MonitorContext
from emperorctl.monitors.entrance import Entrance
from emperorctl.monitors.gate import PLACE_REASONS, Ground
from emperorctl.monitors.layout import Layout
from emperorctl.monitors.on_demand import OnDemandRule
from emperorctl.monitors.parsing import Order, Parsed, Setting, parse, refused_name, unparsed
from emperorctl.monitors.pending import Pending
from emperorctl.monitors.reading import NATIVE_LIMIT, UWSGI_LIMIT, Busy, Content, Entry, Gone, Unusable, look, only_ours
from emperorctl.monitors.tree import File, Findings, Folder, Tree
from emperorctl.monitors.watch.base import Hint, WatchExhausted
from emperorctl.monitors.watch.choice import file_system, fitting
from emperorctl.monitors.watch.polling import PollingWatcher

__all__ = ["FileMonitor"]

_SLICE = 0.010  # seconds of work before the loop may breathe
_BUSY_LOOK = 0.25  # a file that is being written is looked at again this often …
_BUSY_LIMIT = 5.0  # … and read anyway after this long
_SWAPPED = 0.1  # after a directory was replaced, files still missing have this long to turn up
_STRANGERS_FIRST = 3.0  # the first listing waits this long for files that are parsed outside
_GATHER = 0.002  # results from outside are published together
_SMALL = 64 * 1024
_SMALL_TOML = 4 * 1024  # tomllib is quadratic: 40 KB can burn eight seconds

_Look = tuple[Folder, str]
"""A folder and the name of a file or folder in it; an empty name is the folder itself."""
_Strangers = dict[File, tuple[int, Content, Order]]
"""Files to be parsed outside: as of which turn, and what they hold."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a report says of a file besides what it holds; see `FileReport`."""

    touch: tuple[int, int]
    digest: str = ""
    owner: Owner | None = None


class FileMonitor:
    """See `base.Monitor`."""

    def __init__(self, layout: Layout, setting: Setting, context: MonitorContext) -> None:
        self.source = layout.source
        self.working_dir = setting.working_dir
        self._layout = layout
        self._setting = setting
        self._context = context
        self._on_demand = OnDemandRule(setting.run)
        self._tree = Tree(layout, self._breathe, self._on_demand)
        self._entrance = Entrance(context, layout.source, layout.root)
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._looks: Pending[_Look] = Pending(self._wake.set)
        self._outside: set[asyncio.Task[None]] = set()
        self._strangers: dict[int, _Strangers] = {}  # by owner
        self._trouble: Problem | None = None
        self._listed = False
        self._polling = ""  # why it polls although it would rather not
        self._slice_end = 0.0

    async def run(self) -> None:
        """See `Monitor`."""
        try:
            await self.resync()
            while True:
                await self._wake.wait()
                self._wake.clear()
                async with self._lock:
                    await self._look_again()
        finally:
            self._looks.clear()
            for task in self._outside:
                task.cancel()
            if self._tree.watcher is not None:
                self._tree.watcher.close()
                self._tree.watcher = None

    async def resync(self) -> None:
        """See `Monitor`."""
        async with self._lock:
            self._choose_watcher()
            await self._list_everything()

    async def list_once(self) -> None:
        """List and publish without watching, and wait for every file: for `validate`."""
        async with self._lock:
            await self._list_everything()
        while self._outside:
            await asyncio.wait(self._outside)

    def describe_watch(self) -> str:
        """See `Monitor`."""
        return self._tree.watcher.kind if self._tree.watcher is not None else "none"

    async def adopt(self, layers: Layers) -> None:
        """See `Monitor`."""
        async with self._lock:
            self._setting = replace(self._setting, layers=layers)
            # What is uWSGI's among them comes out as before.
            await self._examine(file for file in self._tree.files() if file.name.endswith(tuple(FORMATS)))

    # Watching

    def _choose_watcher(self) -> None:
        kind = "poll" if self._polling else fitting(self._context.watch, self._layout.root)
        if self._tree.watcher is not None and self._tree.watcher.kind == kind:
            return
        if kind == "inotify":
            try:
                self._tree.use(self._context.shared.inotify.subscribe(self._on_hint))
            except WatchExhausted as error:
                self._fall_back(error)
        else:
            remote = file_system(self._layout.root)
            if remote and not self._polling:
                message = f"{remote} reports no changes; looking every {self._context.poll_interval:g} s"
                self._context.warn(self.source, Note(NoteType.NORMAL, "Polling", message))
            self._tree.use(PollingWatcher(self._on_hint, self._context.poll_interval))

    def _fall_back(self, error: WatchExhausted) -> None:
        self._polling = str(error)
        interval = self._context.poll_interval
        message = f"{error}, then restart the Emperor; until then it looks every {interval:g} s"
        self._context.warn(self.source, Note(NoteType.WARNING, "WatchExhausted", message))
        self._tree.use(PollingWatcher(self._on_hint, interval))

    def _on_hint(self, hint: Hint, path: str, name: str) -> None:
        tree, looks = self._tree, self._looks
        if hint is Hint.LOST:
            if self.describe_watch() == "inotify":
                message = "the kernel's queue of changes overflowed; everything is looked at again"
                self._context.warn(self.source, Note(NoteType.WARNING, "EventsLost", message))
            looks.add((tree.root, ""), hint)
            return
        folder = tree.folders.get(path)
        if folder is not None:
            if hint is Hint.ITSELF:
                looks.add(_spot(folder), hint)
            elif self._layout.fits(folder.level, name):
                looks.add((folder, name), hint)
            elif (config := self._on_demand.config_of(name)) and config in folder.files:
                # Gone or not, the config itself is there.
                looks.add((folder, config), Hint.SOON if hint is Hint.GONE else hint)
        for target in tree.routes(path, name):
            if isinstance(target, File):
                looks.add((target.folder, target.name), Hint.NOW if hint is Hint.ITSELF else hint)
            else:
                looks.add(_spot(target), Hint.ITSELF)

    # Looking

    async def _look_again(self) -> None:
        looks = self._looks.take()
        if not looks:
            return
        if any(folder is self._tree.root and not name for folder, name in looks):
            self._choose_watcher()
            await self._list_everything()
            # What was listed is settled; what was said to be gone needs its own look.
            looks = [look for look in looks if look[1]]
        files, findings = [], Findings()
        try:
            for folder, name in looks:
                if self._tree.folders.get(folder.path) is not folder:
                    continue
                if folder.level == self._layout.depth:
                    files.append(self._tree.file(folder, name))
                else:
                    await self._tree.list_child(folder, name, findings)
            self._expect_absent(findings, after_swap=False)
            await self._examine([*files, *findings.changed])
        except WatchExhausted as error:
            self._fall_back(error)
            await self._list_everything()

    async def _list_everything(self) -> None:
        self._start_slice()
        self._entrance.look_above()
        try:
            findings = await self._tree.list_all()
        except WatchExhausted as error:
            self._fall_back(error)
            findings = await self._tree.list_all()
        if findings.trouble is not None:
            self._set_trouble(findings.trouble)
            return
        self._set_trouble(None)
        await self._examine(findings.changed)
        self._expect_absent(findings, after_swap=findings.replaced)
        if not self._listed and self._outside:
            await asyncio.wait(self._outside, timeout=_STRANGERS_FIRST)
        self._listed = True
        present = frozenset(file.shown for file in self._tree.files())
        self._context.publish(Change(self.source, (), present))

    def _expect_absent(self, findings: Findings, *, after_swap: bool) -> None:
        for file in findings.absent:
            if after_swap:
                self._looks.add_after((file.folder, file.name), _SWAPPED)
            else:
                self._looks.add((file.folder, file.name), Hint.GONE)

    def _set_trouble(self, problem: Problem | None) -> None:
        if problem != self._trouble:
            self._trouble = problem
            self._context.publish(Trouble(self.source, problem))

    # Reading and parsing

    async def _examine(self, files: Iterable[File]) -> None:
        """Read and parse these files, and publish those that say something new, batch by batch."""
        by_folder: dict[Folder, list[File]] = defaultdict(list)
        for file in dict.fromkeys(files):
            by_folder[file.folder].append(file)
        reports: list[FileReport] = []
        self._start_slice()
        for folder, some in by_folder.items():
            try:
                fd, ground = self._entrance.enter(folder.path)
            except OSError as error:
                self._folder_lost(folder, some, error, reports)
                continue
            try:
                about = os.fstat(fd)
                if folder.identity not in (None, (about.st_dev, about.st_ino)):
                    self._looks.add(_spot(folder), Hint.ITSELF)
                    if folder is self._tree.root:
                        continue
                for file in some:
                    report = self._examine_one(file, (fd, ground, about.st_dev))
                    if report is not None:
                        reports.append(report)
                    if asyncio.get_running_loop().time() >= self._slice_end:
                        self._publish(reports)
                        reports = []
                        await self._breathe()
            finally:
                os.close(fd)
        self._publish(reports)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done while the loop goes on; the first listing waits for it."""
        task = asyncio.create_task(work)
        self._outside.add(task)
        task.add_done_callback(self._outside.discard)

    def _examine_one(self, file: File, place: tuple[int, Ground, int]) -> FileReport | None:
        fd, ground, device = place
        file.turn += 1
        now = asyncio.get_running_loop().time()
        lease = device if self.describe_watch() == "inotify" else None
        if file.busy_since is not None and now - file.busy_since >= _BUSY_LIMIT:
            lease = None
        limit = NATIVE_LIMIT if file.name.endswith(".toml") else UWSGI_LIMIT
        link = os.path.islink(file.path)
        self._tree.follow_link(file, link)
        if link and self._context.nofollow and self._context.gate is None and self._unchanged_link(file, fd):
            return None
        found = self._entrance.read(Entry(fd, file.name, file.shown), limit, ground, lease)
        match found:
            case Busy():
                file.busy_since = now if file.busy_since is None else file.busy_since
                self._looks.add_after((file.folder, file.name), _BUSY_LOOK)
                return None
            case Gone():
                return self._gone(file, fd)
            case Unusable():
                order = self._order(file, 0, b"")
                parsed = refused_name(order) or unparsed(order, found.problem)
                digest, owner = "", found.owner
            case Content():
                owner = Owner(found.uid, found.gid)
                order = self._order(file, found.fingerprint.inode, found.data)
                order = replace(order, owner=self._entrance.called_by(found.uid))
                if found.mode & 0o111:
                    order = replace(order, executable=True)
                refused = refused_name(order)
                digest = hashlib.blake2b(found.data, digest_size=16).hexdigest()
                if refused is None and self._on_demand.asks(order):
                    file.busy_since = None
                    file.remember(found.fingerprint)
                    self._later(self._ask(file, file.turn, found, order))
                    return None
                file.beside = self._on_demand.fingerprint(fd, file.name)
                beside = partial(self._entrance.read_beside, found, ground=ground, lease_on=lease)
                address = self._on_demand.answer(fd, order, beside) if refused is None else ""
                if address is None:
                    self._looks.add_after((file.folder, file.name), _BUSY_LOOK)
                    return None
                if isinstance(address, Problem):
                    refused = unparsed(order, address)
                elif address:
                    order = replace(order, on_demand=address)
                if refused is None and not _trusted(found, order.extension):
                    file.busy_since = None
                    file.remember(found.fingerprint)
                    self._leave_outside(file, file.turn, found, order)
                    return None
                parsed = refused or parse(order, self._setting, own=True)
        file.busy_since = None
        file.remember(found.fingerprint)
        if parsed.problem is not None and parsed.problem.reason in PLACE_REASONS:
            file.fingerprint = None
        return self._report(file, parsed, order, _Facts(found.touch, digest, owner))

    def _unchanged_link(self, file: File, fd: int) -> bool:
        """Whether a link that was right is the same as when it was last read: only its own time counts then, so that
        what it leads to can be edited first, and taken over link by link."""
        seen = look(fd, file.name)
        if seen is None or not seen[0].inode or file.report is None or not file.report.claims:
            return False
        if any(claim.problem for claim in file.report.claims) or seen[0].link_mtime != file.report.touch[0]:
            return False
        if self._on_demand.fingerprint(fd, file.name) != file.beside:
            return False
        file.busy_since = None
        file.remember(seen[0])
        return True

    def _gone(self, file: File, fd: int) -> FileReport | None:
        if os.fstat(fd).st_nlink == 0:  # not the file is gone but its whole directory
            self._looks.add(_spot(file.folder), Hint.ITSELF)
            if file.folder is self._tree.root:
                return None
        return self._forget(file)

    def _folder_lost(self, folder: Folder, files: list[File], error: OSError, reports: list[FileReport]) -> None:
        if folder is self._tree.root:  # a source that can't be read says nothing
            self._looks.add((folder, ""), Hint.ITSELF)
            return
        for file in files:
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                report = self._forget(file)
            else:
                problem = Problem("PermissionDenied", f"can't be reached: {error.strerror}", "see its directory's mode")
                order = self._order(file, 0, b"")
                file.fingerprint = None
                facts = _Facts(file.report.touch if file.report else (0, 0))
                report = self._report(file, unparsed(order, problem), order, facts)
            if report is not None:
                reports.append(report)
        if not folder.files and not os.path.isdir(folder.path):
            self._tree.forget_folder(folder)

    def _forget(self, file: File) -> FileReport | None:
        self._tree.forget(file)
        return FileReport(file.shown) if file.report is not None else None

    async def _ask(self, file: File, turn: int, content: Content, order: Order) -> None:
        """Ask the command for the address that starts a vassal, then parse its config."""
        answer = await self._on_demand.ask(order, self._setting.working_dir)
        if file.turn != turn:  # looked at again meanwhile
            return
        if not isinstance(answer, Problem):
            order = replace(order, on_demand=answer)
            if not _trusted(content, order.extension):
                self._leave_outside(file, turn, content, order)
                return
        parsed = unparsed(order, answer) if isinstance(answer, Problem) else parse(order, self._setting, own=True)
        report = self._report_content(file, parsed, content, order)
        self._publish([] if report is None else [report])

    def _report_content(self, file: File, parsed: Parsed, content: Content, order: Order) -> FileReport | None:
        owner = Owner(content.uid, content.gid)
        digest = hashlib.blake2b(content.data, digest_size=16).hexdigest()
        return self._report(file, parsed, order, _Facts(content.touch, digest, owner))

    def _leave_outside(self, file: File, turn: int, content: Content, order: Order) -> None:
        """Have a file parsed outside; of a file that changes faster than that only the latest content waits."""
        waiting = self._strangers.get(content.uid)
        if waiting is None:
            waiting = self._strangers[content.uid] = {}
            self._later(self._parse_all_of(content.uid))
        waiting[file] = (turn, content, order)

    async def _parse_all_of(self, owner: int) -> None:
        try:
            while files := self._strangers[owner]:
                self._strangers[owner] = {}
                await self._parse_outside(owner, files)
        finally:
            del self._strangers[owner]

    async def _parse_outside(self, owner: int, files: _Strangers) -> None:
        by_order = {id(order): (file, turn, content) for file, (turn, content, order) in files.items()}
        reports: list[FileReport] = []

        def deliver(order: Order, parsed: Parsed) -> None:
            file, turn, content = by_order[id(order)]
            if file.turn != turn:  # looked at again meanwhile
                return
            if parsed.problem is not None and parsed.problem.reason == "ParserUnavailable":
                file.fingerprint = None
            report = self._report_content(file, parsed, content, order)
            if report is not None:
                reports.append(report)
                if len(reports) == 1:
                    asyncio.get_running_loop().call_later(_GATHER, flush)

        def flush() -> None:
            self._publish(reports)
            reports.clear()

        orders = [order for *_, order in files.values()]
        await self._context.shared.outside.parse(orders, self._setting, deliver, owner=owner)
        flush()

    def _order(self, file: File, inode: int, data: bytes) -> Order:
        return Order(file.shown, file.path, self._layout.identity(file.path), inode, data)

    def _report(self, file: File, parsed: Parsed, order: Order, facts: _Facts) -> FileReport | None:
        touch = (facts.touch[0], facts.touch[0]) if self._context.nofollow else facts.touch
        administered = self._on_demand.administered
        parsed, owner = self._entrance.judge(parsed, facts.owner, order, self._setting, administered=administered)
        report = FileReport(file.shown, parsed.claims, parsed.problem, parsed.fallback_name, touch, facts.digest, owner)
        if report == file.report and _origins(report) == _origins(file.report):
            return None
        file.report = report
        return report

    def _publish(self, reports: list[FileReport]) -> None:
        if reports:
            self._context.publish(Change(self.source, tuple(reports)))

    def _start_slice(self) -> None:
        self._slice_end = asyncio.get_running_loop().time() + _SLICE

    async def _breathe(self) -> None:
        if asyncio.get_running_loop().time() >= self._slice_end:
            await asyncio.sleep(0)
            self._start_slice()


def _origins(report: FileReport) -> list[object]:
    """Where the values come from, which two vassals may differ in and still be equal."""
    return [claim.vassal.origins for claim in report.claims if claim.vassal is not None]


def _spot(folder: Folder) -> _Look:
    return (folder, "") if folder.parent is None else (folder.parent, os.path.basename(folder.path))


def _trusted(content: Content, extension: str) -> bool:
    """Whether a file may be parsed in the event loop: small, and written by nobody but root and the Emperor's user."""
    if not only_ours(content.uid, content.gid, content.mode):
        return False
    return len(content.data) <= (_SMALL_TOML if extension == ".toml" else _SMALL)
