"""circus' `[watcher:NAME]` sections, with the environments that belong to them. Called by `formats`.

Not in here: circus' own settings, sockets and plugins, which are named.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import replace

from emperorctl.models.convert.draft import (
    VASSALS_MAX,
    Conversion,
    Converted,
    Draft,
    Entry,
    Given,
    Note,
    Rules,
    Section,
    doubled,
    substituted,
    wrong,
)
from emperorctl.models.convert.syntax import (
    boolean,
    identity,
    ini_sections,
    limit,
    seconds,
    shell_words,
    signal_word,
    size,
    whole,
)
from emperorctl.models.errors import ConfigError, Problem

__all__ = ["from_circus"]

_WATCHER = "watcher:"
_REFERENCE = re.compile(r"\$\(([\w.]{1,80})\)|\(\(([\w.]{1,80})\)\)")
_RULES: Rules = {
    "working_dir": (("workingDir",), str),
    "uid": (("user",), identity),
    "gid": (("group",), identity),
    "stop_signal": (("stop", "signal"), signal_word),
    "graceful_timeout": (("stop", "gracePeriod"), seconds),
    "stdout_stream.max_bytes": (("logs", "maxSize"), size),
    "stdout_stream.backup_count": (("logs", "maxFiles"), whole),
}
_LOGS = "stdout and stderr go into one log: emperorctl logs NAME"
_HOOK = "hooks in a manifest are commands, and this is Python inside circus"
_WHY = {
    "autostart": "a vassal runs as soon as its file is there; emperorctl stop NAME holds it down, also later",
    "respawn": "the Emperor always starts it again; emperorctl stop NAME holds it down",
    "max_retry": "the Emperor never gives up: it waits longer each time; see emperorctl blacklist list",
    "warmup_delay": "vassals start all at once, bounded by the Emperor's throttle",
    "priority": "vassals start all at once; let the program wait for what it needs",
    "use_sockets": "the program would need circus' sockets: see onDemand for a socket that the Emperor binds",
    "on_demand": "it would start with its first connection: see onDemand",
    "stdin_socket": "the program would need circus' sockets: see onDemand for a socket that the Emperor binds",
    "copy_env": "a vassal gets a short base environment; give it what it needs in spec.env",
    "copy_path": "sys.path of circus is not known here; set PYTHONPATH in spec.env",
    "virtualenv": "name the environment's own interpreter in the command",
    "virtualenv_py_ver": "name the environment's own interpreter in the command",
    "stop_children": "only the main process gets the stop signal; after the grace period all that is left gets SIGKILL",
    "max_age": "there is no such limit; a timer can run emperorctl reload NAME",
    "max_age_variance": "there is no such limit; a timer can run emperorctl reload NAME",
    "shell_args": "write them into the command",
    "executable": "write it into the command",
    "check_flapping": "the blacklist does this for every vassal",
}
_SAME = {
    **dict.fromkeys(("autostart", "respawn", "copy_path"), frozenset({"true", "yes", "on", "1"})),
    **dict.fromkeys(("singleton",), frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})),
    **dict.fromkeys(
        ("use_sockets", "copy_env", "on_demand", "stop_children", "send_hup", "shell"),
        frozenset({"false", "no", "off", "0"}),
    ),
}
_SAME["copy_path"] = frozenset({"false", "no", "off", "0"})
_SECTIONS = {
    "socket": "the Emperor binds no socket for it: see onDemand in a manifest",
    "plugin": "there are no plugins",
    "circus": "a setting of circus itself",
}


def from_circus(given: Given) -> Conversion:
    """Every watcher of a circus configuration. Raises ConfigError where the file as a whole can't be read."""
    sections = ini_sections(given)
    environments = [section for section in sections if section.name.partition(":")[0] == "env"]
    converted: list[Converted] = []
    problems: list[Problem] = []
    notes: list[Note] = []
    watchers = [section for section in sections if section.name.startswith(_WATCHER)]
    for section in watchers:
        name = section.name.removeprefix(_WATCHER).strip()
        own = [each for each in environments if _fits(each, name)]
        try:
            converted += _watcher(given, section, own, name, room=VASSALS_MAX - len(converted))
        except ConfigError as error:
            problems.append(error.problem)
    names = [section.name.removeprefix(_WATCHER).strip() for section in watchers]
    for section in sections:
        if section in watchers or (section in environments and any(_fits(section, name) for name in names)):
            continue
        why = _SECTIONS.get(section.name.partition(":")[0], "it belongs to no watcher")
        notes += [Note(f"[{section.name}] {each.key}", each.value, why, each.line) for each in section.rest()]
    return Conversion(tuple(converted), tuple(notes), tuple(problems))


def _fits(environment: Section, watcher: str) -> bool:
    _, colon, patterns = environment.name.partition(":")
    return not colon or any(fnmatch.fnmatchcase(watcher, pattern.strip()) for pattern in patterns.split(","))


def _watcher(given: Given, section: Section, environments: list[Section], name: str, *, room: int) -> list[Converted]:
    count, entry = 1, section.take("numprocesses")
    if entry is not None:
        try:
            count = whole(entry.value)
        except ValueError as error:
            raise wrong(given, entry.line, str(error), "write a number", field="numprocesses") from None
    if not 1 <= count <= room:
        message = f"expected 1 to {room} processes more in this file"
        raise wrong(given, section.line, message, "split the file", field="numprocesses")
    return [
        _process(given, section, environments, f"{name}-{number}" if count > 1 else name, number)
        for number in range(1, count + 1)
    ]


def _process(given: Given, section: Section, environments: list[Section], name: str, wid: int) -> Converted:
    draft = Draft(given, name, f"[{section.name}]", line=section.line)
    values = {"circus.wid": str(wid)}
    for environment in environments:
        for entry in environment.entries:
            variable = entry.key.upper()  # as circus does
            if "$" in entry.value:
                draft.note(entry, "a reference to circus' own environment: write the value into spec.env")
                continue
            draft.put(("env", variable), doubled(entry.value), entry)
            values[f"circus.env.{variable.lower()}"] = entry.value

    def meant(entry: Entry) -> Entry:
        def value(match: re.Match[str]) -> str:
            reference = (match[1] or match[2]).lower()
            if reference in values:
                return doubled(values[reference])
            draft.changed(entry, f"{match[0]} is not known here and was left as it stands: write its value in")
            return match[0]

        return replace(entry, value=substituted(_REFERENCE, value, doubled(entry.value)))

    _command(draft, given, section, meant)
    draft.carry(section, _RULES, meant)
    for entry in section.entries:
        if entry.key.startswith("rlimit_"):
            draft.carry(section, {entry.key: (("rlimits", entry.key.removeprefix("rlimit_")), limit)})
    hup = section.take("send_hup")
    if hup is not None and _yes(draft, hup):
        draft.put(("reload",), {"signal": "SIGHUP"}, hup)
    draft.say(("stop", "gracePeriod"), "10s")  # circus' default
    rest = section.rest()
    hooks = [entry for entry in rest if entry.key.startswith("hooks.")]
    streams = [entry for entry in rest if entry.key.startswith(("stdout_stream", "stderr_stream"))]
    draft.leave(hooks, {}, {}, _HOOK)
    draft.leave(streams, {}, {}, _LOGS)
    others = [entry for entry in rest if entry not in hooks and entry not in streams]
    draft.leave(others, _WHY, _SAME, "there is nothing like it here")
    return draft.done()


def _yes(draft: Draft, entry: Entry) -> bool:
    try:
        return boolean(entry.value)
    except ValueError as error:
        draft.note(entry, str(error))
        return False


def _command(draft: Draft, given: Given, section: Section, meant: Callable[[Entry], Entry]) -> None:
    command, arguments, shell = section.take("cmd"), section.take("args"), section.take("shell")
    if command is None or not command.value:
        remedy = "add the line, or remove the section"
        raise wrong(given, section.line, "there is no cmd", remedy, field=f"[{section.name}]")
    try:
        text = " ".join(meant(entry).value for entry in (command, arguments) if entry is not None)
        words = ["sh", "-c", text] if shell is not None and _yes(draft, shell) else shell_words(text)
    except ValueError as error:
        raise wrong(given, command.line, str(error), "mend the command line", field="cmd") from None
    draft.command(words, command)
