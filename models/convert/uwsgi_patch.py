"""uWSGI configs that only start another program: `privileged-binary-patch` and its three siblings. Called by `formats`.

What uWSGI 2.0.31 does there was tried: the environment and the umask hold, the privileged ones run before uid and gid
count, chdir is not reached, the `-arg` forms go through a shell, the others are given uWSGI's own arguments.
Every other uWSGI config runs unchanged under emperorctl: there is nothing to convert.
"""

from __future__ import annotations

import re
from dataclasses import replace

from emperorctl.models.convert.draft import (
    Conversion,
    Converted,
    Draft,
    Entry,
    Given,
    Rules,
    Section,
    doubled,
    substituted,
    wrong,
)
from emperorctl.models.convert.syntax import (
    SETTINGS_MAX,
    SHELL_BUILTINS,
    as_exec,
    identity,
    shell_words,
    text_of,
    umask,
)
from emperorctl.models.errors import ConfigError
from emperorctl.models.uwsgi import EXTENSIONS, read_uwsgi

__all__ = ["from_uwsgi", "is_uwsgi"]

# In the order in which uWSGI comes to them: the first one is what runs.
_PATCHES = (
    "privileged-binary-patch",
    "privileged-binary-patch-arg",
    "unprivileged-binary-patch",
    "unprivileged-binary-patch-arg",
)
_REFERENCE = re.compile(r"%\(([^)]{1,80})\)|%(.)|\$\(([^)]{1,80})\)|@\(([^)]{1,200})\)", re.DOTALL)
_COMPOUND = re.compile(r"[|&;()`\n]")
_SETTERS = frozenset({"set", "set-placeholder", "set-ph"})
_KEPT = frozenset("dDcCvVhtTkuUgG0123456789")
_REFERENCES_MAX = 10_000
_NESTED_MAX = 16
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_RULES: Rules = {"umask": (("umask",), umask)}
_IDENTITY: Rules = {"uid": (("user",), identity), "gid": (("group",), identity)}
_WHY = {
    "chdir": "a binary patch is started before it counts; set workingDir if the program needs it",
    "uid": "a privileged patch is started before it counts; set user, or make it unprivileged",
    "gid": "a privileged patch is started before it counts; set group, or make it unprivileged",
    "socket": "uWSGI never binds it for a patch; see onDemand for a socket that the Emperor binds",
    "http-socket": "uWSGI never binds it for a patch; see onDemand for a socket that the Emperor binds",
}
_DEFAULT = "an option of uWSGI, which is not started any more"


def is_uwsgi(given: Given) -> bool:
    """Whether these are bytes of a uWSGI config, by the file's extension."""
    try:
        _options(given)
    except ConfigError:
        return False
    return True


def _options(given: Given) -> list[tuple[str, str]]:
    text_of(given)
    extension = "." + given.base.rpartition(".")[2].lower()
    extension = extension if extension in EXTENSIONS else ".ini"
    return list(read_uwsgi(given.data, extension, given.file).attributes["uwsgi"])


def from_uwsgi(given: Given) -> Conversion:
    """The one vassal of a binary patch. Raises ConfigError where it is none, saying what to do with it."""
    section = Section("uwsgi")
    names: dict[str, str] = {}
    for key, value in _options(given):
        section.entries.append(Entry(key.replace("_", "-"), value))
        names.setdefault(key, value)
        if key.replace("_", "-") in _SETTERS and "=" in value:
            name, _, text = value.partition("=")
            names[name] = text
            section.take(key.replace("_", "-"))
        if len(section.entries) > SETTINGS_MAX:
            raise wrong(given, None, f"has more than {SETTINGS_MAX} options", "split it")
    patch = next((key for key in _PATCHES if any(entry.key == key for entry in section.entries)), None)
    if patch is None:
        message = "is a uWSGI config that is no binary patch, and runs under emperorctl unchanged"
        raise wrong(given, None, message, "put it into the vassal directory as it is")
    return Conversion((_vassal(given, section, names, patch),))


def _vassal(given: Given, section: Section, names: dict[str, str], patch: str) -> Converted:
    stem, dot, extension = given.base.rpartition(".")
    draft = Draft(given, stem if dot else given.base, f"[uwsgi] {patch}")
    own = {"n": stem, "s": given.base, "o": given.base, "e": extension, "x": "uwsgi"}
    expansion = _Expansion(given, draft, names, own | {key.upper(): value for key, value in own.items()})
    entry = section.take(patch)
    assert entry is not None
    _command(draft, given, entry, expansion.of(entry).value)
    for pair in section.take_all("env"):
        name, equals, value = expansion.of(pair).value.partition("=")
        if equals:
            draft.put(("env", name.strip().replace("%%", "%")), value, pair)
        else:
            draft.note(pair, "expected NAME=VALUE")
    draft.carry(section, _RULES, expansion.of)
    if not patch.startswith("privileged"):
        draft.carry(section, _IDENTITY, expansion.of)
    draft.say(("workingDir",), "%d")  # where uWSGI's Emperor starts what lies in its directory
    # Placeholders are options of people's own: they count where they are used.
    used = expansion.used
    draft.leave([each for each in section.rest() if each.key not in used], _WHY, {}, _DEFAULT)
    return draft.done()


def _command(draft: Draft, given: Given, entry: Entry, text: str) -> None:
    if not entry.key.endswith("-arg"):
        draft.command([text], entry)
        draft.changed(entry, "uWSGI would give it its own arguments, such as --ini and the file: it gets none here")
        return
    try:
        words = shell_words(text)
    except ValueError as error:
        raise wrong(given, entry.line, str(error), "mend the quotes", field=entry.key) from None
    if not words:
        raise wrong(given, entry.line, "names no program", "name one", field=entry.key)
    if (plain := as_exec(text, words)) is not None:
        draft.command(plain, entry)
        return
    simple = not _COMPOUND.search(text) and words[0] not in SHELL_BUILTINS and not _ASSIGNMENT.match(words[0])
    draft.command(["sh", "-c", f"exec {text}" if simple else text], entry)


class _Expansion:
    """uWSGI's placeholders and variables, as far as they are known before it runs."""

    def __init__(self, given: Given, draft: Draft, names: dict[str, str], own: dict[str, str]) -> None:
        self._given = given
        self._draft = draft
        self._names = names
        self._own = own
        self.used: set[str] = set()
        self._references = 0

    def of(self, entry: Entry) -> Entry:
        """The setting with its text made into a manifest's."""
        return replace(entry, value=self._text(entry, entry.value, ()))

    def _text(self, entry: Entry, text: str, open_names: tuple[str, ...]) -> str:
        try:
            return substituted(_REFERENCE, lambda match: self._value(entry, match, open_names), text)
        except ValueError as error:
            raise wrong(self._given, entry.line, str(error), "use fewer placeholders", field=entry.key) from None

    def _value(self, entry: Entry, match: re.Match[str], open_names: tuple[str, ...]) -> str:
        name, magic, variable, _ = match.groups()
        self._references += 1
        if self._references > _REFERENCES_MAX:
            message = f"there are more than {_REFERENCES_MAX} placeholders to write out"
            raise wrong(self._given, entry.line, message, "use fewer placeholders", field=entry.key)
        if magic is not None:
            if magic in self._own:
                return doubled(self._own[magic])
            if magic in _KEPT:
                return match[0]
            if magic == "%":
                return "%%"
        if name is not None and name in self._names:
            if name in open_names or len(open_names) >= _NESTED_MAX:
                chain = " → ".join((*open_names, name)[:8])
                message = f"the placeholder %({name}) leads back to itself: {chain}"
                raise wrong(self._given, entry.line, message, "write one of them out", field=entry.key)
            self.used.add(name)
            return self._text(entry, self._names[name], (*open_names, name))
        what = "a variable of the Emperor's environment" if variable is not None else "known to uWSGI alone"
        self._draft.changed(entry, f"{match[0][:60]} is {what} and was left as it stands: write its value in")
        return doubled(match[0])
