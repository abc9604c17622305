"""Tables in kubectl's form: columns as wide as their widest cell, three spaces between, the last one open-ended.

A plain formatter, since a thousand rows must appear at once. Used by every command that prints a list.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from emperorctl.cli.term import cell, colour_wanted, paint, style_of

__all__ = ["Table", "aligned"]

_PADDING = 3
_NARROWEST = 6


class Table:
    """One table on `stream`, written part by part (for watches): a header once, column widths only ever grow.

    The cells of `coloured` columns are coloured by what they say, where the stream is a terminal.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        header: bool = True,
        coloured: Iterable[str] = (),
        stream: TextIO | None = None,
    ) -> None:
        self._columns = columns
        self._header = header
        self._stream = stream or sys.stdout
        wanted = colour_wanted(self._stream)
        self._coloured = [wanted and column in set(coloured) for column in columns]
        self._widths = [0] * len(columns)

    def write(self, rows: Iterable[Sequence[str]]) -> None:
        """Print these rows, and the header before the first one ever. No rows, no header."""
        lines: list[Sequence[str]] = [[cell(text) for text in row] for row in rows]
        if not lines:
            return
        if self._header:
            lines.insert(0, self._columns)
        for index, column in enumerate(zip(*lines, strict=True)):
            width = max(_NARROWEST, max(map(len, column)) + _PADDING)
            self._widths[index] = max(self._widths[index], width)
        text = self._painted(lines) if any(self._coloured) else _plain(lines, self._widths)
        self._header = False
        self._stream.write(text)
        self._stream.flush()

    def _painted(self, lines: Sequence[Sequence[str]]) -> str:
        out = []
        for number, line in enumerate(lines):
            parts = []
            for text, width, coloured in zip(line, self._widths, self._coloured, strict=True):
                style = style_of(text) if coloured and not (number == 0 and self._header) else ""
                parts.append(paint(text, style) + " " * (width - len(text)))
            out.append("".join(parts).rstrip(" ") + "\n")
        return "".join(out)


def _plain(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    form = "".join(f"{{:<{width}}}" for width in widths[:-1]) + "{}\n"
    return "".join([form.format(*line) for line in lines])


def aligned(rows: Iterable[Sequence[str]], *, indent: str = "", padding: int = 2) -> list[str]:
    """The rows as lines of one block, each column as wide as it needs (for `describe`)."""
    cells = [[cell(text) for text in row] for row in rows]
    if not cells:
        return []
    widths = [max(map(len, column)) + padding for column in zip(*cells, strict=True)]
    return [
        indent + "".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip(" ")
        for row in cells
    ]
