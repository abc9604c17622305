"""A vassal with `network: user`: what it reaches, where it is reached, and who goes when something of it fails.

The Emperor runs in a network of the test's own, with a device that leads nowhere: nothing here leaves the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.harness import Emperor, Household
from e2e.security.inside import PYTHON, TENANT, told

pytestmark = pytest.mark.as_root

OUTSIDE = "10.9.9.1"
"""An address of the host that a vassal has to go out for."""
SERVER = 8099
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
        client.sendall(b"within")
        client.close()
threading.Thread(target=serve, daemon=True).start()
"""
_ASK = """
def ask(address, port):
    with socket.create_connection((address, port), timeout=5) as client:
        return client.recv(100).decode()
"""
_LOW = "import socket; "

Make = Callable[..., "World"]


class World(Emperor):
    """An Emperor in a network of its own."""

    def command(self) -> list[str]:
        """The whole command line."""
        return [*_TUNNEL, *super().command()]

    def inside(self, *command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the Emperor's network."""
        words = ["nsenter", "--net", "--target", str(self.pid), "--", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)

    def ask(self, address: str, port: int) -> str:
        """What a server in the Emperor's network says to whoever connects."""
        code = f"{_LOW}print(socket.create_connection(({address!r}, {port}), timeout=5).recv(100).decode())"
        done = self.inside(PYTHON, "-c", code)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

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
        for tool in ("sh", "ip", "mount", "mknod", "unshare", "env"):
            (place / tool).symlink_to(str(shutil.which(tool)))
        one.env["PATH"] = f"{Path(sys.executable).parent}:{place}"
        return one

    yield make
    for one in made:
        one.close()


def _tools() -> bool:
    return all(shutil.which(tool) for tool in ("unshare", "ip", "nsenter", "mount", "mknod"))


@pytest.mark.parametrize("isolation", [{}, {"namespaces": ["pid"], "privateTmp": True, "hostname": "jail"}])
def test_it_goes_out_and_is_reached_at_its_ports_alone(world: Make, isolation: dict[str, Any]) -> None:
    court = world().start()
    court.serve("127.0.0.1", OUTSIDE)
    code = f"""{_ASK}{_LISTEN}
told["outside"] = attempt(ask, "{OUTSIDE}", {SERVER})
told["loopback"] = attempt(ask, "127.0.0.1", {SERVER})
told["links"] = sorted(name for _, name in socket.if_nameindex())
told["open"] = descriptors()
told["privileges"] = [line for line in read("/proc/self/status").splitlines() if line.startswith("Cap")]
told["uid"] = os.getuid()
"""
    ports = ["127.0.0.1:8080:80"]
    seen = told(court, "web", code, user=str(TENANT), network={"user": {"ports": ports}}, isolation=isolation)
    assert seen["outside"] == OUTSIDE
    assert seen["loopback"] == "ECONNREFUSED"
    assert seen["links"] == ["lo", "up0"]
    assert seen["uid"] == TENANT
    assert court.ask("127.0.0.1", 8080) == "within"
    (program,) = programs(court)
    assert set(program.uids()) == {TENANT}
