"""The real uWSGI Emperor for a test, to compare with. Used through the `real_emperor` fixture of `conftest`."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any

from e2e.harness import Household, wait_for

__all__ = ["RealEmperor", "nobody_sleeps"]

_PATIENCE = 20.0


def nobody_sleeps(address: Path) -> bool:
    """Whether the real Emperor with these statistics may be told to end.

    With an on-demand vassal asleep it may not: that one's pid is -1, and when the mercy is over uWSGI 2.0.31 sends
    SIGKILL to the pid of every vassal that it still knows. To pid -1 means: to every process that it may kill, for root
    all of them.
    """
    return all(vassal["pid"] > 0 for vassal in _stats(address)["vassals"])


def _stats(address: Path) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(str(address))
        with connection.makefile("rb") as stream:
            document: dict[str, Any] = json.loads(stream.read())
            return document


class RealEmperor:
    """`uwsgi --emperor DIR`, for comparison. Made by the `real_emperor` fixture, which ends it."""

    def __init__(
        self,
        household: Household,
        binary: Path,
        *options: str,
        vassals: Path | None = None,
        root: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """With `root`, a directory of its own, the options say themselves what it reigns over."""
        self.root = root or Path(tempfile.mkdtemp(prefix="u-", dir="/tmp"))
        self.vassals = vassals or self.root / "vassals"
        self.vassals.mkdir(exist_ok=True)
        self.log_file = self.root / "uwsgi.log"
        self._stats = self.root / "stats"
        source: list[str | Path] = [] if root else ["--emperor", self.vassals]
        command: list[str | Path] = [binary, *source, "--emperor-stats", self._stats, *options]
        with self.log_file.open("wb") as log:
            self.process = household.spawn(
                command, cwd=self.root, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(self._stats.exists, what=f"uwsgi --emperor answers\n{self.log()}")

    def log(self) -> str:
        """Everything it and its vassals have printed so far."""
        return self.log_file.read_text(errors="backslashreplace")

    def stats(self) -> dict[str, Any]:
        """Its statistics document."""
        return _stats(self._stats)

    def vassal(self, name: str) -> dict[str, Any] | None:
        """One vassal's part of the statistics; None where there is none."""
        return next((vassal for vassal in self.stats()["vassals"] if vassal["id"] == name), None)

    def close(self) -> None:
        """End it: Ragnarok first, SIGKILL when it takes too long (the household ends the rest)."""
        if self.process.poll() is None:
            self.process.send_signal(SIGINT if nobody_sleeps(self._stats) else SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        shutil.rmtree(self.root, ignore_errors=True)
