"""Started on demand: real sockets, real processes, clients that lose nothing, and real uWSGI in its three ways."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.harness import Emperor, alive, wait_for

Make = Callable[..., Emperor]
Target = tuple[int, Any]

# Answers each connection with its pid and the number of the descriptor that it came from, one at a time.
SERVER = """#!{python} -IS
import os, select, signal, socket, sys
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
first, count = (3, int(os.environ["LISTEN_FDS"])) if "LISTEN_FDS" in os.environ else (0, 1)
if first == 3:
    assert int(os.environ["LISTEN_PID"]) == os.getpid()
sockets = {{first + number: socket.socket(fileno=first + number) for number in range(count)}}
poll = select.poll()
for fd in sockets:
    poll.register(fd, select.POLLIN)
while going:
    for fd, _ in poll.poll(50):
        connection, _ = sockets[fd].accept()
        asked = connection.recv(100).decode()
        names = os.environ.get("LISTEN_FDNAMES", "-")
        connection.sendall(f"{{os.getpid()}} {{fd}} {{names}}".encode())
        if asked == "hold":
            connection.recv(1)
        connection.close()
        if asked == "exit":
            sys.exit(0)
        if asked == "shut":
            sockets[fd].shutdown(socket.SHUT_RDWR)
            sys.exit(0)
        if asked == "die":
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def port(free_port: int) -> int:
    """A TCP port that nobody uses at the moment."""
    return free_port


def server(emperor: Emperor) -> str:
    """The path of the server's program."""
    path = emperor.root / "server.py"
    if not path.exists():
        path.write_text(SERVER.format(python=sys.executable))
        path.chmod(0o755)
    return str(path)


def tcp(port: int) -> Target:
    return socket.AF_INET, ("127.0.0.1", port)


def unix(path: Path | str) -> Target:
    return socket.AF_UNIX, str(path)


def ask(target: Target, what: str = "hello", timeout: float = 30.0) -> list[str]:
    """One connection, held until it is answered: pid, descriptor, names."""
    with socket.socket(target[0]) as client:
        client.settimeout(timeout)
        client.connect(target[1])
        client.sendall(what.encode())
        answer = client.recv(200).decode()
    assert answer, "the connection was lost"
    return answer.split()


def sleeping(emperor: Emperor, name: str = "shop") -> None:
    emperor.wait_condition(name, "Ready", "False", "Asleep")
    assert emperor.phase(name) == "OnDemand" and emperor.main_pid(name) is None


def shop(emperor: Emperor, *addresses: Any, **more: Any) -> None:
    """Write the manifest of a vassal on demand."""
    on_demand = {"addresses": list(addresses)} | more.pop("on_demand", {})
    emperor.manifest("shop", [server(emperor)], onDemand=on_demand, **more)


class Crowd:
    """Clients that connect without end; every connection has to be answered."""

    def __init__(self, target: Target, clients: int = 4) -> None:
        self.target = target
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def more(self, count: int = 20) -> None:
        """Wait for so many more answers."""
        before = len(self.answers)
        wait_for(lambda: len(self.answers) >= before + count or self.failures, 60, "the crowd is served")
        assert not self.failures, self.failures[:3]

    def _go(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(ask(self.target)[0])
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))
                return


def test_the_first_connection_starts_it_and_the_second_finds_it_running(emperor: Make, port: int) -> None:
    one = emperor()
    shop(one, f"127.0.0.1:{port}")
    one.start()
    sleeping(one)
    pid, fd, names = ask(tcp(port))
    assert (fd, names) == ("3", "shop")
    assert one.wait_running("shop") == int(pid)
    assert ask(tcp(port))[0] == pid
    assert one.get("shop")["status"]["sockets"] == [f"127.0.0.1:{port}"]  # type: ignore[index]
    assert f"127.0.0.1:{port}" in one.cli("get", "vassals", "-o", "wide").stdout


def test_every_kind_of_address_at_once(emperor: Make, port: int) -> None:
    one = emperor()
    path, name = one.root / "shop.sock", f"e2e-{os.getpid()}-{port}"
    if one.user is not None:
        os.chown(one.root, one.user, one.user)
    shop(one, f"127.0.0.1:{port}", {"address": str(path), "mode": "640", "name": "second"}, f"@{name}")
    one.start()
    sleeping(one)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    pid, fd, names = ask(unix(path))
    assert (fd, names) == ("4", "shop:second:shop")
    assert ask(unix("\0" + name)) == [pid, "5", names]
    assert ask(tcp(port)) == [pid, "3", names]
    open_fds = {int(entry) for entry in os.listdir(f"/proc/{pid}/fd")}
    assert {0, 1, 2, 3, 4, 5} <= open_fds and max(open_fds) <= 6, "and nothing else of the Emperor's"
    (one.vassals / "shop.yaml").unlink()
    one.wait_absent("shop")
    assert not path.exists()


def test_ipv6(emperor: Make, port: int) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this host has no IPv6")
    one = emperor()
    shop(one, f"[::1]:{port}")
    one.start()
    sleeping(one)
    assert ask((socket.AF_INET6, ("::1", port)))[1] == "3"


@pytest.mark.as_root
def test_a_unix_socket_has_the_owner_that_is_asked_for(emperor: Make) -> None:
    one = emperor()
    path = one.root / "owned.sock"
    owner, group = pwd.getpwuid(65534).pw_name, grp.getgrgid(65534).gr_name
    shop(one, {"address": str(path), "owner": owner, "group": group, "mode": "600"})
    one.start()
    sleeping(one)
    about = path.stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (65534, 65534, 0o600)
    inode = about.st_ino
    shop(one, {"address": str(path), "owner": "65533", "mode": "606"})
    one.wait_for(lambda: path.stat().st_uid == 65533, what="the owner is changed")
    assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (inode, 0o606), "the socket itself stays"


def test_by_standard_input_and_with_the_emperor_protocol(emperor: Make, port: int) -> None:
    one = emperor()
    shop(one, f"127.0.0.1:{port}", on_demand={"passing": "stdin"})
    one.start()
    sleeping(one)
    assert ask(tcp(port))[1:] == ["0", "-"]
    shop(one, f"127.0.0.1:{port}", reload={"protocol": {}})
    one.wait_for(lambda: ask(tcp(port))[1] == "3", what="it is replaced by one that gets LISTEN_FDS")
    pid = one.wait_running("shop")
    environment = psutil.Process(pid).environ()
    assert environment["UWSGI_EMPEROR_FD"] == "4" and os.path.exists(f"/proc/{pid}/fd/4")


HOOK = """echo {}: $(env | grep -c ^LISTEN_) $(ls -l /proc/$$/fd | grep -c socket:) >> hooks.txt"""


def test_its_hooks_run_around_each_wake_and_have_no_part_in_its_sockets(emperor: Make, port: int) -> None:
    one = emperor()
    told = one.root / "hooks.txt"
    hooks = {name: [{"command": ["sh", "-c", HOOK.format(name)]}] for name in ("preStart", "postStop")}
    shop(one, f"127.0.0.1:{port}", hooks=hooks, workingDir=str(one.root))
    one.start()
    sleeping(one)
    assert not told.exists()
    for turn in (1, 2):
        assert ask(tcp(port), "exit")[1:] == ["3", "shop"]
        wait_for(lambda turn=turn: told.exists() and told.read_text().count("postStop") == turn)
        sleeping(one)
    assert told.read_text().split("\n")[:-1] == ["preStart: 0 0", "postStop: 0 0"] * 2


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_no_connection_is_lost_by_waking_sleeping_crashing_and_reloading(emperor: Make, port: int, kind: str) -> None:
    one = emperor()
    path = one.root / "shop.sock"
    target = tcp(port) if kind == "tcp" else unix(path)
    address = f"127.0.0.1:{port}" if kind == "tcp" else str(path)
    shop(one, address, loyalty={"after": "50ms"})
    one.start()
    sleeping(one)
    with Crowd(target) as crowd:
        crowd.more()
        for word in ("exit", "die", "exit", "die"):
            # It goes by itself, the one time well, the other by SIGKILL, while many wait. Loyal by then, it comes back.
            one.wait_condition("shop", "Loyal", "True")
            ask(target, word)
            crowd.more()
        for _ in range(3):
            pid = one.wait_running("shop")
            assert one.cli("reload", "shop").returncode == 0
            one.wait_running("shop", other_than=pid)
            crowd.more()
    assert not crowd.failures
    assert len(set(crowd.answers)) >= 6, "it was served by many processes"


def test_a_crash_with_nobody_waiting_is_a_sleep(emperor: Make, port: int) -> None:
    one = emperor()
    shop(one, f"127.0.0.1:{port}", loyalty={"after": "50ms"})
    one.start()
    sleeping(one)
    ask(tcp(port))
    pid = one.wait_running("shop")
    one.wait_condition("shop", "Loyal", "True")
    os.kill(pid, signal.SIGKILL)
    sleeping(one)
    assert int(ask(tcp(port))[0]) != pid


def test_idle_timeout_stops_one_without_open_connections(emperor: Make, port: int) -> None:
    one = emperor()
    path = one.root / "shop.sock"
    shop(one, f"127.0.0.1:{port}", str(path), on_demand={"idleTimeout": "1s"})
    one.start()
    sleeping(one)
    for target in (tcp(port), unix(path)):
        with socket.socket(target[0]) as client:
            client.settimeout(30)
            client.connect(target[1])
            client.sendall(b"hold")
            pid = int(client.recv(100).decode().split()[0])
            since = time.monotonic()
            wait_for(lambda since=since: time.monotonic() - since > 3, what="three timeouts have passed")  # type: ignore[misc]
            assert alive(pid) and one.main_pid("shop") == pid, "it has an open connection"
        sleeping(one)
        assert not alive(pid)
    assert any(event["reason"] == "Idle" for event in one.events("shop"))
    assert ask(tcp(port))


def test_a_program_that_shuts_its_sockets_down_does_not_end_them(emperor: Make, port: int) -> None:
    one = emperor()
    path = one.root / "shop.sock"
    shop(one, f"127.0.0.1:{port}", str(path))
    one.start()
    for target in (tcp(port), unix(path)):
        sleeping(one)
        ask(target, "shut")
        one.wait_condition("shop", "Ready", "False", "Asleep")
        one.wait_for(lambda target=target: _connects(target), what="it can be reached again")  # type: ignore[misc]
        assert ask(target, "exit")


def _connects(target: Target) -> bool:
    with contextlib.suppress(OSError), socket.socket(target[0]) as client:
        client.connect(target[1])
        client.sendall(b"exit")
        client.settimeout(30)
        return bool(client.recv(100))
    return False


def test_a_changed_address_leaves_the_other_one_alone(emperor: Make, port: int) -> None:
    one = emperor()
    path, other = one.root / "a.sock", one.root / "b.sock"
    shop(one, f"127.0.0.1:{port}", str(path))
    one.start()
    sleeping(one)
    bound = _socket_at(one.pid, port)
    shop(one, f"127.0.0.1:{port}", str(other))
    one.wait_for(other.exists, what="the new address is bound")
    one.wait_for(lambda: not path.exists(), what="the old one is gone")
    assert _socket_at(one.pid, port) == bound, "that socket was never closed"
    assert one.main_pid("shop") is None
    pid = int(ask(unix(other))[0])
    shop(one, f"127.0.0.1:{port}", str(path))
    one.wait_for(path.exists, what="the first address is bound again")
    assert int(ask(tcp(port))[0]) and int(ask(unix(path))[0]) != pid
    # An address that overlaps the old one, which the running process still holds.
    one.wait_running("shop")
    shop(one, f":{port}")
    one.wait_for(lambda: one.get("shop")["status"]["sockets"] == [f":{port}"] and not path.exists())  # type: ignore[index]
    one.wait_for(lambda: _connects(tcp(port)), what="it is reached at the wider address")


def _socket_at(pid: int, port: int) -> str:
    """Which socket a process listens with at a TCP port."""
    return next(
        os.readlink(f"/proc/{pid}/fd/{found.fd}")
        for found in psutil.Process(pid).net_connections("tcp")
        if found.status == psutil.CONN_LISTEN and found.laddr.port == port
    )


def test_an_address_in_use_names_its_holder_and_is_had_once_it_is_free(emperor: Make, port: int) -> None:
    one = emperor()
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        shop(one, f"127.0.0.1:{port}")
        one.start()
        message = one.wait_condition("shop", "Ready", "False", "CannotListen")["message"]
        if os.geteuid() == 0 or one.user is None:
            assert f"in use by process {os.getpid()}" in message
        assert "AddressInUse" in {event["reason"] for event in one.events("shop")}
    sleeping(one)
    assert ask(tcp(port))


def test_a_live_unix_socket_is_in_use_and_a_dead_one_is_replaced(emperor: Make) -> None:
    one = emperor()
    path = one.root / "shop.sock"
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(path))
        holder.listen()
        shop(one, str(path))
        one.start()
        message = one.wait_condition("shop", "Ready", "False", "CannotListen")["message"]
        assert f"in use by process {os.getpid()}" in message
    assert path.exists(), "nobody removes the file of a socket by closing it"
    sleeping(one)
    assert ask(unix(path))


def test_two_vassals_of_one_address(emperor: Make, port: int) -> None:
    one = emperor()
    shop(one, f"127.0.0.1:{port}")
    one.start()
    sleeping(one)
    one.manifest("other", [server(one)], onDemand={"addresses": [f"127.0.0.1:{port}"]})
    message = one.wait_condition("other", "Ready", "False", "CannotListen")["message"]
    assert 'is the address of the vassal "shop"' in message
    assert ask(tcp(port))


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_not_a_socket_stays(emperor: Make, kind: str) -> None:
    one = emperor()
    path = one.root / "precious"
    (one.root / "target").write_text("keep me")
    if kind == "file":
        path.write_text("keep me")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(one.root / "target")
    shop(one, str(path))
    one.start()
    message = one.wait_condition("shop", "Ready", "False", "CannotListen")["message"]
    assert f"is a {kind}, not a socket" in message
    (one.vassals / "shop.yaml").unlink()
    one.wait_absent("shop")
    assert path.is_symlink() if kind == "link" else path.exists()
    assert (one.root / "target").read_text() == "keep me"


def test_a_path_of_107_bytes_is_the_longest(emperor: Make) -> None:
    one = emperor().start()
    room = 107 - len(str(one.root)) - 1
    longest = one.root / ("x" * room)
    shop(one, str(longest))
    sleeping(one)
    assert ask(unix(longest))
    one.manifest("long", [server(one)], onDemand={"addresses": [str(longest) + "x"]})
    message = one.wait_condition("long", "Accepted", "False")["message"]
    assert "108 bytes; the kernel takes 107 at most" in message and "long.yaml:" in message


@pytest.mark.parametrize("program", ["exit 0", "exit 1", "kill -9 $$"])
def test_one_that_ends_without_accepting_is_blacklisted_and_costs_nothing(
    emperor: Make, port: int, program: str
) -> None:
    one = emperor()
    one.manifest("shop", ["/bin/sh", "-c", program], onDemand={"addresses": [f"127.0.0.1:{port}"]})
    one.start()
    sleeping(one)
    with socket.socket() as client:
        client.connect(("127.0.0.1", port))
        one.wait_phase("shop", "Blacklisted")
        before, since = _cpu(one.pid), time.monotonic()
        wait_for(lambda: time.monotonic() - since > 2.0, what="two of its three seconds are over")
        assert _cpu(one.pid) - before < 0.5, "a connection that waits must not keep the Emperor busy"
        starts = [event for event in one.events("shop") if event["reason"] == "Demanded"]
        assert sum(event["count"] for event in starts) == 1
        # Corrected, it gets the connection that has waited all the time.
        shop(one, f"127.0.0.1:{port}")
        client.sendall(b"hello")
        client.settimeout(30)
        assert client.recv(100)


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def test_stop_closes_the_socket_and_start_opens_it(emperor: Make, port: int) -> None:
    one = emperor()
    shop(one, f"127.0.0.1:{port}")
    one.start()
    sleeping(one)
    assert one.cli("stop", "shop").returncode == 0
    one.wait_phase("shop", "Suspended")
    with pytest.raises(ConnectionRefusedError), socket.socket() as client:
        client.connect(("127.0.0.1", port))
    assert one.cli("start", "shop").returncode == 0
    sleeping(one)
    assert one.cli("reload", "shop").returncode == 0
    sleeping(one)
    assert ask(tcp(port))


def test_the_emperor_comes_back_to_the_socket_that_it_left_behind(emperor: Make) -> None:
    one = emperor()
    path = one.root / "shop.sock"
    shop(one, str(path))
    one.start()
    sleeping(one)
    pid = int(ask(unix(path))[0])
    one.kill()
    wait_for(lambda: not alive(pid), what="the death pact")
    assert path.exists()
    one.start()
    sleeping(one)
    assert ask(unix(path))
    assert one.stop() == 0 and not path.exists()


def test_two_thousand_sleep_for_little(emperor: Make) -> None:
    one = emperor()
    name = f"e2e-{os.getpid()}-{time.monotonic_ns()}"
    lone = Emperor(one.household)
    try:
        lone.start()
        empty = _pss(lone.pid)
        assert lone.stop() == 0
    finally:
        lone.remove()
    for number in range(2000):
        one.manifest(f"v{number}", ["/bin/false"], onDemand={"addresses": [f"@{name}-{number}"]})
    started = time.monotonic()
    one.start()
    phases = one.wait_for(
        lambda: found if len(found := one.objects()) == 2000 and _all_sleep(found) else None, 60, "all of them sleep"
    )
    took = time.monotonic() - started
    each = (_pss(one.pid) - empty) / 2000
    before, since = _cpu(one.pid), time.monotonic()
    wait_for(lambda: time.monotonic() - since > 2.0, what="two seconds are over")
    idle = _cpu(one.pid) - before
    print(f"2000 sleeping: {took:.2f} s until all are listed, {each / 1024:.1f} KiB each, {idle:.3f} s CPU in 2 s")
    assert len(phases) == 2000
    assert each < 20_000 and idle < 0.2


def _all_sleep(found: dict[str, Any]) -> bool:
    return all(item["status"]["phase"] == "OnDemand" for item in found.values())


def _pss(pid: int) -> int:
    """Bytes."""
    return int(psutil.Process(pid).memory_full_info().pss)


# uWSGI's three ways

APP = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def site(emperor: Emperor, protocol: str = "http", **more: str) -> str:
    """The config of a small web site that takes its socket from the Emperor."""
    app = emperor.root / "app.py"
    app.write_text(APP)
    app.chmod(0o644)
    options = {"protocol": protocol, "wsgi-file": str(app), "master": "true", "processes": "1", **more}
    return "[uwsgi]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())


def browse(target: Target) -> str:
    """One HTTP request; the body of the answer."""
    with socket.socket(target[0]) as client:
        client.settimeout(60)
        client.connect(target[1])
        client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        answer = b""
        while data := client.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.") and b" 200 " in answer.split(b"\r\n")[0], answer
    return answer.rpartition(b"\r\n\r\n")[2].decode()


@pytest.fixture
def curtain(emperor: Make, uwsgi_python: Path) -> Iterator[Callable[..., Emperor]]:
    """A factory of Emperors that know one of uWSGI's ways."""
    yield lambda *options: emperor("--binary-path", str(uwsgi_python), *options)


def test_uwsgi_wakes_dies_of_idleness_and_wakes_again(curtain: Make, port: int) -> None:
    one = curtain("--emperor-on-demand-extension", ".socket")
    one.write("site.ini.socket", f"127.0.0.1:{port}\n")
    one.write("site.ini", site(one, idle="1", **{"die-on-idle": "true"}))
    one.start()
    sleeping(one, "site.ini")
    first = browse(tcp(port))
    assert first
    sleeping(one, "site.ini")
    assert browse(tcp(port)) != first
    assert one.get("site.ini")["status"]["blacklist"] is None  # type: ignore[index]
    one.wait_phase("site.ini", "OnDemand")


def test_a_changed_socket_file_is_an_order_to_rebind(curtain: Make, port: int) -> None:
    one = curtain("--emperor-on-demand-extension", ".socket")
    path = one.root / "site.sock"
    one.write("site.ini.socket", f"127.0.0.1:{port}")
    one.write("site.ini", site(one))
    one.start()
    sleeping(one, "site.ini")
    one.write("site.ini.socket", f"{path}\n")
    one.wait_for(path.exists, what="the new address is bound")
    assert browse(unix(path))
    pid = one.wait_running("site.ini")
    one.write("site.ini.socket", "example.org:80\n")
    message = one.wait_condition("site.ini", "Accepted", "False")["message"]
    assert "no IP address" in message and one.main_pid("site.ini") == pid, "the last good address stays"
    (one.vassals / "site.ini.socket").unlink()
    one.wait_running("site.ini", other_than=pid)
    assert not path.exists()


def test_a_uwsgi_reload_loses_no_connection(curtain: Make, port: int) -> None:
    one = curtain("--emperor-on-demand-extension", ".socket")
    one.write("site.ini.socket", f"127.0.0.1:{port}")
    one.write("site.ini", site(one))
    one.start()
    sleeping(one, "site.ini")
    before = browse(tcp(port))
    failures: list[BaseException] = []
    over = threading.Event()

    def crowd() -> None:
        while not over.is_set():
            try:
                browse(tcp(port))
            except (OSError, AssertionError) as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=crowd) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        os.utime(one.vassals / "site.ini")
        one.wait_for(lambda: browse(tcp(port)) != before, what="another worker serves")
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert not failures


def test_the_directory_way(curtain: Make, household: object) -> None:
    one = curtain()
    directory = one.root / "sockets"
    directory.mkdir()
    one.options += ["--emperor-on-demand-directory", str(directory)]
    one.write("site.ini", site(one))
    one.start()
    sleeping(one, "site.ini")
    path = directory / "site.socket"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert browse(unix(path))


def test_the_command_way(curtain: Make, port: int) -> None:
    one = curtain()
    script = one.root / "where"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = site.ini ] && echo 127.0.0.1:{port}\n[ "$1" = hang.ini ] && sleep 60\nexit 0\n'
    )
    script.chmod(0o755)
    one.options += ["--emperor-on-demand-exec", str(script)]
    one.write("site.ini", site(one))
    one.write("always.ini", site(one, socket=str(one.root / "always.sock")))
    one.write("hang.ini", site(one))
    one.start()
    sleeping(one, "site.ini")
    one.wait_running("always.ini")
    assert browse(tcp(port))
    message = one.wait_condition("hang.ini", "Accepted", "False", timeout=60)["message"]
    assert "did not end within 10s" in message
    assert not [process for process in one.processes() if "sleep" in process.name()]


def test_the_statistics_hold_the_socket(curtain: Make, port: int) -> None:
    one = curtain("--emperor-on-demand-extension", ".socket")
    one.write("site.ini.socket", f"127.0.0.1:{port}")
    one.write("site.ini", site(one))
    one.start()
    sleeping(one, "site.ini")
    listed = one.cli("stats").stdout
    assert f'"on_demand":"127.0.0.1:{port}"' in listed.replace(" ", "") and '"pid":-1' in listed.replace(" ", "")
