"""What is known of a vassal only when it is started: its index, and the ids it runs as.

Until then a mark, a character that no text holds, stands for it. `expansion` puts the marks in, the host fills them in
for each launch, and `views` for people. Not in here: where else a mark may not stand (`expansion`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from emperorctl.models.vassal import Hook, Hooks, Vassal

__all__ = ["LATE", "filled", "is_late", "settled", "table"]

LATE: Mapping[str, str] = {"vassal.index": "\ufdd0", "vassal.uid": "\ufdd1", "vassal.gid": "\ufdd2"}
"""Each variable and its mark (noncharacters of Unicode, which are not for interchange)."""

_Table = Mapping[int, str]


def is_late(text: str) -> bool:
    """Whether something in this text is only known when the vassal is started."""
    return not text.isascii() and any(mark in text for mark in LATE.values())


def table(index: int, uid: int | None, gid: int | None) -> _Table:
    """What each mark means; an id that is not known yet is shown as its variable."""
    values = {"vassal.index": index, "vassal.uid": uid, "vassal.gid": gid}
    return {ord(LATE[name]): f"%({name})" if value is None else str(value) for name, value in values.items()}


def filled(value: Any, meaning: _Table) -> Any:
    """Plain data with the marks in its strings filled in."""
    if isinstance(value, str):
        return value if value.isascii() else value.translate(meaning)
    if isinstance(value, dict):
        return {key: filled(inner, meaning) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, meaning) for inner in value]
    return value


def settled(vassal: Vassal, meaning: _Table) -> Vassal:
    """The vassal as it is launched: command, environment, directory and hooks with nothing left open."""
    if not vassal.late:
        return vassal
    launch = vassal.launch
    launch = replace(
        launch,
        command=_words(launch.command, meaning),
        env=tuple((name, filled(value, meaning)) for name, value in launch.env),
        working_dir=filled(launch.working_dir, meaning),
    )
    hooks = Hooks(*(_hooks(steps, meaning) for steps in vassal.hooks.moments))
    return replace(vassal, launch=launch, hooks=hooks, late=False)


def _hooks(steps: tuple[Hook, ...], meaning: _Table) -> tuple[Hook, ...]:
    return tuple(replace(step, command=_words(step.command, meaning)) for step in steps)


def _words(words: tuple[str, ...], meaning: _Table) -> tuple[str, ...]:
    return tuple(filled(word, meaning) for word in words)
