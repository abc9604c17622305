"""Several vassals in one uWSGI config: the sections `uwsgi:NAME`, each cut out as a config of its own.

Called by `monitors.parsing` for every config that has such sections. uWSGI takes what follows the last colon of
`FILE:SECTION` for the section, so that it can't be told to read one whose own name holds a colon (compared with 2.0.31
in all formats). Therefore such a section travels to its vassal under the plain NAME, in its own format and otherwise
as it was written, and what uWSGI can't know of a config that it does not read from its file, the magic variables of
that file, is filled in here. Not in here: how it is run (`uwsgi_run`), and what the options mean.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from emperorctl.models.bounds import refusal
from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.magic import Place, expand
from emperorctl.models.names import printable
from emperorctl.models.uwsgi import EXTENSIONS, SECTION, VASSAL_PREFIX, UwsgiConfig, element_spans, read_uwsgi

__all__ = ["Part", "parts_of"]

NAME_MAX = 63
VASSALS_MAX = 1000
"""Vassals in one file."""
_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{NAME_MAX - 1}}}\Z")
_ZERG = re.compile(r"zerg[0-9]*\Z")
_YAML_KEY = re.compile(rb"""(["']?)([^\s"'#:-][^\s"']*?)\1[ \t]*:(?=[ \t\r]|\Z)""")
_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\],:]|[^"{}\[\],:]++', re.DOTALL)
_INI_SAME_FILE = re.compile(rb"^([ \t]*ini[ \t]*=[ \t]*)(?=:)", re.MULTILINE)
_MAGIC = re.compile(rb"%(.)", re.DOTALL)
_OF_THE_FILE = frozenset("opsdencij0123456789OPSDENCIJ")
"""The magic variables that uWSGI knows only of a config that it reads from its file."""

_Cut = Mapping[bytes, list[bytes]]
"""The pieces of each section, an empty name for what is in none."""


@dataclass(frozen=True, slots=True)
class Part:
    """One vassal of a config of several. `section` is its NAME, empty for the plain `uwsgi` section.

    `text` is the config that travels to it (nothing for the plain one, which is read from the file); `digest` stands
    for that and for all that is in no vassal's section. `problem` is why it can't be run.
    """

    section: str
    text: bytes = b""
    digest: str = ""
    problem: Problem | None = None

    @property
    def key(self) -> str:
        """What the section is called in the file."""
        return VASSAL_PREFIX + self.section if self.section else SECTION


def parts_of(data: bytes, config: UwsgiConfig, ext: str, place: Place) -> list[Part]:
    """The vassals of a config, in order; none where no section is called `uwsgi:NAME`.

    Raises ConfigError, without a place, where the file as a whole can't be told apart.
    """
    wanted = {name for name in config.sections if name.startswith(VASSAL_PREFIX)}
    if not wanted:
        return []
    if len(wanted) > VASSALS_MAX:
        message = f"has {len(wanted)} vassals in one file; expected at most {VASSALS_MAX}"
        raise refusal("TooComplex", message, "split it into several files", file="")
    for name in sorted(wanted):
        _require_name(name.removeprefix(VASSAL_PREFIX))
    option = EXTENSIONS[ext]
    cut = _CUTTERS[option](data)
    rest = (piece for name, pieces in cut.items() if not _is_vassal(name) for piece in pieces)
    outside = _digest(b"\n".join(rest)).encode()
    parts = []
    for key in config.sections:
        if key == SECTION:
            parts.append(_plain(cut, outside, config, option))
        elif key in wanted:
            parts.append(_section(key, cut, outside, config, (ext, place)))
    return parts


def _is_vassal(name: bytes) -> bool:
    return name == SECTION.encode() or name.startswith(VASSAL_PREFIX.encode())


def _require_name(name: str) -> None:
    if _NAME.match(name):
        return
    message = (
        f'"{printable(name[:80])}" is no name for a section of its own: expected 1 to {NAME_MAX} letters, digits and'
        " _ . - beginning with a letter, a digit or _"
    )
    raise refusal("InvalidName", message, f"write for example {VASSAL_PREFIX}blog", file="")


def _plain(cut: _Cut, outside: bytes, config: UwsgiConfig, option: str) -> Part:
    own = b"\n".join(cut.get(SECTION.encode(), []))
    first = next(name for name in config.sections if _is_vassal(name.encode()))
    if option == "yaml" and first != SECTION:
        message = f"stands after the key {first}, which uWSGI's own YAML parser would take for it"
        problem = Problem("SectionOrder", message, "put the key uwsgi before all others", field=SECTION)
        return Part("", problem=problem)
    return Part("", digest=_digest(own, outside))


def _section(key: str, cut: _Cut, outside: bytes, config: UwsgiConfig, of: tuple[str, Place]) -> Part:
    ext, place = of
    name = key.removeprefix(VASSAL_PREFIX)
    pieces = cut.get(key.encode(), [])
    if _ZERG.match(name):
        message = f"the name {name} belongs to the zergs that a vassal may call for"
        return Part(name, problem=Problem("ReservedName", message, "rename the section", field=key))
    option = EXTENSIONS[ext]
    if len(pieces) > 1 and option != "ini":
        message = f"is there {len(pieces)} times"
        return Part(name, problem=Problem("DuplicateName", message, "rename one of them", field=key))
    text = _WRITERS[option](name, b"\n".join(pieces), cut)
    if not pieces or not _same(text, key, config, ext):
        message = "can't be cut out of the file as it is written"
        remedy = "write the name plainly, in UTF-8, in block style, at the beginning of its line"
        return Part(name, problem=Problem("SectionUnclear", message, remedy, field=key))
    text = _filled(text, name, place, option)
    return Part(name, text, _digest(text, outside))


def _digest(*texts: bytes) -> str:
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def _same(text: bytes, key: str, config: UwsgiConfig, ext: str) -> bool:
    """Whether what was cut out says the same as what was read: nothing is sent that nobody has looked at."""
    try:
        text.decode()
        again = read_uwsgi(text, ext, "", lenient=True)
    except (ConfigError, UnicodeDecodeError):
        return False
    own = SECTION if EXTENSIONS[ext] == "xml" else key.removeprefix(VASSAL_PREFIX)
    return again.attributes.get(own) == config.attributes[key]


def _filled(text: bytes, name: str, place: Place, option: str) -> bytes:
    """The text with what uWSGI would have known of its file, and everything else left to uWSGI."""
    if option == "ini":
        # uWSGI's word for the file that it is just reading.
        text = _INI_SAME_FILE.sub(lambda match: match[1] + b"%p", text)

    def value(match: re.Match[bytes]) -> bytes:
        letter = match[1].decode("latin-1")
        if letter in "xX":
            return name.encode()
        if letter in _OF_THE_FILE:
            return expand("%" + letter, place).replace("%", "%%").encode()
        return match[0]

    return _MAGIC.sub(value, text)


def _cut_ini(data: bytes) -> _Cut:
    lines: dict[bytes, list[bytes]] = {}
    section = b""
    for line in data.split(b"\n"):
        stripped = line.strip(b" \t\r")
        if stripped[:1] == b"[":
            section = stripped[1:-1]
            lines.setdefault(section, [])
            if _is_vassal(section):
                continue
        lines.setdefault(section, []).append(line)
    # A vassal's section without a line is still there.
    return {name: found or [b""] for name, found in lines.items()}


def _write_ini(name: str, text: bytes, _: _Cut) -> bytes:
    return b"[%s]\n%s\n" % (name.encode(), text)


def _cut_yaml(data: bytes) -> _Cut:
    found: dict[bytes, list[bytes]] = {b"": []}
    lines: list[bytes] = []
    section = b""

    def finish() -> None:
        found.setdefault(section, []).append(b"\n".join(lines))

    for line in data.split(b"\n"):
        if line[:1] not in (b"", b" ", b"\t", b"\r", b"#"):
            finish()
            match = _YAML_KEY.match(line)
            section = match[2] if match else b""
            lines = [line[match.end() :] if match and _is_vassal(section) else line]
        else:
            lines.append(line)
    finish()
    return found


def _write_yaml(name: str, text: bytes, _: _Cut) -> bytes:
    return b"%s:%s\n" % (name.encode(), text)


def _cut_json(data: bytes) -> _Cut:
    found: dict[bytes, list[bytes]] = {b"": []}
    for key, value in _json_members(data):
        if _is_vassal(key):
            found.setdefault(key, []).append(value)
        else:
            found[b""].append(key + b":" + value)
    return found


def _json_members(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The members of the object that the text is: each key without its quotes, and its value as it is written."""
    depth, key, start, last = 0, b"", 0, b""
    for match in _JSON_TOKEN.finditer(data):
        token = match[0]
        if depth == 1 and token == b":" and not start:
            key, start = last[1:-1], match.end()
        elif depth == 1 and token in (b",", b"}") and start:
            yield key, data[start : match.start()].strip()
            start = 0
        depth += (token in (b"{", b"[")) - (token in (b"}", b"]"))
        if token.strip():
            last = token


def _write_json(name: str, text: bytes, _: _Cut) -> bytes:
    return b'{"%s": %s}\n' % (name.encode(), text)


_PROLOGUE = b"?"


def _cut_xml(data: bytes) -> _Cut:
    found: dict[bytes, list[bytes]] = {}
    outside, position = [], 0
    for name, (start, inner, inner_end, end) in element_spans(data):
        outside.append(data[position:start])
        position = end
        found.setdefault(name.encode(), []).append(data[inner:inner_end])
    found[b""] = [*outside, data[position:]]
    declaration = data[: data.find(b"?>") + 2] if data.startswith(b"<?xml") else b""
    return found | {_PROLOGUE: [declaration]}


def _write_xml(name: str, text: bytes, cut: _Cut) -> bytes:
    return b'%s<emperor><uwsgi id="%s">%s</uwsgi></emperor>\n' % (cut[_PROLOGUE][0], name.encode(), text)


_CUTTERS: Mapping[str, Callable[[bytes], _Cut]] = {
    "ini": _cut_ini,
    "yaml": _cut_yaml,
    "json": _cut_json,
    "xml": _cut_xml,
}
_WRITERS: Mapping[str, Callable[[str, bytes, _Cut], bytes]] = {
    "ini": _write_ini,
    "yaml": _write_yaml,
    "json": _write_json,
    "xml": _write_xml,
}
