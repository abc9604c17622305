"""The files that are passed to every uWSGI vassal: looked through once, at the start, for includes that never end.

Called by the command line's composition root. uWSGI reads an include for as long as there is one, until its stack or
the machine's memory is full, in every vassal at once. Only what the Emperor was given and what that names is opened,
never what a vassal's own config names: that may be a stranger's. What can't be read or understood is left to uWSGI,
which says so in each vassal. Not in here: the arguments themselves (`models.uwsgi_run`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from emperorctl.models.errors import ConfigError, UserError
from emperorctl.models.magic import Place
from emperorctl.models.names import printable
from emperorctl.models.uwsgi import EXTENSIONS, UwsgiConfig, read_uwsgi
from emperorctl.models.uwsgi_includes import Node, circle, reads
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.reading import UWSGI_LIMIT, Content, Entry, read

__all__ = ["require_end"]

_FILES_MAX = 1000
"""Files that are looked into; more are no config that anybody wrote."""


def require_end(run: UwsgiRun, directories: Iterable[str | None]) -> None:
    """Refuse files passed to all vassals that include themselves in the end. Raises UserError.

    `directories` are those that vassals are run in (None: the Emperor's own), from which relative paths start.
    """
    if not run.passed_files:
        return
    for directory in dict.fromkeys(directory or os.getcwd() for directory in directories):
        look = _Look(directory)
        starts = [Node(os.path.normpath(os.path.join(directory, path))) for path in run.passed_files]
        if way := circle(starts, look.following):
            shown = " -> ".join(printable(str(node)) for node in way)
            raise UserError(
                f"the files passed to all uWSGI vassals include each other without end: {shown}"
                " (remove one of the includes; uWSGI would never be done with reading)"
            )


class _Look:
    """What was found in the files so far, as vassals that run in `directory` would find it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, UwsgiConfig | None] = {}

    def following(self, node: Node) -> list[Node]:
        """What a section reads, as far as that can be told."""
        if node.path not in self._known:
            self._known[node.path] = _config(node.path) if len(self._known) < _FILES_MAX else None
        config = self._known[node.path]
        if config is None:
            return []
        place = Place(node.path, node.path, self._directory)
        return list(reads(config.attributes.get(node.section, ()), place, self._directory))


def _config(path: str) -> UwsgiConfig | None:
    extension = os.path.splitext(path)[1]
    if extension not in EXTENSIONS:
        return None
    found = read(Entry(None, path, path), UWSGI_LIMIT)
    if not isinstance(found, Content):
        return None
    try:
        return read_uwsgi(found.data, extension, path, lenient=True)
    except ConfigError:
        return None
