"""The command lines of a unit: `ExecStart=` into a command, the ones around it into hooks, `kill` into a signal.

Called by `systemd` alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from emperorctl.models.convert.draft import Draft, Entry, Given, Section, substituted, wrong
from emperorctl.models.convert.syntax import signal_word
from emperorctl.models.convert.systemd_syntax import unquoted_words

__all__ = ["kill_signal", "set_command", "set_hooks"]

_PREFIX = re.compile(r"[-@:+!|]*")
_WHOLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)\Z")
_REFERENCE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_KILL = frozenset({"/bin/kill", "/usr/bin/kill", "kill"})
_MAINPID = frozenset({"$MAINPID", "${MAINPID}"})
_HOOKS = {"ExecStartPre": "preStart", "ExecStartPost": "postStart", "ExecStop": "preStop", "ExecStopPost": "postStop"}
_DECISIVE = frozenset({"ExecStartPre"})
_PREFIXES = {
    "-": "its exit code is not judged here",
    "+": "everything runs as spec.user; leave user out if it needs more rights",
    "!": "everything runs as spec.user; leave user out if it needs more rights",
    "|": "there is no login shell here",
}


def set_command(
    draft: Draft,
    given: Given,
    service: Section,
    meant: Callable[[Entry], Entry],
    variables: Mapping[str, str],
) -> None:
    """Set the draft's command. Raises ConfigError where there is none, or several."""
    entries: list[Entry] = []
    for entry in service.take_all("ExecStart"):
        entries = [*entries, entry] if entry.value else []
    if len(entries) != 1:
        message = f"expected one ExecStart, found {len(entries)}"
        raise wrong(given, service.line, message, "a vassal is one command", field="[Service]")
    (entry,) = entries
    marks = _marks(entry)
    try:
        words = _words(draft, entry, meant(entry).value[len(marks) :], variables)
    except ValueError as error:
        raise wrong(given, entry.line, str(error), "mend the command line", field="ExecStart") from None
    for mark in dict.fromkeys(marks):
        if mark in _PREFIXES:
            draft.changed(Entry(f"ExecStart={mark}", "", entry.line), _PREFIXES[mark])
    draft.command(words, entry)


def _marks(entry: Entry) -> str:
    prefix = _PREFIX.match(entry.value)
    return prefix[0] if prefix else ""


def _words(draft: Draft, entry: Entry, text: str, variables: Mapping[str, str]) -> list[str]:
    """The words to run. Raises ValueError."""
    marks, words = _marks(entry), unquoted_words(text)
    if "@" in marks and len(words) > 1:
        draft.changed(entry, f"the program is called by its own name and not as {words[1]}")
        del words[1]
    return words if ":" in marks else _with_variables(words, variables)


def set_hooks(draft: Draft, service: Section, meant: Callable[[Entry], Entry], variables: Mapping[str, str]) -> None:
    """Set the hooks of the commands around ExecStart; a `kill` that stops the service sets the stop signal."""
    for key, hook in _HOOKS.items():
        steps: list[dict[str, Any]] = []
        entries: list[Entry] = []
        for entry in service.take_all(key):
            entries = [*entries, entry] if entry.value else []
        for entry in entries:
            found = kill_signal(entry.value) if key == "ExecStop" else None
            if found is not None and len(entries) == 1:
                draft.put(("stop", "signal"), found, entry)
                continue
            if (step := _step(draft, entry, meant, variables)) and draft.put(("hooks", hook), [*steps, step], entry):
                steps.append(step)


def _step(
    draft: Draft, entry: Entry, meant: Callable[[Entry], Entry], variables: Mapping[str, str]
) -> dict[str, Any] | None:
    marks = _marks(entry)
    if "$MAINPID" in entry.value or "${MAINPID}" in entry.value:
        draft.note(entry, "a hook is not told the main process")
        return None
    try:
        words = _words(draft, entry, meant(entry).value[len(marks) :], variables)
    except ValueError as error:
        draft.note(entry, str(error))
        return None
    if ";" in words:
        draft.note(entry, "several commands in one line: write each as a hook of its own")
        return None
    if "-" in marks and entry.key in _DECISIVE:
        words = ["sh", "-c", '"$0" "$@" || :', *words]  # only there a failure would count
    step: dict[str, Any] = {"command": words, "timeout": "1m30s"}  # systemd's default
    if "+" in marks or "!" in marks:
        step["asEmperor"] = True
    return step


def _with_variables(words: list[str], variables: Mapping[str, str]) -> list[str]:
    """Known variables written out, as systemd does it; a shell for those that are not known here."""
    out: list[str] = []
    shell: list[str] = []
    needed = False
    for word in words:
        if whole := _WHOLE.match(word):
            if whole[1] in variables:
                pieces = variables[whole[1]].split()
                out += pieces
                shell += [shlex.quote(piece) for piece in pieces]
            else:
                needed = True
                shell.append(f"${whole[1]}")
            continue
        unknown = [name for _, name in _REFERENCE.findall(word) if name and name not in variables]
        needed = needed or bool(unknown)
        text = substituted(_REFERENCE, lambda match: _value(match, variables), word)
        out.append(text)
        shell.append(_quoted(word, variables) if unknown else shlex.quote(text))
    return ["sh", "-c", f"set -f; exec {' '.join(shell)}"] if needed else out


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    return "$" if match[1] else variables.get(match[2], "")


def _quoted(word: str, variables: Mapping[str, str]) -> str:
    parts, position = [], 0
    for match in _REFERENCE.finditer(word):
        parts.append(shlex.quote(word[position : match.start()]) if match.start() > position else "")
        known = match[1] or match[2] in variables
        parts.append(shlex.quote(_value(match, variables)) if known else f'"${{{match[2]}}}"')
        position = match.end()
    return "".join([*parts, shlex.quote(word[position:]) if position < len(word) else ""])


def kill_signal(text: str) -> str | int | None:
    """The signal of `kill -HUP $MAINPID`; None for any other command."""
    words = text.lstrip("-+!:@").split()
    if len(words) < 2 or words[0] not in _KILL or words[-1] not in _MAINPID:
        return None
    match words[1:-1]:
        case []:
            name = "TERM"
        case ["-s" | "--signal" | "-n", name]:
            pass
        case [option] if option.startswith("--signal="):
            name = option.removeprefix("--signal=")
        case [option] if option.startswith("-"):
            name = option[1:]
        case _:
            return None
    try:
        return signal_word(name)
    except ValueError:
        return None
