"""Vassals that say what they see from inside: a snippet of Python as the program, its words through its log.

Used by the tests of isolation and capabilities. Two users of no importance are taken by number: no host needs them in
its user database.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from e2e.harness import Emperor

__all__ = ["MALLORY", "PYTHON", "TENANT", "launch", "status_line", "told"]

TENANT, MALLORY = 61001, 61002
"""Two tenants."""

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable

_BEFORE = """
import errno, json, os, select, signal, socket, subprocess, sys, time
def attempt(function, *arguments):
    try:
        found = function(*arguments)
        return "done" if found is None else found
    except OSError as error:
        return errno.errorcode[error.errno]
def write(path):
    open(path, "w").close()
def read(path):
    with open(path) as file:
        return file.read()
def descriptors():
    links = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            links[int(name)] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass
    return links
told = {}
"""
_AFTER = """
print("TOLD " + json.dumps(told), flush=True)
while True:
    time.sleep(100)
"""


def launch(emperor: Emperor, name: str, code: str, **spec: Any) -> None:
    """Write the manifest of a vassal that runs this code, which may fill the dictionary `told`, and then stays."""
    emperor.manifest(name, [PYTHON, "-I", "-S", "-c", _BEFORE + code + _AFTER], **spec)


def told(emperor: Emperor, name: str, code: str = "", **spec: Any) -> dict[str, Any]:
    """What the code has told; `name` runs then."""
    launch(emperor, name, code, **spec)
    emperor.wait_running(name)
    log = emperor.logs / f"{name}.log"

    def look() -> dict[str, Any] | None:
        text = log.read_text(errors="replace") if log.exists() else ""
        lines = [line for line in text.splitlines() if line.startswith("TOLD ")]
        assert "Traceback" not in text, text
        found: dict[str, Any] | None = json.loads(lines[-1][5:]) | {"": None} if lines else None
        return found

    return emperor.wait_for(look, what=f"{name} tells what it sees")


def status_line(pid: int, key: str) -> str:
    """One line of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith(f"{key}:"):
                return line.partition(":")[2].strip()
    return ""
