"""Which monitor serves which address: one entry for each scheme.

Called by the command line's composition root with what the person wrote: `dir://PATH`, `glob://PATTERN`, a plain path
or a plain pattern.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from emperorctl.models.errors import UserError
from emperorctl.models.names import printable
from emperorctl.monitors.base import Monitor, MonitorContext
from emperorctl.monitors.directory import open_directory
from emperorctl.monitors.globbing import open_glob
from emperorctl.monitors.layout import has_wildcards

__all__ = ["ABOUT", "SCHEMES", "open_source", "split_source"]

SCHEMES: dict[str, Callable[[str, MonitorContext], Monitor]] = {"dir": open_directory, "glob": open_glob}
"""How to open what follows `SCHEME://`."""

ABOUT: dict[str, str] = {
    "dir": "dir://DIRECTORY, or DIRECTORY: every config file that lies in it",
    "glob": "glob://PATTERN, or PATTERN: every config file whose path fits",
}
"""What each scheme is, in a line for people."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def split_source(text: str) -> tuple[str, str]:
    """The scheme of a source and what follows it; raises UserError where it names none that is known."""
    match = _SCHEME.match(text)
    scheme, rest = (match[1].lower(), text[match.end() :]) if match else ("", text)
    if not rest or "\0" in rest:
        raise UserError(f'the source "{printable(text)}" names no path; give a directory such as /etc/vassals')
    if any(0xD800 <= ord(char) <= 0xDFFF for char in rest):
        raise UserError(f'the source "{printable(text)}" is not UTF-8; rename the directory')
    if not scheme:
        return ("glob" if has_wildcards(rest) else "dir"), rest
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        close = difflib.get_close_matches(scheme, SCHEMES, 1)
        hint = f'; did you mean "{close[0]}://{printable(rest)}"?' if close else ""
        raise UserError(f'the source "{printable(text)}" has an unknown scheme; known are {known}{hint}')
    return scheme, rest


def open_source(text: str, context: MonitorContext) -> Monitor:
    """The monitor for a source as a person wrote it. Raises UserError; a path that is missing is no error."""
    scheme, rest = split_source(text)
    return SCHEMES[scheme](rest, context)
