"""docs/coming-from-uwsgi.md, done as it is written: its files, its commands, real uWSGI first and then ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import Household, alive, wait_for
from e2e.real_uwsgi import nobody_sleeps
from e2e.walkthrough import Command, Page, shows

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-uwsgi.md"
PLACES = ("/etc/uwsgi", "/run", "/srv")
"""What lies under a temporary directory here."""

_PATIENCE = 60.0
# They change nothing: they are asked again until they print what the page shows.
_READERS = ("emperorctl get", "emperorctl logs", "emperorctl events", "emperorctl stats", "emperorctl describe", "curl",
            "cat", "uwsgi --connect-and-read")  # fmt: skip
_STAY = ("uwsgi --ini", "emperorctl run")


class Terminals:
    """Who types the page's commands: one terminal for each that stays, and one for all others."""

    def __init__(self, household: Household, root: Path) -> None:
        self.household = household
        self.root = root
        self.env = {
            k: v for k, v in os.environ.items() if not k.startswith(("EMPERORCTL_", "UWSGI_", "XDG_", "PYTHON"))
        }
        self.env |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(root),
            # Where they are by default is no place for a test.
            "EMPERORCTL_SOCKET": str(root / "control"),
            "EMPERORCTL_STATE_DIR": str(root / "state"),
            "EMPERORCTL_LOG_DIR": str(root / "logs"),
        }
        self._usual = dict(self.env)
        self._stay: list[tuple[subprocess.Popen[bytes], Path]] = []

    def type(self, command: Command) -> None:
        """Run one command, and see that it prints what the page shows."""
        verb, _, rest = command.words.partition(" ")
        if verb == "export":
            name, _, value = rest.partition("=")
            self.env[name] = value
        elif verb == "unset":
            self.env[rest] = self._usual[rest]
        elif command.words.startswith(_STAY) and "--connect" not in command.words:
            self._start(command)
        else:
            self._run(command)

    def _start(self, command: Command) -> None:
        log = self.root / f"terminal-{len(self._stay)}"
        with log.open("wb") as out:
            process = self.household.spawn(
                ["sh", "-c", f"exec {command.words}"],
                cwd=self.root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._stay.append((process, log))

        def ready() -> bool:
            assert process.poll() is None, f"$ {command.words}\n{log.read_text(errors='replace')}"
            return not shows(command.shown, log.read_text(errors="replace"))

        try:
            wait_for(ready, _PATIENCE, f"$ {command.words} prints {command.shown}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text(errors='replace')}") from None

    def _run(self, command: Command) -> None:
        if command.words.startswith("kill -INT "):
            assert nobody_sleeps(self.root / "run/uwsgi/stats.sock"), "this could kill the machine"
        again = command.words.startswith(_READERS)
        deadline = time.monotonic() + _PATIENCE
        while True:
            done = subprocess.run(
                ["sh", "-c", command.words],
                cwd=self.root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
            missing = shows(command.shown, done.stdout)
            if not missing:
                break
            said = f"$ {command.words}\n{done.stdout}\n--- is shown with: {missing}\n{self.last_words()}"
            assert again and time.monotonic() < deadline, said
            time.sleep(0.1)
        expected = int(any(line.startswith("error: ") for line in command.shown))
        assert done.returncode == expected, f"$ {command.words}\n{done.stdout}\n{self.last_words()}"
        if command.words.startswith("kill "):
            self._await_end()

    def _await_end(self) -> None:
        """Wait for the end of whoever was told to end: the one that was started last among those still running."""
        process, log = next(one for one in reversed(self._stay) if one[0].returncode is None)
        assert wait_for(lambda: not alive(process.pid), _PATIENCE, "it ends when it is told to")
        assert process.wait() == 0, log.read_text(errors="replace")[-4000:]

    def last_words(self) -> str:
        """The end of what the newest Emperor printed."""
        return self._stay[-1][1].read_text(errors="replace")[-3000:] if self._stay else ""


@pytest.fixture
def root() -> Iterator[Path]:
    """A short path: sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="m-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.timeout(300)
def test_the_page_is_done_as_it_is_written(
    household: Household, root: Path, uwsgi_python: Path, uwsgi_formats: frozenset[str]
) -> None:
    if missing := {"xml", "yaml"} - uwsgi_formats:
        pytest.skip(f"this uwsgi was built without {', '.join(sorted(missing))}")
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    page = Page(PAGE, root, PLACES)
    assert len(page.files) > 10 and len(page.commands) > 40
    (root / "run" / "uwsgi").mkdir(parents=True)
    for path, text in page.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    terminals = Terminals(household, root)
    for command in page.commands:
        terminals.type(command)


def test_what_is_compared() -> None:
    """The comparison finds what is missing, in the wrong order or another word; numbers and blanks do not count."""
    printed = "NAME   READY\nshop.ini   0/1   Running 3s\nblog   1/1\n"
    assert shows(("NAME READY", "shop.ini 1/1 Running 12s"), printed.replace("3s", "1m3s")) == ""
    assert shows(("blog 1/1", "shop.ini 1/1"), printed) == "shop.ini 1/1"
    assert shows(("shop.ini 1/1 Stopped",), printed) == "shop.ini 1/1 Stopped"
    assert shows(("wiki",), printed) == "wiki"
