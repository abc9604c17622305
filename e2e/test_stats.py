"""The stats server of a real Emperor: uWSGI's document, over every kind of socket, for every kind of caller."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import selectors
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness import API, Emperor, wait_for
from e2e.real_uwsgi import RealEmperor
from e2e.test_uwsgi import ini, settings

Make = Callable[..., Emperor]
Address = tuple[str, int] | str
_PATIENCE = 30.0


@contextlib.contextmanager
def connected(address: Address) -> Iterator[socket.socket]:
    """A connection to a stats server."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(address)
        yield connection


def read(address: Address, opening: bytes = b"") -> bytes:
    """All that the server says, until it closes."""
    with connected(address) as connection:
        connection.sendall(opening)
        with connection.makefile("rb") as stream:
            return stream.read()


def document(address: Address) -> dict[str, Any]:
    """What a silent caller is told."""
    found: dict[str, Any] = json.loads(read(address))
    return found


def vassal(address: Address, name: str) -> dict[str, Any]:
    """One vassal's part; empty where it is not listed."""
    return next((dict(one) for one in document(address)["vassals"] if one["id"] == name), {})


def shape(value: Any) -> Any:
    """Members in their order, and types in place of values."""
    match value:
        case dict():
            return [(key, shape(item)) for key, item in value.items()]
        case list():
            return [shape(item) for item in value[:1]]
        case _:
            return type(value).__name__


def test_the_document_is_the_real_ones(
    emperor: Make, real_emperor: Callable[..., RealEmperor], uwsgi_python: Path, free_port: int
) -> None:
    address = ("127.0.0.1", free_port)
    e = emperor("--emperor-stats", f"127.0.0.1:{free_port}", "--binary-path", str(uwsgi_python))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        web = probe.getsockname()[1]
    options = settings(e, web)
    text = ini(options)
    real = real_emperor()
    (real.vassals / "web.ini").write_text(text)
    (real.vassals / "crash.ini").write_text("[uwsgi]\nno-such-option = 1\nstrict = true\n")
    wait_for(lambda: (real.vassal("web.ini") or {}).get("accepting"), what="the real one's vassal accepts")
    get(web)
    wait_for(lambda: (real.vassal("web.ini") or {}).get("loyal"), what="the real one's vassal is loyal")
    theirs = wait_for(lambda: s if (s := real.stats())["blacklist"] and s["vassals"] else None)
    real.close()

    e.write("web.ini", text)
    e.write("crash.ini", "[uwsgi]\nno-such-option = 1\nstrict = true\n")
    e.start()
    e.wait_for(lambda: vassal(address, "web.ini").get("accepting"), what="ours accepts")
    assert vassal(address, "web.ini")["loyal"] == vassal(address, "web.ini")["last_loyal"] == 0
    get(web)
    e.wait_for(lambda: vassal(address, "web.ini").get("loyal"), what="ours is loyal")
    e.wait_phase("crash.ini", "Blacklisted")
    ours = document(address)
    assert shape(ours) == shape(theirs)
    (held,) = ours["blacklist"]
    assert (held["id"], [one["id"] for one in ours["vassals"]]) == ("crash.ini", ["web.ini"])
    mine = ours["vassals"][0]
    (his,) = (one for one in theirs["vassals"] if one["id"] == "web.ini")
    same = {"ready", "accepting", "loyal", "cursed", "zerg", "on_demand", "last_heartbeat", "respawns"}
    assert {key: mine[key] for key in same} == {key: his[key] for key in same}
    assert ours["emperor"] == [str(e.vassals)] == [mine["monitor"]]
    assert theirs["emperor"] == [str(real.vassals)] == [his["monitor"]]


def get(port: int) -> bytes:
    """One request to a vassal."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


def test_a_touch_is_counted_and_a_new_process_has_its_pid(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor("--binary-path", str(uwsgi_python))
    address = str(e.root / "stats")
    e.options += ["--emperor-stats-server", address]
    file = e.write("a.ini", ini(settings(e, free_port)))
    os.utime(file, (1_700_000_000, 1_700_000_000.9))
    e.start()
    pid = e.wait_running("a.ini")
    e.wait_condition("a.ini", "Ready", "True", "Accepting")
    first = vassal(address, "a.ini")
    assert (first["pid"], first["respawns"], first["last_mod"]) == (pid, 0, 1_700_000_000)
    assert 0 < first["born"] <= first["first_run"] == first["last_run"] <= time.time()
    os.utime(file, (1_600_000_000, 1_600_000_000))
    e.wait_for(lambda: vassal(address, "a.ini")["respawns"] == 1, what="the reload is counted")
    e.wait_for(lambda: vassal(address, "a.ini")["accepting"], what="it accepts again")
    second = vassal(address, "a.ini")
    assert second["ready"] == 1 and second["last_accepting"] >= second["last_run"] >= first["last_run"]
    assert (second["pid"], second["first_run"], second["last_mod"]) == (pid, first["first_run"], 1_600_000_000)
    os.kill(pid, signal.SIGKILL)
    e.wait_running("a.ini", other_than=pid)
    third = vassal(address, "a.ini")
    assert third["pid"] == e.main_pid("a.ini")
    assert third["respawns"] == 2


def test_who_sleeps_by_order_or_by_mistake_is_not_listed(emperor: Make) -> None:
    e = emperor()
    address = str(e.root / "stats")
    e.options += ["--emperor-stats", address]
    e.manifest("runs", ["sleep", "1000"])
    e.manifest("held", ["sleep", "1000"])
    e.manifest("bad", ["false"])
    e.write("typo.yaml", "kind: Vassal\n")
    e.start()
    e.wait_running("held")
    assert e.cli("stop", "held").returncode == 0
    e.wait_phase("held", "Suspended")
    e.wait_phase("typo", "Invalid")
    e.wait_phase("bad", "Blacklisted")
    found = e.wait_for(lambda: d if len((d := document(address))["vassals"]) == 1 else None)
    (one,) = found["vassals"]
    assert (one["id"], one["pid"], one["ready"], one["accepting"]) == ("runs", e.main_pid("runs"), 1, 1)
    (held,) = found["blacklist"]
    assert held["id"] == "bad" and held["throttle_level"] >= 3000
    assert held["first_attempt"] <= held["last_attempt"] <= time.time()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_over_tcp_and_by_http(emperor: Make, free_port: int, host: str) -> None:
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    e = emperor("--emperor-stats", f"{host}:{free_port}")
    e.start()
    bare = "127.0.0.1" if host == "localhost" else host.strip("[]")
    assert document((bare, free_port))["pid"] == e.pid
    with contextlib.closing(http.client.HTTPConnection(bare, free_port, timeout=_PATIENCE)) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.headers["content-type"]) == (200, "application/json")
        assert json.loads(response.read())["pid"] == e.pid
        connection.request("HEAD", "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"") and int(response.headers["content-length"]) > 0
        connection.request("POST", "/apis/emperor/v1/reload", b"{}")
        response = connection.getresponse()
        assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
        response.read()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("opening", [b"\0\1\2", b"\x16\x03\x01" * 50, b"hello\n", b"get / http/1.0\r\n\r\n", b"GE"])
def test_garbage_gets_the_bare_document(emperor: Make, free_port: int, opening: bytes) -> None:
    e = emperor("--emperor-stats", f"127.0.0.1:{free_port}").start()
    assert json.loads(read(("127.0.0.1", free_port), opening))["pid"] == e.pid


def test_500_at_once_and_none_who_reads(emperor: Make) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4096:
        pytest.skip("needs 4096 file descriptors")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    e = emperor()
    address = str(e.root / "stats")
    e.options += ["--emperor-stats", address]
    vassals = 300
    for number in range(vassals):
        e.manifest(f"v-{number:03d}", ["sleep", "1000"])
    e.start()
    e.wait_for(lambda: sum(one["pid"] > 0 for one in document(address)["vassals"]) == vassals, timeout=60)
    with contextlib.ExitStack() as stack:
        # One who asks and never reads: his document is larger than what the kernel keeps for him.
        deaf = stack.enter_context(connected(address))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        deaf.sendall(b"\0")
        crowd = [stack.enter_context(connected(address)) for _ in range(500)]
        answers = read_all(crowd)
        assert all(len(json.loads(raw)["vassals"]) == vassals for raw in answers)
        # He is dropped: what he then reads ends before the document does.
        e.wait_for(lambda: is_hung_up(deaf), timeout=60, what="who never reads is dropped")
    assert e.main_pid("v-000")


def read_all(crowd: list[socket.socket]) -> list[bytes]:
    """What each of them is told, all read at once."""
    told = {connection: bytearray() for connection in crowd}
    deadline = time.monotonic() + 60
    with selectors.DefaultSelector() as waiting:
        for connection in crowd:
            connection.setblocking(False)
            waiting.register(connection, selectors.EVENT_READ)
        while waiting.get_map():
            assert time.monotonic() < deadline, f"{len(waiting.get_map())} were not told everything"
            for key, _ in waiting.select(1.0):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                data = connection.recv(65536)
                told[connection] += data
                if not data:
                    waiting.unregister(connection)
    return [bytes(raw) for raw in told.values()]


def is_hung_up(connection: socket.socket) -> bool:
    """Whether the other end is gone, without reading anything."""
    with selectors.PollSelector() as waiting:
        waiting.register(connection, selectors.EVENT_WRITE)
        if not waiting.select(0):
            return False
    try:
        connection.send(b"\0", socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    except (BrokenPipeError, ConnectionResetError):
        return True
    except BlockingIOError:
        pass
    return False


def test_a_unix_socket_comes_and_goes(emperor: Make) -> None:
    e = emperor()
    path = e.root / "stats"
    e.options += ["--emperor-stats", str(path)]
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    e.start()
    before = os.umask(0)
    os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~before
    assert document(str(path))["pid"] == e.pid
    assert e.stop() == 0
    assert not path.exists()


def refused(emperor: Emperor, address: str, *more: str) -> str:
    """What the Emperor says who won't start with this address."""
    emperor.options += ["--emperor-stats", address, *more]
    emperor.start(ready=False)
    assert emperor.wait() == 1
    return emperor.log()


def test_what_lies_at_the_path_is_not_deleted(emperor: Make) -> None:
    e = emperor()
    precious = e.root / "precious"
    precious.write_text("precious")
    assert "is not a socket: move it away" in refused(e, str(precious))
    assert precious.read_text() == "precious"


def test_a_socket_in_use_is_left_to_its_owner(emperor: Make, free_port: int) -> None:
    first = emperor()
    path = str(first.root / "stats")
    first.options += ["--emperor-stats", path]
    first.start()
    assert "somebody listens at" in refused(emperor(), path)
    assert document(path)["pid"] == first.pid
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()
        said = refused(emperor(), f"127.0.0.1:{free_port}")
    assert "Address already in use (stop what listens there, or choose another with --emperor-stats)" in said


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("/tmp/" + "x" * 110, "longer than 107 bytes"),
        (":{port}", "write 127.0.0.1:{port}"),
        ("0.0.0.0:{port}", "write 127.0.0.1:{port}"),
        ("[::]:{port}", "write 127.0.0.1:{port}"),
        ("192.0.2.1:{port}", "allow it with --stats-public"),
        ("{port}", "write 127.0.0.1:{port}"),
        ("127.0.0.1:http", "is not a port"),
    ],
)
def test_an_address_that_wont_do_is_refused_with_the_remedy(
    emperor: Make, free_port: int, address: str, why: str
) -> None:
    said = refused(emperor(), address.format(port=free_port))
    assert said.startswith("error: ") and said.count("\n") == 1
    assert why.format(port=free_port) in said


def test_a_public_address_can_be_allowed(emperor: Make, free_port: int) -> None:
    e = emperor("--emperor-stats", f":{free_port}", "--stats-public").start()
    assert document(("127.0.0.1", free_port))["pid"] == e.pid


def test_the_same_document_over_the_control_socket(emperor: Make) -> None:
    e = emperor()
    address = str(e.root / "stats")
    e.options += ["--emperor-stats", address]
    e.manifest("a", ["sleep", "1000"])
    e.start()
    e.wait_running("a")
    e.wait_for(lambda: vassal(address, "a").get("accepting"))
    served = document(address)
    assert e.api("GET", f"{API}/stats").body == served
    shown = e.cli("stats")
    assert shown.returncode == 0 and shown.stdout.startswith('{\n    "version"')
    assert json.loads(shown.stdout) == served
    assert yaml.safe_load(e.cli("stats", "-o", "yaml").stdout) == served
    assert json.loads(e.cli("stats", "--socket", str(e.socket), env={"EMPERORCTL_SOCKET": "/nope"}).stdout) == served
