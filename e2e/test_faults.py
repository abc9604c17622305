"""What goes wrong around an Emperor: a place is taken, descriptors or disk run out, vassals misbehave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from e2e.harness import API, Emperor, Household, alive, command_path

Make = Callable[..., Emperor]
SPARE_UID = 54321
MiB = 1024 * 1024


def python(code: str, *arguments: object) -> list[str]:
    """A command that runs this code in the interpreter of the test, for a manifest: percent signs are doubled."""
    return [sys.executable, "-ISc", code.replace("%", "%%"), *map(str, arguments)]


def refused(one: Emperor, *words: str) -> None:
    """It does not even begin: exit code 1, and one line that holds these words."""
    one.manifest("x", ["sleep", "1000"])
    one.start(ready=False)
    assert one.wait(20.0) == 1
    log = one.log()
    assert all(word in log for word in words), log
    assert len(log.strip().splitlines()) == 1, log
    assert "Started" not in log


# A place that is taken or can't be used


def test_a_second_emperor_is_told_who_holds_the_socket(emperor: Make) -> None:
    one = emperor().start()
    other = emperor()
    other.socket, other.state = one.socket, other.root / "other"
    refused(other, f"pid {one.pid}", str(one.socket), "--socket")
    one.manifest("x", ["sleep", "1000"])
    one.wait_running("x")


def test_a_stale_socket_is_replaced(emperor: Make) -> None:
    one = emperor().start()
    one.kill()
    assert one.socket.is_socket()
    one.start()
    one.manifest("x", ["sleep", "1000"])
    one.wait_running("x")


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_no_socket_is_not_deleted(emperor: Make, what: str) -> None:
    one = emperor()
    if what == "file":
        one.socket.write_text("precious")
    else:
        one.socket.mkdir()
    refused(one, str(one.socket), "is not a socket", "--socket")
    assert one.socket.is_dir() if what == "directory" else one.socket.read_text() == "precious"


def test_a_socket_path_that_is_too_long(emperor: Make) -> None:
    one = emperor()
    one.socket = one.root / ("s" * 120)
    refused(one, "107 bytes", "--socket")


def test_no_source(emperor: Make) -> None:
    refused(emperor(sources=[]), "no source", "emperorctl run")


def test_an_unknown_scheme(emperor: Make) -> None:
    refused(emperor(sources=["globs:///etc/*.ini"]), "unknown scheme", "dir://", 'did you mean "glob:///etc/*.ini"')


def test_a_state_directory_that_cannot_be_made(emperor: Make) -> None:
    one = emperor()
    (one.root / "file").touch()
    one.state = one.root / "file" / "state"
    refused(one, str(one.state), "--state-dir")


def test_a_state_directory_that_anybody_may_write_to(emperor: Make) -> None:
    one = emperor()
    one.state.mkdir()
    one.state.chmod(0o777)
    refused(one, str(one.state), "chmod")


@pytest.mark.as_root
@pytest.mark.as_user
def test_a_state_directory_of_somebody_else(emperor: Make) -> None:
    one = emperor()
    one.state = one.root / "locked" / "state"
    one.state.parent.mkdir(mode=0o700)
    refused(one, str(one.state), "Permission denied", "--state-dir")


STATE = json.dumps({"version": 1, "suspended": ["x"]})
BROKEN = [
    "",
    STATE[:1],
    STATE[: len(STATE) // 2],
    STATE[:-1],
    "\0" * 512,
    "[" * 100_000,
    '{"version": 99}',
    '{"version": 1}',
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_state_file_is_put_aside_and_said(emperor: Make, number: int) -> None:
    one = emperor()
    one.state.mkdir(mode=0o700)
    (one.state / "state.json").write_text(BROKEN[number])
    one.start()
    assert "StateIgnored" in one.log() and "state.json" in one.log()
    assert (one.state / "state.json.broken").read_text() == BROKEN[number]
    one.manifest("x", ["sleep", "1000"])
    one.wait_running("x")
    assert one.cli("stop", "x").returncode == 0
    one.wait_phase("x", "Suspended")
    assert json.loads((one.state / "state.json").read_text())["suspended"] == ["x"]


# What runs out


@pytest.mark.as_root
@pytest.mark.as_user
def test_without_inotify_it_polls_and_says_so(household: Household) -> None:
    """All inotify instances of one user are taken, by a process of that user."""
    code = (
        "import ctypes, sys, time\n"
        "libc = ctypes.CDLL(None)\n"
        "while libc.inotify_init1(0o2000000) >= 0: pass\n"
        "print('full', flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    identity = {"user": SPARE_UID, "group": SPARE_UID, "extra_groups": []}
    hog = household.spawn(
        ["/bin/sh", "-c", 'ulimit -n 4096; exec "$@"', "sh", *python(code)], stdin=pipe, stdout=pipe, **identity
    )
    one = Emperor(household, user=SPARE_UID)
    try:
        assert hog.stdout is not None and hog.stdout.readline() == b"full\n"
        one.start()
        one.wait_log("WatchExhausted")
        assert "max_user_instances" in one.log()
        one.manifest("x", ["sleep", "1000"])
        pid = one.wait_running("x", timeout=10.0)
        one.manifest("x", ["sleep", "2000"])
        one.wait_running("x", other_than=pid, timeout=10.0)
        (one.vassals / "x.yaml").unlink()
        one.wait_absent("x", timeout=10.0)
        assert not one.close()
    finally:
        one.close()
        hog.kill()
        for stream in (hog.stdin, hog.stdout):
            assert stream is not None
            stream.close()
        one.remove()


def test_polling_on_demand(emperor: Make) -> None:
    one = emperor("--watch=poll").start()
    path = one.manifest("x", ["sleep", "1000"])
    pid = one.wait_running("x")
    os.utime(path, (1, 1))
    one.wait_running("x", other_than=pid)
    path.unlink()
    one.wait_absent("x")


class Limited(Emperor):
    """An Emperor with few file descriptors."""

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *super().command()]


def test_out_of_descriptors_nobody_who_runs_is_hurt(household: Household) -> None:
    one = Limited(household)
    try:
        one.start()
        for number in range(5):
            one.manifest(f"early{number}", ["sleep", "1000"])
        early = [one.wait_running(f"early{number}") for number in range(5)]
        many = [one.manifest(f"many{number}", ["sleep", "1000"]) for number in range(60)]
        one.wait_log("NoResources")
        assert one.running and all(map(alive, early))
        assert _answers(one)  # a few are kept for that, and for what follows
        one.wait_for(
            lambda: any(
                condition["type"] == "Ready" and "ulimit -n" in condition["message"]
                for each in one.objects().values()
                for condition in each["status"]["conditions"]
            ),
            what="it says what is missing and where to get it",
        )
        for path in many:
            path.unlink()
        one.wait_for(lambda: _answers(one) and set(one.objects()) == {f"early{n}" for n in range(5)}, what="room again")
        assert [one.main_pid(f"early{number}") for number in range(5)] == early
        one.manifest("late", ["sleep", "1000"])
        one.wait_running("late")
        assert len(one.log().splitlines()) < 1000
        assert not one.close()
    finally:
        one.close()
        one.remove()


def test_more_vassals_than_descriptors_from_the_start(household: Household) -> None:
    one = Limited(household)
    try:
        paths = [one.manifest(f"v{number:02}", ["sleep", "1000"]) for number in range(60)]
        one.start()
        one.wait_log("NoResources")
        callers = [socket.socket(socket.AF_UNIX) for _ in range(30)]  # more than it can accept
        for caller in callers:
            caller.connect(str(one.socket))
        for caller in callers:
            caller.close()
        for path in paths[5:]:
            path.unlink()
        for number in range(5):
            one.wait_for(lambda: _answers(one), what="it answers again")
            one.wait_running(f"v{number:02}")
        one.wait_for(lambda: len(one.objects()) == 5, what="the others are gone")
        assert len(one.log().splitlines()) < 1500
        assert not one.close()
    finally:
        one.close()
        one.remove()


def _answers(one: Emperor) -> bool:
    try:
        return one.api("GET", "/healthz").status == 200
    except OSError:
        return False


@pytest.mark.as_root
def test_a_full_log_file_system_blocks_only_who_writes(emperor: Make) -> None:
    one = emperor()
    one.logs.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", str(one.logs)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no mounts here")
    try:
        filler = one.logs / "filler"
        filler.write_bytes(b"x" * 150_000)
        one.start()
        count = one.root / "count"
        code = (
            "import os, sys\n"
            "for n in range(8000):\n"
            "    os.write(1, b'%063d\\n' % n)\n"
            "    if n % 100 == 99: open(sys.argv[1], 'w').write(str(n + 1))\n"
            "import signal; signal.pause()\n"
        )
        one.manifest("writer", python(code, count), logs={"maxSize": "1Mi"})
        one.manifest("quiet", ["sleep", "1000"])
        quiet = one.wait_running("quiet")
        one.wait_running("writer")
        one.wait_for(lambda: any(e["type"] == "Warning" for e in one.events("writer")), what="it is said")
        assert int(count.read_text() or 0) < 8000
        assert one.main_pid("quiet") == quiet and one.cli("get", "vassals").returncode == 0
        one.manifest("late", ["sleep", "1000"])
        one.wait_running("late")
        os.truncate(filler, 0)
        subprocess.run(["mount", "-o", "remount,size=4m", str(one.logs)], check=True)
        one.wait_for(lambda: count.exists() and count.read_text() == "8000", what="the writer goes on")
        expected = b"".join(b"%063d\n" % n for n in range(8000))
        one.wait_for(lambda: (one.logs / "writer.log").read_bytes() == expected, what="not a byte is lost")
        assert not one.close()
    finally:
        one.close()
        subprocess.run(["umount", "-l", str(one.logs)], check=False)


# Vassals that misbehave


def test_fifty_megabytes_without_a_newline(emperor: Make) -> None:
    one = emperor().start()
    one.manifest("quiet", ["sleep", "1000"])
    one.wait_running("quiet")
    before = psutil.Process(one.pid).memory_info().rss
    code = "import os, signal\nfor _ in range(800): os.write(1, b'x' * 65536)\nos.write(1, b'end'); signal.pause()"
    one.manifest("loud", python(code), logs={"maxSize": "64Mi"})
    log = one.logs / "loud.log"
    one.wait_for(lambda: log.exists() and log.stat().st_size == 50 * MiB + 3, what="every byte is there")
    assert psutil.Process(one.pid).memory_info().rss - before < 16 * MiB
    assert one.cli("logs", "loud", "--tail=1", timeout=20).returncode == 0
    assert psutil.Process(one.pid).memory_info().rss - before < 128 * MiB


@pytest.mark.parametrize("fate", ["stalls", "disappears"])
def test_a_log_reader_that_fails_holds_nobody_up(emperor: Make, household: Household, fate: str) -> None:
    one = emperor().start()
    code = "import os, signal\nfor n in range(200): os.write(1, (b'%063d\\n' % n) * 1024)\nsignal.pause()"
    one.manifest("loud", python("import time\n" + "time.sleep(0.3)\n" + code), logs={"maxSize": "64Mi"})
    one.wait_running("loud")
    reader = household.spawn(
        [command_path("emperorctl"), f"--socket={one.socket}", "logs", "-f", "loud"],
        env=one.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert reader.stdout is not None and reader.stdout.readline()
    reader.send_signal(signal.SIGSTOP if fate == "stalls" else signal.SIGKILL)
    log = one.logs / "loud.log"
    one.wait_for(lambda: log.stat().st_size == 200 * 65536, what="the vassal went on")
    before = psutil.Process(one.pid).memory_info().rss
    assert before < 200 * MiB
    assert one.cli("get", "vassals").returncode == 0
    reader.stdout.close()
    reader.kill()
    one.wait_for(lambda: one.cli("logs", "loud", "--tail=1").stdout.strip() == f"{199:063d}", what="others can read")


def test_two_hundred_exits_at_once_are_all_accounted_for(emperor: Make) -> None:
    one = emperor().start()
    names = [f"v{number}" for number in range(200)]
    for name in names:
        one.manifest(name, ["sleep", "1000"], loyalty={"after": "1ms"})
    one.wait_for(lambda: all(each["status"]["ready"] for each in one.objects().values()) and len(one.objects()) == 200)
    one.wait_for(
        lambda: all(
            c["status"] == "True"
            for each in one.objects().values()
            for c in each["status"]["conditions"]
            if c["type"] == "Loyal"
        ),
        what="all are loyal",
    )
    before = {name: each["status"]["processes"][0]["pid"] for name, each in one.objects().items()}
    one.signal(signal.SIGSTOP)  # so that they are found all at once
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    one.signal(signal.SIGCONT)

    def all_back() -> bool:
        return all(
            each["status"]["ready"]
            and each["status"]["respawns"] == 1
            and each["status"]["processes"][0]["pid"] != before[name]
            for name, each in one.objects().items()
        )

    one.wait_for(all_back, what="everybody is back")
    exits = [each["status"]["lastExit"] for each in one.objects().values()]
    assert len(exits) == 200 and all(each["signal"] in (9, "SIGKILL") for each in exits)
    died = [event for event in one.events() if event["reason"] == "Died"]
    assert len({event["involvedObject"]["name"] for event in died}) == 200 == sum(event["count"] for event in died)


ABUSE = {
    "garbage": "n = 0\nwhile n < 4 << 20: n += os.write(fd, os.urandom(65536).replace(b'\\x16', b''))",
    "loyal a million times": "n = 0\nwhile n < 1000000: n += os.write(fd, b'\\x11' * 4096)",
    "closed": "os.close(fd)",
    "never read": "pass",
    "shut for writing": "import socket; s = socket.socket(fileno=fd); s.shutdown(socket.SHUT_WR)",
}


@pytest.mark.parametrize("how", ABUSE)
def test_a_vassal_that_abuses_the_protocol_harms_only_itself(emperor: Make, how: str) -> None:
    one = emperor().start()
    one.manifest("bystander", ["sleep", "1000"])
    bystander = one.wait_running("bystander")
    done = one.root / "done"
    code = (
        "import os, signal, sys\nfd = int(os.environ['UWSGI_EMPEROR_FD'])\n"
        f"{ABUSE[how]}\nopen(sys.argv[1], 'w').close()\nwhile True: signal.pause()"
    )
    path = one.manifest("rude", python(code, done), reload={"protocol": {}}, stop={"gracePeriod": "2s"})
    pid = one.wait_running("rude")
    one.wait_for(done.exists, what="it has done its worst")
    assert one.main_pid("rude") == pid
    if how == "never read":
        for _ in range(600):
            assert one.api("POST", f"{API}/vassals/rude/reload").status in range(200, 300)
        assert one.main_pid("rude") == pid
    os.utime(path)
    one.manifest("late", ["sleep", "1000"])
    one.wait_running("late", timeout=2.0)
    one.wait_for(lambda: one.main_pid("rude"), what="it has a process")
    assert one.main_pid("bystander") == bystander
    began = psutil.Process(one.pid).cpu_times()
    assert sum(began[:2]) < 10.0
    path.unlink()
    one.wait_absent("rude")
    used = psutil.Process(one.pid).cpu_times()
    assert sum(used[:2]) - sum(began[:2]) < 1.0  # a closed end does not make the loop spin
    assert len(one.log().splitlines()) < 2000


# What a vassal is born with

INSIDE = """
import json, os, sys
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "fds": [fd for fd in range(4096) if is_open(fd)],
    "stdin": os.readlink("/proc/self/fd/0"),
    "env": dict(os.environ), "cwd": os.getcwd(), "sid": os.getsid(0) == os.getpid(),
    "blocked": status["SigBlk"], "caught": status["SigCgt"],
}), flush=True)
import signal; signal.pause()
"""


class Untidy(Emperor):
    """An Emperor that was started carelessly: signals ignored, a descriptor left open, a strange environment."""

    def command(self) -> list[str]:
        text = 'trap "" HUP USR1 USR2 PIPE CHLD; exec 9</etc/passwd; umask 0; exec "$@"'
        return ["/bin/sh", "-c", text, "sh", *super().command()]


@pytest.mark.parametrize("protocol", [False, True], ids=["plain", "protocol"])
def test_what_a_vassal_is_born_with(household: Household, protocol: bool) -> None:
    env = {
        "SECRET": "1",
        "LD_PRELOAD": "",
        "PYTHONPATH": "/nowhere",
        "UWSGI_VASSAL_X": "1",
        "NOTIFY_SOCKET": "",
        "LC_ALL": "C",
    }
    one = Untidy(household, env=env)
    try:
        one.start()
        spec: dict[str, Any] = {"reload": {"protocol": {}}} if protocol else {}
        one.manifest("x", python(INSIDE), env={"MINE": "yes"}, **spec)
        one.manifest("status", ["cat", "/proc/self/status"])
        log = one.logs / "x.log"
        one.wait_for(lambda: log.exists() and log.read_bytes().endswith(b"}\n"), what="it has looked around")
        seen = json.loads(log.read_text())
        assert seen["fds"] == [0, 1, 2, *([3] if protocol else [])]
        assert seen["stdin"] == "/dev/null"
        assert seen["sid"] is True and int(seen["blocked"], 16) == 0
        expected = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LC_ALL", "MINE"}
        expected |= {f"EMPEROR_VASSAL_{what}" for what in ("NAME", "MONITOR", "GENERATION", "INDEX")}
        expected |= {"EMPERORCTL_INSTANCE"}
        expected |= {"UWSGI_EMPEROR_FD"} if protocol else set()
        optional = {name for name in seen["env"] if name in ("LANG", "TZ") or name.startswith("LC_")}
        assert set(seen["env"]) - optional == expected - optional
        assert seen["env"]["EMPEROR_VASSAL_NAME"] == "x" and seen["env"]["EMPEROR_VASSAL_GENERATION"] == "1"
        status = one.logs / "status.log"
        one.wait_for(lambda: status.exists() and b"SigCgt" in status.read_bytes(), what="the other one too")
        masks = {
            line.split(":")[0]: int(line.split()[1], 16)
            for line in status.read_text().splitlines()
            if line.startswith("Sig") and "/" not in line
        }
        assert masks["SigBlk"] == masks["SigIgn"] == masks["SigCgt"] == 0
        assert not one.close()
    finally:
        one.close()
        one.remove()
