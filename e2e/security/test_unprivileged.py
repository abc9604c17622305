"""What an Emperor that is not root can keep its vassals from: all of it, in user namespaces."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.harness import Emperor, alive
from e2e.security.inside import launch, status_line, told
from e2e.test_runtime_user import as_user, interpreter

Make = Callable[..., Emperor]

in_the_whole = pytest.mark.as_user
CELL = {"namespaces": ["user", "mount", "net", "ipc", "pid", "uts"]}


@pytest.fixture(autouse=True)
def allowed() -> None:
    """Skip where no user may have a user namespace."""
    who = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(["unshare", "-Um", "true"], cwd="/", capture_output=True, check=False, **who)
    if done.returncode != 0:
        pytest.skip("ordinary users may not make user namespaces here")


@in_the_whole
def test_a_cell_of_its_own(emperor: Make) -> None:
    court = emperor().start()
    code = f"""
told["pids"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
told["hostname"] = socket.gethostname()
told["links"] = [name for _, name in socket.if_nameindex()]
told["tmp"] = [os.listdir("/tmp"), attempt(write, "/tmp/mine")]
told["devices"] = sorted(os.listdir("/dev"))
told["zero"] = open("/dev/zero", "rb").read(2).hex()
told["hidden"] = attempt(read, "/etc/hostname")
told["uid"] = os.getuid()
told["write"] = attempt(write, "/var/tmp/../../{court.root}/new")
told["fds"] = descriptors()
"""
    isolation = CELL | {
        "hostname": "own",
        "privateTmp": True,
        "privateDevices": True,
        "readOnlyPaths": ["/"],
        "inaccessiblePaths": ["/etc/hostname"],
    }
    if not Path("/etc/hostname").exists():
        isolation["inaccessiblePaths"] = ["/etc/passwd"]
        code = code.replace("/etc/hostname", "/etc/passwd")
    seen = told(court, "own", code, isolation=isolation)
    main = court.main_pid("own")
    assert main is not None
    assert seen["pids"] == [1, 2]
    assert (seen["hostname"], seen["links"], seen["zero"]) == ("own", ["lo"], "0000")
    assert seen["tmp"] == [[], "done"]
    assert "sda" not in seen["devices"]
    assert seen["hidden"] == "EACCES"
    assert seen["uid"] == psutil.Process(main).uids().real
    assert set(seen["fds"]) == {"0", "1", "2"}
    assert int(status_line(main, "CapEff"), 16) == int(status_line(main, "CapBnd"), 16) == 0


@in_the_whole
def test_it_leaves_nothing_behind(emperor: Make) -> None:
    court = emperor().start()
    told(court, "own", "if os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)", isolation=CELL)
    main = court.main_pid("own")
    assert main is not None
    assert psutil.Process(main).ppid() == court.pid
    children = psutil.Process(court.pid).children()
    assert not [child for child in children if child.status() == psutil.STATUS_ZOMBIE]
    assert court.cli("stop", "own").returncode == 0
    court.wait_phase("own", "Suspended")
    assert not alive(main)


@in_the_whole
def test_a_user_of_another_number_within(emperor: Make) -> None:
    court = emperor().start()
    outside = os.getuid() or 65534
    maps: dict[str, Any] = {
        "uidMap": [{"inside": 0, "outside": outside}],
        "gidMap": [{"inside": 0, "outside": os.getgid() or 65534}],
    }
    code = "told['ids'] = [os.getuid(), os.getgid()]; told['mount'] = open('/proc/self/setgroups').read().strip()"
    seen = told(court, "root", code, isolation={"namespaces": ["pid"], **maps})
    assert seen["ids"] == [0, 0]
    assert seen["mount"] == "deny"
    main = court.main_pid("root")
    assert main is not None
    assert psutil.Process(main).uids().real == outside


@in_the_whole
def test_without_a_user_namespace_it_says_what_to_do(emperor: Make) -> None:
    court = emperor().start()
    launch(court, "bare", "", isolation={"namespaces": ["pid"]})
    found = court.wait_for(
        lambda: c if "can't be made" in (c := court.condition("bare", "Ready")).get("message", "") else None,
        what="it is refused",
    )
    assert found["status"] == "False"
    assert any("add user to spec.isolation.namespaces" in str(event) for event in court.events("bare"))


@in_the_whole
def test_ids_that_are_not_its_own_are_refused(emperor: Make) -> None:
    court = emperor().start()
    own = os.getuid() or 65534
    maps = [{"inside": own, "outside": own}, {"inside": 0, "outside": 0}]
    launch(court, "greedy", "", isolation={"namespaces": ["pid"], "uidMap": maps})
    court.wait_for(
        lambda: "can't be mapped" in court.condition("greedy", "Ready").get("message", ""), what="it is refused"
    )


SCENE = """
import asyncio, json, os, sys
from emperorctl.reconciler.runtime.spawn import spawn_zygote
zygote = spawn_zygote()
from emperorctl.models.isolation import IPC, MOUNT, NET, PID, USER, UTS, Isolation, Network
from emperorctl.models.observed import LaunchState
from emperorctl.models.vassal import Kind, Launch, Vassal
from emperorctl.reconciler.clock import SystemClock
from emperorctl.reconciler.runtime.host import LocalHost
from emperorctl.reconciler.runtime.host_settings import HostSettings
from emperorctl.reconciler.runtime.zygote import procfs

async def reign(directory):
    changed = asyncio.Event()
    settings = HostSettings(f"u{os.getpid()}", f"{directory}/logs")
    host = LocalHost(settings, wake=lambda name: changed.set(), note=print, clock=SystemClock(), zygote=zygote)
    await host.start()
    async def over(name):
        while host.observe(name).state not in (LaunchState.EXITED, LaunchState.FAILED):
            changed.clear()
            await asyncio.wait_for(changed.wait(), 10)
        return host.observe(name)
    def launch(name, isolation):
        script = "echo $$; hostname; ls -d /proc/[0-9]* | head -2; grep CapBnd /proc/self/status; touch /tmp/x; exit 6"
        launch = Launch(("sh", "-c", script), isolation=isolation)
        host.launch(Vassal(name, Kind.NATIVE, "t", "t", launch), 1, 1)
    cell = Isolation(
        USER | PID | MOUNT | NET | IPC | UTS, "own", True, True, True, read_only=("/",), network=Network.NONE, init=True
    )
    launch("cell", cell)
    assert (await over("cell")).exit.code == 6
    while len(lines := (await host.logs.tail("cell", -1)).decode().split()) < 6:
        await asyncio.sleep(0.01)
    assert lines == ["2", "own", "/proc/1", "/proc/2", "CapBnd:", "0000000000000000"], lines
    def dead():
        entries = [procfs.stat(pid) for pid in procfs.children(os.getpid()) or ()]
        return [entry.name for entry in entries if entry is not None and not entry.alive]
    async with asyncio.timeout(20):
        while dead():
            await asyncio.sleep(0.01)
    launch("bare", Isolation(PID | MOUNT, init=True))
    failure = (await over("bare")).failure
    assert (failure.reason, failure.step) == ("NoNamespaces", "namespaces"), failure
    assert "add user" in failure.remedy
    await host.close()

asyncio.run(reign(sys.argv[1]))
print("done")
"""


def test_the_runtime_of_an_ordinary_user() -> None:
    uid = os.getuid() or 65534
    python = interpreter(uid)
    if python is None:
        pytest.skip("no Python here that an ordinary user may run the package with")
    with tempfile.TemporaryDirectory() as place:
        if os.getuid() == 0:
            os.chown(place, uid, uid)
        command = [python, "-B", "-c", SCENE, place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **as_user(uid))
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
