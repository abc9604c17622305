"""glob://PATTERN: every config file whose path fits a pattern, directories that come later included.

Called by `registry`. Wildcards (`* ? [...]`) may stand in any component; none of them matches a dotfile, and there
is no `**`. A uWSGI vassal's id is the path as the pattern gave it, and it runs in the Emperor's own
directory, as in uWSGI.
"""

from __future__ import annotations

import os

from emperorctl.monitors.base import MonitorContext
from emperorctl.monitors.facts import local_facts
from emperorctl.monitors.files import FileMonitor
from emperorctl.monitors.layout import Layout, has_wildcards
from emperorctl.monitors.parsing import Setting

__all__ = ["glob_layout", "open_glob"]


def glob_layout(pattern: str, *, extra: tuple[str, ...] = ()) -> Layout:
    """The layout of a pattern, which may be relative to the current directory; `extra` are further extensions."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    first = next((index for index, part in enumerate(parts) if has_wildcards(part)), len(parts) - 1)
    first = min(first, len(parts) - 1)
    given = ("/" if pattern.startswith("/") else "") + "/".join(parts[:first])
    if pattern.startswith("./"):
        given = os.path.join(".", given) if given else "."
    root = os.path.normpath(os.path.join(os.getcwd(), given))
    source = "glob://" + os.path.join(root, *parts[first:])
    return Layout(source, root, tuple(parts[first:]), given, flat=False, extra=extra)


def open_glob(pattern: str, context: MonitorContext, cwd: str | None = None) -> FileMonitor:
    """A monitor of the files that fit a pattern. `cwd`: see `registry`."""
    layout = glob_layout(pattern, extra=context.uwsgi.extra_extensions)
    moved = cwd is not None
    setting = Setting(layout.source, layout.root, cwd, context.uwsgi, local_facts(), context.layers, moved)
    return FileMonitor(layout, setting, context)
