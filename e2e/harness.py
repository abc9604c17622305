"""A real Emperor for a test: the installed command, in its own directory, with everything it starts accounted for.

Used through the fixtures of `conftest`. The test process is a subreaper: whatever outlives an Emperor becomes a child
of the test process, is found, reported as a failure and ended. Nothing else is ever signalled. Waiting means looking
every few milliseconds with a generous limit; no test sleeps for a fixed time.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, Self, TypeVar
from urllib.parse import quote

import psutil

__all__ = [
    "API",
    "Answer",
    "Emperor",
    "Household",
    "alive",
    "become_subreaper",
    "command_path",
    "wait_for",
]

T = TypeVar("T")
API = "/apis/emperor/v1"
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_EVERY = 0.01
_PATIENCE = 20.0
_MERCY = 2.0
_DEATH_PACT = 3.0  # promised: one second; the rest is for a loaded machine


def command_path(name: str) -> Path:
    """Where a command of the environment under test lies: beside its interpreter, never somewhere in PATH."""
    return Path(sys.executable).with_name(name)


def wait_for(look: Callable[[], T | None], timeout: float = _PATIENCE, what: str = "") -> T:
    """The first truthy value of `look()`; AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or look}; last seen: {value!r}")
        time.sleep(_LOOK_EVERY)


def alive(pid: int) -> bool:
    """Whether this process still runs: one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def become_subreaper() -> None:
    """From now on orphans among this process's descendants become its children."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Household:
    """All processes that one test is answerable for: those it started, and what they left behind."""

    def __init__(self) -> None:
        self._before = {child.pid for child in psutil.Process().children()}
        self._started: list[subprocess.Popen[bytes]] = []

    def spawn(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process of the test's own; it is ended with the test."""
        process: subprocess.Popen[bytes] = subprocess.Popen([str(word) for word in command], **options)
        self._started.append(process)
        return process

    def orphans(self) -> list[psutil.Process]:
        """Live processes whose parents have died, among all that this test's processes ever started."""
        ours = self._before | {process.pid for process in self._started if process.returncode is None}
        found = []
        for child in psutil.Process().children():
            if child.pid in ours:
                continue
            if alive(child.pid):
                found.append(child)
            else:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)
        return found

    def close(self) -> list[str]:
        """End everything; returns a description of each process that should not have been there any more."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
        deadline = time.monotonic() + _DEATH_PACT
        while self.orphans() and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY)
        leftovers = []
        while orphans := self.orphans():  # ending one may bring its children here
            for orphan in orphans:
                with contextlib.suppress(psutil.NoSuchProcess):
                    leftovers.append(f"{orphan.pid} {' '.join(orphan.cmdline())!r}")
                    orphan.kill()
                    orphan.wait(_PATIENCE)
        return leftovers


@dataclass(frozen=True, slots=True)
class Answer:
    """What the control socket said."""

    status: int
    body: Any


class Emperor:
    """One `emperorctl run`, with directories of its own. Made by the `emperor` fixture; `start` it.

    `vassals` is its first source unless `sources` names others. `user` is a uid and gid to run it as.
    """

    def __init__(
        self,
        household: Household,
        *options: str,
        sources: Sequence[str | Path] | None = None,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self.household = household
        self.root = Path(tempfile.mkdtemp(prefix="e-", dir="/tmp"))  # short: a socket's path has 107 bytes
        self.root.chmod(0o755)
        self.vassals = self.root / "vassals"
        self.vassals.mkdir()
        self.socket = self.root / "s"
        self.state = self.root / "state"
        self.logs = self.root / "logs"
        self.log_file = self.root / "emperor.log"
        self.options = list(options)
        self.sources = [str(source) for source in (sources if sources is not None else [self.vassals])]
        self.env = dict(env or {})
        self.user = user
        self.traceback_expected = False
        self.process: subprocess.Popen[bytes] | None = None
        if user is not None:
            for path in (self.root, self.vassals):
                os.chown(path, user, user)

    # Its life

    def start(self, *, ready: bool = True) -> Self:
        """Start it and, unless told otherwise, wait until its control socket answers."""
        assert self.process is None or self.process.returncode is not None, "it is running already"
        identity = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        with self.log_file.open("ab") as log:
            self.process = self.household.spawn(
                self.command(),
                cwd=self.root,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **identity,
            )
        if ready:
            self.wait_for(self._answers, what="the control socket answers")
        return self

    def command(self) -> list[str]:
        """The whole command line."""
        places = [f"--socket={self.socket}", f"--state-dir={self.state}", f"--log-dir={self.logs}"]
        return [str(command_path("emperorctl")), "run", *places, *self.options, *self.sources]

    def environment(self) -> dict[str, str]:
        """This process's environment without what would lead an Emperor or a client astray, then `env`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMPERORCTL_", "UWSGI_", "XDG_", "PYTHON"))}
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept.get('PATH', '/usr/bin:/bin')}"
        kept["HOME"] = str(self.root)
        return kept | self.env

    @property
    def pid(self) -> int:
        """The Emperor's own pid."""
        assert self.process is not None, "it was never started"
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the Emperor itself still runs."""
        return self.process is not None and self.process.poll() is None

    def signal(self, signum: int) -> None:
        """Send it a signal."""
        assert self.process is not None, "it was never started"
        self.process.send_signal(signum)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        assert self.process is not None, "it was never started"
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the Emperor did not end within {timeout:g} s\n{self.last_words()}") from None

    def stop(self, signum: int = SIGTERM, timeout: float = 60.0) -> int:
        """Ask it to end and wait for it; the exit code."""
        self.signal(signum)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL for the Emperor alone, and wait for its end."""
        self.signal(SIGKILL)
        self.wait()

    # What it says

    def cli(
        self, *words: str, timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a client command against this Emperor (by EMPERORCTL_SOCKET); never raises for its exit code."""
        return subprocess.run(
            [command_path("emperorctl"), *words],
            cwd=self.root,
            env=self.environment() | {"EMPERORCTL_SOCKET": str(self.socket)} | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def api(self, method: str, path: str, body: Any = None) -> Answer:
        """One request to the control socket."""
        connection = http.client.HTTPConnection("localhost", timeout=_PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_PATIENCE)
        with contextlib.closing(connection):
            connection.sock.connect(str(self.socket))
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return Answer(response.status, json.loads(text) if is_json else text.decode())

    def get(self, name: str) -> dict[str, Any] | None:
        """One vassal's object; None where there is none."""
        answer = self.api("GET", f"{API}/vassals/{quote(name, safe='')}")
        assert answer.status in {200, 404}, answer
        found: dict[str, Any] = answer.body
        return found if answer.status == 200 else None

    def objects(self) -> dict[str, dict[str, Any]]:
        """Every vassal's object by name."""
        answer = self.api("GET", f"{API}/vassals")
        assert answer.status == 200, answer
        return {item["metadata"]["name"]: item for item in answer.body["items"]}

    def phase(self, name: str) -> str:
        """The STATUS word; empty where there is no such vassal."""
        found = self.get(name)
        return found["status"]["phase"] if found else ""

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        """One condition of a vassal; an empty dictionary where there is none."""
        found = self.get(name)
        conditions = found["status"]["conditions"] if found else []
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def main_pid(self, name: str) -> int | None:
        """The pid of a vassal's process; None while it has none."""
        found = self.get(name)
        processes = found["status"]["processes"] if found else []
        return processes[0]["pid"] if processes else None

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """All events, or those of one vassal."""
        query = "" if name is None else f"?involvedObject={quote(name, safe='')}"
        answer = self.api("GET", f"{API}/events{query}")
        assert answer.status == 200, answer
        items: list[dict[str, Any]] = answer.body["items"]
        return items

    def log(self) -> str:
        """Everything it has printed so far."""
        return self.log_file.read_text(errors="backslashreplace") if self.log_file.exists() else ""

    def last_words(self) -> str:
        """The end of what it printed, for a failure's message."""
        return f"--- the Emperor's last words\n{self.log()[-4000:]}"

    # Waiting

    def wait_for(self, look: Callable[[], T | None], timeout: float = _PATIENCE, what: str = "") -> T:
        """As the function of this name; fails at once, with its last words, when the Emperor is gone."""

        def look_again() -> T | None:
            assert self.running, f"the Emperor is gone ({self.process.poll() if self.process else 'never started'})"
            return look()

        try:
            return wait_for(look_again, timeout, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None

    def wait_phase(self, name: str, *phases: str, timeout: float = _PATIENCE) -> str:
        """Wait until the vassal's STATUS is one of these words."""
        what = f"{name} is {' or '.join(phases)}"
        return self.wait_for(lambda: found if (found := self.phase(name)) in phases else None, timeout, what)

    def wait_condition(
        self, name: str, kind: str, status: str, reason: str | None = None, timeout: float = _PATIENCE
    ) -> dict[str, Any]:
        """Wait until a condition has this status (and reason); the condition."""

        def look() -> dict[str, Any] | None:
            found = self.condition(name, kind)
            right = found.get("status") == status and reason in {None, found.get("reason")}
            return found if right else None

        return self.wait_for(look, timeout, f"{name} has {kind}={status} {reason or ''}")

    def wait_running(self, name: str, *, other_than: int | None = None, timeout: float = _PATIENCE) -> int:
        """Wait until the vassal runs (in another process than that one); its pid."""

        def look() -> int | None:
            pid = self.main_pid(name)
            return pid if pid != other_than and self.phase(name) == "Running" else None

        return self.wait_for(look, timeout, f"{name} runs")

    def wait_absent(self, name: str, timeout: float = _PATIENCE) -> None:
        """Wait until nothing is known under this name any more."""
        self.wait_for(lambda: self.get(name) is None, timeout, f"{name} is forgotten")

    def wait_log(self, text: str, timeout: float = _PATIENCE) -> None:
        """Wait until it has printed this."""
        self.wait_for(lambda: text in self.log(), timeout, f"it prints {text!r}")

    # Files and processes

    def write(self, file: str | Path, text: str | bytes, *, in_place: bool = False) -> Path:
        """A file in `vassals` (or at an absolute path): moved there whole, or written where it stands."""
        target = self.vassals / file
        data = text.encode() if isinstance(text, str) else text
        if in_place:
            target.write_bytes(data)
        else:
            draft = self.root / f"draft-{os.getpid()}"
            draft.write_bytes(data)
            draft.rename(target)
        if self.user is not None:
            os.chown(target, self.user, self.user)
        return target

    def manifest(self, name: str, command: Sequence[str | Path], **spec: Any) -> Path:
        """Write a native manifest NAME.yaml; `spec` holds further fields as they are spelled there."""
        document = {
            "apiVersion": "emperor/v1",
            "kind": "Vassal",
            "spec": {"command": [str(word) for word in command]} | spec,
        }
        return self.write(f"{name}.yaml", json.dumps(document, indent=1))

    def processes(self) -> list[psutil.Process]:
        """Every live process that descends from this Emperor, and every orphan of this test."""
        found = self.household.orphans()
        if self.running:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(self.pid).children(recursive=True)
        return [process for process in found if alive(process.pid)]

    def close(self) -> list[str]:
        """End it in good order; returns what was not in order. Called by the fixture."""
        complaints = []
        if self.running:
            try:
                code = self._end()
                if code != 0:
                    complaints.append(f"exit code {code} after SIGTERM")
            except AssertionError as error:
                complaints.append(str(error))
        if "Traceback (most recent call last)" in self.log() and not self.traceback_expected:
            complaints.append("it printed a traceback")
        if complaints:
            complaints.append(self.last_words())
        return complaints

    def _end(self) -> int:
        """Ask it to end, and again where a vassal takes its time; the exit code."""
        self.signal(SIGTERM)
        try:
            return self.wait(_MERCY)
        except AssertionError:
            return self.stop()

    def remove(self) -> None:
        """Remove its directories."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return self.api("GET", "/healthz").status == 200
        except (OSError, http.client.HTTPException):
            return False
