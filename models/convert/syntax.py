"""What several formats share: ini files as Python's supervisors read them, command lines, and simple values.

Not in here: systemd's own grammar (`systemd_syntax`), and what any setting means.
"""

from __future__ import annotations

import re
import shlex

from emperorctl.models.bounds import MANIFEST, decode, refusal
from emperorctl.models.convert.draft import Entry, Given, Section
from emperorctl.models.durations import format_duration
from emperorctl.models.manifest_fields import UNLIMITED
from emperorctl.models.names import printable
from emperorctl.models.signals import signal_name, signal_number

__all__ = [
    "SETTINGS_MAX",
    "SHELL_BUILTINS",
    "as_exec",
    "boolean",
    "ends_in_exec",
    "identity",
    "ini_sections",
    "limit",
    "seconds",
    "shell_words",
    "signal_word",
    "size",
    "text_of",
    "umask",
    "whole",
]

SETTINGS_MAX = 1000
"""How many settings one section may have."""

SHELL_BUILTINS = frozenset({"cd", ".", "source", "set", "export", "unset", "if", "for", "while", "until", "case"})
SHELL_BUILTINS |= {"exec", "eval", "trap", "ulimit", "umask", "{", "!", "time"}
"""Words that begin a command line which takes a shell."""

_SHELL = re.compile(r"[$`|&;<>()*?\[\]{}~#!\n]")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_TRUE = frozenset({"true", "yes", "on", "1", "t", "y"})
_FALSE = frozenset({"false", "no", "off", "0", "f", "n"})
_SIZE = re.compile(r"([0-9]{1,15})\s*([kmg]?)b?\Z", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?\Z", re.ASCII)
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z", re.ASCII)


def text_of(given: Given) -> str:
    """The text of a file: UTF-8 without NUL, at most 256 KiB. Raises ConfigError."""
    return decode(given.data, MANIFEST, given.file)


def ini_sections(given: Given, inline: str = "") -> list[Section]:
    """The sections as Python's configparser finds them, keys in small letters; those of one name are one.

    `inline`: the characters that begin a comment after a blank. Raises ConfigError with the line.
    """
    sections: dict[str, Section] = {}
    section: Section | None = None
    indent, going_on = 0, False
    comment = re.compile(rf"\s[{re.escape(inline)}]") if inline else None
    for number, raw in enumerate(text_of(given).split("\n"), 1):
        line = raw.rstrip("\r")
        if line.lstrip()[:1] in {"#", ";"}:
            continue
        if comment is not None and (found := comment.search(line)):
            line = line[: found.start()]
        stripped = line.strip()
        if not stripped:
            continue
        depth = len(line) - len(line.lstrip())
        if section is not None and going_on and depth > indent:
            last = section.entries[-1]
            section.entries[-1] = Entry(last.key, f"{last.value}\n{stripped}", last.line)
            continue
        indent = depth
        if stripped.startswith("["):
            if "]" not in stripped:
                raise _malformed(given, number, "a section's name without its closing bracket", "write [name]")
            name = stripped[1 : stripped.rindex("]")].strip()
            section = sections.setdefault(name, Section(name, number))
            going_on = False
            continue
        key, value = _setting(given, number, stripped)
        if section is None:
            raise _malformed(given, number, f"the setting {key} before any section", "begin with a line like [name]")
        section.entries.append(Entry(key.lower(), value, number))
        if len(section.entries) > SETTINGS_MAX:
            raise _malformed(given, number, f"more than {SETTINGS_MAX} settings in one section", "split the file")
        going_on = True
    return list(sections.values())


def _setting(given: Given, number: int, line: str) -> tuple[str, str]:
    found = re.search(r"[=:]", line)
    if found is None or not line[: found.start()].strip():
        message = f'"{printable(line[:60])}" is neither a section, a setting nor a comment'
        raise _malformed(given, number, message, "write name = value; lines that go on begin with a blank")
    return line[: found.start()].strip(), line[found.end() :].strip()


def _malformed(given: Given, line: int, message: str, remedy: str) -> Exception:
    return refusal("InvalidSyntax", message, remedy, file=given.file, at=(line, None))


def shell_words(text: str) -> list[str]:
    """The words of a command line, quotes and backslashes as in a shell. Raises ValueError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"the quotes do not pair up: {str(error).lower()}") from None


def boolean(text: str) -> bool:
    """Raises ValueError for what is neither."""
    word = text.strip().casefold()
    if word not in _TRUE | _FALSE:
        raise ValueError(f'expected true or false, got "{text[:40]}"')
    return word in _TRUE


def whole(text: str) -> int:
    """A whole number."""
    if not _INTEGER.match(text.strip()):
        raise ValueError(f'expected a whole number, got "{text[:40]}"')
    return int(text)


def seconds(text: str) -> str:
    """A number of seconds, as a manifest's duration."""
    if not _NUMBER.match(text.strip()):
        raise ValueError(f'expected a number of seconds, got "{text[:40]}"')
    return format_duration(float(text))


def size(text: str) -> int:
    """Bytes of `1MB`, `512k` or `1048576`."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(f'expected a size such as 50MB, got "{text[:40]}"')
    return int(match[1]) * _UNITS[match[2].lower()]


def limit(text: str) -> int | str:
    """A resource limit; anything below zero is none."""
    number = whole(text)
    return UNLIMITED if number < 0 else number


def signal_word(text: str) -> str | int:
    """A signal by name where it has one."""
    number = signal_number(text)
    name = signal_name(number)
    return name if name.startswith("SIG") else number


def umask(text: str) -> str:
    """An octal mask as a manifest writes it."""
    word = text.strip().removeprefix("0o")
    if not re.fullmatch(r"[0-7]{1,5}", word) or int(word, 8) > 0o777:
        raise ValueError(f'expected an octal number such as 022, got "{text[:40]}"')
    return f"{int(word, 8):03o}"


def identity(text: str) -> str:
    """A user or group: a manifest judges it. Root has to be called by its name there."""
    word = text.strip()
    return "root" if word.isdecimal() and int(word) == 0 else word


def as_exec(text: str, words: list[str]) -> list[str] | None:
    """What `text`, whose words these are, runs without a shell: a leading `exec` left out; None where it needs one."""
    if words[:1] == ["exec"] and len(words) > 1 and not words[1].startswith("-"):
        words = words[1:]
    if not words or _SHELL.search(text) or words[0] in SHELL_BUILTINS or _ASSIGNMENT.match(words[0]):
        return None
    return words


def ends_in_exec(text: str) -> bool:
    """Whether a shell that is given this becomes the last program in it."""
    return re.search(r"(?:\A|[;&|\n])\s*exec\s[^;&|()`\n]*\Z", text) is not None
