"""The managers under comparison, each behind the same few verbs: write files, start, touch, remove, add, end.

Called by `measure`. A contender knows its own file formats and commands; it measures nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

from benchmarks.kernel import end_children, kill_and_wait

__all__ = ["CONTENDERS", "Contender", "Emperorctl", "EmperorctlIni", "Supervisord", "Uwsgi", "Workshop", "installed"]

_LONG_AGO = 1000.0


def installed(command: str) -> Path:
    """A command of the environment this interpreter belongs to."""
    return Path(sys.executable).with_name(command)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where a contender works: its own directory, the vassal's program, the socket that vassals report to."""

    directory: Path
    program: Path
    inbox: Path


class Contender(ABC):
    """One manager. `jitter` is the longest pause between two trials in seconds: they fall anywhere in its scan."""

    title = ""
    key = ""
    needs = ""
    jitter = 0.05
    most_vassals = 100_000

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.vassals = shop.directory / "vassals"
        self.vassals.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def name(self, number: int) -> str:
        """What vassal `number` is called in its reports."""

    @abstractmethod
    def file(self, name: str) -> Path:
        """The file that asks for this vassal."""

    @abstractmethod
    def text(self, name: str) -> str:
        """What is in that file."""

    @abstractmethod
    def command(self) -> list[str]:
        """How the manager is started."""

    @classmethod
    def available(cls) -> bool:
        """Whether its commands are installed."""
        return installed(cls.needs).exists()

    @classmethod
    def version(cls) -> str:
        """Its version, for the table's head."""
        done = subprocess.run([installed(cls.needs), "--version"], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def write(self, name: str) -> None:
        """Put the vassal's file there in one move."""
        target = self.file(name)
        draft = self.shop.directory / "draft"
        draft.write_text(self.text(name))
        draft.rename(target)

    def prepare(self, names: list[str]) -> None:
        """Write every file, dated some time ago."""
        for name in names:
            target = self.file(name)
            target.write_text(self.text(name))
            stat = target.stat()
            os.utime(target, (stat.st_atime - _LONG_AGO, stat.st_mtime - _LONG_AGO))

    def start(self) -> None:
        """Start the manager on what was prepared."""
        with (self.shop.directory / "manager.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.shop.directory,
                env=os.environ | {"BENCH_SOCKET": str(self.shop.inbox)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def touch(self, name: str) -> None:
        """Order this vassal to reload, the way that people do it."""
        os.utime(self.file(name))

    def remove(self, name: str) -> None:
        """Take this vassal away."""
        self.file(name).unlink()

    def add(self, name: str) -> None:
        """Bring it back."""
        self.write(name)

    def status_command(self) -> list[str] | None:
        """What prints a table of all vassals."""
        return None

    def help_command(self) -> list[str] | None:
        """What prints the help of its client."""
        return None

    def manager_pids(self) -> list[int]:
        """Every process of the manager: all that it is made of except its vassals."""
        assert self.process is not None
        main = psutil.Process(self.process.pid)
        program = str(self.shop.program)
        helpers = [child.pid for child in main.children(recursive=True) if child.exe() != program]
        return [main.pid, *helpers]

    def end(self) -> None:
        """End the manager and everything it started, without asking."""
        if self.process is not None:
            kill_and_wait(self.process)
        end_children()

    def last_words(self) -> str:
        """The end of the manager's output, for the report of a failure."""
        log = self.shop.directory / "manager.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""


class Emperorctl(Contender):
    """The Emperor with native manifests: reload by SIGHUP, output captured."""

    title = "emperorctl"
    key = "emperorctl"
    needs = "emperorctl"

    def name(self, number: int) -> str:
        return f"v{number:05d}"

    def file(self, name: str) -> Path:
        return self.vassals / f"{name}.yaml"

    reload = "{signal: SIGHUP}"
    env: Mapping[str, str] = MappingProxyType({})
    options: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        env = "".join(f', {key}: "{value}"' for key, value in self.env.items())
        return (
            "apiVersion: emperor/v1\n"
            "kind: Vassal\n"
            "spec:\n"
            f'  command: ["{self.shop.program}", "%n"]\n'
            f'  env: {{BENCH_SOCKET: "{self.shop.inbox}"{env}}}\n'
            f"  reload: {self.reload}\n"
            "  loyalty: {after: 1s}\n"
        )

    def command(self) -> list[str]:
        places = [f"--{place}={self.shop.directory / name}" for place, name in _PLACES]
        return [str(installed("emperorctl")), "run", *places, *self.options, str(self.vassals)]

    @classmethod
    def version(cls) -> str:
        return ""

    def status_command(self) -> list[str] | None:
        return [str(installed("emperorctl")), "--socket", str(self.shop.directory / "s"), "get", "vassals"]

    def help_command(self) -> list[str] | None:
        return [str(installed("emperorctl")), "--help"]


_PLACES = (("socket", "s"), ("state-dir", "state"), ("log-dir", "logs"))


class EmperorctlIni(Emperorctl):
    """The Emperor with uWSGI configs and a wrapper: the very directory that real uWSGI gets."""

    title = "emperorctl (.ini)"
    key = "emperorctl-ini"

    def name(self, number: int) -> str:
        return f"v{number:05d}.ini"

    def file(self, name: str) -> Path:
        return self.vassals / name

    def text(self, name: str) -> str:
        return "[uwsgi]\nmaster = true\n"

    def command(self) -> list[str]:
        return [*super().command(), "--emperor-wrapper", str(self.shop.program)]


class Uwsgi(Contender):
    """The real Emperor, with the vassal's program in the place of uWSGI."""

    title = "uWSGI"
    key = "uwsgi"
    needs = "uwsgi"
    jitter = 3.0

    def name(self, number: int) -> str:
        return f"v{number:05d}.ini"

    def file(self, name: str) -> Path:
        return self.vassals / name

    def text(self, name: str) -> str:
        return "[uwsgi]\nmaster = true\n"

    def command(self) -> list[str]:
        return [str(installed("uwsgi")), "--emperor", str(self.vassals), "--emperor-wrapper", str(self.shop.program)]


class Supervisord(Contender):
    """supervisord with one included file for each program; touch, remove and add are its commands.

    Its start grows with the square of the number of programs: it is left out of the largest runs.
    """

    title = "supervisord"
    key = "supervisord"
    needs = "supervisord"
    jitter = 1.0
    most_vassals = 1000

    def name(self, number: int) -> str:
        return f"v{number:05d}"

    def file(self, name: str) -> Path:
        return self.vassals / f"{name}.conf"

    def text(self, name: str) -> str:
        return f"[program:{name}]\ncommand={self.shop.program} {name}\nredirect_stderr=true\n"

    def prepare(self, names: list[str]) -> None:
        super().prepare(names)
        here = self.shop.directory
        (here / "logs").mkdir()
        (here / "supervisord.conf").write_text(
            "[unix_http_server]\n"
            f"file={here}/s\n"
            "[supervisord]\n"
            f"logfile={here}/supervisord.log\n"
            f"pidfile={here}/supervisord.pid\n"
            f"childlogdir={here}/logs\n"
            f"minfds={len(names) * 4 + 1000}\n"
            "nodaemon=true\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            "[supervisorctl]\n"
            f"serverurl=unix://{here}/s\n"
            "[include]\n"
            f"files = {self.vassals}/*.conf\n"
        )

    def command(self) -> list[str]:
        return [str(installed("supervisord")), "-n", "-c", str(self.shop.directory / "supervisord.conf")]

    def touch(self, name: str) -> None:
        self._control("signal", "HUP", name)

    def remove(self, name: str) -> None:
        super().remove(name)
        self._control("update")

    def add(self, name: str) -> None:
        super().add(name)
        self._control("update")

    def status_command(self) -> list[str] | None:
        return [str(installed("supervisorctl")), "-c", str(self.shop.directory / "supervisord.conf"), "status"]

    def _control(self, *words: str) -> None:
        config = str(self.shop.directory / "supervisord.conf")
        subprocess.run([installed("supervisorctl"), "-c", config, *words], check=True, stdout=subprocess.DEVNULL)


CONTENDERS: tuple[type[Contender], ...] = (Emperorctl, EmperorctlIni, Uwsgi, Supervisord)
