"""The settings of the Emperor: one field for each option of `run`, with its names, kind, default and meaning.

The command line, the environment, the files and `docs/options.md` are all made from this. Plain data, so that the
command line can be built from it before anything heavy is loaded. Not in here: reading and validating (`cli/loading`),
and what the parts of the Emperor make of a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from emperorctl.models.errors import UserError
from emperorctl.models.names import printable

__all__ = [
    "BY_NAME",
    "OPTIONS",
    "PREFIX",
    "REFUSED",
    "Group",
    "Kind",
    "Option",
    "Settings",
    "split_vassal_set",
]

PREFIX = "EMPERORCTL_"
"""What every environment variable begins with."""
_DAY = 86_400


class Kind(StrEnum):
    """What an option's value is."""

    FLAG = "flag"
    NUMBER = "number"
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    TEXT = "text"
    CHOICE = "choice"
    LIST = "list"


class Group(StrEnum):
    """The sections of the help and of the table."""

    SOURCES = "Sources"
    UWSGI = "uWSGI vassals"
    BUDGETS = "Budgets and patience"
    TYRANT = "Tyrant mode and isolation"
    DEMAND = "On demand"
    HOOKS = "Hooks and attributes"
    EMPEROR = "The Emperor itself"
    LOGS = "Logs"


@dataclass(frozen=True)
class Option:
    """One option. `low` and `high` bound a number in its own unit; `default` is None where the help's words say it.

    `clash`: the name is another option's in uWSGI's files; there, only the aliases mean this one.
    """

    field: str
    kind: Kind
    group: Group
    help: str
    default: Any
    metavar: str
    aliases: tuple[str, ...]
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    own: bool
    clash: bool
    default_text: str

    @cached_property
    def name(self) -> str:
        """Its name on the command line, without dashes before it."""
        return self.field.replace("_", "-")

    @cached_property
    def native(self) -> str:
        """Its field in the `spec` of a native file."""
        first, *rest = self.field.split("_")
        return first + "".join(word.capitalize() for word in rest)

    @property
    def variables(self) -> tuple[str, ...]:
        """Its environment variables, the usual one first."""
        return tuple(PREFIX + name.replace("-", "_").upper() for name in (self.name, *self.aliases))

    def expected(self, *, native: bool = False) -> str:
        """What a value has to be, in words."""
        match self.kind:
            case Kind.FLAG:
                return "true or false"
            case Kind.CHOICE:
                return " or ".join((", ".join(self.choices[:-1]), self.choices[-1]))
            case Kind.SECONDS | Kind.MILLISECONDS if native:
                return "a duration such as 500ms, 30s or 5m"
            case Kind.SECONDS:
                return f"a number of seconds{self._range()}"
            case Kind.MILLISECONDS:
                return f"a whole number of milliseconds{self._range()}"
            case Kind.NUMBER:
                return f"a whole number{self._range()}"
            case Kind.LIST if native:
                return "a string, or a list of strings"
        return "a text that is not empty"

    def _range(self) -> str:
        if self.low is None:
            return ""
        return f" from {self.low:g}" if self.high is None else f" from {self.low:g} to {self.high:.0f}"


def _option(  # noqa: PLR0913
    kind: Kind,
    group: Group,
    help: str,
    default: Any = None,
    *,
    metavar: str = "",
    aliases: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    own: bool = False,
    clash: bool = False,
    default_text: str = "",
) -> Any:
    """A field of Settings. Its type and its default must fit `kind`; a test sees to it."""
    if kind in (Kind.SECONDS, Kind.MILLISECONDS, Kind.NUMBER):
        low = 0 if low is None else low
        high = {Kind.SECONDS: _DAY, Kind.MILLISECONDS: _DAY * 1000}.get(kind, high)
    usual = {Kind.SECONDS: "SECONDS", Kind.MILLISECONDS: "MS", Kind.NUMBER: "N", Kind.CHOICE: "|".join(choices)}
    known = Option("", kind, group, help, default, metavar or usual.get(kind, "TEXT"), aliases, low, high, choices, own,
                   clash, default_text)  # fmt: skip
    return field(default=default, metadata={"option": known})


def _flag(group: Group, help: str, **more: Any) -> Any:
    return _option(Kind.FLAG, group, help, False, **more)


def _text(group: Group, help: str, metavar: str, **more: Any) -> Any:
    return _option(Kind.TEXT, group, help, None, metavar=metavar, **more)


def _list(group: Group, help: str, metavar: str, **more: Any) -> Any:
    return _option(Kind.LIST, group, help, (), metavar=metavar, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an Emperor was told, whichever way. Numbers are in the unit of the option, as uWSGI has them."""

    # fmt: off
    emperor: tuple[str, ...] = _list(
        Group.SOURCES, "A directory (dir://PATH or PATH) or a pattern (glob://PATTERN or PATTERN) of vassals' files;"
        " dir,cwd=DIR://PATH and glob,cwd=DIR://PATTERN also say where vassals are run. SOURCE is the same.", "SOURCE")
    emperor_freq: float = _option(
        Kind.SECONDS, Group.SOURCES, "How often everything is listed and compared again; changes are seen at once,"
        " whatever this says.", 30.0, low=0.1)
    emperor_nofollow: bool = _flag(
        Group.SOURCES, "A link's own modification time counts, not that of the file it leads to.")
    emperor_extra_extension: tuple[str, ...] = _list(
        Group.SOURCES, "Files with this extension are vassals too, given to uWSGI with --config.", "EXT",
        aliases=("emperor-extra-ext",))
    imperial_monitor_list: bool = _flag(
        Group.SOURCES, "List the kinds of sources, and exit.", aliases=("imperial-monitors-list",))
    vassal_defaults: str | None = _text(
        Group.SOURCES, "A file whose values native manifests take where they say nothing.", "FILE", own=True)
    watch: Literal["auto", "inotify", "poll"] = _option(
        Kind.CHOICE, Group.SOURCES, "How to learn of changes; auto takes inotify where it works.", "auto",
        choices=("auto", "inotify", "poll"), own=True)

    binary_path: str = _option(
        Kind.TEXT, Group.UWSGI, "The uwsgi binary for uWSGI configs.", "uwsgi", metavar="PATH")
    emperor_wrapper: str | None = _text(
        Group.UWSGI, "A program to run in place of the uwsgi binary.", "PATH")
    emperor_wrapper_override: tuple[str, ...] = _list(
        Group.UWSGI, "A program to try before the wrapper and the binary.", "PATH")
    emperor_wrapper_fallback: tuple[str, ...] = _list(
        Group.UWSGI, "A program to try where wrapper and binary can't be run.", "PATH")
    emperor_magic_exec: bool = _flag(
        Group.UWSGI, "Executable configs are passed as exec://NAME.")
    emperor_force_config_pipe: bool = _flag(
        Group.UWSGI, "Vassals get their config through a socket instead of reading the file.")
    vassal_set: tuple[str, ...] = _list(
        Group.UWSGI, "Passed to every uWSGI vassal as --set; a KEY that begins with spec. or metadata. is set in every"
        " native manifest.", "KEY=VALUE", aliases=("vassals-set",))
    vassals_include: tuple[str, ...] = _list(
        Group.UWSGI, "Included in every uWSGI vassal, after its config.", "FILE")
    vassals_include_before: tuple[str, ...] = _list(
        Group.UWSGI, "Included in every uWSGI vassal, before its config.", "FILE")
    vassals_inherit: tuple[str, ...] = _list(
        Group.UWSGI, "A template of every uWSGI vassal, passed after its config.", "FILE")
    vassals_inherit_before: tuple[str, ...] = _list(
        Group.UWSGI, "A template of every uWSGI vassal, passed before its config.", "FILE")

    emperor_throttle: int | None = _option(
        Kind.MILLISECONDS, Group.BUDGETS, "What each spawn beyond the burst within a second adds to the wait before"
        " the next, and each death to that of a blacklisted vassal.", default_text="1000")
    emperor_max_throttle: int = _option(
        Kind.MILLISECONDS, Group.BUDGETS, "The longest wait of either kind.", 180_000)
    throttle_burst: int | None = _option(
        Kind.NUMBER, Group.BUDGETS, "Spawns within a second before the throttle bites.", low=1, high=1_000_000,
        own=True, default_text="100; with emperor-throttle 1, as uWSGI's manual says")
    emperor_no_blacklist: bool = _flag(
        Group.BUDGETS, "Start a vassal that failed before it was loyal again without a wait.")
    emperor_required_heartbeat: float = _option(
        Kind.SECONDS, Group.BUDGETS, "The longest silence of a vassal that has sent a heartbeat; then it has to reload."
        " 0 for any.", 30.0)
    emperor_curse_tolerance: float = _option(
        Kind.SECONDS, Group.BUDGETS, "How long a vassal may live on that closed its protocol socket; also what uWSGI"
        " vassals get to stop.", 30.0)
    reload_mercy: float = _option(
        Kind.SECONDS, Group.BUDGETS, "What vassals get to end with the Emperor.", 30.0)
    emperor_graceful_shutdown: bool = _flag(
        Group.BUDGETS, "uWSGI vassals that have to stop are told to finish their requests first.")
    emperor_broodlord: int = _option(
        Kind.NUMBER, Group.BUDGETS, "How many zergs may be sent in all.", 0, high=10_000)

    emperor_tyrant: bool = _flag(
        Group.TYRANT, "Vassals run as the owners of their files.")
    emperor_tyrant_nofollow: bool = _flag(
        Group.TYRANT, "In tyrant mode, the owner of a link counts, not that of the file it leads to.")
    tyrant_follow: bool = _flag(
        Group.TYRANT, "In tyrant mode, follow links whose owner is not that of the file they lead to, as uWSGI does:"
        " a tenant's link then starts another tenant's file.", own=True)
    emperor_tyrant_initgroups: bool = _flag(
        Group.TYRANT, "In tyrant mode, vassals get all groups of their user.")
    emperor_use_clone: str | None = _text(
        Group.TYRANT, "Namespaces of their own for all vassals, of fs, net, ipc, pid, uts, user, cgroup.", "FLAGS")
    emperor_cap: str | None = _text(
        Group.TYRANT, "The capabilities that vassals keep which run as root.", "CAPS",
        aliases=("vassal-cap", "vassals-cap"))

    emperor_on_demand_extension: str | None = _text(
        Group.DEMAND, "NAME plus this extension is a file that holds the address a vassal waits at.", "EXT",
        aliases=("emperor-on-demand-ext",))
    emperor_on_demand_directory: str | None = _text(
        Group.DEMAND, "Vassals wait at Unix sockets in this directory.", "DIR", aliases=("emperor-on-demand-dir",))
    emperor_on_demand_exec: str | None = _text(
        Group.DEMAND, "A command that prints the address the vassal of its argument waits at.", "COMMAND")

    vassals_start_hook: str | None = _text(
        Group.HOOKS, "A program to run before each start of a vassal; its argument is the vassal's name.", "PROGRAM")
    vassals_stop_hook: str | None = _text(
        Group.HOOKS, "A program to run after each end of a vassal; its argument is the vassal's name.", "PROGRAM")
    emperor_collect_attribute: tuple[str, ...] = _list(
        Group.HOOKS, "An attribute of uWSGI configs to show with the vassal.", "NAME",
        aliases=("emperor-collect-attr",))
    emperor_chdir_attr: str | None = _text(
        Group.HOOKS, "The attribute that names the directory a vassal is started in.", "NAME")
    emperor_wrapper_attr: str | None = _text(
        Group.HOOKS, "The attribute that names a program to run a vassal through.", "NAME")

    uid: str | None = _text(
        Group.EMPEROR, "Started as root, the Emperor goes on as this user.", "USER")
    gid: str | None = _text(
        Group.EMPEROR, "And with this group.", "GROUP", default_text="the user's own")
    cap: str | None = _text(
        Group.EMPEROR, "The capabilities that are kept with --uid, such as setuid,setgid,kill.", "CAPS",
        default_text="none: vassals run as the same user")
    socket: str | None = _text(
        Group.EMPEROR, "The control socket.", "PATH", aliases=("control-socket",), own=True, clash=True,
        default_text="/run/emperorctl/emperor.sock for root, else in $XDG_RUNTIME_DIR")
    socket_group: str | None = _text(
        Group.EMPEROR, "Let the members of this group use the control socket; there they may do everything that root"
        " may.",
        "GROUP", own=True)
    state_dir: str | None = _text(
        Group.EMPEROR, "What outlives the Emperor: who is stopped.", "DIR", own=True,
        default_text="/var/lib/emperorctl/emperor for root, else in $XDG_STATE_HOME")
    emperor_stats: str | None = _text(
        Group.EMPEROR, "Serve statistics as uWSGI does: 127.0.0.1:PORT, or the path of a Unix socket.", "ADDR",
        aliases=("emperor-stats-server",))
    stats_public: bool = _flag(
        Group.EMPEROR, "Allow --emperor-stats where other machines can reach it.", own=True)
    emperor_command_socket: str | None = _text(
        Group.EMPEROR, "Take uWSGI's commands for vassals over a Unix datagram socket.", "PATH")
    emperor_wait_for_command: bool = _flag(
        Group.EMPEROR, "Hold every new vassal down until the command spawn, or emperorctl start.")
    emperor_wait_for_command_ignore: tuple[str, ...] = _list(
        Group.EMPEROR, "A vassal that does not wait for a command.", "NAME")
    emperor_pidfile: str | None = _text(
        Group.EMPEROR, "A file for the Emperor's pid.", "FILE")
    emperor_procname: str | None = _text(
        Group.EMPEROR, "What the Emperor's process is called, in 15 bytes.", "NAME")
    emperor_subreaper: bool = _flag(
        Group.EMPEROR, "The Emperor adopts its vassals' orphans.")

    log_dir: str | None = _text(
        Group.LOGS, "The vassals' output.", "DIR", own=True, default_text="logs in the state directory")
    log_format: Literal["text", "json"] = _option(
        Kind.CHOICE, Group.LOGS, "The form of the Emperor's own log, on standard error.", "text",
        choices=("text", "json"), aliases=("emperor-log-format",), own=True, clash=True)
    uwsgi_logs: Literal["inherit", "capture"] = _option(
        Kind.CHOICE, Group.LOGS, "Let uWSGI vassals write to the Emperor's standard error, or to log files.", "inherit",
        choices=("inherit", "capture"), own=True)
    # fmt: on


def _options() -> Mapping[str, Option]:
    found = {}
    for item in fields(Settings):
        known: Option = item.metadata["option"]
        object.__setattr__(known, "field", item.name)
        found[item.name] = known
    return MappingProxyType(found)


OPTIONS: Mapping[str, Option] = _options()
"""Every option by its field in Settings, group by group."""

BY_NAME: Mapping[str, Option] = MappingProxyType(
    {name: option for option in OPTIONS.values() for name in (option.name, *option.aliases)}
)
"""Every option by its names."""


def split_vassal_set(given: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The values of `vassal-set` that are meant for native manifests, and those for uWSGI configs, in their order.

    Raises UserError for one of uWSGI's that is not KEY=VALUE; the others are read where manifests are (`vassal_set`).
    """
    values = tuple(given)
    native = tuple(text for text in values if text.startswith(("spec.", "metadata.")))
    own = tuple(text for text in values if text not in native)
    for text in own:
        if not text.partition("=")[0].strip() or "=" not in text or "\0" in text:
            raise UserError(f"--vassal-set {printable(text)}: expected KEY=VALUE, as for uWSGI's --set")
    return native, own


REFUSED = frozenset(
    f"{what}-as-{who}" for what in ("hook", "exec", "mount", "umount", "call") for who in ("vassal", "emperor")
) | {"call-as-vassal1", "call-as-vassal3", "call-as-emperor1", "call-as-emperor2", "call-as-emperor4"}
"""Options of uWSGI that its Emperor obeys and this one does not have: an error, since something would be missing."""
