"""systemd's service units, `NAME.service` and `NAME@.service`. Called by `formats`.

Not in here: the command lines (`systemd_exec`), and drop-in directories, which are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from emperorctl.models.convert.draft import Conversion, Draft, Entry, Given, Note, Rules, Section, wrong
from emperorctl.models.convert.syntax import identity, signal_word, umask, whole
from emperorctl.models.convert.systemd_exec import kill_signal, set_command, set_hooks
from emperorctl.models.convert.systemd_syntax import (
    Specifiers,
    bytes_limit,
    count_limit,
    cpu_quota,
    memory_limit,
    span,
    span_limit,
    unit_sections,
    unquoted_words,
)

__all__ = ["from_systemd"]

_LONGEST_GRACE = "1h"
_BYTES = ("as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack")
_COUNTS = ("locks", "nofile", "nproc", "rtprio", "sigpending")


def _directory(text: str) -> str:
    return text.removeprefix("-") or "/"


def _nice_limit(text: str) -> Any:
    """`LimitNICE=`: a nice value with its sign, or the kernel's own number."""
    word = text.strip()
    return 20 - whole(word) if word[:1] in {"+", "-"} else count_limit(text)


_RULES: Rules = {
    "Group": (("group",), identity),
    "UMask": (("umask",), umask),
    "Nice": (("nice",), whole),
    "KillSignal": (("stop", "signal"), signal_word),
    **{f"Limit{name.upper()}": (("rlimits", name), bytes_limit) for name in _BYTES},
    **{f"Limit{name.upper()}": (("rlimits", name), count_limit) for name in _COUNTS},
    "LimitCPU": (("rlimits", "cpu"), span_limit(1.0)),
    "LimitRTTIME": (("rlimits", "rttime"), span_limit(1e-6)),
    "LimitNICE": (("rlimits", "nice"), _nice_limit),
    "MemoryMax": (("resources", "limits", "memory"), memory_limit),
    "TasksMax": (("resources", "limits", "pids"), whole),
    "IOWeight": (("resources", "limits", "ioWeight"), whole),
}
# Its percent sign is none of systemd's specifiers.
_QUOTA: Rules = {"CPUQuota": (("resources", "limits", "cpu"), cpu_quota)}
_LOGS = "output is captured: emperorctl logs NAME"
_BLACKLIST = "the Emperor never gives up: it waits longer each time; see emperorctl blacklist list"
_ORDER = "vassals start all at once; let the program wait for what it needs"
_SIGNALS = "only the main process gets the stop signal; after the grace period all that is left gets SIGKILL"
_WHY = {
    "ExecCondition": "there are no conditions; a preStart hook that fails is tried again later",
    **dict.fromkeys(("StandardOutput", "StandardError", "SyslogIdentifier", "LogLevelMax"), _LOGS),
    **dict.fromkeys(("StartLimitIntervalSec", "StartLimitBurst", "StartLimitInterval", "StartLimitAction"), _BLACKLIST),
    **dict.fromkeys(("KillMode", "SendSIGHUP", "SendSIGKILL", "FinalKillSignal", "RestartKillSignal"), _SIGNALS),
    **dict.fromkeys(("RestartForceExitStatus", "SuccessExitStatus"), "it is started again whatever its exit code is"),
    "EnvironmentFile": "no other file is read: write its variables into spec.env",
    "PassEnvironment": "write the variables into spec.env",
    "UnsetEnvironment": "a vassal gets a short base environment and spec.env, nothing else",
    "Restart": "the Emperor always starts it again; emperorctl stop NAME holds it down",
    "RestartSec": "a loyal vassal is started again at once, another waits longer each time",
    "RestartPreventExitStatus": "the Emperor starts it again whatever its exit code is",
    "WatchdogSec": "heartbeats have one period for the whole Emperor: see its heartbeat option",
    "RuntimeMaxSec": "there is no such limit; a timer can run emperorctl reload NAME",
    "TimeoutStartSec": "there is no limit on starting",
    "PIDFile": "the Emperor started the process and knows it",
    "BusName": "there is no D-Bus here",
    "Sockets": "a socket that the Emperor binds is onDemand",
    "SupplementaryGroups": "groups are those of the user",
    "RemainAfterExit": "a vassal is a process that runs",
}
_UNIT_WHY = {
    **dict.fromkeys(("After", "Before", "Requires", "Wants", "BindsTo", "PartOf", "Requisite", "Upholds"), _ORDER),
    **dict.fromkeys(("StartLimitIntervalSec", "StartLimitBurst", "StartLimitInterval", "StartLimitAction"), _BLACKLIST),
    "Documentation": "metadata.annotations can hold it",
}
_INSTALL = "a vassal is enabled by its file's being in the vassal directory"
_SAME = {
    "Type": frozenset({"simple", "exec", "notify", "notify-reload", "idle"}),
    "Restart": frozenset({"always"}),
    "KillMode": frozenset({"mixed"}),
    "SendSIGKILL": frozenset({"yes", "true", "on", "1"}),
    "SendSIGHUP": frozenset({"no", "false", "off", "0"}),
    "RemainAfterExit": frozenset({"no", "false", "off", "0"}),
    "StandardInput": frozenset({"null"}),
    **dict.fromkeys(("StandardOutput", "StandardError"), frozenset({"journal", "inherit"})),
    "GuessMainPID": frozenset({"yes", "no", "true", "false"}),
}
_NOT_HERE = "there is nothing like it here"


def from_systemd(given: Given) -> Conversion:
    """The vassal of a service unit. Raises ConfigError where there is none in it."""
    sections = {section.name: section for section in unit_sections(given)}
    service = sections.get("Service")
    if service is None:
        named = ", ".join(f"[{name}]" for name in list(sections)[:5]) or "nothing"
        raise wrong(given, None, f"there is no [Service] section, only {named}", "give a service unit")
    unit = given.base if given.base.endswith(".service") else "unit.service"
    specifiers = Specifiers(unit, user_unit="/user/" in f"{given.directory}/")
    name = unit.removesuffix(".service")
    draft = Draft(given, name.rstrip("@"), f"[Service] of {unit}", line=service.line)
    _service(draft, given, service, specifiers)
    unit_section = sections.get("Unit", Section("Unit"))
    if (description := unit_section.take("Description")) is not None and "\0" not in description.value:
        draft.annotations["description"] = description.value
    for section, why, default in ((unit_section, _UNIT_WHY, _NOT_HERE), (sections.get("Install"), {}, _INSTALL)):
        if section is not None:
            draft.leave(section.rest(), why, {}, default)
    notes = [
        Note(f"[{section.name}] {entry.key}", entry.value, "not a section of a service", entry.line)
        for section in sections.values()
        if section.name not in {"Unit", "Service", "Install"} and not section.name.startswith("X-")
        for entry in section.entries
    ]
    return Conversion((draft.done(),), tuple(notes))


def _service(draft: Draft, given: Given, service: Section, specifiers: Specifiers) -> None:
    def meant(entry: Entry) -> Entry:
        text, unknown = specifiers.expand(entry.value)
        for specifier in unknown:
            draft.changed(entry, f"{specifier} is not known here and was left as it stands: write its value in")
        return replace(entry, value=text)

    if specifiers.template:
        why = "a template: copy the file to INSTANCE.yaml without metadata.name, since %i became %n, the file's name"
        draft.changed(Entry("unit", given.base, service.line), why)
    kind = service.take("Type")
    type_of = kind.value.lower() if kind is not None else "simple"
    if kind is not None and type_of == "oneshot":
        message = "Type=oneshot runs to its end, and the Emperor would start it again and again"
        raise wrong(given, kind.line, message, "leave it with systemd, or run it from cron", field="Type")
    variables = _environment(draft, service, meant)
    # Its file would count for more than Environment: nothing that it might say is written out.
    known = {} if any(entry.key == "EnvironmentFile" for entry in service.entries) else variables
    set_command(draft, given, service, meant, known)
    _type(draft, service, kind, type_of)
    user = service.take("User")
    if user is not None:
        draft.put(("user",), identity(meant(user).value), user)
    _working_dir(draft, service, meant, user)
    draft.carry(service, _RULES, meant)
    draft.carry(service, _QUOTA)
    set_hooks(draft, service, meant, known)
    _timeouts(draft, service)
    _reload(draft, service, meant, type_of)
    if service.take("Restart") is None:
        draft.note(Entry("Restart", "no, its default", service.line), _WHY["Restart"])
    elif (restart := service.take("Restart")) is not None:
        draft.leave([restart], _WHY, _SAME, _NOT_HERE)
    draft.leave(service.rest(), _WHY, _SAME, _NOT_HERE)


def _environment(draft: Draft, service: Section, meant: Callable[[Entry], Entry]) -> dict[str, str]:
    """Set `env`; its values, for `$NAME` in commands."""
    entries: list[Entry] = []
    for entry in service.take_all("Environment"):
        entries = [*entries, entry] if entry.value else []
    values = {}
    for entry in entries:
        try:
            pairs = unquoted_words(meant(entry).value)
        except ValueError as error:
            draft.note(entry, str(error))
            continue
        for pair in pairs:
            name, equals, value = pair.partition("=")
            shown = Entry(f"Environment {name}" if equals else "Environment", value or pair, entry.line)
            if equals:
                draft.put(("env", name.replace("%%", "%")), value, shown)
                values[name] = value
            else:
                draft.note(shown, "expected NAME=VALUE")
    return values


def _type(draft: Draft, service: Section, kind: Entry | None, type_of: str) -> None:
    access = service.take("NotifyAccess")
    heard = access.value.lower() if access is not None else "main"
    if type_of in {"notify", "notify-reload"}:
        heard_by = "all" if heard == "all" else "main"
        draft.put(("readiness", "notify", "access"), heard_by, kind or Entry("Type", type_of))
        if access is not None and heard == "exec":
            draft.changed(access, "the main process alone is heard")
    elif access is not None and heard != "none":
        draft.note(access, "without Type=notify nobody waits for its word; see readiness.notify")
    if kind is not None and type_of == "forking":
        draft.note(kind, "the Emperor watches the process that it starts: let the program stay in the foreground")
    elif kind is not None:
        draft.leave([kind], {"Type": "there is no D-Bus here: it counts as ready when it runs"}, _SAME, _NOT_HERE)


def _working_dir(draft: Draft, service: Section, meant: Callable[[Entry], Entry], user: Entry | None) -> None:
    entry = service.take("WorkingDirectory")
    if entry is None:
        # A system service starts in the root directory, a vassal in the Emperor's.
        draft.say(("workingDir",), "/")
        return
    path = _directory(meant(entry).value)
    if entry.value.startswith("-"):
        draft.changed(entry, "the directory has to be there")
    if path == "~" and (user is None or user.value == "root"):
        draft.put(("workingDir",), "/root", entry)
    elif path == "~":
        assert user is not None
        draft.note(entry, f"the home of {user.value} is not known here: write its path into workingDir")
    else:
        draft.put(("workingDir",), path, entry)


def _timeouts(draft: Draft, service: Section) -> None:
    both, stop = service.take("TimeoutSec"), service.take("TimeoutStopSec")
    entry = stop if stop is not None else both
    if both is not None:
        draft.note(both, "there is no limit on starting; the one on stopping is stop.gracePeriod")
    if entry is None:
        draft.say(("stop", "gracePeriod"), "1m30s")  # systemd's default
        return
    if entry.value in {"infinity", "0"}:
        draft.put(("stop", "gracePeriod"), _LONGEST_GRACE, entry)
        draft.changed(entry, f"{_LONGEST_GRACE} is the longest grace period")
        return
    try:
        draft.put(("stop", "gracePeriod"), span(entry.value), entry)
    except ValueError as error:
        draft.note(entry, str(error))


def _reload(draft: Draft, service: Section, meant: Callable[[Entry], Entry], type_of: str) -> None:
    asked = service.take("ReloadSignal")
    if type_of == "notify-reload":
        entry = asked or Entry("Type", type_of, service.line)
        try:
            draft.put(("reload",), {"signal": signal_word(asked.value) if asked is not None else "SIGHUP"}, entry)
        except ValueError as error:
            draft.note(entry, str(error))
    elif asked is not None:
        draft.note(asked, "it counts with Type=notify-reload only")
    entries: list[Entry] = []
    for entry in service.take_all("ExecReload"):
        entries = [*entries, entry] if entry.value else []
    found = kill_signal(entries[0].value) if len(entries) == 1 else None
    if found is not None and type_of != "notify-reload":
        draft.put(("reload",), {"signal": found}, entries[0])
        return
    for entry in entries:
        draft.note(entry, "a reload is a signal, a restart or a byte of the emperor protocol, not a command")
