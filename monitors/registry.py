"""Which monitor serves which address: one entry for each scheme.

Called by the command line's composition root with what the person wrote: `dir://PATH`, `glob://PATTERN`, a plain path
or a plain pattern. Settings of a source stand behind its scheme, where no path or pattern can be: `cwd` is the
directory in which its vassals are run that do not say otherwise, as in `glob,cwd=/srv:///srv/*/vassal.ini`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from typing import NamedTuple

from emperorctl.models.errors import UserError
from emperorctl.models.names import printable
from emperorctl.monitors.base import Monitor, MonitorContext
from emperorctl.monitors.directory import open_directory
from emperorctl.monitors.globbing import open_glob
from emperorctl.monitors.layout import has_wildcards

__all__ = ["ABOUT", "SCHEMES", "SourceText", "open_source", "split_source"]

SCHEMES: dict[str, Callable[[str, MonitorContext, str | None], Monitor]] = {"dir": open_directory, "glob": open_glob}
"""How to open what follows `SCHEME://`."""

ABOUT: dict[str, str] = {
    "dir": "dir://DIRECTORY, or DIRECTORY: every config file that lies in it",
    "glob": "glob://PATTERN, or PATTERN: every config file whose path fits",
}
"""What each scheme is, in a line for people."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)((?:,[^,]*?)*)://", re.DOTALL)
_SETTINGS = ("cwd",)


class SourceText(NamedTuple):
    """A source as it was written: its scheme, what follows it, and its setting `cwd` (absolute, None for the usual)."""

    scheme: str
    path: str
    cwd: str | None = None


def split_source(text: str) -> SourceText:
    """The parts of a source; raises UserError where it names no scheme, path or setting that is known."""
    match = _SCHEME.match(text)
    scheme, settings, rest = (match[1].lower(), match[2], text[match.end() :]) if match else ("", "", text)
    if not rest or "\0" in text:
        raise UserError(f'the source "{printable(text)}" names no path; give a directory such as /etc/vassals')
    if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise UserError(f'the source "{printable(text)}" is not UTF-8; rename the directory')
    if not scheme:
        return SourceText("glob" if has_wildcards(rest) else "dir", rest)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        close = difflib.get_close_matches(scheme, SCHEMES, 1)
        hint = f'; did you mean "{close[0]}{printable(settings)}://{printable(rest)}"?' if close else ""
        raise UserError(f'the source "{printable(text)}" has an unknown scheme; known are {known}{hint}')
    return SourceText(scheme, rest, _cwd(text, settings))


def _cwd(text: str, settings: str) -> str | None:
    found: dict[str, str] = {}
    for setting in settings.split(",")[1:]:
        name, _, value = setting.partition("=")
        if name not in _SETTINGS or not value or name in found:
            known = ", ".join(f"{name}=DIRECTORY" for name in _SETTINGS)
            raise UserError(
                f'the source "{printable(text)}" has the setting "{printable(setting)}";'
                f" expected each at most once of: {known}"
            )
        found[name] = value
    return os.path.abspath(found["cwd"]) if "cwd" in found else None


def open_source(text: str, context: MonitorContext) -> Monitor:
    """The monitor for a source as a person wrote it. Raises UserError; a path that is missing is no error."""
    source = split_source(text)
    return SCHEMES[source.scheme](source.path, context, source.cwd)
