"""What a vassal with `spec.isolation` sees and can do, from inside; and that it is a vassal like any other."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.harness import Emperor, alive, wait_for
from e2e.runtime_court import court as runtime
from e2e.runtime_court import native, python
from e2e.security.inside import MALLORY, PYTHON, TENANT, launch, status_line, told
from emperorctl.models.isolation import MOUNT, PID, Isolation

Make = Callable[..., Emperor]

pytestmark = pytest.mark.as_root
CELL: dict[str, Any] = {"namespaces": ["mount", "net", "ipc", "pid", "uts"]}


def kept(emperor: Emperor, name: str) -> psutil.Process:
    """The keeper of a vassal's pid namespace."""
    main = emperor.main_pid(name)
    assert main is not None
    space = os.readlink(f"/proc/{main}/ns/pid")
    for process in psutil.process_iter():
        try:
            same = process.pid != main and os.readlink(f"/proc/{process.pid}/ns/pid") == space
            if same and status_line(process.pid, "NSpid").split()[-1] == "1":
                return process
        except OSError:
            continue
    raise AssertionError(f"{name} has no keeper")


def directory(emperor: Emperor, name: str, owner: int = 0, mode: int = 0o755) -> Path:
    path = emperor.root / name
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


# --- namespaces ---


def test_nothing_of_the_host_is_there(emperor: Make) -> None:
    court = emperor().start()
    code = """
told["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
told["pid"] = os.getpid()
told["hostname"] = socket.gethostname()
told["links"] = sorted(name for _, name in socket.if_nameindex())
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
told["loopback"] = attempt(client.send, b"x")
told["spaces"] = {name: os.readlink("/proc/self/ns/" + name) for name in ("mnt", "net", "ipc", "pid", "uts")}
told["command"] = open("/proc/1/comm").read().strip()
told["cwd"] = os.getcwd()
"""
    seen = told(court, "jail", code, user=str(TENANT), isolation=CELL | {"hostname": "jail"})
    assert seen["processes"] == [1, 2]
    assert seen["pid"] == 2
    assert seen["command"] == "emperor-keeper"
    assert seen["hostname"] == "jail" != socket.gethostname()
    assert seen["links"] == ["lo"]
    assert seen["loopback"] == 1
    assert seen["cwd"] == str(court.root)
    for name, space in seen["spaces"].items():
        assert space != os.readlink(f"/proc/self/ns/{name}")


def test_a_network_of_its_own_without_anything_else(emperor: Make) -> None:
    court = emperor().start()
    code = "told['links'] = [name for _, name in socket.if_nameindex()]; told['pid'] = os.getpid()"
    seen = told(court, "alone", code, user=str(TENANT), network="none")
    assert seen["links"] == ["lo"]
    assert seen["pid"] == court.main_pid("alone")


def test_its_cgroup_is_the_root_of_its_cgroup_namespace(emperor: Make) -> None:
    court = emperor().start()
    code = "told['cgroups'] = read('/proc/self/cgroup')"
    seen = told(court, "grouped", code, isolation={"namespaces": ["cgroup"]})
    unified = [line[3:] for line in seen["cgroups"].splitlines() if line.startswith("0::")]
    if not unified or court.api("GET", "/apis/emperor/v1").body.get("containment") == "session+tree":
        pytest.skip("no cgroup v2 here")
    assert unified == ["/"]


def test_the_tree_dies_with_the_pid_namespace(emperor: Make) -> None:
    court = emperor().start()
    place = directory(court, "pids", TENANT)
    code = f"""
for number in range(3):
    if os.fork() == 0:
        os.setsid()
        if number and os.fork():
            os._exit(0)
        for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(one, signal.SIG_IGN)
        os.environ.clear()
        write("{place}/" + os.readlink("/proc/self"))
        while True:
            time.sleep(100)
while len(os.listdir("{place}")) < 3:
    time.sleep(0.01)
told["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
"""
    seen = told(court, "tree", code, user=str(TENANT), isolation=CELL)
    main = court.main_pid("tree")
    assert main is not None
    space = os.readlink(f"/proc/{main}/ns/pid")
    assert len(within(space)) == 5 <= len(seen["processes"])
    os.kill(main, signal.SIGKILL)
    court.wait_for(lambda: not within(space), what="nothing is left in the pid namespace")
    court.wait_running("tree", other_than=main)


def within(space: str) -> list[int]:
    """The processes of a pid namespace that live."""
    found = []
    for pid in psutil.pids():
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == space and alive(pid):
                found.append(pid)
        except OSError:
            continue
    return found


def test_a_dead_keeper_takes_the_vassal_with_it(emperor: Make) -> None:
    court = emperor().start()
    told(court, "kept", user=str(TENANT), isolation=CELL)
    main = court.main_pid("kept")
    kept(court, "kept").kill()
    court.wait_running("kept", other_than=main)
    assert main is not None
    assert not alive(main)


@pytest.mark.parametrize("user", [TENANT, 0])
def test_the_keeper_can_do_nothing_and_holds_nothing(emperor: Make, user: int) -> None:
    court = emperor().start()
    code = """
told["kill"] = attempt(os.kill, 1, signal.SIGKILL)
told["root"] = attempt(os.listdir, "/proc/1/root")
told["link"] = attempt(os.readlink, "/proc/1/fd/0")
told["memory"] = attempt(read, "/proc/1/maps")
told["environment"] = attempt(read, "/proc/1/environ")
"""
    spec: dict[str, Any] = {"user": str(user)} if user else {}
    seen = told(court, "curious", code, isolation=CELL | {"capabilities": []}, **spec)
    keeper = kept(court, "curious")
    court.wait_for(lambda: os.listdir(f"/proc/{keeper.pid}/fd") == ["0"], what="the keeper has let go of everything")
    assert seen["root"] == seen["memory"] == seen["environment"] == seen["link"] == "EACCES"
    assert keeper.is_running()  # whatever it was sent
    assert keeper.uids().real == user
    assert int(status_line(keeper.pid, "CapPrm"), 16) == 0
    assert status_line(keeper.pid, "NoNewPrivs") == "1"
    assert os.readlink(f"/proc/{keeper.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")


@pytest.mark.parametrize("user", [TENANT, None])
def test_nothing_is_left_when_the_emperor_is_killed(emperor: Make, user: int | None) -> None:
    court = emperor().start()
    code = """
if os.fork() == 0:
    os.setsid()
    os.environ.clear()
    time.sleep(1000)
"""
    who = {} if user is None else {"user": str(user)}
    told(court, "orphan", code, isolation=CELL, **who)
    told(court, "bare", code, isolation={"namespaces": ["net", "mount"]}, **who)
    main = court.main_pid("orphan")
    assert main is not None
    space = os.readlink(f"/proc/{main}/ns/pid")
    assert len(within(space)) == 3
    bare = court.main_pid("bare")
    court.kill()
    # Whoever adopts them has to reap them: here, that is this process.
    wait_for(lambda: not court.household.orphans() and not within(space), what="nothing is left in the pid namespace")
    wait_for(lambda: bare is not None and not alive(bare), what="the other one is gone")


def test_nothing_is_left_when_nobody_is_there_to_bury_it(emperor: Make) -> None:
    court = emperor().start()
    code = """
if os.fork() == 0:
    os.setsid()
    os.environ.clear()
    time.sleep(1000)
"""
    told(court, "orphan", code, user=str(TENANT), isolation=CELL)
    main = court.main_pid("orphan")
    assert main is not None
    space = os.readlink(f"/proc/{main}/ns/pid")
    (zygote,) = [child for child in psutil.Process(court.pid).children() if child.name() == "emperor-zygote"]
    zygote.suspend()  # it would kill them by their cgroup
    try:
        court.kill()
        wait_for(lambda: court.household.orphans() == [zygote] and not within(space), what="nothing is left")
    finally:
        zygote.kill()


def test_without_cgroups_the_keeper_is_what_ends_the_tree(tmp_path: Path) -> None:
    code = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.execve("/bin/sleep", ["sleep", "1000"], {})
print("ready", flush=True)
time.sleep(1000)
"""
    isolation = Isolation(PID | MOUNT, proc=True, init=True)

    async def scene() -> None:
        async with runtime(tmp_path, "tree") as made:
            made.host.launch(native("a", *python(code), isolation=isolation), 1, 1)
            seen = await made.alive("a")
            assert seen.process is not None
            await made.log("a", b"ready")
            space = os.readlink(f"/proc/{seen.process.pid}/ns/pid")
            while len(within(space)) < 3:
                await asyncio.sleep(0.01)
            os.kill(seen.process.pid, signal.SIGKILL)
            await made.over("a")
            async with asyncio.timeout(20):
                while within(space):
                    await asyncio.sleep(0.01)

    asyncio.run(scene())


# --- a vassal like any other ---


def test_its_end_is_told_as_it_was(emperor: Make) -> None:
    court = emperor("--emperor-throttle=0").start()
    for name, code in (("code", "os._exit(7)"), ("signal", "os.kill(os.getpid(), signal.SIGSEGV)")):
        launch(court, name, f"time.sleep(0.3)\n{code}", user=str(TENANT), isolation=CELL)

    def last(name: str) -> dict[str, Any] | None:
        found = court.get(name)
        end: dict[str, Any] | None = found["status"].get("lastExit") if found else None
        return end

    code = court.wait_for(lambda: last("code"), what="it has ended")
    assert code["code"] == 7
    ended = court.wait_for(lambda: last("signal"), what="it has ended")
    assert "SIGSEGV" in str(ended)


def test_signals_reach_it_and_stop_it(emperor: Make) -> None:
    court = emperor().start()
    place = directory(court, "seen", TENANT)
    code = f"""
signal.signal(signal.SIGHUP, lambda *_: write("{place}/reloaded"))
"""
    spec = {"reload": {"signal": "SIGHUP"}, "stop": {"signal": "SIGTERM", "gracePeriod": "30s"}}
    told(court, "told", code, user=str(TENANT), isolation=CELL, **spec)
    main = court.main_pid("told")
    assert court.cli("reload", "told").returncode == 0
    court.wait_for((place / "reloaded").exists, what="it heard SIGHUP")
    assert court.main_pid("told") == main
    # It has no handler for SIGTERM: as process 1 it would not have noticed, and the grace period is long.
    assert court.cli("stop", "told").returncode == 0
    court.wait_phase("told", "Suspended", timeout=15)


def test_readiness_from_within(emperor: Make) -> None:
    court = emperor().start()
    code = """
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(os.environ["NOTIFY_SOCKET"])
out.send(b"READY=1\\nSTATUS=in its cell")
"""
    isolation = CELL | {"privateTmp": True, "readOnlyPaths": ["/"]}
    # Its socket lies in /tmp here, which is covered.
    assert str(court.socket).startswith("/tmp/")
    told(court, "ready", code, user=str(TENANT), isolation=isolation, readiness={"notify": {}})
    court.wait_condition("ready", "Ready", "True")


def test_a_socket_on_demand_reaches_it(emperor: Make, free_port: int) -> None:
    court = emperor().start()
    code = """
assert os.environ["LISTEN_PID"] == str(os.getpid()) == "2"
listening = socket.socket(fileno=3)
while True:
    connection, _ = listening.accept()
    connection.sendall(b"from within")
    connection.close()
"""
    launch(court, "lazy", code, user=str(TENANT), isolation=CELL, onDemand={"addresses": [f"127.0.0.1:{free_port}"]})
    court.wait_phase("lazy", "OnDemand")
    with socket.create_connection(("127.0.0.1", free_port), 20) as connection:
        assert connection.recv(100) == b"from within"


@pytest.mark.parametrize(
    "isolation",
    [
        {},
        CELL,
        {"namespaces": ["mount"]},
        {"namespaces": ["user", "pid"]},
        {"privateTmp": True, "privateDevices": True},
    ],
    ids=["none", "cell", "mount", "user", "private"],
)
def test_it_has_no_descriptors_but_its_own(emperor: Make, isolation: dict[str, Any]) -> None:
    court = emperor().start()
    spec: dict[str, Any] = {"reload": {"protocol": {}}}
    seen = told(court, "few", "told['fds'] = descriptors()", user=str(TENANT), isolation=isolation, **spec)
    links = seen["fds"]
    assert set(links) == {"0", "1", "2", "3"}
    assert links["0"] == "/dev/null"
    assert links["1"].startswith("pipe:")
    assert links["2"].startswith("pipe:")
    assert links["3"].startswith("socket:")


def test_many_at_once_and_none_is_left(emperor: Make) -> None:
    court = emperor().start()
    for number in range(20):
        court.manifest(f"many-{number}", ["sleep", "1000"], user=str(TENANT), isolation=CELL)
    pids = [court.wait_running(f"many-{number}") for number in range(20)]
    spaces = {os.readlink(f"/proc/{pid}/ns/pid") for pid in pids}
    assert len(spaces) == 20
    assert court.stop() == 0
    assert not any(within(space) for space in spaces)


# --- the file system ---


def test_what_is_read_only_hidden_private_and_bound(emperor: Make) -> None:
    court = emperor().start()
    work = directory(court, "work", TENANT)
    for name in ("open", "open/closed", "secret", "secret/deep", "shown", "elsewhere", "frozen"):
        (work / name).mkdir()
    (work / "secret/file").write_text("secret")
    (work / "hidden").write_text("secret")
    (work / "shown/file").write_text("shown")
    for path in [work, *work.rglob("*")]:
        os.chown(path, TENANT, TENANT)
    code = f"""
work = "{work}"
for name in ("", "/open", "/open/closed", "/elsewhere", "/frozen", "/shown"):
    told["write" + name] = attempt(write, work + name + "/new")
told["secret"] = [attempt(os.listdir, work + "/secret"), attempt(read, work + "/secret/file")]
told["secret"].append(attempt(os.chmod, work + "/secret", 0o700))
told["hidden"] = [attempt(read, work + "/hidden"), attempt(os.chmod, work + "/hidden", 0o600)]
told["bound"] = read(work + "/elsewhere/file")
told["etc"] = attempt(write, "/etc/new")
told["null"] = attempt(write, "/dev/null")
"""
    isolation = {
        "readOnlyPaths": [str(work), str(work / "open/closed")],
        "readWritePaths": [str(work / "open")],
        "inaccessiblePaths": [str(work / "secret"), str(work / "secret/deep"), str(work / "hidden")],
        "bindPaths": [f"{work}/shown:{work}/elsewhere", f"{work}/shown:{work}/frozen:ro"],
    }
    seen = told(court, "seen", code, user=str(TENANT), isolation=isolation)
    assert {key[5:]: value for key, value in seen.items() if key.startswith("write")} == {
        "": "EROFS",
        "/open": "done",
        "/open/closed": "EROFS",
        "/elsewhere": "done",
        "/frozen": "EROFS",
        "/shown": "EROFS",
    }
    assert set(seen["secret"]) <= {"EACCES", "EROFS", "EPERM"}
    assert set(seen["hidden"]) <= {"EACCES", "EROFS", "EPERM"}
    assert seen["bound"] == "shown"
    assert seen["null"] == "done"
    assert (work / "secret/file").read_text() == "secret"
    assert not (work / "new").exists()
    assert sorted(os.listdir(work / "elsewhere")) == []


def test_everything_is_read_only_for_root_itself(emperor: Make) -> None:
    court = emperor().start()
    code = f"""
told["etc"] = attempt(write, "/etc/emperorctl-test")
told["here"] = attempt(write, "{court.root}/new")
told["tmp"] = attempt(write, "/tmp/new")
told["shm"] = attempt(write, "/dev/shm/emperorctl-test-isolation")
"""
    isolation = {"readOnlyPaths": ["/"], "privateTmp": True, "privateDevices": True}
    seen = told(court, "rooted", code, isolation=isolation)
    assert (seen["etc"], seen["tmp"], seen["shm"]) == ("EROFS", "done", "done")
    assert seen["here"] == "ENOENT"
    assert not Path("/dev/shm/emperorctl-test-isolation").exists()


def test_what_is_mounted_below_is_read_only_too(emperor: Make) -> None:
    court = emperor().start()
    work = directory(court, "work", TENANT)
    inner = directory(court, "work/inner", TENANT)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "none", inner], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        code = f"told['inner'] = attempt(write, '{inner}/new')"
        seen = told(court, "nested", code, user=str(TENANT), isolation={"readOnlyPaths": [str(work)]})
        assert seen["inner"] == "EROFS"
    finally:
        subprocess.run(["umount", inner], check=True)


def test_a_tmp_of_its_own(emperor: Make) -> None:
    court = emperor().start()
    code = """
told["before"] = os.listdir("/tmp") + os.listdir("/var/tmp")
told["write"] = [attempt(write, "/tmp/mine"), attempt(write, "/var/tmp/mine")]
told["cwd"] = [os.getcwd(), attempt(os.listdir, ".")]
told["mode"] = oct(os.stat("/tmp").st_mode)
"""
    # The Emperor's own directory lies in /tmp: it must not be reached by where the vassal stands.
    seen = told(court, "temporary", code, user=str(TENANT), isolation={"privateTmp": True})
    assert seen["before"] == []
    assert seen["write"] == ["done", "done"]
    assert seen["cwd"][0] == "/"
    assert seen["mode"] == "0o41777"
    assert not Path("/tmp/mine").exists()
    main = court.main_pid("temporary")
    assert court.cli("reload", "temporary").returncode == 0
    court.wait_running("temporary", other_than=main)
    assert '"before": []' in (court.logs / "temporary.log").read_text().splitlines()[-1]


def test_devices_that_are_none(emperor: Make) -> None:
    court = emperor().start()
    code = """
told["there"] = sorted(os.listdir("/dev"))
told["zero"] = open("/dev/zero", "rb").read(3).hex()
told["random"] = len(open("/dev/urandom", "rb").read(5))
told["full"] = attempt(lambda: open("/dev/full", "w").write("x") and None)
told["pty"] = [attempt(os.openpty) != "ENOENT", os.listdir("/dev/pts")]
told["make"] = attempt(os.mknod, "/dev/shm/disk", 0o60666, os.makedev(8, 0))
told["new"] = attempt(write, "/dev/new")
told["stdin"] = os.readlink("/dev/stdin")
"""
    seen = told(court, "devices", code, user=str(TENANT), isolation={"privateDevices": True})
    pseudo = {
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    }
    assert set(seen["there"]) - {"log"} == pseudo
    assert (seen["zero"], seen["random"]) == ("000000", 5)
    assert seen["pty"][0]
    assert seen["make"] == "EPERM"
    assert seen["new"] in ("EROFS", "EACCES")
    assert seen["stdin"] == "/proc/self/fd/0"


def test_a_root_of_its_own(emperor: Make) -> None:
    court = emperor().start()
    jail = directory(court, "jail")
    if not copy_program(jail, "/bin/sh", "/bin/ls", "/bin/cat"):
        pytest.skip("no program here that can be taken into a jail")
    (jail / "proc").mkdir()
    (jail / "data").mkdir()
    shown = directory(court, "shown", TENANT)
    (shown / "file").write_text("from outside")
    script = "cd /; ls -d /*; cat /data/file; ls -d /../*; ls /proc/1/root /root; pwd; echo END"
    court.manifest(
        "rooted",
        ["/bin/sh", "-c", script],
        user=str(TENANT),
        workingDir="/data",
        isolation={"chroot": str(jail), "namespaces": ["pid"], "bindPaths": [f"{shown}:/data:ro"]},
    )
    log = court.logs / "rooted.log"
    text = court.wait_for(lambda: (t := log.read_text() if log.exists() else "") and "END" in t and t, what="it ends")
    assert "from outside" in text
    top = {line for line in text.splitlines() if line.startswith("/") and line.count("/") == 1}
    assert {"/data", "/proc"} <= top
    assert "/etc" not in top
    assert "/home" not in text


def copy_program(jail: Path, *programs: str) -> bool:
    """Programs and the libraries that they are linked with."""
    for program in programs:
        wanted = [program]
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        for line in linked.stdout.splitlines():
            wanted += [word for word in line.split() if word.startswith("/")]
        for path in wanted:
            target = jail / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy2(os.path.realpath(path), target)
    return os.path.exists(jail / "bin/sh")


def test_what_it_mounts_is_its_own(emperor: Make) -> None:
    court = emperor().start()
    work = directory(court, "work")
    if subprocess.run(["mount", "-t", "tmpfs", "none", work], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        # As under systemd, all that is mounted there is seen by all.
        subprocess.run(["mount", "--make-shared", work], check=True)
        (work / "inner").mkdir()
        code = f"told['done'] = subprocess.run(['mount', '-t', 'tmpfs', 'none', '{work}/inner']).returncode"
        seen = told(court, "mounter", code, isolation={"namespaces": ["mount"]})
        assert seen["done"] == 0
        assert f"{work}/inner" not in Path("/proc/self/mountinfo").read_text()
        # Nor the other way round.
        subprocess.run(["mount", "-t", "tmpfs", "none", work / "inner"], check=True)
        main = court.main_pid("mounter")
        assert Path(f"/proc/{main}/mountinfo").read_text().count(f"{work}/inner") == 1
    finally:
        subprocess.run(["umount", "-R", work], check=False)


# --- what is wrong ---


@pytest.mark.parametrize(
    ("isolation", "reason", "said"),
    [
        ({"readOnlyPaths": ["/nonexistent/place"]}, "MissingPath", "readOnlyPaths: /nonexistent/place does not exist"),
        ({"inaccessiblePaths": ["/nonexistent"]}, "MissingPath", "inaccessiblePaths: /nonexistent does not exist"),
        ({"bindPaths": ["/nonexistent:/srv"]}, "MissingPath", "bindPaths: /nonexistent does not exist"),
        ({"bindPaths": ["/etc:/nonexistent"]}, "MissingPath", "bindPaths: /nonexistent does not exist"),
        ({"chroot": "/nonexistent"}, "MissingPath", "chroot: /nonexistent does not exist"),
        ({"bindPaths": ["/etc/passwd:/srv"]}, "", "bindPaths: /srv"),
        ({"uidMap": [{"inside": 0, "outside": 5}]}, "UnmappedUser", "uidMap gives no id to the vassal's own user"),
    ],
)
def test_what_can_not_be_had_is_told(emperor: Make, isolation: dict[str, Any], reason: str, said: str) -> None:
    court = emperor().start()
    launch(court, "wrong", "", user=str(TENANT), isolation=isolation)
    found = court.wait_for(
        lambda: c if said in (c := court.condition("wrong", "Ready")).get("message", "") else None, what=said
    )
    assert found["status"] == "False"
    events = [event for event in court.events("wrong") if said in event["message"]]
    assert events
    if reason:
        assert any(reason in str(event) for event in events)


def test_a_tenants_link_leads_nobody_astray(emperor: Make) -> None:
    court = emperor().start()
    work = directory(court, "work", TENANT)
    secret = directory(court, "secret", mode=0o700)
    (secret / "key").write_text("secret")
    (secret / "key").chmod(0o644)
    for name, target in (("out", secret), ("etc", "/etc"), ("up", "../secret")):
        os.symlink(target, work / name)
        os.chown(work / name, TENANT, TENANT, follow_symlinks=False)
    (work / "place").mkdir()
    tricks: dict[str, dict[str, Any]] = {
        "up": {"bindPaths": [f"{work}/up/key:{work}/place"]},
        "direct": {"bindPaths": [f"{secret}/key:{work}/place"]},
        "target": {"bindPaths": [f"{work}/place:{work}/etc"]},
        "readonly": {"readOnlyPaths": [str(work / "etc")]},
        "hide": {"inaccessiblePaths": [str(work / "etc")]},
        "chroot": {"chroot": str(work / "etc")},
    }
    for name, isolation in tricks.items():
        launch(court, name, "", user=str(TENANT), isolation=isolation)
    # The directory itself can be shown to him, as he could have named it: not what lies in it.
    code = f"told['list'] = attempt(os.listdir, '{work}/place'); told['key'] = attempt(read, '{work}/place/key')"
    seen = told(court, "source", code, user=str(TENANT), isolation={"bindPaths": [f"{work}/out:{work}/place"]})
    assert (seen["list"], seen["key"]) == ("EACCES", "EACCES")
    for name in ("up", "direct"):
        court.wait_for(
            lambda name=name: "can't get to" in court.condition(name, "Ready").get("message", ""), what=f"{name} fails"
        )
    for name in ("target", "readonly", "hide", "chroot"):
        court.wait_for(
            lambda name=name: "a link" in court.condition(name, "Ready").get("message", ""), what=f"{name} is refused"
        )


def test_what_a_tenant_can_not_reach_he_can_not_ask_about(emperor: Make) -> None:
    court = emperor().start()
    secret = directory(court, "secret", mode=0o700)
    (secret / "there").touch()
    os.symlink("/etc", secret / "link")
    os.chown(secret / "link", MALLORY, MALLORY, follow_symlinks=False)
    shown = directory(court, "shown", TENANT)
    for name in ("there", "missing", "link/x", "there/x"):
        word = name.replace("/", "-")
        for field in ("readOnlyPaths", "inaccessiblePaths"):
            told(court, f"{word}-{field[0]}", user=str(TENANT), isolation={field: [f"{secret}/{name}"]})
        for source in (shown, "/etc/passwd"):
            binds = {"bindPaths": [f"{source}:{secret}/{name}"]}
            told(court, f"{word}-{os.path.basename(source)[0]}", user=str(TENANT), isolation=binds)


def test_a_stranger_does_not_choose_what_root_is_shown(emperor: Make) -> None:
    court = emperor().start()
    work = directory(court, "work", TENANT)
    os.symlink("/etc", work / "data")
    os.chown(work / "data", TENANT, TENANT, follow_symlinks=False)
    launch(court, "root", "", isolation={"bindPaths": [f"{work}/data:/srv"]})
    court.wait_for(lambda: "a link" in court.condition("root", "Ready").get("message", ""), what="it is refused")


def test_links_of_root_are_followed(emperor: Make) -> None:
    court = emperor().start()
    place = directory(court, "place")
    real = directory(court, "place/real", TENANT)
    (real / "file").write_text("x")
    os.symlink("real", place / "linked")
    code = f"told['write'] = attempt(write, '{real}/new')"
    seen = told(court, "linked", code, user=str(TENANT), isolation={"readOnlyPaths": [f"{place}/linked"]})
    assert seen["write"] == "EROFS"


# --- one against another ---


def test_vassals_of_two_users_leave_each_other_alone(emperor: Make) -> None:
    court = emperor().start()
    told(court, "victim", "", user=str(TENANT))
    victim = court.main_pid("victim")
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def trace(pid):
    if libc.ptrace(16, pid, 0, 0) != 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "")
for name, pid in (("victim", {victim}), ("emperor", {court.pid})):
    told[name] = [attempt(trace, pid), attempt(os.kill, pid, signal.SIGKILL), attempt(read, f"/proc/{{pid}}/environ")]
    told[name] += [attempt(os.listdir, f"/proc/{{pid}}/fd"), attempt(os.listdir, f"/proc/{{pid}}/root")]
    told[name].append(attempt(read, f"/proc/{{pid}}/maps"))
"""
    seen = told(court, "attacker", code, user=str(MALLORY))
    for name in ("victim", "emperor"):
        assert set(seen[name]) <= {"EPERM", "EACCES"}
    seen = told(court, "jailed", code, user=str(MALLORY), isolation=CELL)
    for name in ("victim", "emperor"):
        assert set(seen[name]) <= {"ESRCH", "ENOENT"}
    assert court.main_pid("victim") == victim


def test_in_namespaces_of_one_user_they_do_not_see_each_other(emperor: Make) -> None:
    court = emperor().start()
    told(court, "victim", "", user=str(TENANT), isolation=CELL)
    code = f"told['kill'] = attempt(os.kill, {court.main_pid('victim')}, 9); told['all'] = attempt(os.kill, -1, 15)"
    launch(court, "attacker", "signal.signal(15, signal.SIG_IGN)\n" + code, user=str(TENANT), isolation=CELL)
    court.wait_running("attacker")
    pid = court.main_pid("victim")
    log = court.logs / "attacker.log"
    court.wait_for(lambda: log.exists() and "TOLD" in log.read_text(), what="it has tried")
    assert '"kill": "ESRCH"' in log.read_text()
    assert court.main_pid("victim") == pid


# --- the manual's jail ---


def test_the_jail_of_uwsgis_manual(emperor: Make, uwsgi_bin: Path) -> None:
    court = emperor("--emperor-use-clone", "fs,net,ipc,pid,uts", f"--binary-path={uwsgi_bin}").start()
    place = directory(court, "run", TENANT)
    library = directory(court, "python")  # the one of the tests may lie where only root can go
    court.write(
        "jailed.ini",
        f"""[uwsgi]
master = true
processes = 1
exec-as-root = hostname beautifulhost
exec-as-root = mount -t proc none /proc
exec-as-root = mount --bind {sys.base_prefix} {library}
env = PYTHONHOME={library}
uid = {TENANT}
gid = {TENANT}
exec-as-user = sh -c 'hostname; id -u; ls /proc' > {place}/told
http-socket = {place}/%n.socket
static-map = /={place}
""",
    )
    court.wait_running("jailed.ini", timeout=60)

    def ask() -> list[str] | None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            try:
                client.connect(f"{place}/jailed.socket")
                client.sendall(b"GET /told HTTP/1.0\r\n\r\n")
                head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
            except OSError:
                return None
        return body.decode().split() if b" 200 " in head else None

    host, uid, *rest = court.wait_for(ask, what="it answers")
    assert (host, uid) == ("beautifulhost", str(TENANT))
    hidden = [word for word in rest if word.isdigit()]
    assert "1" in hidden
    assert len(hidden) <= 6  # itself, and what listed them
    main = court.main_pid("jailed.ini")
    assert main is not None
    assert status_line(main, "NSpid").split()[-1] == "1"
    assert int(status_line(main, "Uid").split()[0]) == TENANT
    assert socket.gethostname() != "beautifulhost"
    assert Path("/proc/1/comm").exists()  # what it has mounted has not reached the host
    space = os.readlink(f"/proc/{main}/ns/pid")
    assert court.cli("stop", "jailed.ini").returncode == 0
    court.wait_for(lambda: not within(space), what="it has gone with all its tree")


def test_namespaces_for_all_reach_native_vassals(emperor: Make) -> None:
    court = emperor("--emperor-use-clone=fs,pid,uts,net").start()
    code = "told['pids'] = sorted(name for name in os.listdir('/proc') if name.isdigit()); told['pid'] = os.getpid()"
    seen = told(court, "native", code, user=str(TENANT))
    assert (seen["pids"], seen["pid"]) == (["1", "2"], 2)


WRAPPER = """#!{python} -IS
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
out = open("{file}.new", "w")
print(os.getuid(), *open("/proc/self/uid_map").read().split(), libc.sethostname(b"x", 1), file=out)
os.setgid({user})
os.setuid({user})
print(os.getuid(), file=out, flush=True)
os.rename("{file}.new", "{file}") if os.getuid() == 0 else out.close()
os.write(1, b"changed\\n")
time.sleep(1000)
"""


def test_in_a_user_namespace_a_uwsgi_vassal_is_root_with_nothing_outside(emperor: Make) -> None:
    court = emperor("--emperor-use-clone=user", "--uwsgi-logs=capture")
    wrapper = court.root / "wrapper"
    file = court.root / "told"
    wrapper.write_text(WRAPPER.format(python=PYTHON, file=file, user=TENANT))
    wrapper.chmod(0o755)
    court.options.append(f"--emperor-wrapper={wrapper}")
    court.start()
    court.write("a.ini", "[uwsgi]\n")
    log = court.logs / "a.ini.log"
    court.wait_for(lambda: log.exists() and "changed" in log.read_text(), what="it has become somebody else")
    # Root, for everybody's ids; but the host's name is not its to change.
    first, second = Path(f"{file}.new").read_text().splitlines()
    assert first.split() == ["0", "0", "0", "4294967295", "-1"]
    assert second == str(TENANT)
