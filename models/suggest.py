"""Did you mean …? The nearest known word to a misspelt one. Called where an unknown field or word is refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["folded", "nearest"]

_LONGEST = 64


def folded(word: str) -> str:
    """A word without case, dashes, underscores and spaces: `working_dir`, `WorkingDir` and `working-dir` are one."""
    return word.casefold().replace("_", "").replace("-", "").replace(" ", "")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` probably stands for; None where nothing is near, or the word is absurdly long."""
    if len(word) > _LONGEST:
        return None
    by_fold: dict[str, str] = {}
    for name in known:
        by_fold.setdefault(folded(name), name)
    target = folded(word)
    if target in by_fold:
        return by_fold[target]
    found = difflib.get_close_matches(target, by_fold, n=1, cutoff=0.7)
    return by_fold[found[0]] if found else None
