"""Tenants for the tests of tyrant mode: user ids that no passwd entry has, their directories, files and processes.

No user is created on the machine: numbers are enough for files and processes. Needs root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.harness import Emperor

__all__ = [
    "ALICE",
    "BOB",
    "CAROL",
    "Make",
    "chown",
    "home",
    "identity_of",
    "ini",
    "listener",
    "manifest",
    "put",
    "reason",
]

Make = Callable[..., Emperor]

ALICE, BOB, CAROL = 731_001, 731_002, 731_003
"""Uids, and the gids of the same numbers."""

_LISTENER = """#!/bin/sh
# Stands in for uwsgi: says who it is, obeys the emperor protocol.
echo "words of $(id -u)"
while byte=$(head -c1 <&$UWSGI_EMPEROR_FD | od -An -tu1) && [ -n "$byte" ]; do
    case $byte in
    *1) echo "reload in $(id -u)"; printf '\\001\\005' >&$UWSGI_EMPEROR_FD;;
    *) exit 0;;
    esac
done
"""


def listener(emperor: Emperor) -> str:
    """The option that puts a small program of every tenant's in uwsgi's place."""
    program = emperor.root / "listener"
    program.write_text(_LISTENER)
    program.chmod(0o755)
    return f"--emperor-wrapper={program}"


def ini(comment: str = "") -> str:
    """A uWSGI config."""
    return f"[uwsgi]\nmaster = true\n# {comment}\n"


def manifest(*command: str, name: str | None = None, **spec: Any) -> str:
    """A native manifest."""
    document: dict[str, Any] = {"apiVersion": "emperor/v1", "kind": "Vassal"}
    if name is not None:
        document["metadata"] = {"name": name}
    return json.dumps(document | {"spec": {"command": list(command or ("/bin/sleep", "1000"))} | spec})


def chown(path: Path, uid: int, gid: int | None = None) -> Path:
    """Give an entry, a link too, to this tenant."""
    os.chown(path, uid, uid if gid is None else gid, follow_symlinks=False)
    return path


def put(path: Path, text: str, uid: int, *, gid: int | None = None, mode: int = 0o644) -> Path:
    """A file of this tenant's, there at once and as a whole."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    chown(draft, uid, gid)
    draft.chmod(mode)
    draft.rename(path)
    return path


def home(emperor: Emperor, name: str, uid: int, *, mode: int = 0o755) -> Path:
    """A directory of this tenant's, below `homes`, which is root's."""
    path = emperor.root / "homes" / name
    path.mkdir(parents=True)
    path.chmod(mode)
    return chown(path, uid)


def identity_of(pid: int) -> tuple[set[int], set[int], list[int]]:
    """All uids, all gids and the supplementary groups of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    uids, gids, groups = (
        [int(word) for word in re.search(rf"^{key}:(.*)$", text, re.MULTILINE)[1].split()]  # type: ignore[index]
        for key in ("Uid", "Gid", "Groups")
    )
    return set(uids), set(gids), groups


def reason(emperor: Emperor, name: str) -> str:
    """Why the newest content of a vassal's file is not accepted; empty where it is."""
    found = emperor.condition(name, "Accepted")
    return found["reason"] if found and found["status"] == "False" else ""


def wipe(path: Path) -> None:
    """Remove a directory with all that is in it."""
    shutil.rmtree(path)
