"""What has to survive the Emperor: the names that a person has stopped. One small JSON file, written atomically.

Called by the emperor facade when an order changes it, and read once at start. A file that can't be read as it should
be is put aside, never half believed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable

__all__ = ["StateFile"]

_VERSION = 1
_LIMIT = 16 * 1024 * 1024


class StateFile:
    """The file at `path`, in a directory that belongs to the Emperor's user alone."""

    def __init__(self, path: str) -> None:
        self.path = path

    def load(self) -> tuple[frozenset[str], str]:
        """The suspended names, and a complaint (empty when all is well). Never raises for what the file holds."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return frozenset(), ""
        except OSError as error:
            return frozenset(), f"{self.path}: {error.strerror}: starting without it"
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return frozenset(), f"{self.path}: not a regular file: starting without it"
            data = file.read(_LIMIT + 1)
        try:
            return _names(data), ""
        except (ValueError, RecursionError) as error:
            aside = f"{self.path}.broken"
            try:
                os.replace(self.path, aside)
            except OSError:
                aside = self.path
            return frozenset(), f"{self.path}: {error}: put aside as {aside}, starting without it"

    def save(self, suspended: Iterable[str]) -> None:
        """Write the names. Raises OSError; the old file is then untouched."""
        data = json.dumps({"version": _VERSION, "suspended": sorted(suspended)}, indent=1).encode()
        fresh = f"{self.path}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self.path)
        except OSError:
            try:
                os.unlink(fresh)
            except OSError:
                pass
            raise
        directory = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _names(data: bytes) -> frozenset[str]:
    """The names in a state file's content. Raises ValueError, saying what is wrong."""
    if len(data) > _LIMIT:
        raise ValueError("too large")
    whole = json.loads(data)
    if not isinstance(whole, dict) or whole.get("version") != _VERSION:
        raise ValueError(f"not a state file of version {_VERSION}")
    names = whole.get("suspended")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("suspended: expected a list of names")
    return frozenset(names)
