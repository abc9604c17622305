"""uWSGI's magic variables: `%n` and its like, expanded in the strings of a native manifest.

Called by `expansion` and `patches`; uWSGI expands its own files itself. What each stands for was compared with uWSGI
2.0.31:
`%d` ends with a slash, `%e` has no dot, `%1` of a short path is empty, `%j` is the hash's bytes in memory order.
One difference: uWSGI drops what it does not know, here it is an error. Not in here: any I/O (whoever calls says what
the file and the machine are), and a manifest's other placeholders (`expansion`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.names import printable

__all__ = ["VARIABLES", "Lazy", "Place", "Reader", "expand", "value_of"]

Lazy = str | Callable[[], str]
"""A value, or how to get it when some file first asks for it."""
Reader = Callable[[str], str]
"""How to get what has this name. Raises ConfigError, without a place."""

VARIABLES = {
    "o": "the file's name as the source gave it",
    "p": "its absolute path",
    "s": "its name without the directory",
    "d": "its directory, with a slash at the end",
    "e": "its extension, without the dot",
    "n": "its name without the extension",
    "c": "the name of its directory",
    "0": "the first part of its directory's path; %1 to %9 the following ones",
    "v": "the vassals directory",
    "h": "the host's name",
    "V": "the Emperor's version",
    "t": "Unix time in seconds",
    "T": "Unix time in microseconds",
    "i": "the file's inode",
    "k": "the number of CPUs",
    "u": "the Emperor's user id",
    "U": "the Emperor's user",
    "g": "the Emperor's group id",
    "G": "the Emperor's group",
    "j": "a hash of its absolute path",
    "x": "nothing: a manifest has no sections",
    "%": "a percent sign",
}
"""Every variable and what it stands for. The capitals of o p s d e n c i j x mean the same as the small letters,
since there are no template files."""

_CAPITALS = {name.upper(): name for name in "opsdencijx"}
_VARIABLE = re.compile(r"%(.?)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a manifest lies, and what its machine and its Emperor are called.

    `name` is the name as the source gave it, `path` the absolute path. `time` is in Unix seconds, and should be that
    of the Emperor's start: a value that differs at every look would replace the process at every touch.
    `environment` reads a variable, `content` a file, which may be relative to the manifest's directory; None where
    that is not allowed.
    """

    name: str
    path: str
    vassals_dir: str
    hostname: Lazy = ""
    version: Lazy = ""
    inode: Lazy = ""
    cores: Lazy = ""
    uid: Lazy = ""
    user: Lazy = ""
    gid: Lazy = ""
    group: Lazy = ""
    time: float | Callable[[], float] = 0.0
    environment: Reader | None = None
    content: Reader | None = None


def expand(text: str, place: Place) -> str:
    """The text with every variable replaced, once. Raises ConfigError, without a place, on an unknown one."""
    if "%" not in text:
        return text
    return _VARIABLE.sub(lambda match: value_of(match[1], place), text)


def value_of(variable: str, place: Place) -> str:
    """What one letter stands for. Raises ConfigError, without a place, where it is none of `VARIABLES`."""
    directory, _, file = place.path.rpartition("/")
    stem, dot, extension = file.rpartition(".")
    match _CAPITALS.get(variable, variable):
        case "%":
            return "%"
        case "o":
            return place.name
        case "p":
            return place.path
        case "s":
            return file
        case "d":
            return directory + "/"
        case "e":
            return extension if dot else ""
        case "n":
            return stem if dot else file
        case "c":
            return directory.rpartition("/")[2]
        case "j":
            return _hash(place.path)
        case "v":
            return place.vassals_dir
        case "t":
            return str(int(_seconds(place)))
        case "T":
            return str(int(_seconds(place) * 1_000_000))
        case "x":
            return ""
        case digit if digit and digit in "0123456789":
            parts = directory.split("/")[1:]
            return parts[int(digit)] if int(digit) < len(parts) else ""
        case other if other and other in "hVikuUgG":
            return _fact(other, place)
    raise _unknown(variable)


def _seconds(place: Place) -> float:
    return place.time() if callable(place.time) else place.time


def _fact(variable: str, place: Place) -> str:
    lazy = {
        "h": place.hostname,
        "V": place.version,
        "i": place.inode,
        "k": place.cores,
        "u": place.uid,
        "U": place.user,
        "g": place.gid,
        "G": place.group,
    }[variable]
    return lazy() if callable(lazy) else lazy


def _hash(path: str) -> str:
    """Bernstein's hash (the xor form) of the path's bytes, printed byte by byte from the lowest."""
    value = 5381
    for byte in path.encode(errors="surrogateescape"):
        value = (value * 33 & 0xFFFFFFFF) ^ byte
    return value.to_bytes(4, "little").hex().upper()


def _unknown(variable: str) -> ConfigError:
    if not variable:
        return ConfigError(Problem("UnknownVariable", "a lone % at the end", "write %% for a percent sign"))
    if variable == "(":
        message = "%( begins a placeholder that is not known here"
        return ConfigError(Problem("UnknownVariable", message, "write the value out, or %% for a percent sign"))
    known = " ".join(f"%{name}" for name in VARIABLES)
    remedy = f"write %% for a percent sign; known are {known}"
    return ConfigError(Problem("UnknownVariable", f"the variable %{printable(variable)} is not known", remedy))
