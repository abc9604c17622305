"""The runtime as an ordinary user: no root, no cgroup, and the same promises."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import emperorctl.models

SCENE = """
import asyncio, os, signal, sys
from pathlib import Path
from emperorctl.reconciler.runtime.spawn import spawn_zygote
zygote = spawn_zygote()
from emperorctl.models.observed import LaunchState
from emperorctl.models.vassal import Kind, Launch, Vassal
from emperorctl.reconciler.clock import SystemClock
from emperorctl.reconciler.runtime.host import LocalHost
from emperorctl.reconciler.runtime.host_settings import HostSettings

def gone(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True

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
    def launch(name, *command, **more):
        host.launch(Vassal(name, Kind.NATIVE, "t", "t", Launch(command, **more)), 1, 1)
    launch("own", "sh", "-c", "id -u; exit 4", user=str(os.getuid()))
    assert (await over("own")).exit.code == 4
    launch("other", "true", user="root")
    failure = (await over("other")).failure
    assert (failure.reason, failure.step) == ("NotPermitted", "user"), failure
    assert "root" in failure.remedy
    daemon = 'trap : TERM; echo $$ > ' + directory + '/pid; sleep 100'
    launch("a", "sh", "-c", 'setsid sh -c "$DAEMON" & sleep 100', env=(("DAEMON", daemon),))
    while not (os.path.exists(f"{directory}/pid") and open(f"{directory}/pid").read().endswith("\\n")):
        await asyncio.sleep(0.01)
    pid = int(open(f"{directory}/pid").read())
    host.end("a", 1)
    await over("a")
    for _ in range(200):
        if gone(pid):
            break
        await asyncio.sleep(0.01)
    assert gone(pid)
    assert (await host.logs.tail("own", 1)).strip() == str(os.getuid()).encode()
    print("containment", host.containment)
    await host.close()
    assert gone(zygote.pid)

asyncio.run(reign(sys.argv[1]))
print("done")
"""


def interpreter(uid: int) -> str | None:
    """A Python that this user may run and that can import the package: ours, or the system's."""
    code = "import sys, emperorctl.models.vassal; assert sys.version_info >= (3, 11)"
    for candidate in (sys.executable, "/usr/bin/python3"):
        try:
            tried = subprocess.run([candidate, "-c", code], capture_output=True, check=False, **as_user(uid))
        except OSError:
            continue
        if tried.returncode == 0:
            return candidate
    return None


def as_user(uid: int) -> dict[str, Any]:
    packages = Path(emperorctl.models.__file__).parents[2]
    switch = {"user": uid, "group": uid, "extra_groups": []} if os.getuid() == 0 else {}
    return {"cwd": "/", "env": {"PATH": os.defpath, "PYTHONPATH": str(packages), "LANG": "C.UTF-8"}, **switch}


def test_an_ordinary_users_emperor() -> None:
    uid = os.getuid() or 65534
    python = interpreter(uid)
    if python is None:
        pytest.skip("no Python here that an ordinary user may run the package with")
    # Not below pytest's own directory, which nobody else may enter.
    with tempfile.TemporaryDirectory() as place:
        if os.getuid() == 0:
            os.chown(place, uid, uid)
        command = [python, "-B", "-c", SCENE, place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **as_user(uid))
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
