"""Procfiles: `web: bundle exec puma -p $PORT`, as foreman and its like run them. Called by `formats`.

A command that is only words becomes those words; one that needs a shell gets one.
"""

from __future__ import annotations

import re

from emperorctl.models.convert.draft import VASSALS_MAX, Conversion, Converted, Draft, Entry, Given, doubled, wrong
from emperorctl.models.convert.syntax import SHELL_BUILTINS, as_exec, ends_in_exec, shell_words, text_of
from emperorctl.models.errors import ConfigError, Problem

__all__ = ["LINE", "from_procfile"]

LINE = re.compile(r"([A-Za-z0-9_-]{1,200})[ \t]*:[ \t]*(\S.*)\Z")
_COMPOUND = re.compile(r"[|&;()`\n]")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)\Z", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)|([A-Za-z_][A-Za-z0-9_]*))")
_GIVEN = frozenset({"PORT", "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"})
_FIRST_PORT = 5000
_PORTS_APART = 100
_PORT_MAX = 65535


def from_procfile(given: Given) -> Conversion:
    """Every process type of a Procfile, each as one vassal. Raises ConfigError where it can't be read."""
    converted: list[Converted] = []
    problems: list[Problem] = []
    for number, raw in enumerate(text_of(given).split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            match = LINE.match(line)
            if match is None:
                message = f'"{line[:60]}" is not a process type and its command'
                raise wrong(given, number, message, "write NAME: COMMAND, the name of A-Z a-z 0-9 _ -")
            if len(converted) >= VASSALS_MAX:
                raise wrong(given, number, f"more than {VASSALS_MAX} process types", "split the file")
            entry = Entry(match[1], match[2], number)
            converted.append(_process(given, entry, index=len(converted) + len(problems)))
        except ConfigError as error:
            problems.append(error.problem)
    return Conversion(tuple(converted), (), tuple(problems))


def _process(given: Given, entry: Entry, *, index: int) -> Converted:
    draft = Draft(given, entry.key, f"{entry.key}:", line=entry.line)
    if given.directory:
        draft.put(("workingDir",), doubled(given.directory), Entry("directory", given.directory, entry.line))
    port = min(_FIRST_PORT + _PORTS_APART * index, _PORT_MAX)
    variables = {"PORT": str(port)}
    _command(draft, given, entry, variables)
    for name, value in variables.items():
        draft.put(("env", name), doubled(value), Entry(f"{entry.key} {name}", value, entry.line))
    if variables["PORT"] == str(port):
        why = "counted as foreman counts; choose your own in spec.env"
        draft.changed(Entry("PORT", str(port), entry.line), why)
    if entry.key == "release":
        draft.note(entry, "a release command runs once; the Emperor would start it again: run it before you deploy")
    return draft.done()


def _command(draft: Draft, given: Given, entry: Entry, variables: dict[str, str]) -> None:
    try:
        words = shell_words(entry.value)
    except ValueError as error:
        raise wrong(given, entry.line, str(error), "mend the quotes", field=entry.key) from None
    leading = 0
    while leading < len(words) and _ASSIGNMENT.match(words[leading]):
        leading += 1
    if (plain := as_exec(entry.value, words[leading:])) is not None:
        for word in words[:leading]:
            name, _, value = word.partition("=")
            variables[name] = value
        draft.command([doubled(word) for word in plain], entry)
        return
    for name in dict.fromkeys(one or two for one, two in _VARIABLE.findall(entry.value)):
        if name not in _GIVEN and f"{name}=" not in entry.value:
            draft.note(Entry(f"${name}", "", entry.line), f"give {name} a value in spec.env; .env files are not read")
    if ends_in_exec(entry.value):
        text = entry.value
    elif _COMPOUND.search(entry.value) or leading == len(words) or words[leading] in SHELL_BUILTINS:
        text = entry.value
        draft.changed(entry, "the shell stays the main process and gets the signals; end the command with exec PROGRAM")
    else:
        # `exec` alone takes no assignments before the program in every shell; env does.
        text = f"exec env {entry.value}" if leading else f"exec {entry.value}"
    draft.command(["sh", "-c", doubled(text)], entry)
