"""Paranoid mode: an Emperor that was started as root goes on as another user, and keeps a few capabilities at most.

Called by the composition root, once everything is made that only root can make, and before anything of a vassal's is
read. What makes processes of other users is kept by the zygote alone; the Emperor, which reads files and answers
requests, keeps what it can't do without. Not in here: which options say so (`models.settings`).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from emperorctl.models.capabilities import CAPABILITIES
from emperorctl.models.errors import UserError
from emperorctl.models.status import Note, NoteType
from emperorctl.reconciler.runtime import cgroups, controllers
from emperorctl.reconciler.runtime.controllers import Unavailable
from emperorctl.reconciler.runtime.identity import group_id
from emperorctl.reconciler.runtime.leftovers import Leftover, end_leftovers
from emperorctl.reconciler.runtime.spawn import ZygoteHandle
from emperorctl.reconciler.runtime.zygote import clone, kernel, orders, procfs, rights

__all__ = [
    "EMPERORS_OWN",
    "Renunciation",
    "divide",
    "give",
    "renounce",
    "renunciation",
    "require_readable",
    "shortcomings",
    "who",
]

EMPERORS_OWN = frozenset(
    {"kill", "chown", "fowner", "dac_override", "dac_read_search", "net_bind_service", "sys_ptrace", "sys_resource"}
)
"""Of the capabilities that are kept, those that the Emperor's own process has a use for; the zygote has all of them."""
_REPLY = 10_000
"""Milliseconds that a zygote may take to give up its rights."""


@dataclass(frozen=True, slots=True)
class Renunciation:
    """Who the Emperor is to be: ids, supplementary groups, and the numbers of the capabilities that are kept."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    kept: tuple[int, ...]
    name: str

    @property
    def own(self) -> list[int]:
        """What of `kept` the Emperor's own process has."""
        return [CAPABILITIES[name] for name in sorted(EMPERORS_OWN) if CAPABILITIES[name] in self.kept]


def renunciation(uid: str | None, gid: str | None, caps: str | None) -> Renunciation | None:
    """What these options ask for; None where they change nothing. Raises UserError."""
    kept = _capabilities(caps)
    if uid is None and gid is None:
        if caps is not None:
            raise UserError("--cap: it is what --uid keeps (give --uid, or leave it out)")
        return None
    entry = _user(uid) if uid is not None else _entry(os.geteuid())
    number = int(uid) if entry is None and uid is not None else entry.pw_uid if entry is not None else os.geteuid()
    group = group_id(gid, "--gid") if gid is not None else entry.pw_gid if entry is not None else number
    if (number, group) == (os.geteuid(), os.getegid()):
        return None
    if number == 0:
        raise UserError("--gid: root with another group is still root (give --uid, too)")
    if os.geteuid() != 0:
        raise UserError(f"--uid: the Emperor was not started as root and can't become {uid} (start it as {uid})")
    groups = tuple(os.getgrouplist(entry.pw_name, group)) if entry is not None else (group,)
    return Renunciation(number, group, groups, kept, entry.pw_name if entry is not None else str(number))


def require_readable(wanted: Renunciation) -> None:
    """See that this user can load the rest of this program, which it does when it needs it. Raises UserError."""
    if hidden := _hidden(wanted):
        raise UserError(
            f"--uid: {wanted.name} can't read {hidden}, which this program is made of"
            " (install it where everybody can read it, such as /opt/emperorctl, or add --cap dac_read_search)"
        )


def give(path: str, wanted: Renunciation, *, option: str, ours: tuple[str, ...] = ()) -> None:
    """Hand a directory of root's to the Emperor's user, if nothing is in it but what begins with one of `ours`.

    Anything else in there may be somebody's, and is not given away unasked. Raises UserError.
    """
    refused = UserError(
        f"{path} does not belong to {wanted.name}, whom the Emperor is to run as"
        f" (chown -R {wanted.name} {path}, or choose another place with {option})"
    )
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise refused from None
    try:
        found = os.fstat(fd)
        if found.st_uid == wanted.uid:
            return
        entries = os.listdir(fd)
        strange = [entry for entry in entries if not entry.startswith(ours)] if ours else entries
        if found.st_uid != 0 or found.st_mode & 0o022 or strange:
            raise refused
        for entry in entries:
            os.chown(entry, wanted.uid, wanted.gid, dir_fd=fd, follow_symlinks=False)
        os.fchown(fd, wanted.uid, wanted.gid)
    finally:
        os.close(fd)


def divide(instance: str, wanted: Renunciation, ours: frozenset[int]) -> list[Leftover]:
    """Move these processes into control groups that belong to the Emperor's user, as far as there are any to be had.

    The controllers that can be handed down are, since it can't be done later. First, what an earlier Emperor left
    behind is ended; that is what this returns.
    """
    place = cgroups.find_place()
    found = end_leftovers(instance, place, set(ours))
    if place is not None:
        with contextlib.suppress(OSError):
            _divide_v2(place.directory, instance, wanted, ours)
    for directory in dict.fromkeys(controllers.hierarchies().values()):
        with contextlib.suppress(OSError):
            own = controllers.make_root(directory, instance)
            for name in ("", "cgroup.procs", "tasks"):
                os.chown(os.path.join(own, name).rstrip("/"), wanted.uid, wanted.gid)
            _enter(own, ours)
    return found


def renounce(wanted: Renunciation, zygotes: Iterable[ZygoteHandle]) -> None:
    """Have the zygotes give up their rights, then this process. There is no way back. Raises UserError."""
    for zygote in zygotes:
        _ask(zygote, wanted)
    try:
        rights.become(wanted.uid, wanted.gid, list(wanted.groups), wanted.own)
        clone.no_new_privileges()
    except (OSError, rights.Refused) as error:
        raise UserError(f"--uid: can't become {wanted.name}: {error}") from None


def shortcomings(*, tyrant: bool) -> list[Note]:
    """What such an Emperor can't do here that one of root's could, for its log; to be asked when the rights are gone.
    `tyrant`: it reigns in tyrant mode."""
    found = []
    if cgroups.find_place() is None:
        text = (
            "there is no writable cgroup v2: what vassals of other users leave running can only be found by session and"
            " process tree, and ended only with the capability kill (see emperorctl doctor)"
        )
        found.append(Note(NoteType.WARNING, "NoControlGroup", text))
    if tyrant:
        text = (
            "tenants' rights can't be taken on with --uid: their links and Unix sockets of their onDemand are refused;"
            " their files, ports and abstract sockets are not"
        )
        found.append(Note(NoteType.WARNING, "NoLinks", text))
    return found


def who(zygote: int) -> dict[str, Any]:
    """Whom the Emperor and its zygote run as, and with which capabilities."""
    return {
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "capabilities": _held("self"),
        "zygote": {"pid": zygote, "capabilities": _held(str(zygote))},
    }


def _hidden(wanted: Renunciation) -> str:
    """What of this program that user could not load, found out in a child that becomes it; empty for nothing."""
    places = [os.__file__, __file__, *(path for path in sys.path if os.path.exists(path))]
    child = os.fork()
    if child == 0:
        code = 255
        try:
            rights.become(wanted.uid, wanted.gid, list(wanted.groups), wanted.own)
            code = next((n for n, path in enumerate(places, 1) if not _can_read(path)), 0)
        finally:
            os._exit(min(code, 255))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return places[code - 1] if 0 < code <= len(places) else ""


def _can_read(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _held(pid: str) -> list[str] | str:
    """The names of a process's effective capabilities; `all` for all that this kernel has."""
    mask = procfs.capabilities(pid)
    last = kernel.text("/proc/sys/kernel/cap_last_cap")
    if mask and last and mask == (2 << int(last)) - 1:
        return "all"
    return [name for name, number in CAPABILITIES.items() if mask >> number & 1]


def _divide_v2(directory: str, instance: str, wanted: Renunciation, ours: frozenset[int]) -> None:
    own = controllers.make_root(directory, instance)
    leaf = f"{own}/{cgroups.LEAF}"
    os.mkdir(leaf, 0o755)
    for place in (own, leaf):
        for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(os.path.join(place, name).rstrip("/"), wanted.uid, wanted.gid)
    # Before the controllers: then nothing of ours is in their way.
    _enter(leaf, ours)
    for kind in controllers.controllers_v2(cgroups.Place(directory, "")) & controllers.FILES_V2.keys():
        with contextlib.suppress(Unavailable):
            controllers.enable(directory, own, frozenset({kind}), ours)


def _enter(directory: str, ours: frozenset[int]) -> None:
    for pid in ours:
        kernel.put(f"{directory}/cgroup.procs", str(pid))


def _ask(zygote: ZygoteHandle, wanted: Renunciation) -> None:
    who = [wanted.uid, wanted.gid, list(wanted.groups), list(wanted.kept)]
    answer: dict[str, Any] = {}
    try:
        orders.send(zygote.sock, orders.encode({"renounce": who}))
        if select.select([zygote.sock], [], [], _REPLY / 1000)[0]:
            answer, _ = orders.receive(zygote.sock)
    except (OSError, orders.Closed) as error:
        answer = {"renounced": str(error)}
    if answer.get("renounced") != "":
        raise UserError(f"--uid: the zygote can't become {wanted.name}: {answer.get('renounced') or 'no answer'}")


def _capabilities(caps: str | None) -> tuple[int, ...]:
    found = []
    for word in (caps or "").replace(",", " ").split():
        name = word.lower().removeprefix("cap_")
        if name not in CAPABILITIES:
            raise UserError(f'--cap: "{word[:40]}" is no capability (see capabilities(7): setuid,setgid,kill …)')
        found.append(CAPABILITIES[name])
    return tuple(sorted(set(found)))


def _user(text: str) -> pwd.struct_passwd | None:
    if text.isascii() and text.isdigit():
        if not 0 <= int(text) < 2**31:
            raise UserError(f"--uid: {text[:40]} is no user's id")
        return _entry(int(text))
    try:
        return pwd.getpwnam(text)
    except (KeyError, ValueError):
        raise UserError(f'--uid: there is no user "{text[:40]}" (create it, or give a decimal id)') from None


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None
