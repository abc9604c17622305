"""Puppets in uwsgi's place: programs that tell the test all that they see and do what it says.

An Emperor is given `Stage.wrapper` as its `--emperor-wrapper`. Each vassal is then a puppet: it connects to the stage,
reports how it was started, every byte of the emperor protocol and every signal, and waits for orders. So a scenario
decides itself when a vassal speaks, falls silent or dies, and no timer has to be right. Used by the courts of
`court.py`; it knows nothing of Emperors.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.harness import command_path, wait_for

__all__ = ["Puppet", "Stage"]

# It obeys bytes 0, 1 and 2 as uWSGI does, unless `stubborn`: then it only notes them. Signals are noted, never obeyed.
_PUPPET = """#!{python} -IS
import json, os, select, signal, socket, sys
fd = int(os.environ.get("UWSGI_EMPEROR_FD", "-1"))
fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
links = {{}}
for one in fds:
    try:
        links[one] = os.readlink("/proc/self/fd/%d" % one)
    except OSError:
        pass  # what listed the directory
stage = socket.socket(socket.AF_UNIX)
stage.connect({address!r})
def tell(**what):
    stage.sendall(json.dumps(what).encode() + b"\\n")
hear, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda *_: None)
blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
tell(event="born", pid=os.getpid(), argv=sys.argv, cwd=os.getcwd(), env=dict(os.environ), links=links, blocked=blocked,
     sid=os.getsid(0), umask=os.umask(0o22), uid=os.getuid())
stubborn = False
waiting = [stage, hear] + ([fd] if fd >= 0 else [])
def say(what):
    os.write(fd, bytes(what))
def leave(code):
    tell(event="exit", code=code)
    os._exit(code)
orders = stage.makefile("rb")
while True:
    for one in select.select(waiting, [], [])[0]:
        if one is hear:
            for number in os.read(hear, 64):
                tell(event="signal", signal=number)
        elif one is stage:
            line = orders.readline()
            if not line:
                os._exit(0)  # the test is over
            order = json.loads(line)
            if "say" in order:
                say(order["say"])
            if "stubborn" in order:
                stubborn = order["stubborn"]
            if "accept" in order:
                ready = select.select([0], [], [], 30)[0]
                if ready:
                    socket.socket(fileno=os.dup(0)).accept()[0].close()
                tell(event="accept", done=bool(ready))
            if "close" in order:
                os.close(fd)
                waiting.remove(fd)
            if "child" in order:
                child = os.fork()
                if child == 0:
                    os.closerange(3, 1024)
                    os.execvp("sleep", ["sleep", "1000"])
                tell(event="child", pid=child)
            if "exit" in order:
                leave(order["exit"])
            tell(event="done")
        else:
            byte = os.read(fd, 1)
            tell(event="byte", byte=byte[0] if byte else -1)
            if not byte:
                waiting.remove(fd)
                if not stubborn:
                    leave(1)
            elif byte[0] in (0, 2) and not stubborn:
                leave(0)
            elif byte[0] == 1 and not stubborn:
                say([1, 5])
"""


@dataclass
class Puppet:
    """One vassal's process. `events` grows as it reports; `gone` once its process has ended."""

    connection: socket.socket
    born: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    gone: bool = False
    unread: bytes = b""

    @property
    def pid(self) -> int:
        """Its pid."""
        pid: int = self.born["pid"]
        return pid

    @property
    def argv(self) -> list[str]:
        """Its arguments, without its own path."""
        words: list[str] = self.born["argv"]
        return words[1:]

    @property
    def id(self) -> str:
        """The name that it was given as its config."""
        return self.argv[-1]

    @property
    def env(self) -> dict[str, str]:
        """Its environment at birth."""
        env: dict[str, str] = self.born["env"]
        return env

    @property
    def bytes(self) -> list[int]:
        """The bytes it has heard so far; -1 is end-of-file."""
        return [event["byte"] for event in self.events if event["event"] == "byte"]

    @property
    def signals(self) -> list[int]:
        """The signals it has received so far."""
        return [event["signal"] for event in self.events if event["event"] == "signal"]

    @property
    def exit_code(self) -> int | None:
        """The code it left with; None while it lives, and where it was ended by SIGKILL."""
        return next((event["code"] for event in self.events if event["event"] == "exit"), None)

    def order(self, **what: Any) -> None:
        """Have it do something, and wait until it has: `say` bytes, be `stubborn`, `close` its socket, `exit` …"""
        done = sum(event["event"] == "done" for event in self.events)
        self.connection.sendall(json.dumps(what).encode() + b"\n")

        def obeyed() -> bool:
            return self.gone or sum(event["event"] == "done" for event in self.events) > done

        wait_for(obeyed, what=f"puppet {self.pid} has done {what}")

    def child(self) -> int:
        """Have it start a program that takes no notice of anything; its pid."""
        self.order(child=True)
        pid: int = next(event["pid"] for event in self.events if event["event"] == "child")
        return pid

    def say(self, *what: int) -> None:
        """Have it send bytes to its Emperor."""
        self.order(say=list(what))

    def accepts(self) -> bool:
        """Have it accept one connection of its descriptor 0 and close it; False where none comes."""
        self.order(accept=True)
        return any([event["done"] for event in self.events if event["event"] == "accept"][-1:])

    def wait_gone(self) -> None:
        """Wait for the end of its process."""
        wait_for(lambda: self.gone, what=f"puppet {self.pid} ({self.id}) is gone")

    def wait_bytes(self, *what: int) -> None:
        """Wait until it has heard exactly these bytes."""
        wait_for(lambda: self.bytes[: len(what)] == list(what), what=f"{self.id} hears {what}, so far {self.bytes}")


class Stage:
    """Where the puppets of one scenario report. `close` it after its Emperor has gone."""

    def __init__(self, root: Path) -> None:
        self.puppets: list[Puppet] = []
        address = root / "stage"
        self.wrapper = root / "puppet"
        self.wrapper.write_text(_PUPPET.format(python=command_path("python").resolve(), address=str(address)))
        self.wrapper.chmod(0o755)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(address))
        address.chmod(0o777)
        self._listening.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, None)
        self._bell, self._button = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._listen, name="stage", daemon=True)
        self._thread.start()

    def named(self, name: str) -> list[Puppet]:
        """Every puppet so far that was given this config, the oldest first."""
        return [puppet for puppet in list(self.puppets) if puppet.born and puppet.id == name]

    def close(self) -> None:
        """Send every puppet home and forget them."""
        self._button.send(b"x")
        self._thread.join()
        for puppet in self.puppets:
            puppet.connection.close()
        for one in (self._listening, self._bell, self._button):
            one.close()
        self._selector.close()

    def _listen(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._bell:
                    return
                if key.fileobj is self._listening:
                    connection, _ = self._listening.accept()
                    puppet = Puppet(connection)
                    self._selector.register(connection, selectors.EVENT_READ, puppet)
                    self.puppets.append(puppet)
                else:
                    self._read(key.data)

    def _read(self, puppet: Puppet) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = puppet.connection.recv(65536)
        if not data:
            self._selector.unregister(puppet.connection)
            puppet.gone = True
            return
        *lines, puppet.unread = (puppet.unread + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event["event"] == "born":
                puppet.born = event
            else:
                puppet.events.append(event)
