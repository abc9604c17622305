"""A vassal with `network: user`: what it reaches, where it is reached, and who goes when something of it fails.

The Emperor runs in a network of the test's own, with a device that leads nowhere: nothing here leaves the machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.conftest import usable_by_nobody
from e2e.harness import Emperor, Household, alive, wait_for
from e2e.security.inside import PYTHON, TENANT, launch, status_line, told

pytestmark = pytest.mark.as_root

OUTSIDE = "10.9.9.1"
"""An address of the host that a vassal has to go out for."""
SERVER = 8099
NOBODY = 65534
_WORLD = f"""
set -e
ip link set lo up
ip addr add {OUTSIDE}/32 dev lo
ip tuntap add up0 mode tap
ip addr add 10.9.8.1/24 dev up0
ip link set up0 up
ip route add default via 10.9.8.254 dev up0
mount -t tmpfs -o mode=755 tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
echo "nameserver {OUTSIDE}" >/dev/net/resolv.conf
if [ -e /etc/resolv.conf ]; then mount --bind /dev/net/resolv.conf /etc/resolv.conf; fi
exec "$@"
"""
_TUNNEL = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _WORLD, "sh"]
_SERVE = """
import socket, sys, threading
def serve(server):
    while True:
        try:
            client, _ = server.accept()
            client.sendall(server.getsockname()[0].encode())
            client.close()
        except OSError:
            pass
servers = [socket.create_server((address, int(sys.argv[1]))) for address in sys.argv[2:]]
for one in servers[1:]:
    threading.Thread(target=serve, args=(one,), daemon=True).start()
serve(servers[0])
"""
_LISTEN = """
server = socket.create_server(("0.0.0.0", 80))
import threading
def serve():
    while True:
        client, _ = server.accept()
        client.recv(1)
        client.sendall(b"within")
        client.close()
threading.Thread(target=serve, daemon=True).start()
"""
_ASK = """
def ask(address, port):
    try:
        with socket.create_connection((address, port), timeout=3) as client:
            return client.recv(100).decode()
    except TimeoutError:
        return "nobody"
"""
Make = Callable[..., "World"]


class World(Emperor):
    """An Emperor in a network of its own, run as this user there."""

    inner: int | None = None

    def command(self) -> list[str]:
        """The whole command line."""
        who = f"--reuid={self.inner} --regid={self.inner} --clear-groups".split() if self.inner is not None else []
        if who and not usable_by_nobody():
            # Where it can't be read, the right to read is what makes this possible at all.
            who += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return [*_TUNNEL, *(["setpriv", *who] if who else []), *super().command()]

    def belongs_to(self, user: int) -> None:
        """Have its directories be this user's."""
        for path in (self.root, self.vassals):
            os.chown(path, user, user)

    def inside(self, *command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the Emperor's network."""
        words = ["nsenter", "--net", "--target", str(self.pid), "--", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)

    def ask(self, address: str, port: int) -> str:
        """What a server in the Emperor's network says to whoever connects."""
        # Who connects speaks first: the pasta of Debian 12 loses what a server says before.
        connect = f"client = socket.create_connection(({address!r}, {port}), timeout=10)"
        code = f"import socket; {connect}; client.sendall(b'?'); print(client.recv(100).decode())"
        done = self.inside(PYTHON, "-c", code)
        return done.stdout.strip() or done.stderr.strip()

    def serve(self, *addresses: str) -> None:
        """Have a server at these addresses that says which one was asked."""
        words = ["nsenter", "--net", "--target", str(self.pid), "--", PYTHON, "-c", _SERVE, str(SERVER), *addresses]
        self.household.spawn(words)
        self.wait_for(lambda: self.ask(addresses[-1], SERVER) == addresses[-1], what="the server answers")

    def because(self, name: str) -> str:
        """Why a vassal does not run."""
        found = self.condition(name, "Ready")
        return f"{found.get('reason')}: {found.get('message')}"


def programs(court: Emperor) -> list[psutil.Process]:
    """The network programs that this Emperor has running."""
    found = []
    for process in psutil.process_iter(["name", "pid"]):
        if process.info["name"].startswith(("pasta", "passt", "slirp4netns")):
            try:
                if os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink(f"/proc/{court.pid}/ns/net"):
                    found.append(process)
            except OSError:
                continue
    return found


def only(court: Emperor) -> psutil.Process:
    """The one of them, once it has set itself up."""
    return wait_for(lambda: found[0] if len(found := programs(court)) == 1 else None, what="one program runs")


@pytest.fixture
def world(household: Household, request: pytest.FixtureRequest) -> Iterator[Make]:
    """A factory of Emperors in networks of their own, with this program: `world(program="pasta")`."""
    done = subprocess.run([*_TUNNEL, "true"], capture_output=True, text=True, check=False) if _tools() else None
    if done is None or done.returncode:
        pytest.skip(f"no network of our own to be had: {done.stderr.strip() if done else 'unshare or ip is missing'}")
    made: list[World] = []

    def make(*options: str, program: str = "pasta", **rest: Any) -> World:
        if program and shutil.which(program) is None:
            pytest.skip(f"no {program} on this host")
        one = World(household, *options, **rest)
        made.append(one)
        place = one.root / "bin"
        place.mkdir()
        if program:
            (place / program).symlink_to(str(shutil.which(program)))
        # Nothing else of this kind: neither of the host's own programs is found by accident.
        for tool in ("sh", "ip", "mount", "mknod", "unshare", "setpriv"):
            (place / tool).symlink_to(str(shutil.which(tool)))
        one.env["PATH"] = f"{Path(sys.executable).parent}:{place}"
        return one

    yield make
    for one in made:
        complaints = one.close()
        one.remove()
        assert not complaints, complaints


def _tools() -> bool:
    return all(shutil.which(tool) for tool in ("unshare", "ip", "nsenter", "mount", "mknod", "setpriv"))


@pytest.mark.parametrize("isolation", [{}, {"namespaces": ["pid"], "privateTmp": True, "hostname": "jail"}])
def test_it_goes_out_and_is_reached_at_its_ports_alone(world: Make, isolation: dict[str, Any]) -> None:
    court = world().start()
    court.serve("127.0.0.1", OUTSIDE)
    code = f"""{_ASK}{_LISTEN}
told["outside"] = attempt(ask, "{OUTSIDE}", {SERVER})
told["loopback"] = attempt(ask, "127.0.0.1", {SERVER})
told["gateway"] = attempt(ask, "10.9.8.254", {SERVER})
told["links"] = sorted(name for _, name in socket.if_nameindex())
told["open"] = descriptors()
told["privileges"] = [line for line in read("/proc/self/status").splitlines() if line.startswith("Cap")]
told["uid"] = os.getuid()
"""
    ports = ["127.0.0.1:8080:80"]
    seen = told(court, "web", code, user=str(TENANT), network={"user": {"ports": ports}}, isolation=isolation)
    assert seen["outside"] == OUTSIDE
    assert seen["loopback"] == "ECONNREFUSED"
    assert seen["gateway"] not in ("127.0.0.1", OUTSIDE)
    assert seen["links"] == ["lo", "up0"]
    assert set(seen["open"]) <= {"0", "1", "2", "3"}  # the last is its own server
    assert seen["uid"] == TENANT
    assert court.ask("127.0.0.1", 8080) == "within"
    program = only(court)
    assert set(program.uids()) == {TENANT}


def online(court: World, name: str = "web", code: str = "", **spec: Any) -> int:
    """Start a vassal with a way out; its pid."""
    told(court, name, code, **({"user": str(TENANT), "network": "user"} | spec))
    pid = court.main_pid(name)
    assert pid is not None
    return pid


def test_the_program_is_the_vassals_users_and_has_rights_over_that_network_alone(world: Make) -> None:
    court = world().start()
    main = online(court)
    program = only(court)
    assert set(program.uids()) | set(program.gids()) == {TENANT}
    assert status_line(program.pid, "NoNewPrivs") == "1"
    assert os.readlink(f"/proc/{program.pid}/ns/user") == os.readlink(f"/proc/{main}/ns/user")
    assert os.readlink(f"/proc/{program.pid}/ns/user") != os.readlink(f"/proc/{court.pid}/ns/user")
    minder = program.parent()
    assert minder is not None
    assert set(minder.uids()) == {TENANT}
    assert int(status_line(minder.pid, "CapPrm"), 16) == 0
    assert len(os.listdir(f"/proc/{minder.pid}/fd")) < 8
    cgroups = {Path(f"/proc/{pid}/cgroup").read_text() for pid in (main, minder.pid, program.pid)}
    assert len(cgroups) == 1


def test_whoever_runs_as_the_same_user_can_not_use_its_rights(world: Make) -> None:
    court = world().start()
    online(court)
    program = only(court)
    minder = program.ppid()
    code = f"""
def enter(pid, space):
    import ctypes
    fd = os.open(f"/proc/{{pid}}/ns/{{space}}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0):
        raise OSError(ctypes.get_errno(), "")
for pid, who in (({program.pid}, "program"), ({minder}, "minder")):
    told[who] = [attempt(enter, pid, "user"), attempt(enter, pid, "net"), attempt(read, f"/proc/{{pid}}/maps")]
"""
    seen = told(court, "other", code, user=str(TENANT))
    assert set(seen["program"]) | set(seen["minder"]) <= {"EACCES", "EPERM"}
    # Nor can the vassal itself, in the same user namespace.
    for pid in (minder, court.main_pid("web")):
        done = court.cli("exec", "web", "--", PYTHON, "-c", f"print(open('/proc/{pid}/maps').read())")
        assert ("PermissionError" in done.stderr) is (pid == minder), done.stderr


@pytest.mark.parametrize("who", ["program", "minder"])
def test_without_its_way_out_the_vassal_is_started_anew(world: Make, who: str) -> None:
    court = world().start()
    main = online(court)
    program = only(court)
    (program if who == "program" else psutil.Process(program.ppid())).kill()
    court.wait_running("web", other_than=main)
    said = [event["message"] for event in court.events("web")]
    why = {"program": "its network program killed by SIGKILL", "minder": "the process that minds its network was ended"}
    assert any(why[who] in message for message in said), said
    assert not alive(program.pid)
    only(court)


def test_the_program_goes_with_the_vassal(world: Make) -> None:
    court = world().start()
    main = online(court)
    program = only(court)
    os.kill(main, signal.SIGKILL)
    court.wait_running("web", other_than=main)
    assert not alive(program.pid)
    assert court.cli("stop", "web").returncode == 0
    court.wait_phase("web", "Suspended")
    court.wait_for(lambda: not programs(court), what="nothing of it is left")
    assert "its network" not in str(court.events("web"))


def test_nothing_is_left_when_the_emperor_is_killed(world: Make) -> None:
    court = world().start()
    main = online(court)
    program = only(court)
    minder = program.ppid()
    court.kill()
    wait_for(lambda: not court.household.orphans(), what="nothing is left")
    assert not any(alive(pid) for pid in (main, program.pid, minder))


def test_a_port_can_be_had_by_one_alone(world: Make) -> None:
    court = world().start()
    network = {"user": {"ports": ["8080:80"]}}
    main = online(court, "first", _LISTEN, network=network)
    launch(court, "second", "", user=str(TENANT), network=network)
    what = "the other one is refused"
    court.wait_for(lambda: "port 8080/TCP of the host is taken" in str(court.events("second")), what=what)
    assert "PortTaken" in str(court.events("second"))
    assert court.main_pid("first") == main
    assert court.ask("127.0.0.1", 8080) == court.ask(OUTSIDE, 8080) == "within"


def test_a_port_of_roots_is_not_for_its_user(world: Make) -> None:
    court = world().start()
    launch(court, "low", "", user=str(TENANT), network={"user": {"ports": ["81:80"]}})
    court.wait_for(lambda: "PortForbidden" in str(court.events("low")), what="it is refused")
    assert "use a hostPort from 1024" in str(court.events("low"))


def test_datagrams_are_published(world: Make) -> None:
    court = world().start()
    code = """
import threading
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
def serve():
    while True:
        data, sender = server.recvfrom(100)
        server.sendto(data.upper(), sender)
threading.Thread(target=serve, daemon=True).start()
"""
    online(court, "names", code, network={"user": {"ports": ["5353:53/udp"]}})
    ask = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10);"
        f"s.sendto(b'name', ('{OUTSIDE}', 5353)); print(s.recv(100))"
    )
    court.wait_for(lambda: "NAME" in court.inside(PYTHON, "-c", ask).stdout, what="an answer")


@pytest.mark.parametrize(("program", "server"), [("pasta", "169.254.1.1"), ("slirp4netns", "10.0.2.3")])
def test_the_program_answers_for_the_hosts_name_server(world: Make, program: str, server: str) -> None:
    if not Path("/etc/resolv.conf").exists():
        pytest.skip("no /etc/resolv.conf on this host")
    court = world(program=program).start()
    code = (
        f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('{OUTSIDE}', 53))\n"
        "while True: data, sender = s.recvfrom(600); s.sendto(data[:2] + b'answer', sender)"
    )
    court.household.spawn(["nsenter", "--net", "--target", str(court.pid), "--", PYTHON, "-c", code])
    code = f"""
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(1)
while "answer" not in told:
    try:
        client.sendto(b"12" + bytes(10), ("{server}", 53))
        told["answer"] = client.recv(100).decode()
    except TimeoutError:
        pass
"""
    assert told(court, "web", code, user=str(TENANT), network="user")["answer"] == "12answer"


def test_hooks_and_commands_have_a_way_out_too(world: Make) -> None:
    court = world().start()
    court.serve(OUTSIDE)
    hook = f"import socket, sys; sys.exit(socket.create_connection(('{OUTSIDE}', {SERVER})).recv(20) != b'{OUTSIDE}')"
    hooks = {"preStart": {"command": [PYTHON, "-c", hook]}, "postStart": {"command": [PYTHON, "-c", hook]}}
    main = online(court, network={"user": {"ports": ["8080:80"]}}, hooks=hooks)
    done = court.cli("exec", "web", "--", PYTHON, "-c", f"import os; {hook}")
    assert done.returncode == 0, done.stderr
    assert court.main_pid("web") == main
    assert "Failed" not in str(court.events("web"))
    court.wait_for(lambda: len(programs(court)) == 1, what="those of the hooks are gone")


def test_slirp4netns_where_it_is_the_only_one(world: Make) -> None:
    court = world(program="slirp4netns").start()
    court.serve("127.0.0.1", OUTSIDE)
    code = f"""{_ASK}
told["outside"] = attempt(ask, "{OUTSIDE}", {SERVER})
told["gateway"] = attempt(ask, "10.0.2.2", {SERVER})
"""
    seen = told(court, "web", code, user=str(TENANT), network="user")
    assert seen["outside"] == OUTSIDE
    assert seen["gateway"] != "127.0.0.1"
    launch(court, "ports", "", user=str(TENANT), network={"user": {"ports": ["8080:80"]}})
    court.wait_for(lambda: "ports are published with pasta" in str(court.events("ports")), what="it is refused")


def test_without_any_program_it_says_what_to_install(world: Make) -> None:
    court = world(program="").start()
    launch(court, "web", "", user=str(TENANT), network="user")
    court.wait_for(lambda: "NoUserNetwork" in str(court.events("web")), what="it is refused")
    assert "apt install passt" in str(court.events("web"))
    assert "apt install passt" in court.cli("describe", "vassal", "web").stdout


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no such luck >&2; exit 3", "its network program exited with code 3; its output: no such luck"),
        ("exec sleep 1000", "its network was not up in time; it printed nothing"),
    ],
)
def test_a_program_that_fails_is_quoted(world: Make, script: str, said: str) -> None:
    court = world(program="").start()
    program = court.root / "bin" / "pasta"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    launch(court, "web", "", user=str(TENANT), network="user")
    court.wait_for(lambda: said in str(court.events("web")), what="it says so")
    assert "UserNetworkFailed" in str(court.events("web"))
    assert court.main_pid("web") is None


def test_a_program_in_the_vassals_own_path_is_not_run(world: Make) -> None:
    court = world(program="").start()
    place = court.root / "theirs"
    place.mkdir()
    (place / "pasta").write_text(f"#!/bin/sh\ntouch {court.root}/run\n")
    (place / "pasta").chmod(0o755)
    launch(court, "web", "", user=str(TENANT), network="user", env={"PATH": f"{place}:/usr/bin:/bin"})
    court.wait_for(lambda: "NoUserNetwork" in str(court.events("web")), what="it is refused")
    assert not (court.root / "run").exists()


def test_it_is_not_for_root(world: Make) -> None:
    court = world().start()
    launch(court, "web", "", network="user")
    court.wait_for(
        lambda: "not for vassals that run as root (set spec.user)" in str(court.events("web")), what="refused"
    )
    assert not programs(court)


def test_a_tenant_has_a_network_but_no_port_of_roots(world: Make) -> None:
    court = world("--emperor-tyrant").start()
    code = _ASK + _LISTEN
    for name, port in (("high", 8080), ("low", 81)):
        launch(court, name, code, network={"user": {"ports": [f"{port}:80"]}})
        os.chown(court.vassals / f"{name}.yaml", TENANT, TENANT)
    court.wait_running(f"high.{TENANT}")
    court.wait_for(lambda: court.ask("127.0.0.1", 8080) == "within", what="it is reached")
    assert set(only(court).uids()) == {TENANT}
    said = "asks for port 81: in tyrant mode a file gets its owner's rights"
    court.wait_for(lambda: said in str(court.objects()) + str(court.events()), what="the other one is refused")


@pytest.mark.parametrize("isolation", [{}, {"namespaces": ["pid"], "privateTmp": True}])
def test_an_ordinary_users_emperor_can_do_it(world: Make, isolation: dict[str, Any]) -> None:
    court = world()
    court.inner = NOBODY
    court.belongs_to(NOBODY)
    court.start()
    court.serve(OUTSIDE)
    code = f"""{_ASK}{_LISTEN}
told["outside"] = attempt(ask, "{OUTSIDE}", {SERVER})
"""
    seen = told(court, "web", code, network={"user": {"ports": ["8080:80"]}}, isolation=isolation)
    assert seen["outside"] == OUTSIDE
    assert court.ask("127.0.0.1", 8080) == "within"
    main = court.main_pid("web")
    program = only(court)
    assert set(program.uids()) == {NOBODY}
    court.kill()
    wait_for(lambda: not court.household.orphans(), what="nothing is left")
    assert main is not None
    assert not alive(main) and not alive(program.pid)


def test_a_paranoid_emperor_can_do_it(world: Make) -> None:
    caps = "setuid,setgid,kill,chown,dac_read_search,sys_admin,sys_chroot,setpcap,net_admin,sys_ptrace"
    court = world("--uid", str(NOBODY), "--cap", caps)
    court.belongs_to(NOBODY)
    court.vassals.chmod(0o755)
    court.start()
    court.serve(OUTSIDE)
    code = f"""{_ASK}
told["outside"] = attempt(ask, "{OUTSIDE}", {SERVER})
told["uid"] = os.getuid()
"""
    seen = told(court, "web", code, user=str(TENANT), network="user")
    assert (seen["outside"], seen["uid"]) == (OUTSIDE, TENANT)
    assert set(only(court).uids()) == {TENANT}
