"""Which format a file is in, and its conversion: the one entrance of this package, called by `emperorctl convert`.

Not in here: any look at the file system, and how manifests and notes are written out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from emperorctl.models.convert.circus import from_circus
from emperorctl.models.convert.draft import Conversion, Given, wrong
from emperorctl.models.convert.procfile import LINE, from_procfile
from emperorctl.models.convert.source_format import SourceFormat
from emperorctl.models.convert.supervisord import from_supervisord
from emperorctl.models.convert.syntax import text_of
from emperorctl.models.convert.systemd import from_systemd
from emperorctl.models.convert.uwsgi_patch import from_uwsgi, is_uwsgi
from emperorctl.models.names import MANIFEST_NAME_MAX
from emperorctl.models.uwsgi import EXTENSIONS

__all__ = ["convert"]


_READERS: dict[SourceFormat, Callable[[Given], Conversion]] = {
    SourceFormat.SUPERVISORD: from_supervisord,
    SourceFormat.CIRCUS: from_circus,
    SourceFormat.PROCFILE: from_procfile,
    SourceFormat.SYSTEMD: from_systemd,
    SourceFormat.UWSGI: from_uwsgi,
}
_HEADERS = (
    (SourceFormat.SUPERVISORD, re.compile(r"^[ \t]*\[(?:supervisord\]|(?:program|group|eventlistener):)", re.M)),
    (SourceFormat.CIRCUS, re.compile(r"^[ \t]*\[(?:watcher:|circus\])", re.M)),
    (SourceFormat.SYSTEMD, re.compile(r"^\[Service\][ \t]*\r?$", re.M)),
    (SourceFormat.UWSGI, re.compile(r"^[ \t]*\[uwsgi\]", re.M)),
)


def convert(given: Given, *, format: SourceFormat | None, taken: set[str]) -> Conversion:
    """What this file comes to. Names already in `taken` are avoided, and those it gives are added.

    Raises ConfigError where the file can't be read, is in no known format, or holds nothing that could be converted.
    """
    found = format or _recognised(given)
    result = _READERS[found](given)
    if not result.converted and not result.problems:
        expected = {
            SourceFormat.SUPERVISORD: "a section [program:NAME]",
            SourceFormat.CIRCUS: "a section [watcher:NAME]",
            SourceFormat.PROCFILE: "a line NAME: COMMAND",
        }
        message = f"there is nothing to convert: expected {expected.get(found, found.value)}"
        raise wrong(given, None, message, "give the file that has it; included files are not followed")
    converted = []
    for one in result.converted:
        name = _free(one.name, taken)
        taken.add(name)
        converted.append(one if name == one.name else one.renamed(name, "another vassal has this name"))
    return replace(result, converted=tuple(converted))


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        ending = f"-{number}"
        free = name[: MANIFEST_NAME_MAX - len(ending)].rstrip("-.") + ending
    return free


def _recognised(given: Given) -> SourceFormat:
    """The format, by the file's name first and by what it holds then."""
    base = given.base
    if base.endswith(".service"):
        return SourceFormat.SYSTEMD
    if base == "Procfile" or base.startswith("Procfile."):
        return SourceFormat.PROCFILE
    text = text_of(given)
    for found, pattern in _HEADERS:
        if pattern.search(text):
            return found
    extension = "." + base.rpartition(".")[2].lower()
    if extension in EXTENSIONS and is_uwsgi(given):
        return SourceFormat.UWSGI
    lines = [line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if extension not in EXTENSIONS and lines and all(LINE.match(line) for line in lines):
        return SourceFormat.PROCFILE
    names = ", ".join(SourceFormat)
    raise wrong(given, None, "is in no format that is known here", f"say which one it is: --from {names}")
