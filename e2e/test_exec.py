"""`emperorctl exec`: a command within a vassal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.harness import API, Emperor, alive, command_path, wait_for

ALICE = 61_001


@pytest.fixture
def shop(emperor: Callable[..., Emperor]) -> Emperor:
    made = emperor()
    made.manifest("shop", ["sleep", "1000"], env={"COLOUR": "red"}, workingDir="/usr", umask="027")
    made.start()
    made.wait_running("shop")
    return made


def ran(emperor: Emperor, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command_path("emperorctl"), "--socket", str(emperor.socket), "exec", *words],
        env=emperor.environment(), capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_streams_are_apart_and_the_exit_code_is_passed_on(shop: Emperor) -> None:
    done = ran(shop, "shop", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr == "err\ncommand terminated with exit code 7\n"
    done = ran(shop, "shop", "--", "sh", "-c", "kill -9 $$")
    assert (done.returncode, done.stderr) == (137, "command terminated with exit code 137\n")
    done = ran(shop, "vassal/shop", "--", "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_has_what_the_launch_had(shop: Emperor) -> None:
    done = ran(shop, "shop", "--", "sh", "-c", 'echo "$COLOUR $EMPEROR_VASSAL_NAME $PWD $(umask)"; ls /proc/self/fd')
    first, *fds = done.stdout.split("\n")
    assert first == "red shop /usr 0027"
    assert [fd for fd in fds if fd] == ["0", "1", "2", "3"]  # the last is ls' own


def test_standard_input_is_passed_on_only_with_i(shop: Emperor) -> None:
    text = "x" * 300_000 + "\n"
    assert ran(shop, "-i", "shop", "--", "cat", input=text).stdout == text
    assert ran(shop, "shop", "--", "cat", input=text).stdout == ""
    # Nor does it matter if it is not read.
    assert ran(shop, "-i", "shop", "--", "true", input=text).returncode == 0


def test_much_output_arrives_whole(shop: Emperor) -> None:
    done = ran(shop, "shop", "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x")
    assert done.stdout == "x" * 3_000_000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nobody", "--", "id"], 'Error from server (NotFound): vassals "nobody" not found\n'),
        (["shop", "--", "/no/such/program"], "Error from server (BadRequest): exec failed: /no/such/program"),
        (["shop"], "error: you must specify at least one command"),
        (["shop", "--", ""], "Error from server (BadRequest): expected a command"),
    ],
)
def test_what_can_not_be_run(shop: Emperor, words: list[str], says: str) -> None:
    done = ran(shop, *words)
    assert done.returncode == 1
    assert done.stderr.startswith(says)


def test_a_vassal_without_a_process(shop: Emperor) -> None:
    assert shop.api("POST", f"{API}/vassals/shop/stop").status == 200
    shop.wait_phase("shop", "Suspended")
    assert "(NotRunning)" in ran(shop, "shop", "--", "id").stderr


def test_each_command_is_an_event(shop: Emperor) -> None:
    ran(shop, "shop", "--", "sh", "-c", "true; : \x1b[2J")
    told = shop.cli("events", "--for", "vassal/shop").stdout
    assert "ExecOrdered" in told and f"ordered by uid {os.geteuid()} (pid" in told
    assert "\\x1b" in told and "\x1b" not in told
    shop.wait_log("ExecOrdered")


class Terminal:
    """The client on a terminal of its own."""

    def __init__(self, emperor: Emperor, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(33, 99)
        self.seen = b""
        self.process = emperor.household.spawn(
            [command_path("emperorctl"), "--socket", str(emperor.socket), "exec", *words],
            env=emperor.environment() | {"TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, text: str) -> str:
        deadline = time.monotonic() + 20
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        assert text.encode() in self.seen, self.seen
        seen, self.seen = self.seen.decode(), b""
        return seen

    def close(self) -> None:
        os.close(self.master)


def test_a_real_terminal(shop: Emperor) -> None:
    terminal = Terminal(shop, "-it", "shop", "--", "sh")
    terminal.type("stty size; tty -s && echo 'is a' tty; echo $TERM\n")
    seen = terminal.read_until("xterm\r\n")
    assert "33 99" in seen and "is a tty" in seen
    terminal.resize(40, 120)
    terminal.type("stty size\n")
    terminal.read_until("40 120")
    # Ctrl-C reaches the command, and not us.
    terminal.type("sleep 1000; echo code $?\n")
    terminal.read_until("sleep 1000")
    shell = [p for p in shop.processes() if p.name() == "sh"]
    wait_for(lambda: [c for p in shell for c in p.children() if c.name() == "sleep"], what="it sleeps")
    terminal.type("\x03")
    terminal.type("echo alive $((40 + 2))\n")
    terminal.read_until("alive 42")
    terminal.type("exit 5\n")
    terminal.read_until("command terminated with exit code 5")
    assert terminal.process.wait(20) == 5
    terminal.close()


def test_the_terminal_is_put_back(shop: Emperor) -> None:
    terminal = Terminal(shop, "-it", "shop", "--", "true")
    before = termios.tcgetattr(terminal.master)
    assert terminal.process.wait(20) == 0
    assert termios.tcgetattr(terminal.master) == before
    terminal.close()


def test_a_terminal_that_is_none(shop: Emperor) -> None:
    done = ran(shop, "-it", "shop", "--", "sh", "-c", "tty; exit 3", input="")
    assert done.stdout == "not a tty\n"
    assert done.stderr.startswith("Unable to use a TTY - input is not a terminal\n")
    assert done.returncode == 3


def sleeper(emperor: Emperor, number: str) -> psutil.Process | None:
    for process in emperor.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if number in process.cmdline():
                return process
    return None


@pytest.mark.parametrize("end", ["client", "vassal", "emperor"])
def test_it_ends_with_the_client_the_vassal_and_the_emperor(shop: Emperor, end: str) -> None:
    # It ignores what can be ignored, and has a child that has left its session.
    hostile = "trap '' HUP TERM INT PIPE; setsid sleep 4711 & sleep 4712"
    client = shop.household.spawn(
        [command_path("emperorctl"), "--socket", str(shop.socket), "exec", "shop", "--", "sh", "-c", hostile],
        env=shop.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    found = [shop.wait_for(lambda number=number: sleeper(shop, number)) for number in ("4711", "4712")]  # type: ignore[misc]
    if end == "client":
        client.kill()
        client.wait()
    elif end == "vassal":
        psutil.Process(shop.main_pid("shop")).kill()
    else:
        shop.kill()
    wait_for(lambda: not any(alive(process.pid) for process in found), what="all of it is gone")
    if end != "client":
        assert client.wait(20) != 0
    if end == "emperor":
        shop.process = None


def test_the_emperor_ends_in_good_order_with_a_command_open(shop: Emperor) -> None:
    client = shop.household.spawn(
        [command_path("emperorctl"), "--socket", str(shop.socket), "exec", "shop", "--", "sleep", "4713"],
        env=shop.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    shop.wait_for(lambda: sleeper(shop, "4713"))
    assert shop.stop() == 0
    assert client.wait(20) != 0


def test_nothing_is_left_open_after_many(shop: Emperor) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{shop.pid}/fd"))

    ran(shop, "shop", "--", "true")
    before = descriptors()
    for number in range(12):
        assert ran(shop, "shop", "--", *(["true"] if number % 2 else ["/no/such"])).returncode == 1 - number % 2
    shop.wait_for(lambda: descriptors() <= before, what="its descriptors are closed")


@pytest.mark.as_root
def test_the_vassals_user_and_no_way_back(emperor: Callable[..., Emperor]) -> None:
    made = emperor()
    made.manifest("shop", ["sleep", "1000"], user=str(ALICE), rlimits={"nofile": 123})
    made.start()
    made.wait_running("shop")
    text = ran(
        made, "shop", "--", "sh", "-c", "id -u; id -g; id -G; ulimit -n; grep -E 'Cap(Eff|Prm)' /proc/self/status"
    )
    assert text.stdout.split("\n")[:4] == [str(ALICE), str(ALICE), str(ALICE), "123"]
    assert text.stdout.count("0000000000000000") == 2
    done = ran(made, "shop", "--", "sh", "-c", "echo hi > /dev/stdout; echo ho > /dev/stderr")
    assert (done.stdout, done.stderr) == ("hi\n", "ho\n")


_NAMESPACES = ("mnt", "net", "ipc", "uts", "pid", "cgroup")


@pytest.mark.as_root
def test_the_namespaces_of_the_vassal(emperor: Callable[..., Emperor]) -> None:
    """Those that the main process has, whoever made them; here it is a program that makes them itself."""
    made = emperor()
    made.manifest(
        "shop",
        ["unshare", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--", "sh", "-c",
         "hostname jail; mount -t tmpfs none /mnt; touch /mnt/within; exec setpriv --no-new-privs sleep 1000"],
    )  # fmt: skip
    made.start()
    pid = made.wait_running("shop")
    wait_for(lambda: "sleep" in Path(f"/proc/{pid}/comm").read_text(), what="the vassal has settled")
    links = "; ".join(f"readlink /proc/self/ns/{name}" for name in _NAMESPACES)
    done = ran(made, "shop", "--", "sh", "-c", f"hostname; ls /mnt; grep NoNewPrivs /proc/self/status; {links}")
    hostname, listed, quiet, *found = done.stdout.split("\n")
    assert (hostname, listed, quiet.split()) == ("jail", "within", ["NoNewPrivs:", "1"])
    assert found[:-1] == [os.readlink(f"/proc/{pid}/ns/{name}") for name in _NAMESPACES]
    assert found[0] != os.readlink("/proc/self/ns/mnt")


@pytest.mark.as_root
def test_a_root_directory_of_its_own(emperor: Callable[..., Emperor]) -> None:
    made = emperor()
    made.manifest("shop", ["unshare", "--root", str(made.vassals), "--mount", "--", "/no/such"])
    script = f"import os,time; os.mkdir('{made.root}/in'); os.chroot('{made.root}'); os.chdir('/'); time.sleep(1000)"
    made.manifest("shop", ["python3", "-c", script])
    made.start()
    made.wait_running("shop")
    wait_for((made.root / "in").exists)
    answer = made.api("POST", f"{API}/vassals/shop/exec", {"command": ["/bin/sh"]})
    assert answer.status == 400  # there is no shell in there
    assert "exec failed" in json.dumps(answer.body)


def by_descriptor(emperor: Emperor, terminal: bool) -> tuple[Any, list[int]]:
    from emperorctl.cli.attach import open_command
    from emperorctl.models.errors import UserError

    size = {"rows": 24, "columns": 80} if terminal else None
    try:
        made = open_command(str(emperor.socket), f"{API}/vassals/shop/exec", {"command": ["cat"], "terminal": size})
    except UserError as error:
        return error, []
    return made.connection, made.ends


def test_what_the_caller_is_given(shop: Emperor) -> None:
    connection, ends = by_descriptor(shop, terminal=True)
    assert len(ends) == 1 and os.isatty(ends[0])
    os.close(ends[0])
    connection.close()
    connection, ends = by_descriptor(shop, terminal=False)
    assert len(ends) == 2
    for fd in ends:
        os.close(fd)
    connection.close()


@pytest.mark.as_root
def test_a_pid_namespace_is_entered_by_a_child(emperor: Callable[..., Emperor]) -> None:
    made = emperor()
    inner = "import os,ctypes,time\nctypes.CDLL(None).unshare(0x20000000)\n"
    # A main process that is itself the init of a pid namespace, as an isolated vassal's is.
    script = f"{inner}pid=os.fork()\nif not pid: time.sleep(1000)\nprint(pid, flush=True)\nos.waitpid(pid, 0)"
    made.manifest("shop", ["python3", "-c", script])
    made.start()
    made.wait_running("shop")
    made.wait_for(lambda: str(made.api("GET", f"{API}/vassals/shop/log").body).strip())
    pid = int(made.api("GET", f"{API}/vassals/shop/log").body)
    done = subprocess.run(
        ["python3", "-I", "-c", _ENTER.format(pid=pid, root=str(Path(__file__).resolve().parents[1]))],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["2", "7"], done.stderr


_ENTER = """
import os, sys, subprocess
sys.path.insert(0, "{root}/reconciler/runtime")
from zygote.entering import enter, stay_outside
pid = os.fork()
if not pid:
    inside = enter(os.pidfd_open({pid}), {pid})
    assert inside.forks
    stay_outside(os.open("/dev/null", os.O_RDONLY))
    os.write(1, b"%d " % os.getpid())
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
