"""systemd's notification protocol, spoken by real vassals to a real Emperor."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Emperor
from e2e.runtime_court import court, native, python
from emperorctl.models.observed import LaunchState
from emperorctl.models.vassal import Notify

Make = Callable[..., Emperor]

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
NOTIFY: dict[str, Any] = {"notify": {}}
ALL: dict[str, Any] = {"notify": {"access": "all"}}
OBEDIENT = """
import os, signal, socket, time
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(os.environ["NOTIFY_SOCKET"])
say = lambda text: out.send(text.encode())
signal.signal(signal.SIGHUP, lambda *_: say("RELOADING=1"))
signal.signal(signal.SIGUSR1, lambda *_: say("READY=1\\nSTATUS=serving " + os.environ.get("WATCHDOG_USEC", "?")))
signal.signal(signal.SIGUSR2, lambda *_: say("STOPPING=1"))
say("STATUS=loading")
while True: time.sleep(1)
"""
FROM_A_CHILD = """
import os, socket, time
if os.fork() == 0:
    out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    out.connect(os.environ["NOTIFY_SOCKET"])
    out.send(b"READY=1")
while True: time.sleep(1)
"""
FLOOD = """
import os, socket, sys, time
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(os.environ["NOTIFY_SOCKET"])
out.send(b"READY=1")
out.setblocking(False)
refused = sent = 0
for number in range(1_000_000):
    try:
        out.send(f"STATUS={number}".encode())
        sent += 1
    except BlockingIOError:
        refused += 1
out.setblocking(True)
out.send(b"STATUS=done")
print("sent", sent, flush=True)
while True: time.sleep(1)
"""
JUNK = """
import os, socket, time
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(os.environ["NOTIFY_SOCKET"])
for data in (b"", b"\\0", b"=", b"\\xff" * 4096, b"READY=1" + b"x" * 60000, b"READY=1\\0READY=1", b"MAINPID=1\\nX=1"):
    out.send(data)
null = os.open("/dev/null", os.O_RDONLY)
for _ in range(200):
    socket.send_fds(out, [b"FDSTORE=1"], [null] * 100)
out.send(b"READY=1\\nSTATUS=\\x1b[31m\\xff done")
while True: time.sleep(1)
"""


def vassal(emperor: Emperor, name: str, code: str, readiness: dict[str, Any] = NOTIFY, **spec: Any) -> int:
    """Write a vassal that speaks, and wait until it runs; its pid."""
    emperor.manifest(name, [PYTHON, "-I", "-S", "-c", code], readiness=readiness, **spec)
    return emperor.wait_running(name)


def ready_message(emperor: Emperor, name: str) -> str:
    return str(emperor.condition(name, "Ready").get("message", ""))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def sockets(emperor: Emperor) -> list[str]:
    place = Path(f"{emperor.socket}.notify")
    return sorted(os.listdir(place)) if place.exists() else []


@pytest.mark.parametrize("whose", ["own", pytest.param("ordinary", marks=pytest.mark.as_user)])
def test_a_vassal_is_what_it_says(emperor: Make, whose: str) -> None:
    made = emperor().start()
    pid = vassal(made, "web", OBEDIENT, reload={"signal": "SIGHUP"})
    made.wait_for(lambda: ready_message(made, "web").endswith("READY=1 yet: loading"), what=f"{whose}: it loads")
    assert made.condition("web", "Ready")["status"] == "False"
    assert made.condition("web", "Ready")["reason"] == "NotReady"
    os.kill(pid, 10)
    ready = made.wait_condition("web", "Ready", "True", "Notified")
    assert ready["message"] == "serving 30000000"
    os.kill(pid, 1)
    made.wait_condition("web", "Progressing", "True", "Reloading")
    assert made.phase("web") == "Reloading"
    os.kill(pid, 10)
    made.wait_condition("web", "Progressing", "False", "Settled")
    os.kill(pid, 12)
    made.wait_condition("web", "Ready", "False", "Stopping")
    os.kill(pid, 9)
    made.wait_running("web", other_than=pid)
    made.wait_condition("web", "Ready", "False", "NotReady")
    assert made.main_pid("web") != pid


def test_another_readiness_is_another_process_and_no_socket_stays(emperor: Make) -> None:
    made = emperor(env={"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "7", "WATCHDOG_PID": "1"}).start()
    show = "import os, time; print(sorted(k for k in os.environ if k[:6] in ('NOTIFY', 'WATCHD')), flush=True)"
    wait = "\nwhile True: time.sleep(1)"

    def shown(*lines: str) -> None:
        path = made.logs / "web.log"
        made.wait_for(lambda: path.exists() and path.read_text().splitlines() == list(lines), what=f"it shows {lines}")

    made.manifest("web", [PYTHON, "-I", "-S", "-c", show + wait])
    made.wait_condition("web", "Ready", "True", "Started")
    shown("[]")
    assert not Path(f"{made.socket}.notify").exists(), "nobody wants a socket"
    vassal(made, "web", show + wait)
    made.wait_condition("web", "Ready", "False", "NotReady")
    pid = made.main_pid("web")
    both = "['NOTIFY_SOCKET', 'WATCHDOG_USEC']"
    shown("[]", both)
    assert len(sockets(made)) == 1
    vassal(made, "web", show + wait, ALL)
    made.wait_running("web", other_than=pid)
    shown("[]", both, both)
    made.wait_for(lambda: len(sockets(made)) == 1, what="the socket of the old process is gone")
    (made.vassals / "web.yaml").unlink()
    made.wait_absent("web")
    assert sockets(made) == []
    assert made.stop() == 0
    assert not Path(f"{made.socket}.notify").exists()


def test_only_the_main_process_speaks_unless_all_may(emperor: Make) -> None:
    made = emperor().start()
    vassal(made, "strict", FROM_A_CHILD)
    vassal(made, "open", FROM_A_CHILD, ALL)
    made.wait_condition("open", "Ready", "True", "Notified")
    (event,) = made.wait_for(
        lambda: [event for event in made.events("strict") if event["reason"] == "NotifyIgnored"], what="the note"
    )
    assert "access: all" in event["message"] and str(made.main_pid("strict")) in event["message"]
    assert made.condition("strict", "Ready")["reason"] == "NotReady"
    assert not [event for event in made.events("open") if event["reason"] == "NotifyIgnored"]


def test_a_million_datagrams_do_not_keep_the_emperor_from_answering(emperor: Make) -> None:
    made = emperor().start()
    vassal(made, "loud", FLOOD)
    log = made.logs / "loud.log"
    answers = 0
    while not (log.exists() and "sent" in log.read_text()):
        assert made.api("GET", "/healthz").status == 200
        answers += 1
    assert answers > 0
    made.wait_for(lambda: ready_message(made, "loud") == "done", what="the last word is heard")
    vassal(made, "other", OBEDIENT)
    made.wait_for(lambda: "loading" in ready_message(made, "other"), what="others are heard")


def test_junk_and_descriptors_leave_no_trace(emperor: Make) -> None:
    made = emperor().start()
    pid = vassal(made, "first", OBEDIENT)
    made.wait_for(lambda: "loading" in ready_message(made, "first"), what="it speaks")
    before = descriptors(made.pid)
    vassal(made, "junk", JUNK)
    made.wait_for(lambda: ready_message(made, "junk") == "\\x1b[31m\\xff done", what="the end is heard")
    assert made.condition("junk", "Ready")["reason"] == "Notified"
    assert made.main_pid("first") == pid
    (made.vassals / "junk.yaml").unlink()
    made.wait_absent("junk")
    made.wait_for(lambda: descriptors(made.pid) <= before, what="no descriptor of it is left")


@pytest.mark.as_root
def test_another_user_cannot_reach_the_socket(emperor: Make) -> None:
    made = emperor().start()
    pid = vassal(made, "web", OBEDIENT, user="65534")
    made.wait_for(lambda: "loading" in ready_message(made, "web"), what="its own user reaches it")
    place = Path(f"{made.socket}.notify")
    (path,) = place.iterdir()
    found = path.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (65534, 0o600)
    attack = f"""
import os, socket
try:
    os.listdir({str(place)!r})
except PermissionError:
    print("no listing")
try:
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", {str(path)!r})
except PermissionError:
    print("no entry")
"""
    stranger = made.household.spawn(
        [PYTHON, "-I", "-S", "-c", attack], user=65533, group=65533, extra_groups=[], cwd="/", stdout=-1
    )
    assert stranger.communicate()[0].decode().splitlines() == ["no listing", "no entry"]
    # Root does reach it, but is not the main process.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mine:
        mine.sendto(b"READY=1", str(path))
    made.wait_for(lambda: [e for e in made.events("web") if e["reason"] == "NotifyIgnored"], what="it is ignored")
    assert made.condition("web", "Ready")["status"] == "False"
    assert made.main_pid("web") == pid


@pytest.mark.as_root
def test_a_socket_behind_a_closed_door_is_worth_a_warning(emperor: Make) -> None:
    made = emperor()
    made.root.chmod(0o700)
    made.start()
    made.manifest("web", ["sleep", "1000"], user="65534", readiness=NOTIFY)
    made.wait_running("web")
    (event,) = [event for event in made.events("web") if event["reason"] == "NotifyUnreachable"]
    assert f"chmod o+x {made.root}" in event["message"]


def test_sockets_of_a_killed_emperor_are_cleared_by_the_next(emperor: Make) -> None:
    made = emperor().start()
    vassal(made, "a", OBEDIENT)
    vassal(made, "b", OBEDIENT)
    assert len(sockets(made)) == 2
    made.kill()
    assert len(sockets(made)) == 2
    (made.vassals / "b.yaml").unlink()
    made.start()
    made.wait_running("a")
    made.wait_for(lambda: "loading" in ready_message(made, "a"), what="it speaks")
    assert len(sockets(made)) == 1


def test_a_path_too_long_is_said_in_words(emperor: Make) -> None:
    made = emperor()
    deep = made.root / ("x" * (107 - len(str(made.root)) - 4))
    deep.mkdir()
    made.socket = deep / "s"
    made.start()
    made.manifest("web", ["sleep", "1000"], readiness=NOTIFY)
    made.manifest("plain", ["sleep", "1000"])
    made.wait_running("plain")
    ready = made.wait_condition("web", "Ready", "False", "Blacklisted")
    assert "107 bytes" in ready["message"] and "shorter --socket" in ready["message"]


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="systemd-notify is not installed")
def test_systemds_own_tool(emperor: Make) -> None:
    made = emperor().start()
    command = ["sh", "-c", "systemd-notify --ready --status='up and running' && echo told; exec sleep 1000"]
    made.manifest("web", command, readiness=ALL)
    made.wait_condition("web", "Ready", "True", "Notified")
    made.wait_for(lambda: ready_message(made, "web") == "up and running", what="its text")
    log = made.logs / "web.log"
    made.wait_for(lambda: log.exists() and "told" in log.read_text(), what="the tool does not wait in vain")


@pytest.mark.parametrize("containment", ["cgroup", "tree"])
def test_heartbeats_are_recorded_and_last_words_heard(tmp_path: Path, containment: str) -> None:
    code = """
import os, socket
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(os.environ["NOTIFY_SOCKET"])
os.write(int(os.environ["UWSGI_EMPEROR_FD"]), b"\\x05")
out.send(b"WATCHDOG=1")
os.read(int(os.environ["UWSGI_EMPEROR_FD"]), 1)
out.send(b"WATCHDOG=1")
os.write(int(os.environ["UWSGI_EMPEROR_FD"]), b"\\x16")
out.send(b"STOPPING=1\\nSTATUS=bye")
"""

    async def scene() -> None:
        async with court(tmp_path, containment) as made:
            shop = native("a", *python(code), protocol=True, notify=Notify.MAIN)
            made.host.launch(shop, 1, 1)
            seen = await made.until(
                "a", lambda seen: seen.signs.heartbeat is not None and seen.signs.accepting is not None
            )
            assert seen.state is LaunchState.ALIVE
            assert made.host.tell("a", 1, 1)
            over = await made.over("a")
            assert over.exit is not None and over.exit.code == 0
            assert over.signs.heartbeat is not None and seen.signs.heartbeat is not None
            assert over.signs.heartbeat > seen.signs.heartbeat
            # Both sources speak into the same signs, to the last word of each.
            assert (over.signs.status, over.signs.accepting) == ("bye", seen.signs.accepting)
            assert over.signs.will is not None and over.signs.stopping is not None
            # Nothing of an earlier launch is left in the next.
            made.host.launch(replace(shop, launch=replace(shop.launch, command=("sleep", "1000"))), 2, 1)
            assert (await made.alive("a")).signs.status == ""
            assert json.dumps(made.notes, default=str) == "[]"

    asyncio.run(scene())
