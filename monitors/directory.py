"""dir://PATH: every config file that lies in one directory. The default for a plain path.

Called by `registry`. A uWSGI vassal's id is the file's name, and it runs in the vassal directory, as in uWSGI.
"""

from __future__ import annotations

import os

from emperorctl.monitors.base import MonitorContext
from emperorctl.monitors.facts import local_facts
from emperorctl.monitors.files import FileMonitor
from emperorctl.monitors.layout import Layout
from emperorctl.monitors.parsing import Setting

__all__ = ["directory_layout", "open_directory"]


def directory_layout(path: str, component: str = "*", *, extra: tuple[str, ...] = ()) -> Layout:
    """The layout of a directory; `component` narrows it to one pattern or file name, `extra` are further extensions."""
    root = os.path.abspath(path)
    return Layout(f"dir://{root}", root, (component,), root, flat=True, extra=extra)


def open_directory(path: str, context: MonitorContext, cwd: str | None = None) -> FileMonitor:
    """A monitor of the files in a directory; `path` may be relative to the current one. `cwd`: see `registry`."""
    layout = directory_layout(path, extra=context.uwsgi.extra_extensions)
    moved = cwd is not None
    there = cwd if moved else layout.root
    setting = Setting(layout.source, layout.root, there, context.uwsgi, local_facts(), context.layers, moved)
    return FileMonitor(layout, setting, context)
