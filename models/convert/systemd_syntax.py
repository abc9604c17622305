"""systemd's own grammar: unit files, quoted words, time spans, sizes and specifiers. Called by `systemd` alone.

Not in here: what any key means.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from emperorctl.models.bounds import refusal
from emperorctl.models.convert.draft import Entry, Given, Section, doubled
from emperorctl.models.convert.syntax import SETTINGS_MAX, text_of
from emperorctl.models.durations import format_duration
from emperorctl.models.limits import format_cpu, format_memory
from emperorctl.models.manifest_fields import UNLIMITED
from emperorctl.models.names import printable

__all__ = [
    "Specifiers",
    "bytes_limit",
    "count_limit",
    "cpu_quota",
    "memory_limit",
    "span",
    "span_limit",
    "unit_sections",
    "unquoted_words",
]

_SPECIFIER = re.compile(r"%(.?)", re.DOTALL)
_PART = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-zA-Zµ]*)\s*")
_SPANS = {
    **dict.fromkeys(("us", "µs", "usec"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_SIZE = re.compile(r"([0-9]{1,18})([KMGTPE]?)\Z")
_PERCENT = re.compile(r"([0-9]{1,9})%%?\Z", re.ASCII)
_SIZES = {letter: 1024**power for power, letter in enumerate(("", *"KMGTPE"))}
_ESCAPES = {**dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)), "\\": "\\", '"': '"', "'": "'", "s": " "}
_NUMERIC = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")


def unit_sections(given: Given) -> list[Section]:
    """The sections of a unit file; a line that ends with a backslash goes on. Raises ConfigError with the line."""
    sections: dict[str, Section] = {}
    section: Section | None = None
    pending, began = "", 0
    for number, raw in enumerate([*text_of(given).split("\n"), ""], 1):
        line = raw.rstrip("\r")
        if pending and line.lstrip()[:1] in {"#", ";"}:
            continue  # systemd leaves comments inside of a continued line out
        if not pending:
            began = number
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line, pending = (pending + line).strip(), ""
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = sections.setdefault(line[1:-1], Section(line[1:-1], began))
            continue
        key, equals, value = line.partition("=")
        if not equals or section is None or not key.strip():
            message = f'"{printable(line[:60])}" is neither a section, a setting nor a comment'
            remedy = "begin with a line like [Service], and write Name=value"
            raise refusal("InvalidSyntax", message, remedy, file=given.file, at=(began, None))
        section.entries.append(Entry(key.strip(), value.strip(), began))
        if len(section.entries) > SETTINGS_MAX:
            message = f"more than {SETTINGS_MAX} settings in one section"
            raise refusal("TooComplex", message, "split the file", file=given.file, at=(began, None))
    return list(sections.values())


def unquoted_words(text: str) -> list[str]:
    """The words of a line, by systemd's quotes and escapes. Raises ValueError."""
    words: list[str] = []
    word: list[str] | None = None
    quote, position = "", 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\":
            piece, position = _escape(text, position)
            word = [] if word is None else word
            word.append(piece)
        elif quote:
            assert word is not None
            if char == quote:
                quote = ""
            else:
                word.append(char)
        elif char in "\"'":
            quote, word = char, [] if word is None else word
        elif char.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = [] if word is None else word
            word.append(char)
    if quote:
        raise ValueError(f"the quote {quote} is not closed")
    if word is not None:
        words.append("".join(word))
    return words


def _escape(text: str, position: int) -> tuple[str, int]:
    char = text[position : position + 1]
    if char in _ESCAPES and char:
        return _ESCAPES[char], position + 1
    if match := _NUMERIC.match(text, position):
        code = int(match[4], 8) if match[4] else int(match[1] or match[2] or match[3], 16)
        if not 0 < code <= 0x10FFFF or 0xD800 <= code < 0xE000:
            raise ValueError(f"\\{match[0]} is not a character")
        return chr(code), match.end()
    # systemd keeps what it does not know, with a warning.
    return "\\", position


class Specifiers:
    """A unit's `%n`, `%i` and so on, as far as they are known before it runs."""

    def __init__(self, unit: str, *, user_unit: bool) -> None:
        name = unit.rpartition(".")[0]
        prefix, at, instance = name.partition("@")
        self.instance = instance if at else None
        self.template = bool(at) and not instance
        dashed = prefix.rpartition("-")[2]
        self._known: dict[str, str] = {
            "%": "%%",
            "N": doubled(name),
            "n": doubled(unit),
            "p": doubled(prefix),
            "P": doubled(_unescaped(prefix)),
            "j": doubled(dashed),
            "J": doubled(_unescaped(dashed)),
            "i": "%n" if self.template else doubled(instance),
            "I": "%n" if self.template else doubled(_unescaped(instance)),
            "H": "%h",
            "T": "/tmp",  # noqa: S108
            "V": "/var/tmp",  # noqa: S108
        }
        if self.template:
            self._known |= {"n": doubled(prefix) + "@%n.service", "N": doubled(prefix) + "@%n"}
        if not user_unit:
            self._known |= {"t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "E": "/etc"}
            self._known |= {"h": "/root", "u": "root", "U": "0", "g": "root", "G": "0"}

    def expand(self, text: str) -> tuple[str, list[str]]:
        """The text for a manifest, and the specifiers in it that are not known here."""
        unknown = []

        def value(match: re.Match[str]) -> str:
            if match[1] in self._known:
                return self._known[match[1]]
            unknown.append(match[0])
            return doubled(match[0])

        return _SPECIFIER.sub(value, text), unknown


def _unescaped(name: str) -> str:
    text = name.replace("-", "/")
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text)


def _seconds(text: str) -> float:
    position, total = 0, 0.0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None or match[2] not in _SPANS:
            raise ValueError(f'expected a time span such as 90s or "5min 20s", got "{text[:40]}"')
        total += float(match[1]) * _SPANS[match[2]]
        position = match.end()
    if not text:
        raise ValueError("expected a time span such as 90s, got nothing")
    return total


def span(text: str) -> str:
    """A time span as a manifest's duration."""
    return format_duration(_seconds(text.strip()))


def _limit(text: str, *, sized: bool) -> int | str:
    if text == "infinity":
        return UNLIMITED
    match = _SIZE.match(text)
    if match is None or (match[2] and not sized):
        raise ValueError(f'expected a number or infinity, got "{text[:40]}"')
    return int(match[1]) * int(_SIZES[match[2]])


def _pair(text: str, read: Callable[[str], int | str]) -> object:
    soft, colon, hard = (part.strip() for part in text.strip().partition(":"))
    return {"soft": read(soft), "hard": read(hard)} if colon else read(soft)


def bytes_limit(text: str) -> object:
    """`LimitCORE=` and the like: bytes, with K M G T P E."""
    return _pair(text, lambda word: _limit(word, sized=True))


def count_limit(text: str) -> object:
    """`LimitNOFILE=` and the like: a plain number."""
    return _pair(text, lambda word: _limit(word, sized=False))


def memory_limit(text: str) -> str:
    """`MemoryMax=` as a quantity."""
    size = _limit(text.strip(), sized=True)
    if not isinstance(size, int):
        raise ValueError("no limit is what a vassal has anyway")
    return format_memory(size)


def cpu_quota(text: str) -> str:
    """`CPUQuota=`, where 100% is one processor, as a quantity."""
    match = _PERCENT.match(text.strip())
    if match is None:
        raise ValueError(f'expected a percentage such as 50%, got "{text[:40]}"')
    return format_cpu(int(match[1]) * 10)


def span_limit(unit: float) -> Callable[[str], object]:
    """The reader of `LimitCPU=` and `LimitRTTIME=`: a time span, counted in `unit` seconds."""

    def one(word: str) -> int | str:
        if word == "infinity":
            return UNLIMITED
        if word.isascii() and word.isdigit() and len(word) <= 18:
            return int(word)
        return round(_seconds(word) / unit)

    return lambda text: _pair(text, one)
