"""If the Emperor dies, every vassal dies; if the zygote dies, none does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.runtime_court import DAEMON, Court, both, court, gone, native, python
from emperorctl.models.observed import LaunchState
from emperorctl.models.status import NoteType
from emperorctl.reconciler.runtime import cgroups, lock
from emperorctl.reconciler.runtime.zygote import procfs

EMPEROR = """
import asyncio, os, signal, sys
from emperorctl.reconciler.runtime.spawn import spawn_zygote
zygote = spawn_zygote()
from pathlib import Path
from e2e.runtime_court import Court, native, python
containment, directory, count, code = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

async def reign():
    made = Court(directory, containment, zygote=zygote, instance=sys.argv[5])
    await made.host.start()
    print("zygote", zygote.pid, made.host.containment, len(made.host.leftovers), flush=True)
    for number in range(count):
        made.host.launch(native(f"v{number}", *python(code.replace("PLACE", f"{directory}/{number}"))), 1, 1)
    for number in range(count):
        await made.alive(f"v{number}")
    print("reigning", flush=True)
    await asyncio.Event().wait()

asyncio.run(reign())
"""


class Reign:
    """An Emperor in a process of its own."""

    def __init__(self, containment: str, directory: Path, count: int, code: str, instance: str) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.count = count
        self.process = subprocess.Popen(
            [sys.executable, "-c", EMPEROR, containment, str(directory), str(count), code, instance],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        words = self._line().split()
        self.zygote, self.containment, self.leftovers = int(words[1]), words[2], int(words[3])
        assert self._line() == "reigning\n"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def pids(self, each: int) -> list[int]:
        """Every process of every vassal, once all have marked themselves."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [int(path.name) for path in self.directory.glob("*/pids/*")]
            if len(found) == each * self.count:
                return found
            time.sleep(0.01)
        raise AssertionError("the vassals did not come up")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Reign:
        return self

    def __exit__(self, *exception: object) -> None:
        with self.process:
            self.process.kill()


def seconds_until_gone(pids: list[int], patience: float = 5.0) -> float:
    started = time.monotonic()
    while not all(gone(pid) for pid in pids):
        if time.monotonic() - started > patience:
            for pid in pids:
                if (entry := procfs.stat(pid)) is not None and entry.alive:
                    procfs.kill_exact(entry)
            raise AssertionError(f"{len([pid for pid in pids if not gone(pid)])} of {len(pids)} live on")
        time.sleep(0.002)
    return time.monotonic() - started


def pipes_of(pid: int) -> set[str]:
    """The pipes that a process holds for reading besides its standard streams."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if int(fd) > 2 and (link := os.readlink(f"/proc/{pid}/fd/{fd}")).startswith("pipe:"):
                found.add(link)
    return found


def name_of(what: str) -> str:
    """An instance that no other run of these tests on this machine has."""
    return f"{what}{os.getpid()}"


def the_containment(wanted: str) -> None:
    if wanted == "cgroup" and cgroups.find_place() is None:
        pytest.skip("no writable cgroup v2 here")


@both
def test_sigkill_of_the_emperor_leaves_nobody(tmp_path: Path, containment: str) -> None:
    the_containment(containment)
    instance = name_of("death")
    with Reign(containment, tmp_path / "e", 50, DAEMON, instance) as reign:
        pids = reign.pids(3)
        assert len(pids) == 150
        reign.kill()
    took = seconds_until_gone([*pids, reign.zygote])
    print(f"{len(pids)} processes gone in {took * 1000:.0f} ms ({reign.containment})")
    assert took < 1.0
    place = cgroups.find_place()
    assert place is None or not cgroups.old_roots(place, instance)


@both
def test_leftovers_of_emperor_and_zygote_killed_together_are_ended_at_the_next_start(
    tmp_path: Path, containment: str
) -> None:
    the_containment(containment)
    instance = name_of("left")
    with Reign(containment, tmp_path / "e", 10, DAEMON, instance) as reign:
        pids = reign.pids(3)
        os.kill(reign.zygote, signal.SIGSTOP)
        reign.kill()
        os.kill(reign.zygote, signal.SIGKILL)
    assert not all(gone(pid) for pid in pids)
    with Reign(containment, tmp_path / "f", 1, "import time; time.sleep(100)", instance) as following:
        assert all(gone(pid) for pid in pids)
        assert following.leftovers >= 20
    seconds_until_gone([following.zygote])


@both
def test_last_words_reach_the_log(tmp_path: Path, containment: str) -> None:
    the_containment(containment)
    code = DAEMON + "\n"
    code = code.replace("while True: time.sleep(1)", 'while True: os.write(1, b"x" * 4095 + b"\\n")')
    with Reign(containment, tmp_path / "e", 1, code, name_of("words")) as reign:
        reign.pids(3)
        log = tmp_path / "e" / "logs" / "v0.log"
        while not log.exists() or log.stat().st_size < 1_000_000:
            time.sleep(0.005)
        # While the Emperor is stopped the pipe fills up; all of that is the gravedigger's to save.
        reign.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        before = log.stat().st_size
        reign.kill()
    seconds_until_gone([reign.zygote])
    lines = log.read_bytes().split(b"\n")
    assert log.stat().st_size > before
    assert set(lines[:-1]) <= {b"ready", b"x" * 4095}
    assert lines[-1] == b"" or os.geteuid() != 0 or set(lines[-1]) == {ord("x")}


@both
def test_sigkill_of_the_zygote_touches_no_vassal(tmp_path: Path, containment: str) -> None:
    async def scene() -> None:
        async with court(tmp_path, containment) as made:
            for name in ("a", "b"):
                made.host.launch(native(name, *python(DAEMON.replace("PLACE", f"{tmp_path}/{name}"))), 1, 1)
            for name in ("a", "b"):
                await made.log(name, b"ready\n")
            before = made.host.observe("a")
            os.kill(made.host._launcher.pid, signal.SIGKILL)
            made.host.launch(native("c", "sleep", "100"), 1, 1)
            await made.alive("c")
            assert made.host._launcher.pid != made.zygote.pid
            assert made.host.observe("a") == before
            assert [(note.type, note.reason) for _, note in made.notes] == [(NoteType.WARNING, "ZygoteReplaced")]
            made.host.end("b", 1)
            await made.over("b")
            os.kill(made.host._launcher.pid, signal.SIGKILL)
            while len(made.notes) < 2:
                await asyncio.sleep(0.005)
            assert made.host.observe("a") == before
            # The third zygote was told of what the first one launched: it would bury it.
            async with asyncio.timeout(5):
                while len(pipes_of(made.host._launcher.pid)) < 2:
                    await asyncio.sleep(0.01)

    asyncio.run(scene())


@both
def test_a_zygote_killed_in_mid_launch_starts_nothing_twice(tmp_path: Path, containment: str) -> None:
    async def scene() -> None:
        async with court(tmp_path, containment) as made:
            for round_ in range(5):
                names = [f"r{round_}-{number}" for number in range(60)]
                for name in names:
                    command = f"echo $$ >> {tmp_path}/{name}; exec sleep 100"
                    made.host.launch(native(name, "sh", "-c", command), 1, 1)
                await made.until(names[3 + 7 * round_], lambda seen: seen.state is LaunchState.ALIVE)
                os.kill(made.host._launcher.pid, signal.SIGKILL)
                for name in names:
                    await made.alive(name)
                await asyncio.sleep(0.1)
                for name in names:
                    starts = [int(line) for line in (tmp_path / name).read_text().split()]
                    process = made.host.observe(name).process
                    assert process is not None
                    assert starts == [process.pid], name

    asyncio.run(scene())


def test_a_hung_zygote_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emperorctl.reconciler.runtime.launcher.TIMEOUT", 0.5)

    async def scene() -> None:
        async with court(tmp_path) as made:
            made.host.launch(native("a", "sleep", "100"), 1, 1)
            await made.alive("a")
            os.kill(made.host._launcher.pid, signal.SIGSTOP)
            for number in range(100):
                made.host.launch(native(f"b{number}", "sleep", "100"), 1, 1)
            for number in range(100):
                await made.alive(f"b{number}")
            assert made.host.observe("a").state is LaunchState.ALIVE
            assert "did not answer" in made.notes[0][1].message

    asyncio.run(scene())


def test_terminal_and_manager_signals_do_not_touch_the_zygote(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
                os.kill(made.zygote.pid, signum)
            made.host.launch(native("a", "true"), 1, 1)
            await made.over("a")
            assert made.host._launcher.pid == made.zygote.pid
            assert os.getsid(made.zygote.pid) == made.zygote.pid

    asyncio.run(scene())


@both
def test_a_clean_close_leaves_nothing(tmp_path: Path, containment: str) -> None:
    async def scene() -> None:
        made = Court(tmp_path, containment)
        await made.host.start()
        for number in range(20):
            made.host.launch(native(f"v{number}", "sleep", "100"), 1, 1)
        pids = [(await made.alive(f"v{number}")).process for number in range(20)]
        root = made.host._containment.root
        await made.host.close()
        assert all(gone(process.pid) for process in pids if process)
        assert gone(made.zygote.pid)
        assert not root or not os.path.exists(root)

    asyncio.run(scene())


def test_a_second_emperor_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "run" / "emperor.sock")
    first = lock.acquire(path)
    with pytest.raises(lock.UserError, match=f"pid {os.getpid()}, since 20"):
        lock.acquire(path)
    first.release()
    lock.acquire(path).release()
