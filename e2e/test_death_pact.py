"""If the Emperor dies, every vassal dies, grandchildren included; if anything else dies, no vassal does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import psutil
import pytest

from e2e.harness import Emperor, alive, wait_for

ZYGOTE = "emperor-zygote"
# A vassal with a child and a grandchild in sessions of their own, all deaf to SIGTERM; each leaves its pid in a file.
FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
for _ in range(2):
    if os.fork():
        break
    os.setsid()
else:
    os.environ.clear()
open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
while True:
    time.sleep(100)
"""
SLEEPER = "import signal; signal.pause()"
both = pytest.mark.parametrize(
    "containment", ["own", pytest.param("session+tree", marks=[pytest.mark.as_root, pytest.mark.as_user])]
)
Make = Callable[..., Emperor]


def python(code: str, *arguments: object) -> list[str]:
    """A command that runs this code in an interpreter that any user may run."""
    found = Path("/usr/bin/python3")
    return [str(found if found.exists() else sys.executable), "-ISc", code, *map(str, arguments)]


def families(one: Emperor, count: int) -> list[int]:
    """Start that many families; all their pids."""
    directory = one.root / "pids"
    directory.mkdir()
    directory.chmod(0o777)
    for number in range(count):
        one.manifest(f"f{number}", python(FAMILY, directory), stop={"gracePeriod": "1s"})
    one.wait_for(lambda: len(list(directory.iterdir())) == 3 * count, what="all families are complete")
    return [int(path.name) for path in directory.iterdir()]


def _holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


def zygote_of(one: Emperor) -> int:
    """The pid of the Emperor's present zygote."""
    return one.wait_for(
        lambda: next(
            (child.pid for child in psutil.Process(one.pid).children() if child.name().startswith(ZYGOTE[:14])), None
        ),
        what="there is a zygote",
    )


def seconds_until_dead(pids: list[int]) -> float:
    started = time.monotonic()
    wait_for(lambda: not any(map(alive, pids)), 3.0, "everybody is dead")
    return time.monotonic() - started


@both
def test_sigkill_of_the_emperor_ends_everybody(emperor: Make, containment: str) -> None:
    one = emperor().start()
    pids = families(one, 20)
    zygote = zygote_of(one)
    one.kill()
    took = seconds_until_dead([*pids, zygote])
    print(f"{len(pids)} processes gone within {took * 1000:.0f} ms")
    assert not one.household.orphans()


@both
def test_leftovers_of_emperor_and_zygote_are_ended_before_anything_is_launched(emperor: Make, containment: str) -> None:
    one = emperor().start()
    pids = families(one, 5)
    zygote = zygote_of(one)
    os.kill(zygote, SIGSTOP)
    one.kill()
    os.kill(zygote, SIGKILL)
    wait_for(lambda: not alive(zygote), what="the zygote is dead")
    assert any(map(alive, pids)), "the grandchildren should have outlived both"
    for path in (one.root / "pids").iterdir():
        path.unlink()
    one.start()
    one.wait_running("f0")
    assert not any(map(alive, pids))
    second = one.wait_for(lambda: one.log().partition("LeftoverEnded")[2], what="the leftovers are reported")
    one.wait_for(lambda: "f0 Started" in one.log().partition("LeftoverEnded")[2], what="launched after that")
    assert "LeftoverRemains" not in second


@both
def test_sigterm_ends_everybody_in_order(emperor: Make, containment: str) -> None:
    one = emperor().start()
    pids = families(one, 3)
    marks = one.root / "pids" / "marks"
    code = (
        "import os, signal, sys\n"
        "def end(*_):\n"
        "    os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), b'bye\\n')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    for number in range(3):
        one.manifest(f"polite{number}", python(code, marks))
    for number in range(3):
        one.wait_running(f"polite{number}")
        log = one.logs / f"polite{number}.log"
        one.wait_for(partial(_holds, log, "ready"), what="it is ready")
    assert one.stop(SIGTERM, timeout=10.0) == 0
    assert marks.read_text() == "bye\n" * 3
    assert not any(map(alive, pids))
    assert not one.socket.exists()
    assert "polite0 Stopped: exited with code 0" in one.log() and "f0 GraceExceeded" in one.log()


def test_a_second_sigterm_ends_the_wait(emperor: Make) -> None:
    one = emperor().start()
    directory = one.root / "pids"
    directory.mkdir()
    one.manifest("deaf", python(FAMILY, directory), stop={"gracePeriod": "1m"})
    one.wait_for(lambda: len(list(directory.iterdir())) == 3, what="the family is complete")
    one.signal(SIGTERM)
    one.wait_log("Ragnarok")
    assert one.stop(SIGTERM, timeout=5.0) == 0


@both
def test_a_vassal_that_ignores_sigterm_is_killed_at_its_grace(emperor: Make, containment: str) -> None:
    one = emperor().start()
    pids = families(one, 1)
    one.manifest("bystander", python(SLEEPER))
    bystander = one.wait_running("bystander")
    started = time.monotonic()
    assert one.cli("stop", "f0").returncode == 0
    one.wait_for(lambda: not any(map(alive, pids)), what="the whole family is dead")
    assert time.monotonic() - started > 0.9
    one.wait_for(lambda: any(event["reason"] == "GraceExceeded" for event in one.events("f0")), what="it is said")
    assert one.wait_phase("f0", "Suspended")
    assert one.main_pid("bystander") == bystander


@both
def test_what_a_vassal_leaves_behind_when_it_dies_is_ended(emperor: Make, containment: str) -> None:
    """Its grandchildren do not outlive it into the next launch."""
    one = emperor().start()
    pids = families(one, 1)
    main = one.wait_running("f0")
    os.kill(main, SIGKILL)
    one.wait_for(lambda: not any(map(alive, pids)), 3.0, "the whole family is dead")
    one.wait_running("f0", other_than=main)


def test_a_stopped_vassal_is_woken_to_end(emperor: Make) -> None:
    one = emperor().start()
    one.manifest("x", ["sleep", "1000"], stop={"gracePeriod": "1m"})
    pid = one.wait_running("x")
    os.kill(pid, SIGSTOP)
    one.wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, what="it is stopped")
    assert one.cli("stop", "x").returncode == 0
    one.wait_for(lambda: not alive(pid), 3.0, "it has ended at once")
    one.wait_phase("x", "Suspended")
    found = one.get("x")
    assert found is not None and found["status"]["lastExit"]["signal"] in (15, "SIGTERM")


@both
def test_the_zygote_may_die(emperor: Make, containment: str) -> None:
    one = emperor().start()
    pids = families(one, 3)
    main = {name: one.main_pid(name) for name in one.objects()}
    zygote = zygote_of(one)
    os.kill(zygote, SIGKILL)
    one.wait_log("ZygoteReplaced", timeout=3.0)
    one.manifest("late", ["sleep", "1000"])
    one.wait_running("late")
    assert zygote_of(one) != zygote
    assert all(map(alive, pids))
    assert {name: one.main_pid(name) for name in main} == main
    one.kill()  # the next zygote knows what the first one launched
    seconds_until_dead(pids)


def test_a_zygote_that_dies_in_the_middle_of_launches_starts_nothing_twice(emperor: Make) -> None:
    one = emperor().start()
    directory = one.root / "pids"
    directory.mkdir()
    code = "import os, signal, sys; open(f'{sys.argv[1]}/{sys.argv[2]}.{os.getpid()}', 'w').close(); signal.pause()"
    zygote = zygote_of(one)
    for number in range(40):
        one.manifest(f"v{number}", python(code, directory, f"v{number}"))
        if number == 20:
            os.kill(zygote, SIGKILL)
    for number in range(40):
        one.wait_running(f"v{number}")
    one.wait_for(lambda: len({path.name.split(".")[0] for path in directory.iterdir()}) == 40, what="all have begun")
    living = sorted(path.name for path in directory.iterdir() if alive(int(path.name.split(".")[1])))
    assert living == sorted(f"v{number}.{one.main_pid(f'v{number}')}" for number in range(40))
    assert "ZygoteReplaced" in one.log()


def test_a_zygote_that_hangs_is_replaced(emperor: Make) -> None:
    one = emperor().start()
    one.manifest("early", ["sleep", "1000"])
    early = one.wait_running("early")
    zygote = zygote_of(one)
    os.kill(zygote, SIGSTOP)
    one.manifest("late", ["sleep", "1000"])
    assert one.cli("get", "vassals").returncode == 0  # meanwhile it answers
    one.wait_running("late", timeout=14.0)
    assert "ZygoteReplaced" in one.log()
    assert not alive(zygote)
    assert one.main_pid("early") == early and alive(early)
    found = one.get("late")
    assert found is not None and found["status"]["blacklist"] is None


def test_an_emperor_that_was_stopped_for_a_while_kills_nobody(emperor: Make) -> None:
    one = emperor().start()
    for number in range(5):
        one.manifest(f"v{number}", ["sleep", "1000"])
    pids = [one.wait_running(f"v{number}") for number in range(5)]
    one.signal(SIGSTOP)
    killed, rest = pids[0], pids[1:]
    os.kill(killed, SIGKILL)
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began >= 3.0, what="the time has passed")
    assert all(map(alive, rest))
    one.signal(SIGCONT)
    assert one.wait_running("v0", other_than=killed)
    assert [one.main_pid(f"v{number}") for number in range(1, 5)] == rest
    assert all((found := one.get(f"v{number}")) and found["status"]["respawns"] == 0 for number in range(1, 5))
