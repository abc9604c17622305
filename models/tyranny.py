"""Tyrant mode's rule: a vassal runs as the owner of its file, and asks for nothing that its owner could not do alone.

Called by `monitors.gate` for everything that a file claims, wherever it was parsed: what it says here is said by the
Emperor itself, whatever a parser made of the file. Pure. Not in here: whose a file is (`monitors.gate`), and how a
process becomes somebody else (`reconciler.runtime.zygote`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.isolation import Isolation, raises_rights
from emperorctl.models.limits import Limits
from emperorctl.models.merging import SET, Layers
from emperorctl.models.names import owned_name, printable
from emperorctl.models.patches import Patch
from emperorctl.models.sockets import Address, Family, OnDemand
from emperorctl.models.vassal import Hooks, Kind, Launch, Owner, Rlimit, Vassal

__all__ = ["Tyranny", "govern", "refuse_layers", "refuse_options", "unfit"]

ID_MAX = 2**31 - 1
"""The largest user or group id that a vassal may run as."""
PORT_MIN = 1024
"""The lowest port that anybody may listen on."""

_REASON = "TyrantForbids"
_HARMLESS = frozenset(
    {
        *("command", "env", "inherit_env", "working_dir", "umask", "protocol", "capture", "notify"),
        *("override", "fallback", "config_pipe", "secrets"),
    }
)
"""What a launch may say freely, since it takes effect after the change of user. Whatever is neither here nor looked
into below is refused, so that a field yet to come gives nobody a right by oversight."""
_LOOKED_INTO = frozenset({"user", "group", "nice", "rlimits", "patch", "isolation"})
_OPTIONS = frozenset(
    {
        *("uid", "gid", "add-gid", "immediate-uid", "immediate-gid", "cap", "unshare", "unshare2", "exec-as-root"),
        *("privileged-binary-patch", "privileged-binary-patch-arg", "chroot", "pivot-root", "pivot_root", "setns"),
        *("hook-as-root", "mount-as-root", "umount-as-root", "call-as-root", "cgroup"),
    }
)
"""Options of a uWSGI config that take root's rights: as its owner, uWSGI would pass over most of them in silence."""
_EVERYBODYS = 100
"""The weight of a vassal that asks for none."""
_NOTHING = Vassal(name="", kind=Kind.NATIVE, source="", file="", launch=Launch(command=()))
"""What a vassal is given that is given nothing."""


@dataclass(frozen=True, slots=True)
class Tyranny:
    """How tyrant mode is held. `nofollow`: of a link, its own owner counts; `follow`: whoever's file a link leads to is
    taken; `init_groups`: vassals get all groups of their user.

    `emperor` is the Emperor's own uid, `nice` its nice value, `limits` its hard limits by name (None: unlimited, and
    so is one that is not named). `unmapped` are the uid and gid that strangers' ids look like in a user namespace.
    """

    nofollow: bool = False
    follow: bool = False
    init_groups: bool = False
    emperor: int = 0
    nice: int = 0
    limits: Mapping[str, int | None] = field(default_factory=lambda: MappingProxyType({}))
    unmapped: tuple[int | None, int | None] = (None, None)


def unfit(owner: Owner, tyranny: Tyranny, file: str) -> Problem | None:
    """Why nothing can run as this owner of `file`; None where it can."""
    quoted = shlex.quote(file)
    if owner.uid == 0:
        message = "owned by root: in tyrant mode a vassal runs as the owner of its file, and never as root"
        return Problem("OwnedByRoot", message, f"`chown USER {quoted}`", file=file)
    if owner.uid == tyranny.emperor:
        message = "owned by the Emperor's own user: a vassal that runs as this user could take the Emperor over"
        return Problem("OwnedByEmperor", message, f"`chown USER {quoted}`", file=file)
    if owner.uid == tyranny.unmapped[0] or owner.gid == tyranny.unmapped[1]:
        message = "its owner or group is not known in the Emperor's user namespace, where all such ids look like one"
        return Problem("UnmappedOwner", message, f"`chown USER:GROUP {quoted}` with ids that are mapped", file=file)
    if owner.gid == 0:
        message = "its group is root: in tyrant mode a vassal runs with the group of its file, and never with root's"
        return Problem("OwnedByRoot", message, f"`chgrp GROUP {quoted}`", file=file)
    if not (0 < owner.uid <= ID_MAX and 0 < owner.gid <= ID_MAX):
        message = f"owned by {owner.uid}:{owner.gid}: ids go up to {ID_MAX}"
        return Problem("InvalidOwner", message, f"`chown USER:GROUP {quoted}`", file=file)
    return None


def govern(
    vassal: Vassal, owner: Owner, tyranny: Tyranny, *, granted: OnDemand | None = None, given: Vassal | None = None
) -> Vassal:
    """The vassal as it runs for `owner`; `granted` are sockets that the administrator gave it, `given` is what it would
    be if its file said nothing: all that is in there is the administrator's word.

    Raises ConfigError where it asks for more than its owner may.
    """
    launch, allowed = vassal.launch, given or _NOTHING
    granted = granted if given is None or given.on_demand is None else given.on_demand
    refusal = (
        _of_the_launch(launch)
        or _of_its_priority(launch, tyranny, allowed.launch)
        or _of_the_patch(launch.patch)
        or (_of_the_isolation(launch.isolation, allowed.launch.isolation) if vassal.kind is Kind.NATIVE else None)
        or (_of_its_share(vassal.limits) if vassal.limits.io_weight != allowed.limits.io_weight else None)
        or _of_the_hooks(vassal.hooks)
        or (_of_the_sockets(vassal.on_demand) if vassal.on_demand != granted else None)
    )
    if refusal is not None:
        raise ConfigError(refusal.at(vassal.file, vassal.line))
    on_demand = vassal.on_demand
    if on_demand is not None and on_demand != granted:
        on_demand = replace(on_demand, addresses=tuple(_bound_as(one, owner) for one in on_demand.addresses))
    launch = replace(launch, user=str(owner.uid), group=str(owner.gid), init_groups=tyranny.init_groups)
    name = owned_name(vassal.name, owner.uid) if vassal.kind is Kind.NATIVE else vassal.name
    return replace(vassal, name=name, launch=launch, on_demand=on_demand, owner=owner)


def refuse_layers(layers: Layers) -> None:
    """Raise ConfigError where the administrator gives all vassals what tyrant mode has no place for.

    Hooks of the Emperor's own would run with the environment and in the directory that a tenant chooses.
    """
    for data, where in ((layers.given, SET), (layers.defaults, layers.file)):
        spec = data.get("spec")
        if not isinstance(spec, Mapping):
            continue
        for key in spec.keys() & {"user", "group"}:
            message = "in tyrant mode a vassal runs as the owner of its file, whatever is given to all"
            raise ConfigError(Problem(_REASON, message, "remove it", file=where, field=f"spec.{key}"))
        for path in _switches(spec.get("hooks"), "spec.hooks"):
            message = "a tenant chooses the environment and the directory of its vassal's hooks"
            remedy = "remove it, or use --vassals-stop-hook"
            raise ConfigError(Problem(_REASON, message, remedy, file=where, field=path))


def _switches(value: Any, path: str) -> Iterator[str]:
    """Where hooks are to run as the Emperor."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "asEmperor":
                yield from _switches(inner, f"{path}.{key}")
            elif inner is not False:
                yield f"{path}.asEmperor"
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _switches(inner, f"{path}[{index}]")


def refuse_options(options: Iterable[tuple[str, str]]) -> None:
    """Raise ConfigError for a uWSGI config that asks for what its owner may not do."""
    for key, value in options:
        if key in _OPTIONS:
            shown = f"{key} = {printable(value[:40])}" if value else key
            message = f"asks for `{shown}`, which takes root's rights; in tyrant mode it runs as the owner of its file"
            raise ConfigError(Problem(_REASON, message, "remove the option", field=key))


def _forbidden(field: str, message: str, remedy: str = "remove it") -> Problem:
    return Problem(_REASON, f"{message}: in tyrant mode a file gets its owner's rights, and no others", remedy,
                   field=field)  # fmt: skip


def _of_the_launch(launch: Launch) -> Problem | None:
    if launch.user is not None:
        return _forbidden("spec.user", "asks for a user", "remove it: it runs as the owner of its file")
    if launch.group is not None:
        return _forbidden("spec.group", "asks for a group", "remove it: it runs with the group of its file")
    for item in fields(launch):
        if item.name in _HARMLESS or item.name in _LOOKED_INTO or item.default is MISSING:
            continue
        if getattr(launch, item.name) != item.default:
            return _forbidden(f"spec.{item.name}", "asks for what only the administrator may give")
    return None


def _of_its_priority(launch: Launch, tyranny: Tyranny, given: Launch) -> Problem | None:
    if launch.nice is not None and launch.nice < max(0, tyranny.nice) and launch.nice != given.nice:
        return _forbidden("spec.nice", f"asks for {launch.nice}", f"use a number from {max(0, tyranny.nice)}")
    for limit in launch.rlimits:
        highest = tyranny.limits.get(limit.name)
        if highest is not None and _above(limit, highest) and limit not in given.rlimits:
            return _forbidden(f"spec.rlimits.{limit.name}", "asks for more than the Emperor's own hard limit",
                              f"use {highest} at most")  # fmt: skip
    return None


def _above(limit: Rlimit, highest: int) -> bool:
    return any(value is None or value > highest for value in (limit.soft, limit.hard))


def _of_its_share(limits: Limits) -> Problem | None:
    """A limit takes from nobody, but a greater share of the disks does."""
    if limits.io_weight is not None and limits.io_weight > _EVERYBODYS:
        field = "spec.resources.limits.ioWeight"
        return _forbidden(field, f"asks for {limits.io_weight}", f"use a number up to {_EVERYBODYS}")
    return None


def _of_the_isolation(isolation: Isolation | None, given: Isolation | None) -> Problem | None:
    """Of a native vassal; a uWSGI config can't ask for any, so there it is the administrator's."""
    allowed = given.ports if given is not None else ()
    for index, port in enumerate(isolation.ports if isolation is not None else ()):
        if port.outside < PORT_MIN and port not in allowed:
            where = f"spec.network.user.ports[{index}].hostPort"
            return _forbidden(where, f"asks for port {port.outside}", f"use a port from {PORT_MIN}")
    field = raises_rights(isolation, given) if isolation is not None else "isolation"
    if not field:
        return None
    remedy = "remove it"
    if field == "isolation.noNewPrivileges" and given is not None and not given.no_new_privileges:
        remedy = "the administrator gives this to vassals that add nothing of their own to spec.isolation and network"
    return _forbidden(f"spec.{field}", "asks for rights over others", remedy)


def _of_the_patch(patch: Patch | None) -> Problem | None:
    if patch is None:
        return None
    asked = {
        "privileged-binary-patch": patch.privileged,
        "uid": patch.user is not None,
        "gid": patch.group is not None,
        "unshare": bool(patch.unshare),
        "cap": patch.capabilities is not None,
        "exec-as-root": bool(patch.as_root),
    }
    found = next((option for option, there in asked.items() if there), None)
    return _forbidden(found, "asks for root's rights", "remove the option") if found is not None else None


def _of_the_hooks(hooks: Hooks) -> Problem | None:
    for name, steps in zip(("preStart", "postStart", "preStop", "postStop"), hooks.moments, strict=True):
        for index, hook in enumerate(steps):
            if hook.as_emperor:
                return _forbidden(f"spec.hooks.{name}[{index}].asEmperor", "asks to run as the Emperor")
    return None


def _of_the_sockets(on_demand: OnDemand | None) -> Problem | None:
    for index, address in enumerate(on_demand.addresses if on_demand is not None else ()):
        where = f"spec.onDemand.addresses[{index}]"
        if address.owner is not None or address.group is not None:
            return _forbidden(
                where, "asks for an owner of its socket", "remove owner and group: it is the file's owner's"
            )
        if address.port and address.port < PORT_MIN:
            return _forbidden(where, f"asks for port {address.port}", f"use a port from {PORT_MIN}")
    return None


def _bound_as(address: Address, owner: Owner) -> Address:
    return replace(address, bound_as=(owner.uid, owner.gid)) if address.family is Family.UNIX else address
