"""supervisord's `[program:NAME]` sections. Called by `formats`; expansions as supervisord 4 does them.

Not in here: supervisord's own settings, which are named, and its `[include]`, which is named and not followed.
"""

from __future__ import annotations

import re
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
    SETTINGS_MAX,
    identity,
    ini_sections,
    seconds,
    shell_words,
    signal_word,
    size,
    umask,
    whole,
)
from emperorctl.models.errors import ConfigError, Problem

__all__ = ["from_supervisord"]

_PROGRAM = "program:"
_REFERENCE = re.compile(r"%(?:(%)|\((\w{1,80})\)([#0+ -]{0,4}[0-9]{0,2})([sd])|)")
_PAIR = re.compile(r"""\s*([^\s=,"']+)\s*=\s*("[^"]*"|'[^']*'|[^,\s"']*)\s*(?:,|\Z)""")
_HOST = "host_node_name"
_RULES: Rules = {
    "directory": (("workingDir",), str),
    "user": (("user",), identity),
    "umask": (("umask",), umask),
    "startsecs": (("loyalty", "after"), seconds),
    "stopsignal": (("stop", "signal"), signal_word),
    "stopwaitsecs": (("stop", "gracePeriod"), seconds),
    "stdout_logfile_maxbytes": (("logs", "maxSize"), size),
    "stdout_logfile_backups": (("logs", "maxFiles"), whole),
}
_LOGS = "output is captured: emperorctl logs NAME"
_WHY = {
    "autostart": "a vassal runs as soon as its file is there; emperorctl stop NAME holds it down, also later",
    "autorestart": "the Emperor always starts it again; emperorctl stop NAME holds it down",
    "exitcodes": "the Emperor starts it again whatever its exit code is",
    "startretries": "the Emperor never gives up: it waits longer each time; see emperorctl blacklist list",
    "priority": "vassals start all at once; let the program wait for what it needs",
    "stopasgroup": "only the main process gets the stop signal; after the grace period all that is left gets SIGKILL",
    "killasgroup": "whatever it leaves behind always gets SIGKILL",
    "redirect_stderr": "stdout and stderr go into one log",
    "stdout_logfile": _LOGS,
    "stderr_logfile": _LOGS,
    "stderr_logfile_maxbytes": "stdout and stderr go into one log; see logs.maxSize",
    "stderr_logfile_backups": "stdout and stderr go into one log; see logs.maxFiles",
    "numprocs_start": "without numprocs it makes no difference",
    "serverurl": "there is no supervisord to talk to; the control socket is emperorctl's",
}
_SAME = {
    "autostart": frozenset({"true", "yes", "on", "1"}),
    "autorestart": frozenset({"true", "yes", "on", "1"}),
    "redirect_stderr": frozenset({"true", "yes", "on", "1"}),
    "killasgroup": frozenset({"true", "yes", "on", "1"}),
    "stopasgroup": frozenset({"false", "no", "off", "0"}),
    "stdout_logfile": frozenset({"auto"}),
    "stderr_logfile": frozenset({"auto"}),
    "serverurl": frozenset({"auto"}),
    "stdout_capture_maxbytes": frozenset({"0"}),
    "stderr_capture_maxbytes": frozenset({"0"}),
    **dict.fromkeys(
        ("stdout_events_enabled", "stderr_events_enabled", "stdout_syslog", "stderr_syslog"),
        frozenset({"false", "no", "off", "0"}),
    ),
}
_SECTIONS = {
    "include": "no other file is read: give emperorctl convert the included files, too",
    "eventlistener": "there are no event listeners; emperorctl events -w shows events",
    "fcgi-program": "the program would need supervisord's socket: write a manifest with onDemand for it",
    "group": "there are no groups; labels in metadata can stand for them",
}
_OWN = "a setting of supervisord itself"
_INHERITED = ("user", "umask")


def from_supervisord(given: Given) -> Conversion:
    """Every program of a supervisord configuration. Raises ConfigError where the file as a whole can't be read."""
    sections = ini_sections(given, inline=";#")
    groups = {member: name for name, members in _groups(sections) for member in members}
    general = next((section for section in sections if section.name == "supervisord"), Section("supervisord"))
    converted: list[Converted] = []
    problems: list[Problem] = []
    notes: list[Note] = []
    for section in sections:
        if not section.name.startswith(_PROGRAM):
            continue
        try:
            converted += _program(given, section, general, groups, room=VASSALS_MAX - len(converted))
        except ConfigError as error:
            problems.append(error.problem)
    for key in (*_INHERITED, "environment"):
        general.take(key)
    for section in sections:
        if not section.name.startswith(_PROGRAM):
            why = _SECTIONS.get(section.name.partition(":")[0], _OWN)
            notes += [Note(f"[{section.name}] {each.key}", each.value, why, each.line) for each in section.rest()]
    return Conversion(tuple(converted), tuple(notes), tuple(problems))


def _groups(sections: list[Section]) -> list[tuple[str, list[str]]]:
    found = []
    for section in sections:
        kind, _, name = section.name.partition(":")
        if kind == "group":
            members = next((entry.value for entry in section.entries if entry.key == "programs"), "")
            found.append((name, [member.strip() for member in members.split(",")]))
    return found


def _program(given: Given, section: Section, general: Section, groups: dict[str, str], *, room: int) -> list[Converted]:
    name = section.name.removeprefix(_PROGRAM).strip()
    known = {"program_name": name, "group_name": groups.get(name, name), "here": given.directory}
    command = section.take("command")
    if command is None or not command.value:
        remedy = "add the line, or remove the section"
        raise wrong(given, section.line, "there is no command", remedy, field=f"[{section.name}]")
    count = _count(given, section, "numprocs", 1)
    first = _count(given, section, "numprocs_start", 0)
    if not 1 <= count <= room:
        message = f"expected 1 to {room} processes more in this file"
        raise wrong(given, section.line, message, "split the file", field="numprocs")
    found = []
    for number in range(first, first + count):
        values: dict[str, str | int] = {**known, "process_num": number, "numprocs": count}
        if not given.directory:
            del values["here"]
        found.append(_process(given, section, general, values, several=count > 1))
    return found


def _count(given: Given, section: Section, key: str, default: int) -> int:
    entry = section.take(key)
    if entry is None:
        return default
    try:
        return whole(entry.value)
    except ValueError as error:
        raise wrong(given, entry.line, str(error), "write a number", field=key) from None


def _process(
    given: Given, section: Section, general: Section, values: dict[str, str | int], *, several: bool
) -> Converted:
    wanted = str(values["program_name"])
    named = section.take("process_name")
    if named is not None:
        try:
            wanted = _expanded(given, named, values)[0].replace("%%", "%")
        except ValueError as error:
            raise wrong(given, named.line, str(error), "write a shorter name", field="process_name") from None
    elif several:
        wanted = f"{wanted}-{values['process_num']}"
    draft = Draft(given, wanted, f"[{section.name}]", line=section.line)

    def meant(entry: Entry) -> Entry:
        text, unknown = _expanded(given, entry, values)
        for reference in unknown:
            draft.changed(entry, f"{reference} is not known here and was left as it stands: write its value in")
        return replace(entry, value=text)

    command = section.take("command")
    assert command is not None
    try:
        draft.command(shell_words(meant(command).value), command)
    except ValueError as error:
        raise wrong(given, command.line, str(error), "mend the command line", field="command") from None
    for source in (general, section):
        if (entry := source.take("environment")) is not None:
            try:
                _environment(draft, entry, meant(entry).value)
            except ValueError as error:
                draft.note(entry, str(error))
    for key in _INHERITED:
        if section.take(key) is None and (entry := general.take(key)) is not None:
            path, read = _RULES[key]
            draft.put(path, read(doubled(entry.value)), entry)
    draft.carry(section, _RULES, meant)
    draft.say(("stop", "gracePeriod"), "10s")  # supervisord's default
    draft.leave(section.rest(), _WHY, _SAME, "there is nothing like it here")
    return draft.done()


def _expanded(given: Given, entry: Entry, values: dict[str, str | int]) -> tuple[str, list[str]]:
    """The text for a manifest, and the references in it that stand for something unknown."""
    unknown = []

    def value(match: re.Match[str]) -> str:
        percent, name, width, kind = match.groups()
        if percent:
            return "%%"
        if name is None:
            message = f'a lone % in "{entry.value[:60]}"'
            raise wrong(given, entry.line, message, "supervisord wants %% for a percent sign", field=entry.key)
        if name == _HOST:
            return "%h"
        if name not in values:
            unknown.append(match[0])
            return doubled(match[0])
        try:
            return doubled(f"%{width}{kind}" % values[name])
        except TypeError:
            message = f"{match[0]} wants a number, and {name} is none"
            raise wrong(given, entry.line, message, f"write %({name})s", field=entry.key) from None

    return substituted(_REFERENCE, value, entry.value), unknown


def _environment(draft: Draft, entry: Entry, text: str) -> None:
    """`KEY="value",KEY2=value`; whatever is not of this form is named."""
    position, count, stripped = 0, 0, text.strip()
    while position < len(stripped):
        match, count = _PAIR.match(stripped, position), count + 1
        if match is None or count > SETTINGS_MAX:
            rest = Entry(entry.key, stripped[position:].replace("%%", "%"), entry.line)
            draft.note(rest, 'expected KEY="value" pairs with commas between them: add them to spec.env')
            return
        value = match[2][1:-1] if match[2][:1] in {'"', "'"} else match[2]
        pair = Entry(f"{entry.key} {match[1]}", value, entry.line)
        draft.put(("env", match[1].replace("%%", "%")), value, pair)
        position = match.end()
