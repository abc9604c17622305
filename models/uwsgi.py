"""uWSGI config files: enough of them to know what they are, list their sections and read their attributes.

Called by the monitors and by `emperorctl validate`. uWSGI itself parses the rest, so this is as lenient as its own
parsers wherever a working file could depend on it (compared with uWSGI 2.0.31 and its source), and strict about what
can't be a config: not text, no syntax, no `uwsgi` section. Not in here: what options mean, and uWSGI's magic variables.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from xml.parsers import expat

from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from emperorctl.models.attributes import collect, labels_and_annotations
from emperorctl.models.bounds import UWSGI, decode, refusal, too_deep, too_many
from emperorctl.models.errors import ConfigError
from emperorctl.models.names import printable
from emperorctl.models.patches import Patch
from emperorctl.models.protocol import CONFIG_MAX
from emperorctl.models.sockets import OnDemand, parse_address
from emperorctl.models.suggest import folded
from emperorctl.models.vassal import EMPTY, Kind, Launch, Reload, ReloadMethod, Stop, StopMethod, Vassal
from emperorctl.models.yaml_syntax import next_event, open_events

__all__ = ["EXTENSIONS", "UwsgiConfig", "UwsgiRun", "bounded", "read_uwsgi", "uwsgi_vassal", "zerg_vassal"]

EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {".ini": "ini", ".xml": "xml", ".yml": "yaml", ".yaml": "yaml", ".js": "json", ".json": "json"}
)
"""The extensions of uWSGI configs, and the option that reads each."""

SECTION = "uwsgi"
BROODLORD_NUMBER = "UWSGI_BROODLORD_NUM"
_BOM = b"\xef\xbb\xbf"
_SHOWN = 5
# uWSGI replaces these before its YAML parser sees them, or its parser takes them as they are; YAML itself refuses them
# at the beginning of a plain scalar.
_NOT_YAML = re.compile(r"%(?=[A-Za-z0-9%(])|@(?=\()|\*(?=:)")
_JSON_MAGIC = re.compile(r'("(?:[^"\\]|\\.)*+")|%[A-Za-z0-9]')

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class UwsgiConfig:
    """What a config holds: its `sections` in order, and each section's options as written, repeats included."""

    sections: tuple[str, ...]
    attributes: Mapping[str, Pairs]


@dataclass(frozen=True, slots=True)
class UwsgiRun:
    """How uWSGI vassals are run: the `binary`, a `wrapper` in its place, whether their output is captured, and how many
    seconds they get to stop (uWSGI's curse tolerance), `graceful` or not.

    `on_demand_extension`, `on_demand_directory` and `on_demand_exec` are uWSGI's three ways of saying which sockets
    start a vassal, of which the first that is given counts: the extension of a file beside the config that holds the
    address, a directory of Unix sockets (absolute), a command that prints the address.

    `attributes` are the options of their configs that are shown with them (see `attributes`); `chdir_attribute`
    and `wrapper_attribute` those that say where, and through which program, a vassal is run.

    `override` and `fallback` are wrappers tried before and after. Files that end in one of `extra_extensions` are
    configs as well, left for uWSGI to read. `magic_exec`: what an executable config prints is the config.
    `config_pipe`: configs travel over a socket instead of being read from their files.
    """

    binary: str = "uwsgi"
    wrapper: str | None = None
    capture: bool = False
    grace: float = 30.0
    on_demand_extension: str | None = None
    on_demand_directory: str | None = None
    on_demand_exec: str | None = None
    graceful: bool = False
    attributes: tuple[str, ...] = ()
    chdir_attribute: str = ""
    wrapper_attribute: str = ""
    override: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    extra_extensions: tuple[str, ...] = ()
    magic_exec: bool = False
    config_pipe: bool = False

    def is_extra(self, name: str) -> bool:
        """Whether a file of this name is a config only because somebody said so."""
        return name.endswith(self.extra_extensions)

    @property
    def wrapped(self) -> bool:
        """Whether something else than uWSGI may read the configs."""
        return self.wrapper is not None or bool(self.override)


@dataclass(frozen=True, slots=True)
class _Found:
    """Sections in the making."""

    options: dict[str, list[tuple[str, str]]]

    def section(self, name: str) -> list[tuple[str, str]]:
        return self.options.setdefault(name, [])

    def config(self) -> UwsgiConfig:
        attributes = {name: tuple(pairs) for name, pairs in self.options.items()}
        return UwsgiConfig(tuple(attributes), MappingProxyType(attributes))


def read_uwsgi(data: bytes, ext: str, file: str, *, lenient: bool = False) -> UwsgiConfig:
    """The config in these bytes; `ext` is a key of EXTENSIONS. Raises ConfigError.

    `lenient`: a config without a `uwsgi` section is accepted (a wrapper may read another one).
    """
    option = EXTENSIONS[ext]
    text = _xml_text(data, file) if option == "xml" else decode(data, UWSGI, file)
    if data.startswith(_BOM) and option != "xml":
        # uWSGI takes the mark for a part of the first name, and jansson refuses it.
        message = "the file begins with a byte order mark, which uWSGI does not understand"
        raise refusal("ByteOrderMark", message, "save it as UTF-8 without BOM", file=file, at=(1, 1))
    if option == "xml":
        config = _read_xml(data, file)
    else:
        readers: dict[str, Callable[[str, str], UwsgiConfig]] = {
            "ini": _read_ini,
            "yaml": _read_yaml,
            "json": _read_json,
        }
        config = readers[option](text, file)
    if not lenient and SECTION not in config.sections:
        raise _no_section(config, option, file)
    return config


def bounded(data: bytes, file: str) -> None:
    """The bounds of a config that is not looked into, whatever its encoding. Raises ConfigError."""
    decode(data.decode("latin-1").encode("ascii", "replace"), UWSGI, file)


def _no_section(config: UwsgiConfig, option: str, file: str) -> ConfigError:
    what = {"ini": "[uwsgi] section", "xml": "<uwsgi> element"}.get(option, "top-level key uwsgi")
    named = [name for name in config.sections if name]
    message = f"there is no {what}"
    if named:
        message += f", only {', '.join(printable(name[:40]) for name in named[:_SHOWN])}"
    near = next((name for name in named if folded(name.partition(":")[0].strip()) == SECTION), None)
    remedy = f"rename {printable(near[:40])} to uwsgi" if near else f"add the {what}, or remove the file"
    return refusal("NoUwsgiSection", message, remedy, file=file)


def _read_ini(text: str, file: str) -> UwsgiConfig:
    """As uWSGI reads it: a header is a line that begins with [, its name all but the last character; no `=` is an
    option with an empty value; there are no continuations and no inline comments."""
    found, section, empty = _Found({}), "", True
    for raw in text.split("\n"):
        line = raw.strip(" \t\r")
        if not line or line[0] in ";#":
            continue
        empty = False
        if line[0] == "[":
            section = line[1:-1]
            found.section(section)
        else:
            key, _, value = line.partition("=")
            found.section(section).append((key.rstrip(" \t\r"), value.strip(" \t\r")))
    if empty:
        raise _only_comments(file)
    return found.config()


def _only_comments(file: str) -> ConfigError:
    message = "the file holds nothing but comments"
    return refusal("Empty", message, "write a configuration, or remove the file", file=file)


def _xml_text(data: bytes, file: str) -> str:
    """The bounds of an XML file; its encoding is expat's business where it declares one."""
    declared = b"encoding" in data[:200]
    return decode(data.decode("latin-1").encode("ascii", "replace") if declared else data, UWSGI, file)


def _read_xml(data: bytes, file: str) -> UwsgiConfig:
    reader = _XmlReader(file)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        at = (error.lineno, error.offset + 1)
        raise refusal("InvalidSyntax", f"not XML: {expat.ErrorString(error.code)}", file=file, at=at) from None
    except (LookupError, ValueError):
        raise refusal("InvalidSyntax", "not XML: unknown encoding", "save it as UTF-8", file=file) from None
    return reader.found.config()


class _XmlReader:
    """`uwsgi` elements, as the root or in it, and their children as options; an empty element has the value 1."""

    def __init__(self, file: str) -> None:
        self.found = _Found({})
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self.parser.EntityDeclHandler = self._refuse_doctype
        self._file = file
        self._open: list[str] = []
        self._section: tuple[str, int] | None = None
        self._value: list[str] = []
        self._elements = 0

    def _at(self) -> tuple[int, int]:
        return self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1

    def _refuse_doctype(self, *_: Any) -> None:
        message = "document types and entities are not allowed"
        raise refusal("ForbiddenXml", message, "remove the DOCTYPE", file=self._file, at=self._at())

    def _start(self, name: str, _: Any) -> None:
        self._elements += 1
        if self._elements > UWSGI.nodes:
            raise too_many(UWSGI, self._file, self._at())
        self._open.append(name)
        depth = len(self._open)
        if depth > UWSGI.depth:
            raise too_deep(UWSGI, self._file, self._at())
        if self._section is None and (depth == 1 or name == SECTION) and depth <= 2:
            self.found.section(name)
            self._section = (name, depth) if name == SECTION else None
        elif self._section is not None and depth == self._section[1] + 1:
            self._value = []

    def _text(self, text: str) -> None:
        if self._section is not None and len(self._open) > self._section[1]:
            self._value.append(text)

    def _end(self, name: str) -> None:
        if self._section is not None:
            section, depth = self._section
            if len(self._open) == depth + 1:
                self.found.section(section).append((name, "".join(self._value).strip() or "1"))
            elif len(self._open) == depth:
                self._section = None
        self._open.pop()


def _read_json(text: str, file: str) -> UwsgiConfig:
    try:
        data = json.loads(text)
    except ValueError:
        # uWSGI replaces magic variables first, outside of strings too: {"processes": %k}
        data = _strict_json(_JSON_MAGIC.sub(lambda match: match[1] or "10", text), file)
    except RecursionError:
        raise too_deep(UWSGI, file) from None
    if not isinstance(data, dict):
        raise refusal("NoUwsgiSection", "expected an object with the key uwsgi", file=file, at=(1, 1))
    return _tables(data, file)


def _strict_json(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = (error.lineno, error.colno)
        raise refusal("InvalidSyntax", f"not JSON: {error.msg}", file=file, at=at) from None
    except RecursionError:
        raise too_deep(UWSGI, file) from None
    except ValueError:
        raise refusal("InvalidNumber", "a number is out of range", file=file) from None


def _tables(data: dict[str, Any], file: str) -> UwsgiConfig:
    found = _Found({})
    for name, table in data.items():
        options = found.section(name)
        if isinstance(table, dict):
            for key, value in table.items():
                values = value if isinstance(value, list) else [value]
                options += [(key, _word(item)) for item in values if not isinstance(item, dict | list)]
        elif name == SECTION:
            raise refusal("InvalidSyntax", "the value of the key uwsgi is not an object", file=file)
    return found.config()


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _read_yaml(text: str, file: str) -> UwsgiConfig:
    """By the grammar of YAML, where a key may be given again and every scalar is the text that was written."""
    stand_ins = {mark: chr(0xE000 + index) for index, mark in enumerate("%@*")}
    neutral = _NOT_YAML.sub(lambda match: stand_ins[match[0]], text)
    back = str.maketrans({stand_in: mark for mark, stand_in in stand_ins.items() if stand_in not in text})
    reader = _YamlTree(neutral, file)
    found, empty = _Found({}), True
    for root in reader.roots():
        empty = empty and root in ("", "~", "null")
        for name, table in root if isinstance(root, tuple) else ():
            options = found.section(name.translate(back))
            if isinstance(table, tuple):
                for key, value in table:
                    values = value if isinstance(value, list) else [value]
                    options += [(key.translate(back), item.translate(back)) for item in values if isinstance(item, str)]
            elif name == SECTION and table:
                raise refusal("InvalidSyntax", "the value of the key uwsgi is not a mapping", file=file)
    if empty:
        raise _only_comments(file)
    return found.config()


class _YamlTree:
    """A YAML text as nested tuples of pairs, lists and strings."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._parser = open_events(text)
        self._nodes = 0

    def _next(self) -> Any:
        return next_event(self._parser, self._text, self._file)

    def roots(self) -> list[Any]:
        found = []
        while type(event := self._next()) is not StreamEndEvent:
            if type(event) is DocumentStartEvent:
                found.append(self._node(self._next(), 1))
        return found

    def _node(self, event: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > UWSGI.nodes:
            raise too_many(UWSGI, self._file)
        if depth > UWSGI.depth:
            raise too_deep(UWSGI, self._file, (event.start_mark.line + 1, event.start_mark.column + 1))
        if type(event) is ScalarEvent:
            return str(event.value)
        if type(event) is AliasEvent:
            return f"*{event.anchor}"
        items = []
        if type(event) is SequenceStartEvent:
            while not _ends(event := self._next()):
                items.append(self._node(event, depth + 1))
            return items
        assert type(event) is MappingStartEvent
        while not _ends(event := self._next()):
            key = self._node(event, depth + 1)
            items.append((key if isinstance(key, str) else "", self._node(self._next(), depth + 1)))
        return tuple(items)


def _ends(event: Any) -> bool:
    return type(event).__name__ in ("MappingEndEvent", "SequenceEndEvent")


def uwsgi_vassal(  # noqa: PLR0913
    *,
    name: str,
    file: str,
    ext: str,
    working_dir: str | None,
    source: str,
    data: bytes,
    config: UwsgiConfig | None,
    run: UwsgiRun,
    path: str = "",
    executable: bool = False,
    patch: Patch | str | None = None,
    on_demand: str = "",
) -> Vassal:
    """The vassal of a config that `read_uwsgi` accepted, or that is not looked into (`config` None).

    `name` is its id, as uWSGI is given it; `file` the path shown to people; `working_dir` the directory it is run in
    (None: the Emperor's own); `source` the monitor's address; `data` the config's bytes; `path` the absolute path;
    `executable`: the config is what the file prints; `patch`: see `patches.patch_of`;
    `on_demand`: the address that starts it (empty: it always runs). Raises ConfigError.
    """
    option = "config" if run.is_extra(name) else EXTENSIONS[ext]
    piped = run.config_pipe and not executable
    if piped and len(data) > CONFIG_MAX:
        message = f"the config has {len(data)} bytes, and {CONFIG_MAX} is the most that can travel to a vassal"
        raise refusal("TooLarge", message, "shorten it, or do without --emperor-force-config-pipe", file=file)
    names = (*run.attributes, run.chdir_attribute, run.wrapper_attribute)
    attributes = collect(config.attributes if config is not None else {}, (one for one in names if one))
    labels, annotations = labels_and_annotations(attributes)
    # The Emperor binds it, wherever the vassal is run.
    sockets = OnDemand((parse_address(on_demand, working_dir),)) if on_demand else None
    named = name
    if there := attributes.get(run.chdir_attribute):
        # From another directory, the name alone would not lead to the config; over a pipe it need not.
        named = name if piped else path or name
        working_dir = there if there.startswith("/") or working_dir is None else f"{working_dir}/{there}"
    wrapper = attributes.get(run.wrapper_attribute) or run.wrapper
    command = (wrapper or run.binary, f"--{option}", _address(named, executable, piped))
    spec: dict[str, Any] = {"command": list(command), "config": file}
    if config is not None:
        spec["sections"] = list(config.sections)
    spec |= {key: list(value) for key, value in (("override", run.override), ("fallback", run.fallback)) if value}
    if patch is not None:
        spec["binaryPatch"] = _shown_patch(patch)
    if working_dir is not None:
        spec["workingDir"] = working_dir
    if sockets is not None:
        spec["onDemand"] = {"addresses": [str(sockets)], "passing": "stdin"}
    launch = Launch(
        command=command,
        inherit_env=True,
        working_dir=working_dir,
        protocol=True,
        capture=run.capture,
        override=run.override,
        fallback=run.fallback,
        # A wrapper in uWSGI's place would not have carried it out either.
        patch=patch if isinstance(patch, Patch) and wrapper is None else None,
        config_pipe=piped,
    )
    return Vassal(
        name=name,
        kind=Kind.UWSGI,
        source=source,
        file=file,
        launch=launch,
        reload=Reload(ReloadMethod.PROTOCOL),
        stop=Stop(StopMethod.PROTOCOL, grace=run.grace, graceful=run.graceful),
        content=hashlib.sha256(data).hexdigest(),
        on_demand=sockets,
        labels=labels or EMPTY,
        annotations=annotations or EMPTY,
        config=data if piped else b"",
        spec=spec,
    )


def _address(name: str, executable: bool, piped: bool) -> str:
    """What uWSGI is told to read."""
    if executable:
        # uWSGI gives it to a shell, which would look for a bare name in PATH, and take a space for the name's end.
        return f"exec://{shlex.quote(name if '/' in name else f'./{name}')}"
    return f"emperor://{name}" if piped else name


def _shown_patch(patch: Patch | str) -> dict[str, Any]:
    if isinstance(patch, str):
        return {"withoutUwsgi": False, "because": patch}
    return {"command": patch.program, "privileged": patch.privileged, "withoutUwsgi": True}


def zerg_vassal(broodlord: Vassal, name: str, number: int) -> Vassal:
    """A zerg of this vassal: uWSGI run with the section `zerg` of the same config, under a `name` of its own.

    `number` counts all zergs of this Emperor; they are told it as uWSGI's are.
    """
    words = list(broodlord.launch.command)
    # The config follows its option, which is the second word.
    words[2] += ":zerg"
    spec = {key: value for key, value in broodlord.spec.items() if key != "onDemand"} | {"command": words}
    env = (*broodlord.launch.env, (BROODLORD_NUMBER, str(number)))
    launch = replace(broodlord.launch, command=tuple(words), env=env, patch=None)
    # Never on demand, as with uWSGI: the one that called has the socket.
    return replace(broodlord, name=name, launch=launch, spec=spec, zerg_of=broodlord.name, on_demand=None)
