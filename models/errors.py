"""What can go wrong, named by whose fault it is.

    EmperorError
    ├── UserError               the person's: says where and what to do; never retried by itself
    │   ├── ConfigError         one file, line or field is wrong (carries a Problem)
    │   ├── NotFound            there is no vassal of this name
    │   ├── Forbidden           somebody asked for what is not theirs to see or do
    │   ├── NotRunning          the vassal has no process that this could be done with
    │   └── Ambiguous           a name without extension fits several vassals
    ├── WorldError              the world's: may pass by itself, so it is retried
    │   ├── SourceUnavailable   a source can't be read now; says nothing about its vassals
    │   ├── LauncherError       the zygote died or did not answer in time
    │   └── EmperorUnreachable  a client found no Emperor behind the control socket
    └── Bug                     ours: logged with the key it happened for; the daemon stays up

Foreign errors (OSError, psutil's, the parsers') are mapped to these where they arise: one module each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = [
    "Ambiguous",
    "Bug",
    "ConfigError",
    "EmperorError",
    "EmperorUnreachable",
    "Forbidden",
    "LauncherError",
    "NotFound",
    "NotRunning",
    "Problem",
    "SourceUnavailable",
    "UserError",
    "WorldError",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, as a value: for a condition, an event, or an error message.

    `reason` is a CamelCase word for machines; `message` says what was found and what was expected;
    `remedy` what the person can do. `line` and `column` count from 1; `field` is a dotted path
    such as `spec.stop.gracePeriod`.
    """

    reason: str
    message: str
    remedy: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None
    field: str = ""

    def at(self, file: str, line: int | None = None) -> Problem:
        """The same problem, with its place filled in where it has none yet."""
        if self.file:
            return self if self.file != file or self.line else replace(self, line=line)
        return replace(self, file=file, line=self.line or line)

    def sentence(self) -> str:
        """One line for people: `FILE:LINE:COLUMN: FIELD: MESSAGE (REMEDY)`."""
        place = self.file
        if self.line is not None:
            place += f":{self.line}" + (f":{self.column}" if self.column is not None else "")
        parts = [part for part in (place, self.field, self.message) if part]
        text = ": ".join(parts)
        return f"{text} ({self.remedy})" if self.remedy else text


class EmperorError(Exception):
    """The root of every error that this project raises on purpose."""


class UserError(EmperorError):
    """Something that a person asked for or wrote can't be done as it stands."""


class ConfigError(UserError):
    """A file, or a part of one, is not acceptable."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence())
        self.problem = problem


class NotFound(UserError):
    """There is no vassal called `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(f'vassals "{name}" not found')
        self.name = name


class Forbidden(UserError):
    """Who asked may not see or do this."""


class Ambiguous(UserError):
    """`name`, given without extension, fits all of `candidates`."""

    def __init__(self, name: str, candidates: Iterable[str]) -> None:
        self.name = name
        self.candidates = tuple(sorted(candidates))
        super().__init__(f'vassals "{name}" could be any of: {", ".join(self.candidates)}; give the full name')


class NotRunning(UserError):
    """What was asked needs a process of the vassal's, and it has none."""

    def __init__(self, name: str) -> None:
        super().__init__(f'vassal "{name}" does not run now: see emperorctl describe {name}')


class SuspendedByFile(UserError):
    """A vassal can't be started, since its own file holds it down."""

    def __init__(self, name: str, file: str) -> None:
        super().__init__(
            f'vassal "{name}" is suspended by its file: set spec.suspend to false in {file}, or remove it there'
        )


class WorldError(EmperorError):
    """The machine or a service did not do its part; trying again later may work."""


class TooMany(WorldError):
    """There is as much of this as one user may have at once."""


class SourceUnavailable(WorldError):
    """A source of desired state can't be read; its running vassals stay as they are."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence())
        self.problem = problem


class LauncherError(WorldError):
    """The zygote is gone or silent."""


class EmperorUnreachable(WorldError):
    """No Emperor answers at the control socket."""


class Bug(EmperorError):
    """A state that can't be: our own mistake."""
