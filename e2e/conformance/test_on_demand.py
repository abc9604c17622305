"""On demand: the address, the first connection, sleep, and what changes in between."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from signal import SIGKILL

import pytest

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.conformance.stage import Puppet

_EXTENSION = ("--emperor-on-demand-extension", ".socket")
_APP = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"worker %d" % os.getpid()]
"""


def knock(address: str | Path | int) -> socket.socket:
    """A connection to a path, or to a port on 127.0.0.1."""
    tcp = isinstance(address, int)
    client = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(30)
        client.connect(("127.0.0.1", address) if tcp else str(address))
    except OSError:
        client.close()
        raise
    return client


def wait_asleep(court: Court, name: str = "a.ini") -> dict[str, object]:
    """Wait until a vassal has no process but a socket; its statistics."""

    def look() -> dict[str, object] | None:
        return next((vassal for vassal in court.all_of(name) if vassal["pid"] == -1 and vassal["on_demand"]), None)

    return court.wait_for(look, f"{name} sleeps; last {court.all_of(name)}")


def asleep(court: Court, name: str = "a.ini") -> Path:
    """A vassal whose socket is at the path that is returned; it sleeps once the Emperor is started."""
    path = court.root / "a.sock"
    court.write(f"{name}.socket", f"{path}\n")
    court.write(name)
    return path


def awake(court: Court, path: Path, count: int = 1, *, loyal: bool = True) -> Puppet:
    """Its count-th puppet, woken by a connection that is then gone."""
    with contextlib.closing(knock(path)):
        puppet = court.wait_puppet("a.ini", count)
    assert puppet.accepts(), "the connection that woke it waits in the socket"
    puppet.say(1, 5, *([17] if loyal else []))
    court.wait_vassal("a.ini", pid=puppet.pid, accepting=1, loyal=int(loyal))
    return puppet


def browse(path: Path) -> str:
    """One HTTP request over a Unix socket; the body of the answer."""
    with contextlib.closing(knock(path)) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        answer = b""
        while data := client.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.") and b" 200 " in answer.split(b"\r\n")[0], answer
    return answer.rpartition(b"\r\n\r\n")[2].decode()


@scenario(
    "`emperor-on-demand-extension .socket`, and a Unix socket in a.ini.socket",
    uwsgi="no process: pid -1, and on_demand is the address; the socket is there with mode 666. The first connection"
    " starts it, with the socket as descriptor 0, usual arguments and directory; respawns stays 0",
)
def test_extension(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    assert wait_asleep(court)["on_demand"] == str(path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert not court.stage.puppets
    with contextlib.closing(knock(path)):
        puppet = court.wait_puppet("a.ini")
        assert puppet.argv == ["--ini", "a.ini"]
        assert puppet.born["cwd"] == str(court.vassals)
        links = puppet.born["links"]
        assert links["0"].startswith("socket:")
        assert set(links) == {"0", "1", "2", puppet.env["UWSGI_EMPEROR_FD"]}
        assert puppet.accepts()
    vassal = court.wait_vassal("a.ini", pid=puppet.pid)
    assert (vassal["respawns"], vassal["on_demand"]) == (0, str(path))
    assert len(court.stage.puppets) == 1


@scenario(
    "`emperor-on-demand-extension`: a TCP address, with a line break and more behind it",
    uwsgi="the address is what stands before the first control character",
)
def test_tcp(court: Court, free_port: int) -> None:
    court.write("a.ini.socket", f"127.0.0.1:{free_port}\nand more\n")
    court.write("a.ini")
    court.start(*_EXTENSION)
    assert wait_asleep(court)["on_demand"] == f"127.0.0.1:{free_port}"
    with contextlib.closing(knock(free_port)):
        assert court.wait_puppet("a.ini").accepts()


@scenario(
    "`emperor-on-demand-extension`: a config without a file of its own for the address",
    uwsgi="it runs at once; on_demand is empty, descriptor 0 is /dev/null",
)
def test_no_file(court: Court) -> None:
    asleep(court)
    court.write("b.ini")
    court.start(*_EXTENSION)
    puppet = court.subject("b.ini")
    assert puppet.born["links"]["0"] == "/dev/null"
    assert court.wait_vassal("b.ini")["on_demand"] == ""


@scenario(
    "`emperor-on-demand-directory DIR`",
    uwsgi="the Unix socket DIR/a.socket for a.ini, with mode 666; every vassal is on demand",
)
def test_directory(court: Court) -> None:
    directory = court.root / "sockets"
    directory.mkdir()
    court.write("a.ini")
    court.start("--emperor-on-demand-directory", str(directory))
    path = directory / "a.socket"
    assert wait_asleep(court)["on_demand"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with contextlib.closing(knock(path)):
        assert court.wait_puppet("a.ini").accepts()


@scenario(
    "`emperor-on-demand-exec COMMAND`",
    uwsgi="run by a shell, with the vassal's name as its last argument; what it prints is the address; no output: the"
    " vassal runs at once",
)
def test_exec(court: Court) -> None:
    path = court.root / "a.sock"
    script = court.root / "where"
    script.write_text(f'#!/bin/sh\n[ "$1" = first ] && [ "$2" = a.ini ] && echo {path}\nexit 0\n')
    script.chmod(0o755)
    court.write("a.ini")
    court.write("b.ini")
    court.start("--emperor-on-demand-exec", f"{script} first")
    assert wait_asleep(court)["on_demand"] == str(path)
    court.subject("b.ini")
    with contextlib.closing(knock(path)):
        assert court.wait_puppet("a.ini").accepts()


@scenario(
    "One that is awake says 22 (voluntary shutdown)",
    uwsgi="told 0; once gone, it sleeps: not blacklisted, no process, the same socket file; loyal stays 1, ready and"
    " accepting are 0. The next connection starts it again; respawns stays 0",
    emperorctl="the same, but loyal, too, begins anew",
    why="the next process has yet to prove itself",
)
def test_sleeps_again(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    inode = path.stat().st_ino
    puppet = awake(court, path)
    puppet.say(22)
    puppet.wait_gone()
    assert puppet.bytes == [0]
    vassal = wait_asleep(court)
    assert not court.blacklisted("a.ini")
    assert (vassal["ready"], vassal["accepting"], vassal["respawns"]) == (0, 0, 0)
    assert vassal["loyal"] == int(court.real)
    assert path.stat().st_ino == inode
    again = awake(court, path, 2)
    assert court.wait_vassal("a.ini", pid=again.pid)["respawns"] == 0


@scenario(
    "A real site on demand with idle and die-on-idle",
    uwsgi="serves what woke it, asks to go when it is idle, sleeps, and serves again by another process",
)
def test_site(court: Court, uwsgi_python: Path) -> None:
    path = asleep(court)
    app = court.root / "app.py"
    app.write_text(_APP)
    court.write(
        "a.ini",
        f"[uwsgi]\nprotocol = http\nwsgi-file = {app}\nmaster = true\nprocesses = 1\nidle = 1\ndie-on-idle = true\n",
    )
    court.start(*_EXTENSION, puppets=False)
    wait_asleep(court)
    first = browse(path)
    assert first.startswith("worker ")
    for _ in range(10):
        # The statistics may still say that it sleeps, from before it was woken.
        wait_asleep(court)
        if (second := browse(path)) != first:
            break
    assert second.startswith("worker ") and second != first


@scenario(
    "A loyal one that is awake is killed (SIGKILL from outside), and nobody waits",
    uwsgi="it sleeps, and the next connection starts it",
)
def test_killed(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    puppet = awake(court, path)
    os.kill(puppet.pid, SIGKILL)
    wait_asleep(court)
    assert not court.blacklisted("a.ini")
    awake(court, path, 2)


@scenario("A sleeping vassal's file is touched", uwsgi="nothing is started")
def test_touched_asleep(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    court.touch("a.ini")
    court.wait_look()
    assert not court.stage.named("a.ini")
    wait_asleep(court)
    awake(court, path)


@scenario("The file of one that is awake is touched", uwsgi="byte 1 to the same process")
def test_touched_awake(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    puppet = awake(court, path)
    court.touch("a.ini")
    puppet.wait_bytes(1)
    court.wait_vassal("a.ini", pid=puppet.pid, respawns=1)


@scenario(
    "A sleeping vassal's file is removed",
    uwsgi="it is in no list any more, and nobody listens; the socket's file stays",
    emperorctl="the same, but the socket's file goes",
    why="a socket that nobody listens to misleads whoever finds it",
)
def test_removed(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    court.remove("a.ini")
    court.wait_for(lambda: not court.all_of("a.ini"), "it is forgotten")

    def refused() -> bool:
        try:
            knock(path).close()
        except OSError:
            return True
        return False

    court.wait_for(refused, "nobody listens")
    assert path.exists() == court.real


@scenario(
    "SIGTERM with vassals on demand, one of them asleep",
    uwsgi="exit code 0; who is awake is told 0; the sockets' files stay. (Tried with all awake: with one asleep, whose"
    " pid is -1, anybody who outlasts the mercy lets it send SIGKILL to pid -1: to every process of the machine)",
    emperorctl="the same with one asleep, and nobody else is ever signalled; the sockets' files go",
    why="a socket that nobody listens to misleads whoever finds it",
)
def test_ragnarok(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    puppet = awake(court, path)
    if not court.real:
        court.write("b.ini.socket", str(court.root / "b.sock"))
        court.write("b.ini")
        wait_asleep(court, "b.ini")
    assert court.stop() == 0
    assert puppet.bytes == [0]
    assert len(court.stage.puppets) == 1
    assert path.exists() == court.real
    assert not (court.root / "b.sock").exists()


@scenario(
    "A connection comes while the vassal that it is for is awake, but has not accepted it",
    uwsgi="it waits in the socket's queue; no second process",
)
def test_queue(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    puppet = awake(court, path)
    with contextlib.closing(knock(path)) as client, contextlib.closing(knock(path)):
        client.sendall(b"x")
        court.wait_look()
        assert len(court.stage.named("a.ini")) == 1
        assert puppet.accepts()
        assert puppet.accepts()


@pytest.mark.parametrize("kind", ["file", "dead socket"])
@scenario(
    "Something lies at the path of the Unix socket: a file, or a socket that nobody answers on",
    uwsgi="either is removed, and the socket made",
    emperorctl="a dead socket is replaced; a file stays, and the vassal is not ready: `CannotListen`, event"
    " `NotASocket`",
    why="a wrong path in a config must not cost anybody a file",
)
def test_in_the_way(court: Court, kind: str) -> None:
    path = asleep(court)
    if kind == "file":
        path.write_text("precious")
    else:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(str(path))
    court.start(*_EXTENSION)
    if kind == "file" and not court.real:
        court.wait_log("NotASocket")
        assert path.read_text() == "precious"
        return
    wait_asleep(court)
    with contextlib.closing(knock(path)):
        court.wait_puppet("a.ini")


@scenario(
    "The address in a.ini.socket changes",
    uwsgi="unnoticed, also when the config itself is touched or edited",
    emperorctl="the new address is bound at once, and the old one given up",
    why="what a file says should hold",
)
def test_other_address(court: Court) -> None:
    path, other = asleep(court), court.root / "b.sock"
    court.start(*_EXTENSION)
    wait_asleep(court)
    court.write("a.ini.socket", f"{other}\n")
    court.write("a.ini", "[uwsgi]\n# edited\n")
    court.wait_look()
    if not court.real:
        court.wait_for(lambda: other.exists() and not path.exists(), "the new address is bound")
    assert wait_asleep(court)["on_demand"] == str(path if court.real else other)
    assert (path.exists(), other.exists()) == (court.real, not court.real)
    assert not court.stage.named("a.ini")


@scenario(
    "One ends before it is loyal, without accepting the connection that woke it",
    uwsgi="blacklisted; at the next scan it sleeps behind a new socket, and the connection is lost",
    emperorctl="blacklisted; the connection waits in the socket for the next try",
    why="the Emperor keeps the socket, whatever becomes of the vassal",
)
def test_fails(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    with contextlib.closing(knock(path)) as client:
        court.wait_puppet("a.ini").order(exit=1)
        court.wait_for(lambda: court.blacklisted("a.ini"), "a.ini is blacklisted")
        if court.real:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            wait_asleep(court)
            assert len(court.stage.puppets) == 1
        else:
            assert court.wait_puppet("a.ini", 2).accepts()


@scenario(
    "One ends with exit code 0 before it is loyal, and nobody waits",
    uwsgi="blacklisted; at the next scan it sleeps",
    emperorctl="it sleeps, and is not blacklisted",
    why="a program with nothing to do may end: that is how one that knows no byte 22 goes to sleep",
)
def test_done(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    awake(court, path, loyal=False).order(exit=0)
    wait_asleep(court)
    assert (court.blacklisted("a.ini") is not None) == court.real
    awake(court, path, 2)


@scenario("One says 22 before it is loyal", uwsgi="told 0, and it sleeps; not blacklisted, as it would be otherwise")
def test_sleeps_early(court: Court) -> None:
    path = asleep(court)
    court.start(*_EXTENSION)
    wait_asleep(court)
    puppet = awake(court, path, loyal=False)
    puppet.say(22)
    puppet.wait_gone()
    wait_asleep(court)
    assert not court.blacklisted("a.ini")
