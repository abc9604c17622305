"""Namespaces and capabilities for all vassals."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.harness import alive, command_path

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_KINDS = {"fs": "mnt", "net": "net", "ipc": "ipc", "pid": "pid", "uts": "uts"}


def host_pid(court: Court, name: str) -> int:
    """A vassal's pid as the host has it: its own idea of it may be 1."""
    pid: int = court.wait_vassal(name)["pid"]
    return pid


def in_namespace(pid: int, key: str) -> str:
    """A line of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as status:
        found = re.search(rf"^{key}:\s*(.*)$", status.read(), re.MULTILINE)
    return found[1] if found else ""


@as_root
@scenario(
    "emperor-use-clone = fs,net,ipc,pid,uts",
    uwsgi="each vassal has these namespaces to itself, and is process 1 of its pid namespace, and known by"
    " the pid that it has on the host",
)
def test_clone(court: Court) -> None:
    court.write("a.ini")
    court.write("b.ini")
    court.start("--emperor-use-clone", ",".join(_KINDS))
    for name in ("a.ini", "b.ini"):
        assert court.wait_puppet(name).pid == 1
    pids = [host_pid(court, name) for name in ("a.ini", "b.ini")]
    for kind in _KINDS.values():
        spaces = {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in (*pids, court.pid)}
        assert len(spaces) == 3, kind
    for kind in ("user", "cgroup"):
        assert len({os.readlink(f"/proc/{pid}/ns/{kind}") for pid in (*pids, court.pid)}) == 1, kind
    assert [in_namespace(pid, "NSpid").split()[-1] for pid in pids] == ["1", "1"]


@as_root
@scenario(
    "A vassal with emperor-use-clone = pid is reloaded and stopped",
    uwsgi="by its socket, as any other; its pid is kept by the reload, and its children end with it",
)
def test_clone_life(court: Court) -> None:
    court.write("a.ini")
    court.start("--emperor-use-clone", "pid")
    puppet = court.wait_puppet("a.ini")
    puppet.say(1, 5)
    before = host_pid(court, "a.ini")
    puppet.child()
    family = [before, *_below(before)]
    assert len(family) == 2
    court.touch("a.ini")
    puppet.wait_bytes(1)
    assert host_pid(court, "a.ini") == before
    court.remove("a.ini")
    puppet.wait_gone()
    court.wait_for(lambda: not any(alive(pid) for pid in family), "the whole tree is gone")


def _below(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(word) for word in children.read().split()]


@as_root
@scenario(
    "emperor-use-clone = fs: what a vassal mounts",
    uwsgi="where the host's mounts are shared, as under systemd, so are its own: they appear on the host",
    emperorctl="it never does",
    why="a namespace of one's own is meant to be one's own",
)
def test_clone_mounts(court: Court) -> None:
    place = court.root / "shared"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", place], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        subprocess.run(["mount", "--make-shared", place], check=True)
        court.write("a.ini")
        court.start("--emperor-use-clone", "fs")
        court.wait_puppet("a.ini")
        with open(f"/proc/{host_pid(court, 'a.ini')}/mountinfo") as lines:
            (mount,) = [line.partition(" - ")[0] for line in lines if str(place) in line]
        assert (" shared:" in mount) == court.real
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@as_root
@scenario(
    "emperor-use-clone = user",
    uwsgi="no vassal can be started: it has no ids there (`setuid(0): Invalid argument`)",
    emperorctl="it is root there, all ids stand for themselves, and it has no right outside",
    why="what the manual promises of it",
)
def test_clone_user(court: Court) -> None:
    court.write("a.ini")
    court.start("--emperor-use-clone", "user")
    if court.real:
        court.wait_log("setuid(0): Invalid argument")
        return
    assert court.wait_puppet("a.ini").born["uid"] == 0
    pid = host_pid(court, "a.ini")
    assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink(f"/proc/{court.pid}/ns/user")
    with open(f"/proc/{pid}/uid_map") as maps:
        assert maps.read().split() == ["0", "0", "4294967295"]


@as_root
@scenario(
    "emperor-cap = setuid,net_bind_service",
    uwsgi="a vassal that runs as root keeps these capabilities alone; usual builds, this one too, lack it",
    emperorctl="the same, in every build",
    why="nothing has to be linked for it",
)
def test_capabilities(court: Court) -> None:
    if court.real:
        done = subprocess.run([command_path("uwsgi"), "--help"], capture_output=True, text=True, check=False)
        if "--emperor-cap" not in done.stdout + done.stderr:
            pytest.skip("this uwsgi was built without capabilities")
    court.write("a.ini")
    court.start("--emperor-cap", "setuid,net_bind_service")
    court.wait_puppet("a.ini")
    pid = host_pid(court, "a.ini")
    assert int(in_namespace(pid, "CapEff"), 16) == 1 << 7 | 1 << 10
    assert int(in_namespace(pid, "CapBnd"), 16) == 1 << 7 | 1 << 10
