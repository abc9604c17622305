"""uWSGI's binary patches: which configs ask for another program, and whether that takes uWSGI at all.

Called by `monitors.parsing` for every uWSGI config; the answer travels in the vassal's `Launch`. A config that holds
nothing but a patch and options of this list can be carried out by the Emperor itself where no uWSGI is installed. Not
in here: the carrying out (`runtime.zygote.patch`), and variables of the environment in `$(NAME)`, known at launch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from emperorctl.models.capabilities import CAPABILITIES
from emperorctl.models.errors import ConfigError
from emperorctl.models.isolation import IPC, MOUNT, NET, PID, UTS
from emperorctl.models.magic import Place, expand
from emperorctl.models.names import printable

__all__ = ["NAMESPACES", "PATCHES", "Patch", "patch_of"]

PATCHES = (
    "privileged-binary-patch",
    "privileged-binary-patch-arg",
    "unprivileged-binary-patch",
    "unprivileged-binary-patch-arg",
)
"""The options that put another program in uWSGI's place; of several, the first of this list counts."""

NAMESPACES: Mapping[str, int] = MappingProxyType(
    {
        "files": 0x0000_0400,
        "ns": MOUNT,
        "fs": MOUNT,
        "mount": MOUNT,
        "mnt": MOUNT,
        "sysvsem": 0x0004_0000,
        "uts": UTS,
        "ipc": IPC,
        "pid": PID,
        "net": NET,
    }
)
"""What `unshare` may name, and the flags of unshare(2)."""

_PLACEHOLDERS = ("set-placeholder", "set-ph")
_KNOWN = {*PATCHES, *_PLACEHOLDERS, "uid", "gid", "chdir", "env", "umask", "unshare", "cap"}
_KNOWN |= {"exec-as-root", "exec-as-user"}
_PLACEHOLDER = re.compile(r"%\(([^)]*)\)")
_SHELL = "/bin/sh"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Patch:
    """Another program in uWSGI's place. `program` is a path or a name in PATH, called with the arguments of the
    vassal; with `shell` it is a command line.

    `privileged`: before anything of `user` to `as_user` happens, so none of it does. `unshare` are flags of unshare(2);
    `capabilities` are the numbers of those that are kept, None for all; `as_root` and `as_user` are command lines run
    before and after the change of user, each of which has to succeed.
    """

    program: str
    shell: bool = False
    privileged: bool = False
    working_dir: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    umask: int | None = None
    user: str | None = None
    group: str | None = None
    unshare: int = 0
    capabilities: tuple[int, ...] | None = None
    as_root: tuple[str, ...] = ()
    as_user: tuple[str, ...] = ()

    def argv(self, command: tuple[str, ...]) -> list[str]:
        """The arguments of the program, in a vassal with this command."""
        return [_SHELL, "-c", self.program] if self.shell else [self.program, *command[1:]]


class _NeedsUwsgi(Exception):
    """The argument says what for."""


def patch_of(options: Iterable[tuple[str, str]], place: Place) -> Patch | str | None:
    """The patch that these options of a config ask for; None where they ask for none.

    A text where they do and it takes uWSGI to carry it out: it says what for.
    """
    pairs = [(key, value) for key, value in options if key not in _PLACEHOLDERS]
    found = {key: value for key, value in pairs if key in PATCHES}
    if not found:
        return None
    unknown = sorted({key for key, _ in pairs} - _KNOWN)
    if unknown:
        listed = ", ".join(printable(key[:40]) for key in unknown[:_SHOWN])
        return f"only uWSGI knows the option{'s' if len(unknown) > 1 else ''} {listed}"
    holders = dict(value.partition("=")[::2] for key, value in options if key in _PLACEHOLDERS)
    try:
        return _patch([(key, _expanded(value, place, holders)) for key, value in pairs])
    except _NeedsUwsgi as need:
        return str(need)


def _patch(pairs: list[tuple[str, str]]) -> Patch:
    last = dict(pairs)
    option = next(option for option in PATCHES if option in last)
    common = {
        "program": last[option],
        "shell": option.endswith("-arg"),
        "working_dir": last.get("chdir"),
        "env": tuple(_variable(value) for key, value in pairs if key == "env"),
        "umask": _umask(last["umask"]) if "umask" in last else None,
    }
    empty = next((key for key, value in pairs if not value), None)
    if empty is not None:
        raise _NeedsUwsgi(f"the option {empty} has no value")
    if option.startswith("privileged"):
        return Patch(**common, privileged=True)  # type: ignore[arg-type]
    return Patch(
        **common,  # type: ignore[arg-type]
        user=last.get("uid"),
        group=last.get("gid"),
        unshare=_flags([value for key, value in pairs if key == "unshare"]),
        capabilities=_capabilities(last["cap"]) if "cap" in last else None,
        as_root=tuple(value for key, value in pairs if key == "exec-as-root"),
        as_user=tuple(value for key, value in pairs if key == "exec-as-user"),
    )


def _expanded(value: str, place: Place, holders: Mapping[str, str]) -> str:
    """The value with placeholders and magic variables replaced, as far as that is possible without uWSGI."""
    if "\0" in value or (not value.isascii() and value != value.encode(errors="replace").decode()):
        raise _NeedsUwsgi("an option holds a NUL character or half of a character")
    if "@(" in value:
        raise _NeedsUwsgi("only uWSGI reads files into options: @(…)")
    parts = []
    position = 0
    for match in _PLACEHOLDER.finditer(value):
        if match[1] not in holders:
            raise _NeedsUwsgi(f"only uWSGI knows the placeholder %({printable(match[1][:40])})")
        parts += [_magic(value[position : match.start()], place), holders[match[1]]]
        position = match.end()
    return "".join([*parts, _magic(value[position:], place)])


def _magic(text: str, place: Place) -> str:
    try:
        return expand(text, place)
    except ConfigError as error:
        raise _NeedsUwsgi(error.problem.message) from None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise _NeedsUwsgi(f"env = {printable(text[:40])} is not NAME=VALUE")
    return name, value


def _umask(text: str) -> int:
    if re.fullmatch("[0-7]?[0-7]{3}", text) is None:
        raise _NeedsUwsgi(f"umask = {printable(text[:40])} is not three or four octal digits")
    return int(text, 8) & 0o777


def _flags(values: list[str]) -> int:
    flags = 0
    for name in (name for value in values for name in value.split(",") if name):
        if name not in NAMESPACES:
            known = ", ".join(NAMESPACES)
            raise _NeedsUwsgi(f"unshare = {printable(name[:40])} is not supported, but only {known}")
        flags |= NAMESPACES[name]
    return flags


def _capabilities(text: str) -> tuple[int, ...]:
    found = []
    for name in (name for name in text.split(",") if name):
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 4 else CAPABILITIES.get(name, -1)
        if number not in CAPABILITIES.values():
            raise _NeedsUwsgi(f"cap = {printable(name[:40])} is not a capability; see capabilities(7), without CAP_")
        found.append(number)
    return tuple(sorted(set(found)))
