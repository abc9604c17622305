"""One Emperor, whichever it is: `uwsgi --emperor` and `emperorctl run` behind the same verbs.

Scenarios get one as the `court` fixture of `conftest`, first the real one, then ours, and say everything in these
verbs. Both start with the same options, the same environment and the same kind of directory. A vassal file's time of
modification is set, long ago and a second later with every write, so that a scan in whole seconds sees each change.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT, SIGTERM
from typing import Any, ClassVar, TypeVar

import psutil

from e2e.conformance.stage import Puppet, Stage
from e2e.harness import Emperor, Household, alive, command_path, wait_for
from e2e.real_uwsgi import RealEmperor, nobody_sleeps

__all__ = ["Court", "OurCourt", "RealCourt"]

T = TypeVar("T")
_PATIENCE = 30.0
_LONG_AGO = 100_000
"""Seconds before now at which the first file was written."""


class Court(ABC):
    """A directory of vassals and, once started, the Emperor over it."""

    real: ClassVar[bool]
    """Whether it is uWSGI's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.vassals = root / "vassals"
        self.vassals.mkdir(exist_ok=True)
        self.address = root / "stats"
        self._stage: Stage | None = None
        self._stamp = int(time.time()) - _LONG_AGO

    # Its life

    def start(self, *options: str, env: Mapping[str, str] | None = None, puppets: bool = True) -> None:
        """Start it over `vassals`, and wait until its statistics can be had. With `puppets` every vassal is one."""
        wrapper = ["--emperor-wrapper", str(self.stage.wrapper)] if puppets else []
        self._start(["--emperor", str(self.vassals), *wrapper, *options], dict(env or {}))

    def start_from(self, file: Path, env: Mapping[str, str] | None = None) -> None:
        """Start it with `--ini FILE`, which says itself what it reigns over."""
        self._start(["--ini", str(file)], dict(env or {}))

    @property
    @abstractmethod
    def pid(self) -> int:
        """The Emperor's own pid."""

    @abstractmethod
    def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""

    @abstractmethod
    def log(self) -> str:
        """Everything it has printed so far."""

    @abstractmethod
    def close(self) -> list[str]:
        """End everything in good order and remove its directory; returns what was not in order."""

    @abstractmethod
    def _start(self, options: list[str], env: dict[str, str]) -> None: ...

    def signal(self, number: int) -> None:
        """Send the Emperor a signal."""
        os.kill(self.pid, number)

    def stop(self, number: int = SIGTERM) -> int:
        """Ask it to end, and wait for it; the exit code."""
        self.signal(number)
        return self.wait()

    # Its files

    def write(self, file: str | Path, text: str = "[uwsgi]\n") -> int:
        """Write a vassal file, whole and at once; its new time of modification, a second after the last one."""
        draft = self.root / "draft"
        draft.write_text(text)
        self._stamp += 1
        os.utime(draft, (self._stamp, self._stamp))
        draft.rename(self.vassals / file)
        return self._stamp

    def touch(self, file: str, seconds: int = 1) -> int:
        """Give a vassal file another time of modification: so many seconds after the newest one of all, or before."""
        stamp = self._stamp + seconds
        self._stamp = max(self._stamp, stamp)
        os.utime(self.vassals / file, (stamp, stamp))
        return stamp

    def remove(self, file: str) -> None:
        """Remove a vassal file."""
        (self.vassals / file).unlink()

    # What it says

    def raw_stats(self) -> bytes:
        """The statistics document as it comes out of the socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(str(self.address))
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as stream:
                return stream.read()

    def stats(self) -> dict[str, Any]:
        """The statistics document."""
        document: dict[str, Any] = json.loads(self.raw_stats())
        return document

    def all_of(self, name: str) -> list[dict[str, Any]]:
        """The statistics of all vassals with this id."""
        return [vassal for vassal in self.stats()["vassals"] if vassal["id"] == name]

    def vassal(self, name: str) -> dict[str, Any] | None:
        """One vassal's statistics; None where there is none, or where it has no process."""
        return next((vassal for vassal in self.all_of(name) if vassal["pid"] > 0), None)

    def blacklisted(self, name: str) -> dict[str, Any] | None:
        """A name's entry in the blacklist; None where there is none."""
        return next((entry for entry in self.stats()["blacklist"] if entry["id"] == name), None)

    # Waiting

    def wait_for(self, look: Callable[[], T | None], what: str = "") -> T:
        """The first truthy value of `look()`; AssertionError with the Emperor's last words otherwise."""
        try:
            return wait_for(look, _PATIENCE, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- the Emperor's last words\n{self.log()[-4000:]}") from None

    def wait_vassal(self, name: str, **fields: object) -> dict[str, Any]:
        """Wait until a vassal has these values in its statistics; all of them."""

        def look() -> dict[str, Any] | None:
            found = self.vassal(name)
            return found if found and all(found[key] == value for key, value in fields.items()) else None

        return self.wait_for(look, f"{name} has {fields or 'a process'}; last {self.all_of(name)}")

    def wait_absent(self, name: str) -> None:
        """Wait until a vassal has no process in the statistics."""
        self.wait_for(lambda: self.vassal(name) is None, f"{name} has gone")

    def wait_log(self, text: str) -> None:
        """Wait until it has printed this."""
        self.wait_for(lambda: text in self.log(), f"it prints {text!r}")

    def wait_look(self) -> None:
        """Wait until it has certainly looked at its directory again: it has started a vassal made just now."""
        name = f"look-{self._stamp}.ini"
        self.write(name)
        self.wait_puppet(name)

    # Its puppets

    @property
    def stage(self) -> Stage:
        """Where the puppets report; made when first needed."""
        if self._stage is None:
            self._stage = Stage(self.root)
        return self._stage

    def wait_puppet(self, name: str, count: int = 1) -> Puppet:
        """Wait for the count-th puppet of this name, counted from the start of the Emperor."""
        return self.wait_for(
            lambda: found[count - 1] if len(found := self.stage.named(name)) >= count else None,
            f"puppet {count} of {name} is born",
        )

    def subject(self, name: str = "a.ini", *, loyal: bool = False) -> Puppet:
        """Have a vassal file, and wait for its puppet, which has said that it is ready and accepts (and is loyal)."""
        if not (self.vassals / name).exists():
            self.write(name)
        puppet = self.wait_puppet(name)
        puppet.say(1, 5, *([17] if loyal else []))
        self.wait_vassal(name, ready=1, accepting=1, loyal=int(loyal))
        return puppet

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the Emperor's command to its end with these words: `uwsgi …`, or `emperorctl run …`."""
        start = [command_path("uwsgi")] if self.real else [command_path("emperorctl"), "run"]
        return subprocess.run(
            [*start, *words],
            cwd=self.root,
            env=self.environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """What the Emperor is started with: this process's environment without what would lead it astray, and `env`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMPERORCTL_", "UWSGI_", "XDG_", "PYTHON"))}
        kept["PATH"] = f"{command_path('uwsgi').parent}:{kept.get('PATH', '/usr/bin:/bin')}"
        return kept | {"HOME": str(self.root)} | dict(env)


class RealCourt(Court):
    """`uwsgi --emperor`, looking at its directory once a second."""

    real = True

    def __init__(self, household: Household, binary: Path) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="u-", dir="/tmp")))
        self.root.chmod(0o755)
        self._household = household
        self._binary = binary
        self._emperor: RealEmperor | None = None
        self._ending = False

    @property
    def _started(self) -> RealEmperor:
        assert self._emperor is not None, "it was never started"
        return self._emperor

    @property
    def pid(self) -> int:
        return self._started.process.pid

    def signal(self, number: int) -> None:
        if number in {SIGTERM, SIGINT, SIGQUIT} and not self._ending:
            assert nobody_sleeps(self.address), "this could kill the machine"
            self._ending = True
        super().signal(number)

    def wait(self) -> int:
        return self._started.process.wait(_PATIENCE)

    def log(self) -> str:
        return self._emperor.log() if self._emperor else ""

    def _start(self, options: list[str], env: dict[str, str]) -> None:
        self._emperor = RealEmperor(
            self._household, self._binary, "--emperor-freq", "1", *options, root=self.root, env=self.environment(env)
        )

    def close(self) -> list[str]:
        if self._emperor is not None:
            if alive(self.pid):
                # Its vassals die with it; Ragnarok would take two scans and more.
                family = psutil.Process(self.pid).children(recursive=True)
                self.signal(SIGKILL)
                self.wait()
                wait_for(lambda: not any(alive(one.pid) for one in family), _PATIENCE, "its vassals have gone")
            self._emperor.close()
        if self._stage is not None:
            self._stage.close()
        shutil.rmtree(self.root, ignore_errors=True)
        return []


class OurCourt(Court):
    """`emperorctl run`."""

    real = False

    def __init__(self, household: Household) -> None:
        self._emperor = Emperor(household, sources=[])
        super().__init__(self._emperor.root)

    @property
    def pid(self) -> int:
        return self._emperor.pid

    def wait(self) -> int:
        return self._emperor.wait()

    def log(self) -> str:
        return self._emperor.log()

    def _start(self, options: list[str], env: dict[str, str]) -> None:
        # uWSGI 2.0.31 never waits between two spawns, whatever its throttle: nor shall this one, in what is compared.
        self._emperor.options = ["--emperor-stats", str(self.address), "--throttle-burst", "100", *options]
        self._emperor.env = self.environment(env)
        self._emperor.start()

    def close(self) -> list[str]:
        complaints: list[str] = []
        if self._emperor.process is not None:
            for puppet in self._stage.puppets if self._stage else ():
                with contextlib.suppress(OSError):  # it may go this moment
                    puppet.order(stubborn=False)
            complaints = self._emperor.close()
        if self._stage is not None:
            self._stage.close()
        self._emperor.remove()
        return complaints
