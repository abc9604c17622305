"""Launching with real processes: what a vassal finds around it, how it ends, and why it could not start."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import signal
import textwrap
import time
from pathlib import Path

from e2e.runtime_court import DAEMON, as_root, both, court, gone, is_directly_ours, native, python
from emperorctl.models.observed import LaunchState, Observed
from emperorctl.models.vassal import Kind, Launch, Rlimit, Vassal


@both
def test_what_a_vassal_finds_around_it(tmp_path: Path, containment: str) -> None:
    code = textwrap.dedent("""
        import os, signal
        print("fds", *sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)))
        print("stdin", os.readlink("/proc/self/fd/0"))
        print("session", os.getsid(0) == os.getpid() == os.getpgid(0))
        for line in open("/proc/self/status"):
            if line.split(":")[0] in ("SigBlk", "ShdPnd", "SigPnd"):
                print(*line.split())
        print("cwd", os.getcwd())
        print("name", os.environ["EMPEROR_VASSAL_NAME"], os.environ["EMPEROR_VASSAL_GENERATION"], os.environ["X"])
        print("secret" in os.environ, flush=True)
    """)

    async def scene() -> None:
        async with court(tmp_path, containment) as made:
            made.host.launch(native("a", *python(code), working_dir=str(tmp_path), env=(("X", "1"),)), 1, 7)
            seen = await made.over("a")
            assert seen.exit is not None
            assert seen.exit.code == 0
            assert seen.process is not None
            assert seen.process.start_time > 0
            words = (await made.log("a", b"False\n")).decode().splitlines()
            assert words[0] == "fds 0 1 2"
            assert words[1:3] == ["stdin /dev/null", "session True"]
            assert {line.split()[1] for line in words if line.startswith(("Sig", "Shd"))} == {"0" * 16}
            assert f"cwd {tmp_path}" in words
            assert "name a 7 1" in words

    asyncio.run(scene())


def test_signal_dispositions_are_default_even_under_nohup(tmp_path: Path) -> None:
    async def scene() -> None:
        before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (signal.SIGHUP, signal.SIGTERM)}
        try:
            async with court(tmp_path) as made:
                made.host.launch(native("a", "grep", "SigIgn", "/proc/self/status"), 1, 1)
                await made.over("a")
                assert (await made.log("a")).split() == [b"SigIgn:", b"0000000000000000"]
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    asyncio.run(scene())


def test_the_vassal_is_our_own_child_and_reports_its_end(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            for name, command in {"code": "exit 3", "signal": "kill -SEGV $$", "sleep": "exec sleep 100"}.items():
                made.host.launch(native(name, "sh", "-c", command), 1, 1)
            assert (await made.over("code")).exit.code == 3  # type: ignore[union-attr]
            assert (await made.over("signal")).exit.signal == signal.SIGSEGV  # type: ignore[union-attr]
            seen = await made.alive("sleep")
            assert is_directly_ours(seen.process.pid)  # type: ignore[union-attr]
            made.host.signal("sleep", 2, signal.SIGKILL)  # another launch's number: nothing happens
            made.host.signal("sleep", 1, signal.SIGTERM)
            assert (await made.over("sleep")).exit.signal == signal.SIGTERM  # type: ignore[union-attr]
            made.host.forget("sleep")
            assert made.host.observe("sleep") == Observed()

    asyncio.run(scene())


def test_a_stopped_process_still_gets_its_stop_signal(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            made.host.launch(native("a", "sleep", "100"), 1, 1)
            await made.alive("a")
            made.host.signal("a", 1, signal.SIGSTOP)
            made.host.signal("a", 1, signal.SIGTERM)
            assert (await made.over("a")).exit.signal == signal.SIGTERM  # type: ignore[union-attr]

    asyncio.run(scene())


@as_root
def test_the_user_switch_is_complete(tmp_path: Path) -> None:
    async def scene() -> None:
        os.chmod(tmp_path, 0o755)
        nobody = pwd.getpwnam("nobody")
        show = "cat /proc/self/status; grep -H . /dev/null; echo HOME=$HOME USER=$USER; echo x >/dev/stdout"
        async with court(tmp_path) as made:
            made.host.launch(native("named", "sh", "-c", show, user="nobody"), 1, 1)
            made.host.launch(native("number", "sh", "-c", show, user="54321"), 1, 1)
            made.host.launch(native("group", "sh", "-c", show, user="nobody", group="daemon"), 1, 1)
            expected = {"named": (nobody.pw_uid, nobody.pw_gid), "number": (54321, 54321), "group": (nobody.pw_uid, 1)}
            for name, (uid, gid) in expected.items():
                seen = await made.over(name)
                assert seen.process is not None
                assert (seen.process.uid, seen.process.gid) == (uid, gid)
                lines = (await made.log(name, b"\nx\n")).decode().splitlines()
                status = {line.split()[0]: line.split()[1:] for line in lines if line[:1].isalpha() and ":" in line}
                assert status["Uid:"] == [str(uid)] * 4
                assert status["Gid:"] == [str(gid)] * 4
                assert set(status["Groups:"]) <= {str(gid), str(nobody.pw_gid)}
                assert status["CapEff:"] == ["0" * 16]

    asyncio.run(scene())


@as_root
def test_death_signal_survives_the_user_switch(tmp_path: Path) -> None:
    code = """
import ctypes
value = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(value))
print("deathsig", value.value, flush=True)
"""

    async def scene() -> None:
        async with court(tmp_path) as made:
            made.host.launch(native("a", *python(code), user="nobody", working_dir="/"), 1, 1)
            assert await made.log("a") == b"deathsig 9\n"

    asyncio.run(scene())


def test_limits_niceness_umask(tmp_path: Path) -> None:
    code = """
import os, resource as r
print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE), os.nice(0), oct(os.umask(0)))
"""

    async def scene() -> None:
        import resource

        own = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with court(tmp_path) as made:
            limits = (Rlimit("core", 0, 0),)
            made.host.launch(native("a", *python(code), rlimits=limits, nice=5, umask=0o027), 1, 1)
            assert (await made.log("a")).decode().strip() == f"{own} (0, 0) 5 0o27"
            made.host.launch(native("b", *python(code), rlimits=(Rlimit("nofile", 100, 200),)), 1, 1)
            assert (await made.log("b")).startswith(b"(100, 200)")
            made.host.launch(native("c", "true", rlimits=(Rlimit("nofile", 200, 100),)), 1, 1)
            seen = await made.over("c")
            assert seen.failure is not None
            assert (seen.failure.step, seen.failure.reason) == ("rlimits", "NotPermitted")
            assert "nofile" in seen.failure.message

    asyncio.run(scene())


def _file(path: Path, content: str | bytes, mode: int = 0o755) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return str(path)


def test_exec_errors_are_told_apart(tmp_path: Path) -> None:
    cases = {
        "missing": (str(tmp_path / "no"), "MissingProgram", errno.ENOENT, "does not exist"),
        "path": ("no-such-program-anywhere", "MissingProgram", errno.ENOENT, "in PATH"),
        "mode": (_file(tmp_path / "mode", "#!/bin/sh\n", 0o644), "NotExecutable", errno.EACCES, "not executable"),
        "interpreter": (
            _file(tmp_path / "i", "#!/no/python9 -u\n"), "MissingInterpreter", errno.ENOENT, "interpreter /no/python9 ",
        ),
        "directory": (str(tmp_path), "IsDirectory", errno.EACCES, "is a directory"),
        "shebang": (_file(tmp_path / "s", "echo hi\n"), "NotAProgram", errno.ENOEXEC, "#!"),
        "crlf": (_file(tmp_path / "c", "#!/bin/sh\r\necho\r\n"), "MissingInterpreter", errno.ENOENT, "carriage return"),
        "nul": ("a\0b", "NulCharacter", 0, "NUL"),
    }  # fmt: skip

    async def scene() -> None:
        async with court(tmp_path) as made:
            for name, (command, *_) in cases.items():
                made.host.launch(native(name, command), 1, 1)
            made.host.launch(native("long", "true", "x" * 140_000), 1, 1)
            made.host.launch(native("dir", "true", working_dir=str(tmp_path / "none")), 1, 1)
            made.host.launch(native("file", "true", working_dir=cases["mode"][0]), 1, 1)
            made.host.launch(native("user", "true", user="no-such-user"), 1, 1)
            made.host.launch(native("group", "true", group="no-such-group"), 1, 1)
            for name, (_, reason, number, words) in cases.items():
                failure = (await made.over(name)).failure
                assert failure is not None, name
                assert (failure.reason, failure.errno) == (reason, number), failure
                assert words in failure.message, failure
                assert not failure.transient
            reasons = {"long": "TooLong", "dir": "MissingDirectory", "file": "MissingDirectory"}
            reasons |= {"user": "UnknownUser", "group": "UnknownGroup"}
            for name, reason in reasons.items():
                failure = (await made.over(name)).failure
                assert failure is not None, name
                assert failure.reason == reason
                assert failure.remedy
            uwsgi = Vassal("u.ini", Kind.UWSGI, "t", "u.ini", Launch(("/none/uwsgi", "--ini", "u.ini"), capture=False))
            made.host.launch(uwsgi, 1, 1)
            failure = (await made.over("u.ini")).failure
            assert failure is not None
            assert "pip install uwsgi" in failure.remedy

    asyncio.run(scene())


def test_a_program_being_written_is_transient(tmp_path: Path) -> None:
    program = tmp_path / "busy"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)

    async def scene() -> None:
        async with court(tmp_path) as made:
            with program.open("r+b"):
                made.host.launch(native("a", str(program), "1"), 1, 1)
                failure = (await made.over("a")).failure
            assert failure is not None
            assert (failure.reason, failure.transient) == ("TextBusy", True)

    asyncio.run(scene())


@as_root
def test_a_full_process_table_of_the_user_is_transient_and_a_forbidden_directory_is_not(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)

    async def scene() -> None:
        async with court(tmp_path) as made:
            limits = (Rlimit("nproc", 1, 1),)
            for name in ("first", "second"):
                made.host.launch(native(name, "sleep", "100", user="54322"), 1, 1)
                await made.alive(name)
            made.host.launch(native("a", "sleep", "100", user="54322", rlimits=limits), 1, 1)
            failure = (await made.over("a")).failure
            assert failure is not None
            assert (failure.reason, failure.transient) == ("NprocLimit", True)
            made.host.launch(native("b", "true", user="54322", working_dir=str(tmp_path)), 1, 1)
            failure = (await made.over("b")).failure
            assert failure is not None
            assert (failure.reason, failure.step) == ("ForbiddenDirectory", "chdir")

    asyncio.run(scene())


def test_a_huge_order_travels_in_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            env = tuple((f"V{number}", "y" * 1000) for number in range(300))
            made.host.launch(native("a", "sh", "-c", "echo $V299 | wc -c", env=env), 1, 1)
            assert (await made.log("a")).strip() == b"1001"

    asyncio.run(scene())


@both
def test_end_reaches_grandchildren_that_hide(tmp_path: Path, containment: str) -> None:
    code = DAEMON.replace("PLACE", str(tmp_path))

    async def scene() -> None:
        async with court(tmp_path, containment) as made:
            made.host.launch(native("a", *python(code)), 1, 1)
            await made.log("a", b"ready\n")
            pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
            assert len(pids) == 3
            assert not any(gone(pid) for pid in pids)
            started = time.monotonic()
            made.host.end("a", 1)
            assert (await made.over("a")).exit.signal == signal.SIGKILL  # type: ignore[union-attr]
            async with asyncio.timeout(2):
                while not all(gone(pid) for pid in pids):
                    await asyncio.sleep(0.002)
            assert time.monotonic() - started < 1.0

    asyncio.run(scene())


@both
def test_what_a_vassal_leaves_behind_is_ended_with_it(tmp_path: Path, containment: str) -> None:
    code = DAEMON.replace("PLACE", str(tmp_path)).replace("while True: time.sleep(1)", "sys.exit(0)")

    async def scene() -> None:
        async with court(tmp_path, containment) as made:
            made.host.launch(native("a", *python(code)), 1, 1)
            assert (await made.over("a")).exit.code == 0  # type: ignore[union-attr]
            pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
            async with asyncio.timeout(2):
                while not all(gone(pid) for pid in pids):
                    await asyncio.sleep(0.002)

    asyncio.run(scene())


def test_a_condemned_launch_never_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            for number in range(200):
                made.host.launch(native(f"v{number}", "sh", "-c", f"touch {tmp_path}/ran; sleep 100"), 1, 1)
            made.host.end("v199", 1)
            failure = (await made.over("v199")).failure
            assert failure is not None
            assert failure.reason == "Cancelled"
            assert failure.transient

    asyncio.run(scene())


def test_descriptors_and_cgroups_stay_flat(tmp_path: Path) -> None:
    async def scene() -> None:
        async with court(tmp_path) as made:
            counts = []
            for number in range(1, 5):
                for name in ("a", "b", "c"):
                    made.host.launch(native(name, "true", protocol=name == "a"), number, 1)
                for name in ("a", "b", "c"):
                    await made.until(name, lambda seen, number=number: seen.exit is not None and seen.number == number)
                await asyncio.sleep(0.1)
                counts.append(len(os.listdir("/proc/self/fd")))
                root = made.host._containment.root
                assert not root or not [entry for entry in os.scandir(root) if entry.is_dir()]
                assert not made.host._orders
            assert len(set(counts)) == 1, counts

    asyncio.run(scene())


def test_protocol_both_ways(tmp_path: Path) -> None:
    code = """
import os
fd = int(os.environ["UWSGI_EMPEROR_FD"])
os.write(fd, b"\\x01\\x05\\x11zz")
print("told", os.read(fd, 1), flush=True)
os.write(fd, b"\\x16")
"""

    async def scene() -> None:
        async with court(tmp_path) as made:
            made.host.launch(native("a", *python(code), protocol=True), 1, 1)
            await made.until("a", lambda seen: seen.signs.loyal is not None)
            assert made.host.tell("a", 1, 1)
            assert not made.host.tell("a", 2, 1)
            seen = await made.over("a")
            assert await made.log("a") == b"told b'\\x01'\n"
            assert seen.signs.will is not None
            assert (seen.signs.spawns, seen.signs.garbage) == (1, 2)
            assert not made.host.tell("a", 1, 1)

    asyncio.run(scene())


def test_repeated_signs_are_recorded_without_a_wake(tmp_path: Path) -> None:
    code = """
import os, time
fd = int(os.environ["UWSGI_EMPEROR_FD"])
os.write(fd, b"\\x1a")
os.read(fd, 1)
os.write(fd, b"\\x1a")
os.read(fd, 1)
"""

    async def scene() -> None:
        async with court(tmp_path) as made:
            made.host.launch(native("a", *python(code), protocol=True), 1, 1)
            first = (await made.until("a", lambda seen: seen.signs.heartbeat is not None)).signs.heartbeat
            made.changed.clear()
            assert made.host.tell("a", 1, 1)
            async with asyncio.timeout(5):
                while made.host.observe("a").signs.heartbeat == first:
                    await asyncio.sleep(0.005)
            assert not made.changed.is_set()

    asyncio.run(scene())


def test_no_descriptors_left_is_a_transient_failure(tmp_path: Path) -> None:
    import resource

    async def scene() -> None:
        async with court(tmp_path) as made:
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            made.host.launch(native("before", "sleep", "100"), 1, 1)
            await made.alive("before")
            hoard = [os.open("/dev/null", os.O_RDONLY)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hoard[0] + 2, limits[1]))
            with contextlib.suppress(OSError):
                while True:
                    hoard.append(os.open("/dev/null", os.O_RDONLY))
            made.host.launch(native("a", "true"), 1, 1)
            failure = (await made.over("a")).failure
            for fd in hoard:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert failure is not None
            assert (failure.reason, failure.transient) == ("NoResources", True)
            made.host.launch(native("a", "true"), 2, 1)
            assert (await made.over("a")).exit is not None
            assert made.host.observe("before").state is LaunchState.ALIVE

    asyncio.run(scene())


def test_adopted_orphans_do_not_stay_zombies(tmp_path: Path) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.1)
    os._exit(0)
time.sleep(100)
"""

    async def scene() -> None:
        async with court(tmp_path, "tree") as made:
            made.host.launch(native("a", *python(code)), 1, 1)
            await made.alive("a")
            await asyncio.sleep(0.5)
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = [int(pid) for pid in file.read().split()]
            assert not [pid for pid in children if gone(pid)]

    asyncio.run(scene())
