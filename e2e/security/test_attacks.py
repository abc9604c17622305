"""What a tenant may try against the Emperor itself, or against other tenants through it: each test is one attack."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.harness import API, Emperor, command_path
from e2e.security.inside import PYTHON
from e2e.security.tenants import ALICE, BOB, Make, chown, listener, manifest, put
from e2e.security.test_control import EVERY_ROUTE, as_uid, own, said, status
from emperorctl.reconciler.api.routes import routes

pytestmark = pytest.mark.as_root
TYRANT = "--emperor-tyrant"
SECRET = "correct-horse-battery-staple"
VASSALS = f"{API}/vassals"


def heard(emperor: Emperor, name: str) -> Any:
    """What a vassal has told, as JSON in its log."""

    def look() -> Any:
        lines = str(emperor.api("GET", f"{VASSALS}/{name}/log").body).splitlines()
        return next((json.loads(line[5:]) for line in lines if line.startswith("TOLD ")), None)

    return emperor.wait_for(look, what=f"{name} tells", timeout=60)


# /proc


LOOK_AROUND = """
import errno, json, os, time
def attempt(path, how):
    try:
        if how == "links":
            names = os.listdir(path)
            return [os.readlink(f"{path}/{name}") for name in names]
        if how == "link":
            return os.readlink(path)
        with open(path, "rb") as file:
            return file.read(100).decode(errors="replace")
    except OSError as error:
        return errno.errorcode[error.errno]
told = {}
for pid in PIDS:
    at = f"/proc/{pid}"
    told[pid] = [attempt(f"{at}/{name}", "read") for name in ("environ", "maps", "mem", "auxv", "stack", "syscall")]
    told[pid] += [attempt(f"{at}/{name}", "links") for name in ("fd", "map_files", "ns")]
    told[pid] += [attempt(f"{at}/{name}", "link") for name in ("cwd", "root", "exe")]
words = []
for pid in os.listdir("/proc"):
    if pid.isdigit():
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                words.append(file.read())
        except OSError:
            pass
told["words"] = len(words)
told["secret"] = [line for line in words if WORD in line and "LOOK" not in line]
print("TOLD " + json.dumps(told), flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("paranoid", [False, True])
def test_proc_tells_nothing_of_the_emperor_or_of_another_tenant(emperor: Make, paranoid: bool) -> None:
    """Nor does anybody's command line hold what only environments and secret files do."""
    options = ("--uid=731009", "--gid=731009", "--cap=setuid,setgid,kill,chown,dac_read_search") if paranoid else ()
    e = emperor(TYRANT, *options, env={"DATABASE_PASSWORD": SECRET, "UWSGI_VASSAL_KEY": SECRET})
    e.socket = e.root / "run" / "s"
    key = put(e.root / "key", SECRET, BOB, mode=0o600)
    put(e.vassals / "bobs.yaml", manifest(name="bobs", env={"KEY": {"valueFrom": {"file": str(key)}}}), BOB)
    e.start(ready=False)
    e.wait_for(lambda: e._answers() or not e.running, what="it answers")
    bob = e.wait_running(f"bobs.{BOB}")
    court = [e.pid, *(one.pid for one in psutil.Process(e.pid).children() if one.uids().real != BOB)]
    assert len(court) >= 2, "the Emperor and its zygote"
    # In two parts, so that the word is not in this one's own command line.
    code = f"PIDS = {[*court, bob]}\nWORD = {SECRET[:7]!r} + {SECRET[7:]!r}\n" + LOOK_AROUND
    put(e.vassals / "spy.yaml", manifest(PYTHON, "-I", "-S", "-c", code, name="spy"), ALICE)
    told = heard(e, f"spy.{ALICE}")
    for pid in (*court, bob):
        assert set(map(str, told[str(pid)])) <= {"EACCES", "EPERM"}, (pid, told[str(pid)])
    assert told["words"] >= len(court)
    assert told["secret"] == []


def test_a_tenant_can_neither_trace_nor_signal_nor_starve_what_reigns(emperor: Make) -> None:
    e = emperor(TYRANT).start()
    put(e.vassals / "bobs.yaml", manifest(name="bobs"), BOB)
    bob = e.wait_running(f"bobs.{BOB}")
    court = [e.pid, *(one.pid for one in psutil.Process(e.pid).children() if one.uids().real != BOB), bob]
    code = f"""
import ctypes, errno, json, os, resource, signal, time
libc = ctypes.CDLL(None, use_errno=True)
def errors(function, *arguments):
    try:
        return "done" if function(*arguments) is None else "done"
    except OSError as error:
        return errno.errorcode[error.errno]
def trace(request, pid):
    if libc.ptrace(request, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "")
def read(pid):
    class Span(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    room = ctypes.create_string_buffer(8)
    here, there = Span(ctypes.addressof(room), 8), Span(0x400000, 8)
    if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "")
told = {{}}
for pid in {court}:
    told[pid] = [errors(trace, 16, pid), errors(trace, 0x4206, pid), errors(read, pid)]
    told[pid] += [errors(os.kill, pid, number) for number in (0, signal.SIGSTOP, signal.SIGKILL, signal.SIGHUP)]
    told[pid] += [errors(os.setpriority, os.PRIO_PROCESS, pid, 19), errors(os.sched_setaffinity, pid, {{0}})]
    told[pid] += [errors(resource.prlimit, pid, resource.RLIMIT_NOFILE, (0, 0))]
print("TOLD " + json.dumps(told), flush=True)
time.sleep(1000)
"""
    put(e.vassals / "bully.yaml", manifest(PYTHON, "-I", "-S", "-c", code, name="bully"), ALICE)
    told = heard(e, f"bully.{ALICE}")
    assert {pid: set(words) for pid, words in told.items()} == {
        str(pid): set(told[str(pid)]) & {"EPERM", "EACCES"} for pid in court
    }
    assert e.main_pid(f"bobs.{BOB}") == bob and e.running


# What runs with the Emperor's rights


def test_the_command_for_addresses_is_not_run_where_a_tenant_can_put_modules(emperor: Make) -> None:
    e = emperor(TYRANT)
    chown(e.vassals, ALICE)
    stolen = e.root / "stolen"
    put(e.vassals / "colorsys.py", f"open({str(stolen)!r}, 'w').close()\n", ALICE)
    put(e.vassals / "sh", f"#!/bin/sh\ntouch {stolen}\n", ALICE, mode=0o755)
    asked = e.root / "asked"
    script = e.root / "where"
    script.write_text(
        f'#!/bin/sh\necho "$(id -u) $# $1 $PWD $UWSGI_VASSALS_DIR" >> {asked}\n{PYTHON} -S -c "import colorsys"\n'
    )
    script.chmod(0o755)
    e.options += ["--emperor-on-demand-exec", str(script), listener(e)]
    put(e.vassals / "a.ini", "[uwsgi]\nmaster = true\n", ALICE)
    e.start()
    e.wait_running("a.ini")
    assert asked.read_text() == f"0 1 a.ini / {e.vassals}\n"
    assert not stolen.exists()


def test_internal_interpreters_import_nothing_of_a_tenants(emperor: Make) -> None:
    """The Emperor is started where a tenant may write, and its zygote and parser with it."""
    e = emperor(TYRANT)
    stolen = e.root / "stolen"
    for name in ("json", "socket", "ctypes", "yaml", "array", "struct", "signal"):
        put(e.root / f"{name}.py", f"open({str(stolen)!r}, 'w').close()\n", ALICE)
    put(e.vassals / "a.yaml", manifest(name="a"), ALICE)
    e.start()
    e.wait_running(f"a.{ALICE}")
    assert not stolen.exists()


# Names and logs


def files(logs: Path) -> list[str]:
    """What lies in a log directory, but for the lock that is the Emperor's own."""
    return [one.name for one in logs.iterdir() if not one.name.endswith(".lock")]


@pytest.mark.parametrize(
    "name", ["..", ".", "../victim", "/etc/passwd", "a/../../b", "a\x00b", "a\nb", "-rf", "\x1b[2J"]
)
def test_a_manifests_name_leads_nowhere(emperor: Make, name: str) -> None:
    e = emperor(TYRANT).start()
    before = {path for path in e.root.rglob("*") if not path.is_relative_to(e.logs)}
    path = put(e.vassals / "a.yaml", manifest(name=name), ALICE)
    put(e.vassals / "b.yaml", manifest(name="fine"), ALICE)
    e.wait_running(f"fine.{ALICE}")
    e.wait_for(
        lambda: [
            one
            for one in e.objects().values()
            for condition in one["status"]["conditions"]
            if condition["type"] == "Accepted" and condition["status"] == "False" and one["status"]["file"] == str(path)
        ],
        what="it is refused",
    )
    after = {path for path in e.root.rglob("*") if not path.is_relative_to(e.logs)}
    assert {one.name for one in after - before} <= {"a.yaml", "b.yaml", "state.json"}
    assert [one for one in files(e.logs) if not one.startswith("fine")] == []


@pytest.mark.parametrize("stem", ["a..%2f..%2fx", "-rf", "x\x1b[31m", "a....", "x@0", "x%2F", "y" * 240])
def test_logs_of_odd_names_stay_in_their_directory(emperor: Make, stem: str) -> None:
    e = emperor(TYRANT)
    e.options.append(listener(e))
    home = e.root / "homes" / "alice"
    home.mkdir(parents=True)
    chown(home, ALICE)
    e.sources = [f"glob://{e.root}/homes/*/*.ini"]
    path = put(home / f"{stem}.ini"[-250:], "[uwsgi]\nmaster = true\n", ALICE)
    e.start()
    said_so = f"words of {ALICE}"
    where = e.wait_for(
        lambda: (
            [one for one in e.root.rglob("*.log") if one != e.log_file and said_so in one.read_text()]
            or ([e.log_file] if "InvalidName" in e.log() else [])
        ),
        what=f"{path} has run, or is refused for its name",
    )
    assert where == [e.log_file] or [one.parent for one in where] == [e.logs]
    assert [one for one in files(e.logs) if not one.endswith(f"@{ALICE}.log")] == []
    assert sorted(one.name for one in home.iterdir()) == [path.name]


def test_what_vassals_print_and_are_called_does_nothing_to_a_terminal(emperor: Make) -> None:
    e = emperor(TYRANT).start()
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"
    octal = "".join(f"\\{byte:03o}" for byte in evil.encode())
    words = f"printf '{octal}x'; echo end; exec sleep 1000"
    put(e.vassals / "evil.yaml", manifest("/bin/sh", "-c", words, name="evil", env={"X": evil}), ALICE)
    put(e.vassals / "worse.yaml", manifest(evil, name="worse"), ALICE)
    put(e.vassals / "\x1b[2Jx.ini", "[uwsgi]\n", ALICE)
    e.wait_running(f"evil.{ALICE}")
    e.wait_for(lambda: "end" in str(e.api("GET", f"{VASSALS}/evil.{ALICE}/log").body))
    for command in (
        f"logs evil.{ALICE}", f"logs -f evil.{ALICE}", "get vassals", "get vassals -o wide",
        f"describe vassal evil.{ALICE}", f"describe vassal worse.{ALICE}", "events",
        "get vassals -o yaml", "get vassals -o json", "get blacklist",
    ):  # fmt: skip
        shown = on_a_terminal(e, *command.split())
        assert shown
        # The client's own colours; there are none of this form in what was printed.
        left = re.sub(r"\x1b\[[0-9;]*m", "", shown.replace(b"\r\n", b"").decode())
        assert [char for char in left if char != "\n" and not char.isprintable()] == [], (command, left)


def on_a_terminal(e: Emperor, *words: str) -> bytes:
    """What a command of the client's shows on a terminal, until it ends or (with -f) has shown `end`."""
    master, slave = pty.openpty()
    try:
        process = e.household.spawn(
            [command_path("emperorctl"), *words], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
            env=e.environment() | {"EMPERORCTL_SOCKET": str(e.socket), "TERM": "xterm"}, cwd=e.root,
        )  # fmt: skip
        os.close(slave)
        slave, seen, deadline = -1, b"", time.monotonic() + 30
        while time.monotonic() < deadline and not ("-f" in words and b"end" in seen):
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
        process.kill()
        process.wait()
        return seen
    finally:
        for fd in (master, slave):
            if fd >= 0:
                os.close(fd)


# The control socket


def test_every_route_there_is_is_attacked() -> None:
    """The list of `test_control`, and with it the attacks in it, is complete."""
    known = {(route.path, method) for route in routes() for method in route.methods or () if method != "HEAD"}
    tried = {(path.partition("?")[0].replace("NAME", "{name}").replace("monitors/dir", "monitors/{name}"), method)
             for method, path in EVERY_ROUTE}  # fmt: skip
    assert known == tried


def test_nobody_runs_commands_within_anothers_vassal(emperor: Make) -> None:
    e = emperor(TYRANT)
    own(e, "bobs", BOB)
    e.start()
    e.wait_running(f"bobs.{BOB}")
    body = json.dumps({"command": ["touch", str(e.root / "stolen")]})
    asked = [as_uid(ALICE, lambda name=name: said(e, "POST", f"{VASSALS}/{name}/exec", body)) for name in
             (f"bobs.{BOB}", f"nope.{BOB}")]  # fmt: skip
    assert [status(answer) for answer in asked] == [404, 404]
    assert asked[0].replace("bobs", "nope") == asked[1]


def executing(e: Emperor, name: str, *words: str) -> tuple[socket.socket, int]:
    """A connection that runs a command for as long as it is open, and the answer's status."""
    body = json.dumps({"command": words})
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(30.0)
    one.connect(str(e.socket))
    one.sendall(f"POST {VASSALS}/{name}/exec HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    return one, status(one.recv(4096).decode())


def test_limits_are_not_multiplied_by_commands(emperor: Make) -> None:
    """Each command has limits of its own, so there are only so many at once; one that is over makes room."""
    e = emperor(TYRANT)
    own(e, "alices", ALICE)
    own(e, "bobs", BOB)
    e.start()
    for name in (f"alices.{ALICE}", f"bobs.{BOB}"):
        e.wait_running(name)

    def greedy() -> list[Any]:
        held = [executing(e, "alices", "sleep", "1000") for _ in range(7)]
        codes = [code for _, code in held]
        held[0][0].close()
        deadline = time.monotonic() + 20
        again = 429
        while again == 429 and time.monotonic() < deadline:
            time.sleep(0.2)
            again = executing(e, "alices", "true")[1]
        return [codes, again]

    assert as_uid(ALICE, greedy) == [[101] * 4 + [429] * 3, 101]

    def beside() -> list[int]:
        held = [executing(e, "alices", "sleep", "1000") for _ in range(4)]
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return [code for _, code in held]

    assert as_uid(ALICE, beside) == [101] * 4
    assert as_uid(BOB, lambda: executing(e, "bobs", "true")[1]) == 101
    assert e.cli("exec", f"alices.{ALICE}", "--", "true").returncode == 0


def test_many_readers_of_a_long_log_cost_no_memory(emperor: Make) -> None:
    """Ten connections that ask for 48 MiB each, and read none of it."""
    e = emperor(TYRANT)
    words = "head -c 50331648 /dev/zero | tr '\\0' x; echo; echo end; exec sleep 1000"
    own(e, "alices", ALICE, ["/bin/sh", "-c", words], logs={"maxSize": "100Mi"})
    e.start()
    e.wait_running(f"alices.{ALICE}")
    log = e.logs / f"alices.{ALICE}@{ALICE}.log"
    e.wait_for(lambda: log.exists() and log.stat().st_size > 50_331_648, what="it has printed", timeout=60)
    before = psutil.Process(e.pid).memory_info().rss

    def stall() -> int:
        held = []
        for _ in range(10):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            one.settimeout(30.0)
            one.connect(str(e.socket))
            one.sendall(f"GET {VASSALS}/alices/log HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert one.recv(10)
            held.append(one)
        return psutil.Process(e.pid).memory_info().rss

    assert as_uid(ALICE, stall) - before < 48 * 1024 * 1024
    whole = as_uid(ALICE, lambda: len(said(e, "GET", f"{VASSALS}/alices/log")))
    assert whole > 50_331_648


# User namespaces


IN_A_NAMESPACE = """
import ctypes, os, sys
ready, go = os.pipe(), os.pipe()
parent = os.getpid()
child = os.fork()
if child == 0:
    os.read(ready[0], 1)
    for kind in ("uid", "gid"):
        with open(f"/proc/{parent}/{kind}_map", "w") as file:
            file.write(MAP)
    os.write(go[1], b"!")
    os._exit(0)
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:
    sys.exit("NO NAMESPACE")
os.write(ready[1], b"!")
os.read(go[0], 1)
os.waitpid(child, 0)
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_in_a_user_namespace_a_stranger_does_not_pass_for_user_65534(emperor: Make) -> None:
    """Users whom the namespace does not map look like 65534 there, as files and as callers, beside the real one."""
    e = emperor(TYRANT)
    code = f"MAP = '0 0 1\\n65534 65534 1\\n{BOB} {BOB} 1\\n'\n" + IN_A_NAMESPACE
    command = e.command()
    e.command = lambda: [sys.executable, "-I", "-S", "-c", code, *command]  # type: ignore[method-assign]
    own(e, "bobs", BOB)
    own(e, "nobodys", 65534)
    own(e, "strangers", ALICE)
    e.start(ready=False)
    with contextlib.suppress(AssertionError):
        e.wait_for(e._answers)
    if "NO NAMESPACE" in e.log() or not e.running:
        e.process = None
        pytest.skip("no user namespaces here")
    e.wait_running(f"bobs.{BOB}")
    for name in ("nobodys", "strangers"):
        e.wait_condition(f"{name}.yaml", "Accepted", "False", "UnmappedOwner")
    assert not [one for one in e.processes() if one.uids().real in (ALICE, 65534)]
    assert status(as_uid(BOB, lambda: said(e, "GET", f"{VASSALS}/bobs"))) == 200
    for uid in (ALICE, 65534):
        for path in (f"{VASSALS}/nobodys", VASSALS, f"{API}/events"):
            assert status(as_uid(uid, lambda path=path: said(e, "GET", path))) == 403  # type: ignore[misc]


def test_a_file_that_only_a_link_of_the_emperors_own_leads_to_is_read_once(emperor: Make) -> None:
    """A directory of links swapped as fast as can be: what runs is always the owner of what was read."""
    e = emperor(TYRANT)
    for uid, name in ((ALICE, "a"), (BOB, "b")):
        put(e.root / name, manifest("/bin/sh", "-c", f"echo file of {uid}, run by $(id -u); sleep 1000", name="x"), uid)
    e.start()
    target = e.vassals / "x.yaml"
    for turn in range(30):
        draft = e.root / "draft"
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        os.link(e.root / ("a" if turn % 2 else "b"), draft)
        os.rename(draft, target)
        # Renaming one name of an inode over another of the same does nothing.
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        time.sleep(0.02)
    e.wait_running(f"x.{ALICE}")
    for path in Path(e.logs).iterdir():
        for line in path.read_text().splitlines():
            owner, _, runner = line.removeprefix("file of ").partition(", run by ")
            assert owner == runner
