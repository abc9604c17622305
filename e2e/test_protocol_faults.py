"""Vassals that abuse the emperor protocol: what they write, close and never read, with real processes.

The program in uWSGI's place does what its file's name says; how the real Emperor answers the same is in `conformance`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from e2e.harness import Emperor, alive, command_path

Make = Callable[..., Emperor]

PUPPET = """#!{python}
import os, signal, sys, time
fd = int(os.environ["UWSGI_EMPEROR_FD"])
name = os.path.basename(sys.argv[2]).split(".")[0]
os.write(fd, bytes([1, 5, 17]))
if name == "garbage":
    for _ in range(200):
        os.write(fd, b"\\xff\\xfe" * 20_000)
elif name == "endless":
    while True:
        os.write(fd, b"garbage" * 1000)
elif name == "loyal":
    os.write(fd, bytes([17]) * 1_000_000)
elif name == "closed":
    os.close(fd)
    signal.pause()
elif name == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
elif name == "beats":
    while True:
        os.write(fd, bytes([26]))
        time.sleep(0.2)
elif name == "silent":
    os.write(fd, bytes([26]))
    while True:
        signal.pause()
elif name == "calls":
    os.write(fd, bytes([30]) * 100)
print("ready", name, flush=True)
while byte := os.read(fd, 1):
    if byte[0] == 0:
        break
"""


def puppets(emperor: Make, *options: str) -> Emperor:
    """An Emperor whose uWSGI vassals are puppets, their output captured."""
    e = emperor("--uwsgi-logs", "capture", *options)
    path = e.root / "puppet"
    path.write_text(PUPPET.format(python=os.path.realpath(command_path("python"))))
    path.chmod(0o755)
    e.options += ["--emperor-wrapper", str(path)]
    return e


def reasons(e: Emperor, name: str) -> list[str]:
    return [str(event["reason"]) for event in e.events(name)]


def test_garbage_is_reported_once_and_nothing_else_happens(emperor: Make) -> None:
    e = puppets(emperor).start()
    e.write("garbage.ini", "[uwsgi]\n")
    pid = e.wait_running("garbage.ini")
    e.wait_for(lambda: "ready" in e.cli("logs", "garbage").stdout, what="all of its garbage is taken")
    e.wait_condition("garbage.ini", "Loyal", "True", "FirstRequest")
    (event,) = [event for event in e.events("garbage.ini") if event["reason"] == "ProtocolGarbage"]
    assert event["type"] == "Warning" and event["count"] == 1 and "UWSGI_EMPEROR_FD" in event["message"]
    assert e.main_pid("garbage.ini") == pid


def test_a_million_words_of_loyalty_are_one(emperor: Make) -> None:
    e = puppets(emperor).start()
    e.write("loyal.ini", "[uwsgi]\n")
    e.wait_for(lambda: e.phase("loyal.ini") and "ready" in e.cli("logs", "loyal").stdout, what="all are taken")
    before = e.events("loyal.ini")
    assert e.condition("loyal.ini", "Loyal")["reason"] == "FirstRequest"
    assert len(before) < 10 and all(event["count"] == 1 for event in before)


def test_one_that_never_stops_talking_costs_little_and_holds_up_nobody(emperor: Make) -> None:
    e = puppets(emperor).start()
    e.write("endless.ini", "[uwsgi]\n")
    e.wait_for(lambda: "ProtocolGarbage" in reasons(e, "endless.ini"), what="its garbage is reported")
    process = psutil.Process(e.pid)
    begun, used = time.monotonic(), sum(process.cpu_times()[:2])
    e.write("loyal.ini", "[uwsgi]\n")
    e.wait_running("loyal.ini")
    while time.monotonic() - begun < 2.0:
        assert e.api("GET", "/healthz").status == 200
        time.sleep(0.05)
    share = (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - begun)
    assert share < 0.6, f"{share:.0%} of a core"


def test_one_that_closes_its_socket_and_lives_on_is_killed_in_time(emperor: Make) -> None:
    e = puppets(emperor, "--emperor-curse-tolerance", "1.5").start()
    e.write("closed.ini", "[uwsgi]\n")
    pid = e.wait_running("closed.ini")
    e.wait_condition("closed.ini", "Ready", "Unknown", "Cursed")
    e.wait_running("closed.ini", other_than=pid)
    assert not alive(pid)
    status = e.objects()["closed.ini"]["status"]
    assert "closed its protocol socket" in status["lastExit"]["message"]
    assert "Cursed" in reasons(e, "closed.ini")


def test_one_that_never_reads_is_told_in_vain_and_killed_when_it_must_go(emperor: Make) -> None:
    e = puppets(emperor, "--emperor-curse-tolerance", "1").start()
    path = e.write("deaf.ini", "[uwsgi]\n")
    e.write("loyal.ini", "[uwsgi]\n")
    pid = e.wait_running("deaf.ini")
    e.wait_running("loyal.ini")
    for _ in range(300):
        assert e.api("POST", "/apis/emperor/v1/vassals/deaf.ini/reload").status == 200
    assert e.main_pid("deaf.ini") == pid
    path.unlink()
    e.wait_absent("deaf.ini")
    assert not alive(pid)
    assert "GraceExceeded" in reasons(e, "deaf.ini")
    assert e.phase("loyal.ini") == "Running"


def test_silence_after_a_heartbeat_is_a_reload_and_then_death(emperor: Make) -> None:
    e = puppets(emperor, "--emperor-required-heartbeat", "1", "--emperor-curse-tolerance", "1").start()
    e.write("beats.ini", "[uwsgi]\n")
    e.write("silent.ini", "[uwsgi]\n")
    lively, hung = e.wait_running("beats.ini"), e.wait_running("silent.ini")
    e.wait_condition("silent.ini", "Ready", "False", "Hung")
    e.wait_running("silent.ini", other_than=hung)
    assert "no heartbeat" in e.objects()["silent.ini"]["status"]["lastExit"]["message"]
    assert e.main_pid("beats.ini") == lively and "Hung" not in reasons(e, "beats.ini")


def test_an_emperor_that_was_stopped_does_not_blame_its_vassals(emperor: Make) -> None:
    e = puppets(emperor, "--emperor-required-heartbeat", "2").start()
    e.write("beats.ini", "[uwsgi]\n")
    pid = e.wait_running("beats.ini")
    e.wait_condition("beats.ini", "Loyal", "True")
    process, vassal = psutil.Process(e.pid), psutil.Process(pid)
    for one in (process, vassal):
        one.suspend()
    time.sleep(4.0)
    for one in (process, vassal):
        one.resume()
    begun = time.monotonic()
    while time.monotonic() - begun < 3.0:
        assert e.phase("beats.ini") == "Running"
        time.sleep(0.05)
    assert e.main_pid("beats.ini") == pid and "Hung" not in reasons(e, "beats.ini")


@pytest.mark.parametrize("allowed", [0, 2])
def test_a_hundred_calls_bring_as_many_zergs_as_the_broodlord_may_have(emperor: Make, allowed: int) -> None:
    e = puppets(emperor, "--emperor-broodlord", str(allowed)).start()
    path = e.write("calls.ini", "[uwsgi]\n")
    e.wait_running("calls.ini")
    e.wait_for(lambda: "ready" in e.cli("logs", "calls.ini").stdout, what="it has called")
    if not allowed:
        e.wait_for(lambda: "NoReinforcements" in reasons(e, "calls.ini"), what="it is told why nobody comes")
        assert list(e.objects()) == ["calls.ini"]
        return
    first = e.wait_running("calls.ini:zerg")
    e.wait_running("calls.ini:zerg2")
    assert list(e.objects()) == ["calls.ini", "calls.ini:zerg", "calls.ini:zerg2"]
    assert psutil.Process(first).cmdline()[-2:] == ["--ini", "calls.ini:zerg"]
    os.kill(first, signal.SIGKILL)
    e.wait_absent("calls.ini:zerg")
    Path(path).unlink()
    e.wait_absent("calls.ini:zerg2")
    e.wait_absent("calls.ini")
