"""Watching: the choice, the fallback, overflow, polling, and how a path is taken apart."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from pathlib import Path

import pytest

from emperorctl.monitors.watch import choice, inotify
from emperorctl.monitors.watch.base import Hint, WatchExhausted
from emperorctl.monitors.watch.choice import file_system, fitting
from emperorctl.monitors.watch.inotify import Inotify
from emperorctl.monitors.watch.polling import PollingWatcher
from emperorctl.monitors.watch.tracing import StepKind, trace
from tests.monitors.recorder import INI, LIMIT, Recorder, watching, write


class Exhausted:
    """Stands for the C library whose inotify has nothing left."""

    def __init__(self, *, init: bool) -> None:
        self._init = init
        self._real = ctypes.CDLL(None, use_errno=True)

    def inotify_init1(self, flags: int) -> int:
        if self._init:
            ctypes.set_errno(errno.EMFILE)
            return -1
        return int(self._real.inotify_init1(flags))

    def inotify_add_watch(self, *_: object) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    def inotify_rm_watch(self, fd: int, wd: int) -> int:
        return int(self._real.inotify_rm_watch(fd, wd))


@pytest.mark.parametrize(("init", "limit"), [(True, "max_user_instances"), (False, "max_user_watches")])
def test_exhausted_inotify_falls_back_to_polling_and_says_what_to_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: bool, limit: str
) -> None:
    monkeypatch.setattr(inotify, "_libc", Exhausted(init=init))
    write(tmp_path / "a.ini")

    async def main() -> None:
        async with watching(tmp_path, poll_interval=0.05) as recorder:
            assert recorder.monitor.describe_watch() == "poll"
            [note] = recorder.notes
            assert note.reason == "WatchExhausted" and limit in note.message
            assert recorder.get("a.ini")
            write(tmp_path / "b.ini")
            await recorder.until(lambda: recorder.get("b.ini"))
            assert len(recorder.notes) == 1

    asyncio.run(main())


def test_an_overflow_means_look_everywhere_and_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")

    async def main() -> None:
        async with watching(tmp_path) as recorder:
            tree = recorder.monitor._tree  # type: ignore[attr-defined]
            tree.watcher.drop_entries(str(tmp_path))
            write(tmp_path / "b.ini")
            tree.watcher._shared._dispatch(-1, inotify.IN_Q_OVERFLOW, "")
            await recorder.until(lambda: recorder.get("b.ini"))
            assert [note.reason for note in recorder.notes] == ["EventsLost"]

    asyncio.run(main())


def test_polling_finds_every_kind_of_change_by_looking(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    write(tmp_path / "gone.ini")
    write(tmp_path / "real")
    os.symlink("real", tmp_path / "link.ini")

    async def main() -> None:
        async with watching(tmp_path, watch="poll", poll_interval=3600.0) as recorder:
            assert recorder.monitor.describe_watch() == "poll"
            tree = recorder.monitor._tree  # type: ignore[attr-defined]

            async def look() -> None:
                tree.watcher.tick()
                await recorder.relisted()

            os.utime(tmp_path / "a.ini", (5, 5))
            os.utime(tmp_path / "link.ini", (7, 7), follow_symlinks=False)
            write(tmp_path / "new.ini")
            os.unlink(tmp_path / "gone.ini")
            await look()
            assert recorder.now[str(tmp_path / "a.ini")].touch == (5 * 10**9, 5 * 10**9)
            assert recorder.now[str(tmp_path / "link.ini")].touch[0] == 7 * 10**9
            assert recorder.get("new.ini")
            await recorder.until(lambda: not recorder.get("gone.ini"))
            before = recorder.contents("link.ini")
            write(tmp_path / "real", INI + "a = b\n")
            await look()
            assert recorder.contents("link.ini") != before
            recorder.forget()
            for file in tree.files():
                file.racy = False
            await look()
            assert not [file for report in recorder.reports for file in report.files]  # type: ignore[union-attr]

    asyncio.run(main())


def test_polling_is_one_timer_and_none_after_close() -> None:
    async def main() -> None:
        hints: list[Hint] = []
        watcher = PollingWatcher(lambda hint, *_: hints.append(hint), interval=3600.0)
        watcher.tick()
        assert hints == [Hint.LOST]
        assert watcher.entries("/nowhere") and watcher.itself("/nowhere")
        watcher.close()
        assert watcher._timer.cancelled()

    asyncio.run(main())


def test_one_instance_serves_all_and_ends_with_the_last(tmp_path: Path) -> None:
    async def main() -> None:
        shared = Inotify()
        seen: list[tuple[str, Hint, str, str]] = []
        done = asyncio.Event()

        def hear(who: str, hint: Hint, path: str, name: str) -> None:
            seen.append((who, hint, path, name))
            if {said[0] for said in seen} == {"a", "b"}:
                done.set()

        a = shared.subscribe(lambda *said: hear("a", *said))
        b = shared.subscribe(lambda *said: hear("b", *said))
        assert a.entries(str(tmp_path)) and b.entries(str(tmp_path)) and a.itself(str(tmp_path))
        assert not a.entries(str(tmp_path / "nowhere")) and not b.itself(str(tmp_path / "nowhere"))
        (tmp_path / "x").mkdir()
        async with asyncio.timeout(LIMIT):
            await done.wait()
        assert ("a", Hint.NOW, str(tmp_path), "x") in seen and ("b", Hint.NOW, str(tmp_path), "x") in seen
        a.close()
        assert b.entries(str(tmp_path))
        b.close()
        assert shared._fd == -1 and not shared._watches

    asyncio.run(main())


def test_a_monitor_without_pending_work_has_no_timer(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")

    async def main() -> None:
        async with watching(tmp_path) as recorder:
            await recorder.settle(str(tmp_path))
            await asyncio.sleep(0)
            assert not any(not handle.cancelled() for handle in asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]

    asyncio.run(main())


def test_remote_file_systems_are_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nfs:
        def statfs(self, path: bytes, buffer: ctypes.Array[ctypes.c_char]) -> int:
            if path == b"/mnt/x":
                return -1
            ctypes.c_long.from_buffer(buffer).value = 0x6969
            return 0

    assert (fitting("auto", "/"), fitting("inotify", "/"), fitting("poll", "/")) == ("inotify", "inotify", "poll")
    assert file_system("/does/not/exist") == ""
    monkeypatch.setattr(choice, "_libc", Nfs())
    assert file_system("/mnt/x") == "NFS"
    assert (fitting("auto", "/mnt/x"), fitting("inotify", "/mnt/x")) == ("poll", "inotify")


def test_a_path_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write(tmp_path / "real" / "x.ini")
    os.symlink("real", tmp_path / "current")
    os.symlink("../current/./x.ini", tmp_path / "real" / "link.ini")
    here, real = str(tmp_path), str(tmp_path / "real")
    steps = [step for step in trace(f"{real}/link.ini") if step.path.startswith(here + "/")]
    assert steps == [
        (here, "real", StepKind.DIRECTORY),
        (real, "link.ini", StepKind.LINK),
        (here, "current", StepKind.LINK),
        (here, "real", StepKind.DIRECTORY),
        (real, "x.ini", StepKind.END),
    ]


def test_a_path_that_ends_early(tmp_path: Path) -> None:
    os.symlink("loop", tmp_path / "loop")
    assert trace(f"{tmp_path}/no/where")[-1] == (str(tmp_path), "no", StepKind.BLOCKED)
    assert trace(f"{tmp_path}/loop")[-1].kind is StepKind.BLOCKED
    assert trace("/") == []


def test_exhaustion_is_the_worlds_fault() -> None:
    assert isinstance(inotify._exhausted(errno.ENOSPC), WatchExhausted)
    assert Recorder().notes == []
