"""The hooks of the whole Emperor."""

from __future__ import annotations

import os
from pathlib import Path
from signal import SIGKILL

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario

_WITNESS = """#!/bin/sh
echo "$(basename "$0") $# $1 $(id -u) $PWD $UWSGI_VASSALS_DIR" >> {diary}
exit 3
"""


class Witnesses:
    """Two hooks that write down how they were run, and fail."""

    def __init__(self, court: Court) -> None:
        self.court = court
        self.diary = court.root / "diary"
        self.diary.touch()
        self.start, self.stop = (self._script(name) for name in ("start", "stop"))
        self.options = ("--vassals-start-hook", str(self.start), "--vassals-stop-hook", str(self.stop))

    def _script(self, name: str) -> Path:
        path = self.court.root / name
        path.write_text(_WITNESS.format(diary=self.diary))
        path.chmod(0o755)
        return path

    def lines(self) -> list[str]:
        """What they have written."""
        return self.diary.read_text().splitlines()

    def wait(self, count: int) -> None:
        """Wait until so many hooks have been run."""
        self.court.wait_for(lambda: len(self.lines()) >= count, f"{count} hooks have been run")

    def expected(self, *hooks: str) -> list[str]:
        """What the two write when they are run in this order for a.ini."""
        directory = self.court.vassals.resolve()
        return [f"{hook} 1 a.ini {os.geteuid()} {directory} {directory}" for hook in hooks]


@scenario(
    "vassals-start-hook and vassals-stop-hook: a vassal comes, is killed, comes again, and its file is removed",
    uwsgi="one argument, the vassal's name; in the vassals' directory, with UWSGI_VASSALS_DIR; the start hook before"
    " each start, the stop hook after each end, a death included; exit codes are ignored. The Emperor stands still"
    " meanwhile",
    emperorctl="the same, but a failure is a warning, each has five minutes, and the Emperor goes on",
    why="one hook that hangs would stop everything",
)
def test_around_a_life(court: Court) -> None:
    hooks = Witnesses(court)
    court.start(*hooks.options)
    puppet = court.subject(loyal=True)
    assert hooks.lines() == hooks.expected("start")
    os.kill(puppet.pid, SIGKILL)
    again = court.wait_puppet("a.ini", 2)
    assert hooks.lines() == hooks.expected("start", "stop", "start")
    court.remove("a.ini")
    again.wait_gone()
    hooks.wait(4)
    assert hooks.lines() == hooks.expected("start", "stop", "start", "stop")


@scenario(
    "vassals-start-hook: the vassal's environment",
    uwsgi="UWSGI_VASSALS_DIR stays in it",
    emperorctl="it is the hook's alone",
    why="a vassal's environment does not depend on hooks",
)
def test_environment(court: Court) -> None:
    hooks = Witnesses(court)
    court.start(*hooks.options)
    assert ("UWSGI_VASSALS_DIR" in court.subject().env) == court.real


@scenario(
    "vassals-start-hook: a value with a space in it",
    uwsgi="the name of one program, which is not found; the vassal is started all the same",
)
def test_not_a_command_line(court: Court) -> None:
    hooks = Witnesses(court)
    court.start("--vassals-start-hook", f"{hooks.start} word")
    court.subject()
    assert hooks.lines() == []


@scenario(
    "SIGTERM with a vassals-stop-hook given",
    uwsgi="nobody is told to stop; all get SIGKILL after the mercy",
    emperorctl="byte 0 to all, as ever, and the hook is run",
    why="a list pointer that is at its end is no reason to kill anybody",
)
def test_ragnarok(court: Court) -> None:
    hooks = Witnesses(court)
    court.start(*hooks.options, "--reload-mercy", "3")
    puppet = court.subject(loyal=True)
    assert court.stop() == 0
    assert puppet.bytes == ([] if court.real else [0])
    if not court.real:
        assert hooks.lines() == hooks.expected("start", "stop")
