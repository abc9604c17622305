"""Small vassals for tests: one good one, to be changed in one place by each test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emperorctl.models.source import Change, Claim, FileReport
from emperorctl.models.vassal import Desired, Kind, Launch, Reload, ReloadMethod, Stop, StopMethod, Vassal

__all__ = ["SOURCE", "change", "desired", "native", "report", "uwsgi"]

SOURCE = "dir:///vassals"


def native(name: str = "shop", **changes: Any) -> Vassal:
    """A native vassal; `command`, `env` … change its launch, anything else the vassal."""
    launch_fields = {"command", "env", "user", "group", "working_dir", "umask", "nice", "protocol", "notify"}
    launch = Launch(command=("sleep", "1"))
    launch = replace(launch, **{key: value for key, value in changes.items() if key in launch_fields})
    vassal = Vassal(name, Kind.NATIVE, SOURCE, f"/vassals/{name}.yaml", launch)
    return replace(vassal, **{key: value for key, value in changes.items() if key not in launch_fields})


def uwsgi(name: str = "shop.ini", content: str = "a") -> Vassal:
    """A uWSGI vassal, whose config's digest is `content`."""
    return Vassal(
        name,
        Kind.UWSGI,
        SOURCE,
        f"/vassals/{name}",
        Launch(command=("uwsgi", "--ini", name), inherit_env=True, protocol=True, capture=False),
        reload=Reload(ReloadMethod.PROTOCOL),
        stop=Stop(StopMethod.PROTOCOL),
        content=content,
    )


def desired(vassal: Vassal | None = None, **changes: Any) -> Desired:
    """What the store would want of a vassal in its first generation."""
    vassal = vassal or native()
    return replace(Desired(vassal.name, SOURCE, vassal.file, vassal, generation=1), **changes)


def report(*vassals: Vassal, file: str = "/vassals/f.yaml", digest: str = "1", touch: int = 1) -> FileReport:
    """What a monitor says of a file that holds these vassals."""
    claims = tuple(Claim(vassal.name, vassal) for vassal in vassals)
    return FileReport(file, claims, digest=digest, touch=(touch, touch), fallback_name="f")


def change(*files: FileReport, source: str = SOURCE, complete: bool = False) -> Change:
    """A change of these files, or of the whole source."""
    return Change(source, files, frozenset(file.file for file in files) if complete else None)
