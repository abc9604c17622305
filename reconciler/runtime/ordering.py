"""A launch written down as an order for the zygote.

Used by `host`. Pure but for reading the names of resource limits and its own uid; the meaning of each field is in
`zygote.child`.
"""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass
from typing import Any

from emperorctl.models.isolation import Network
from emperorctl.models.patches import Patch
from emperorctl.models.sockets import OnDemand, Passing
from emperorctl.models.vassal import Vassal
from emperorctl.reconciler.runtime.confinement import Unmapped, write_isolation
from emperorctl.reconciler.runtime.identity import Identity
from emperorctl.reconciler.runtime.outlets import NoOutlet, write_outlet
from emperorctl.reconciler.runtime.zygote import orders

__all__ = ["ORDER_MAX", "Placement", "Unusable", "Where", "socket_roles", "write_order"]

_ENVIRONMENT = re.compile(r"\$\(([^)]*)\)")

ORDER_MAX = 8 * 1024 * 1024
"""Bytes: more than any kernel accepts as command and environment."""


class Unusable(Exception):
    """Fields that no process can be made from; arguments as of `failures.unusable`."""

    def __init__(self, step: str, reason: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.step, self.reason, self.message, self.remedy = step, reason, message, remedy


@dataclass(frozen=True, slots=True)
class Placement:
    """How a launch is limited: `groups` are cgroups to make and to join, `knobs` files to write into: name, value, and
    whether there may be no such file."""

    groups: tuple[str, ...]
    knobs: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, slots=True)
class Where:
    """What is decided anew for each order: its id, the roles of its descriptors in the order they are sent,
    its cgroup, its log file, whom a binary patch changes to, and how it is limited. `enter` is the pid of a process to
    go where it is, for which there is a descriptor of that role; `terminal`: standard input is one. `notify` is the
    path of its notification socket."""

    id: int
    roles: tuple[str, ...]
    cgroup: str | None
    log: str | None
    patched: Identity | None = None
    limits: Placement | None = None
    enter: int = 0
    terminal: bool = False
    notify: str = ""


def socket_roles(on_demand: OnDemand | None) -> list[str]:
    """The roles of the sockets that a process is given, in their order."""
    if on_demand is None:
        return []
    if on_demand.passing is Passing.STDIN:
        return ["in"]
    return [f"listen{number}" for number in range(len(on_demand.addresses))]


def write_order(vassal: Vassal, env: dict[str, str], identity: Identity, where: Where) -> bytes:
    """The encoded order. Raises Unusable."""
    launch = vassal.launch
    order: dict[str, Any] = {
        "id": where.id,
        "argv": list(launch.command),
        "env": env,
        "fds": list(where.roles),
        "cgroup": where.cgroup,
        "log": where.log,
        "cwd": launch.working_dir,
        "umask": launch.umask,
        "nice": launch.nice,
        "rlimits": _rlimits(vassal),
    }
    if identity.switch:
        order["ids"] = _ids(identity)
    if where.limits is not None:
        order["limits"] = {"groups": where.limits.groups, "knobs": where.limits.knobs}
    if where.enter:
        order |= {"enter": where.enter, "terminal": where.terminal}
    if launch.secrets:
        order["secrets"] = launch.secrets
    if launch.isolation is not None:
        try:
            isolation = order["isolation"] = write_isolation(
                launch.isolation, identity, os.geteuid(), notify=where.notify
            )
        except Unmapped as error:
            remedy = "add a range that holds it to the map"
            raise Unusable("maps", "UnmappedUser", str(error), remedy) from None
        order["ids"] = isolation["ids"]
        if launch.isolation.network is Network.USER:
            try:
                isolation["network"] = write_outlet(launch.isolation, identity)
            except NoOutlet as error:
                raise Unusable("network", "NoUserNetwork", error.message, error.remedy) from None
    if launch.override or launch.fallback:
        order |= {"override": list(launch.override), "fallback": list(launch.fallback)}
    if launch.patch is not None:
        order["patch"] = _patch(launch.patch, launch.command, env, where.patched)
    data = orders.encode({"launch": order})
    if _has_nul(launch.command, env):
        raise Unusable("execve", "NulCharacter", "the command or its environment holds a NUL character", "remove it")
    if len(data) > ORDER_MAX:
        raise Unusable(
            "execve",
            "TooLong",
            "the command and its environment are longer than the kernel accepts",
            "shorten `command` or `env`",
        )
    return data


def _has_nul(command: tuple[str, ...], env: dict[str, str]) -> bool:
    return any("\0" in text for text in (*command, *env, *env.values()))


def _ids(identity: Identity) -> list[Any]:
    return [identity.uid, identity.gid, list(identity.groups)]


def _patch(patch: Patch, command: tuple[str, ...], env: dict[str, str], identity: Identity | None) -> dict[str, Any]:
    """What a patched uWSGI would do, step by step, with the variables of its environment filled in as uWSGI does."""
    known = env | dict(patch.env)

    def filled(text: str) -> str:
        return _ENVIRONMENT.sub(lambda match: known.get(match[1], match[0]), text)

    return {
        "argv": [filled(word) for word in patch.argv(command)],
        "env": {name: filled(value) for name, value in patch.env},
        "cwd": filled(patch.working_dir) if patch.working_dir is not None else None,
        "umask": patch.umask,
        "unshare": patch.unshare,
        "capabilities": patch.capabilities,
        "ids": _ids(identity) if identity is not None and identity.switch else None,
        "as_root": [filled(command) for command in patch.as_root],
        "as_user": [filled(command) for command in patch.as_user],
    }


def _rlimits(vassal: Vassal) -> list[tuple[str, int, int, int]]:
    found = []
    for limit in vassal.launch.rlimits:
        number = getattr(resource, f"RLIMIT_{limit.name.upper()}", None)
        if number is None:
            raise Unusable(
                "rlimits",
                "UnknownLimit",
                f'this host has no resource limit "{limit.name}"',
                "see setrlimit(2) for the names, such as nofile or nproc",
            )
        soft = resource.RLIM_INFINITY if limit.soft is None else limit.soft
        hard = resource.RLIM_INFINITY if limit.hard is None else limit.hard
        found.append((limit.name, number, soft, hard))
    return found
