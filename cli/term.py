"""What a terminal may and may not be sent: colour only where it is wanted, never somebody else's escapes.

Tables are coloured by hand, since loading rich costs more than the whole rest of `get`; `describe` uses rich.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

from emperorctl.models.names import printable

__all__ = ["Harmless", "cell", "colour_wanted", "complain", "harmless", "paint", "style_of"]

_CODES = {"green": "32", "yellow": "33", "red": "31", "cyan": "36", "dim": "2", "bold red": "1;31"}
_STYLES = {
    "Running": "green",
    "Completed": "green",
    "Synced": "green",
    "Listing": "yellow",
    "Unavailable": "red",
    "True": "green",
    "Pending": "yellow",
    "Starting": "yellow",
    "Reloading": "yellow",
    "Terminating": "yellow",
    "Throttled": "yellow",
    "Unknown": "yellow",
    "Warning": "yellow",
    "OnDemand": "cyan",
    "Suspended": "cyan",
    "Error": "red",
    "Blacklisted": "red",
    "Invalid": "red",
    "OOMKilled": "red",
}
_BLAME = re.compile(r"\A(?:error|Error from server \(\w+\)):")
_LINE_END = re.compile("[\n\r\f]")
# Colours (SGR) pass; every other control sequence could move the cursor, retitle the window or worse. A carriage return
# within a line could write over it, and a change of direction show it in another order.
_HARM = re.compile(
    rb"\x1b(?!\[[0-9;:]{0,40}m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\r(?!\n)|\xc2[\x80-\x9f]"
    rb"|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]"
)
# What may be the beginning of any of these, or of a colour.
_BEGUN = re.compile(rb"(?:\x1b(?:\[[0-9;:]{0,40})?|\r|\xc2|\xe2[\x80\x81]?)\Z")
_PLAIN = b"\x1b[0m"


def colour_wanted(stream: TextIO) -> bool:
    """Whether this stream is a terminal whose person has nothing against colour."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def style_of(word: str) -> str:
    """The style of a status word, empty for none."""
    if word.startswith(("ExitCode:", "Signal:")):
        return "red"
    return _STYLES.get(word, "")


def paint(text: str, style: str) -> str:
    """The text in that style, for a terminal."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style else text


def cell(text: str) -> str:
    """One table cell of text from elsewhere: its first line, without anything a terminal would obey."""
    if text.isascii() and text.isprintable():
        return text
    return printable(_LINE_END.split(text, maxsplit=1)[0])


def harmless(data: bytes) -> bytes:
    """Log output for a terminal: colours stay, other control sequences become visible."""
    return _HARM.sub(lambda match: b"".join(b"\\x%02x" % byte for byte in match[0]), data)


class Harmless:
    """The same for output that comes in pieces: what is torn between two of them is looked at as a whole."""

    def __init__(self) -> None:
        self._held = b""
        self._coloured = False

    def feed(self, data: bytes) -> bytes:
        """What can be shown by now."""
        data = self._held + data
        begun = _BEGUN.search(data)
        self._held = begun[0] if begun else b""
        shown = harmless(data[: len(data) - len(self._held)])
        self._coloured = self._coloured or b"\x1b" in shown
        return shown

    def end(self) -> bytes:
        """What was held back; and colours end here, so that they don't reach what the terminal shows next."""
        held, self._held = self._held, b""
        return harmless(held) + (_PLAIN if self._coloured else b"")


def complain(text: str, *, prefix: str = "error: ") -> None:
    """One error on stderr, each of its lines without anything a terminal would obey."""
    line = prefix + "\n".join(printable(part) for part in text.splitlines())
    if colour_wanted(sys.stderr):
        line = _BLAME.sub(lambda match: paint(match[0], "bold red"), line)
    sys.stderr.write(line + "\n")
