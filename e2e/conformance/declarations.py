"""What each scenario says of itself: its title, what uWSGI does, and where and why emperorctl does otherwise.

`scenario` is put over a test function; the table in docs/conformance.md is made from what it was told (`table.py`).
Importing this, or the scenarios, starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["DECLARED", "Scenario", "scenario"]

T = TypeVar("T", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table. `emperorctl` and `why` are both empty where the two do the same."""

    module: str
    title: str
    uwsgi: str
    emperorctl: str
    why: str


DECLARED: dict[str, Scenario] = {}
"""Every scenario so far imported, by module and function name, in the order of definition."""


def scenario(title: str, *, uwsgi: str, emperorctl: str = "", why: str = "") -> Callable[[T], T]:
    """Declare a scenario. `emperorctl` says what it does otherwise, `why` the reason; both or neither.

    Raises ValueError when only one of the two is given, or a text can't stand in a table.
    """
    if bool(emperorctl) != bool(why):
        raise ValueError(f"{title}: say what differs and why, or neither")
    if any("|" in text or "\n" in text for text in (title, uwsgi, emperorctl, why)):
        raise ValueError(f"{title}: a line break or a bar can't stand in a table")

    def declare(function: T) -> T:
        module = function.__module__.rpartition(".")[2]
        DECLARED[f"{module}.{function.__name__}"] = Scenario(module, title, uwsgi, emperorctl, why)
        return function

    return declare
