"""The formats that can be converted, by name alone: the command line needs no more of them to explain itself."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["SourceFormat"]


class SourceFormat(StrEnum):
    """What can be converted."""

    SUPERVISORD = "supervisord"
    CIRCUS = "circus"
    PROCFILE = "procfile"
    SYSTEMD = "systemd"
    UWSGI = "uwsgi"
