"""What a vassal may be called, and how a hostile name is shown without doing harm."""

from __future__ import annotations

import re
from collections.abc import Sequence

from emperorctl.models.errors import Ambiguous, ConfigError, NotFound, Problem

__all__ = [
    "MANIFEST_NAME_MAX",
    "UWSGI_NAME_MAX",
    "is_label_name",
    "is_label_value",
    "manifest_name",
    "owned_name",
    "printable",
    "the_one",
    "uwsgi_name",
]

MANIFEST_NAME_MAX = 63
UWSGI_NAME_MAX = 254
_DNS_1123 = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?\Z")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\Z")


def printable(text: str) -> str:
    r"""The same text with every control, format or undecodable character as `\xNN` or `\uNNNN`.

    Bytes that are not UTF-8, kept as surrogates by the file system interface, come out as `\xNN`.
    """
    if text.isascii() and text.isprintable():
        return text
    out = []
    for char in text:
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
    return "".join(out)


def the_one(name: str, fits: Sequence[str]) -> str:
    """Of the full names that `name` may mean, the one that it means. Raises NotFound or Ambiguous."""
    if name in fits:
        return name
    if not fits:
        raise NotFound(printable(name))
    if len(fits) > 1:
        raise Ambiguous(printable(name), fits)
    return fits[0]


def owned_name(name: str, uid: int) -> str:
    """What a manifest's vassal is called in tyrant mode: nobody can take the name of another owner's."""
    return f"{name}.{uid}"


def is_label_name(text: str) -> bool:
    """Whether a label or an annotation may be called so: `team`, or `example.org/team`."""
    prefix, slash, name = text.rpartition("/")
    return bool(_LABEL.match(name)) and (not slash or bool(_PREFIX.match(prefix)))


def is_label_value(text: str) -> bool:
    """Whether a label may say so, and selectors can ask for it."""
    return not text or bool(_LABEL.match(text))


def manifest_name(text: str) -> str:
    """A manifest's name, accepted or refused (ConfigError): a DNS-1123 name of at most 63 characters."""
    if not text or len(text) > MANIFEST_NAME_MAX or not _DNS_1123.match(text):
        raise ConfigError(
            Problem(
                "InvalidName",
                f'"{printable(text)}" is not a name: expected 1 to {MANIFEST_NAME_MAX} characters of'
                " a-z 0-9 . - beginning and ending with a letter or digit",
                "set metadata.name, or rename the file",
                field="metadata.name",
            )
        )
    return text


def uwsgi_name(text: str) -> str:
    """A uWSGI file's id, accepted or refused (ConfigError): printable UTF-8, at most 254 bytes, no leading dash."""
    problem = ""
    if not text or text in {".", ".."}:
        problem = "is empty or a directory"
    elif text.startswith("-"):
        problem = "begins with a dash and would be read as an option"
    elif any(not char.isprintable() for char in text):
        problem = "holds control, format or undecodable characters"
    elif len(text.encode()) > UWSGI_NAME_MAX:
        problem = f"is longer than {UWSGI_NAME_MAX} bytes"
    if problem:
        raise ConfigError(Problem("InvalidName", f'the name "{printable(text)}" {problem}', "rename the file"))
    return text
