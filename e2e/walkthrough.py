"""A page of the documentation as a script: its files, its commands, and what they print. Used by `test_migration`.

A line with nothing but a path in backquotes, and a fenced block behind it, is a file. A fenced `console` block holds
commands, each behind `$ `, and what they print. What is printed is compared loosely: every line that is shown has to be
in what was really printed, in this order, numbers may be others, lines may go on, and more lines may lie between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "Page", "shows"]

_BLOCK = re.compile(r"(?:^`(?P<path>/\S+)`\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

_NUMBER = re.compile(r"\d+([dhms](?!\w))?")


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it is typed, and the lines that the page shows for it."""

    words: str
    shown: tuple[str, ...]


class Page:
    """A page, with everything under `places` put below `root`."""

    def __init__(self, path: Path, root: Path, places: tuple[str, ...]) -> None:
        self.files: dict[Path, str] = {}
        self.commands: list[Command] = []
        moved = re.compile(rf"(?:(?<=://)|(?<![\w.}}/]))(?=({'|'.join(map(re.escape, places))})\b)")
        for block in _BLOCK.finditer(moved.sub(str(root), path.read_text(encoding="utf-8"))):
            if block["path"]:
                self.files[Path(block["path"])] = block["text"]
            elif block["language"] == "console":
                self._take(block["text"])

    def _take(self, text: str) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            words, *shown = part.splitlines()
            self.commands.append(Command(words, tuple(line for line in shown if line.strip())))


def shows(shown: tuple[str, ...], printed: str) -> str:
    """The first line that is shown and was not printed; empty where all were."""
    lines = iter(printed.splitlines())
    for line in shown:
        pattern = re.compile(r"\s+".join(_loose(word) for word in line.split()))
        if not any(pattern.search(one) for one in lines):
            return line
    return ""


def _loose(word: str) -> str:
    """The word as a pattern: any number in a number's place, any span of time in a time's."""
    return _NUMBER.sub(lambda found: r"(\d+[dhms])+" if found[1] else r"\d+", re.escape(word))
