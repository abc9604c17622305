"""What keeps a vassal apart, as the zygote is ordered to do it, and what it means where that fails.

Used by `ordering` and `failures`. Pure: who the Emperor is, is an argument. The meaning of each field is in
`zygote.cells` and `zygote.scene`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any

from emperorctl.models.isolation import CGROUP, MOUNT, NET, USER, IdMap, Isolation, Network, namespace_names
from emperorctl.models.names import printable
from emperorctl.reconciler.runtime import outlets
from emperorctl.reconciler.runtime.identity import Identity

__all__ = ["STEPS", "Unmapped", "explain", "write_isolation"]

STEPS = frozenset(
    {"namespaces", "maps", "hostname", "loopback", "mounts", "chroot", "keeper", "no_new_privs", "network"}
)
"""The steps of a launch that are told of here."""

_ALL_IDS = 2**32 - 1


class Unmapped(Exception):
    """The id of the vassal's own user or group has no meaning in its user namespace; the argument says it."""


def write_isolation(isolation: Isolation, identity: Identity, emperor: int, notify: str = "") -> dict[str, Any]:
    """The order's part. `emperor` is the Emperor's effective uid, `notify` the path of the launch's notification
    socket. Raises Unmapped."""
    maps, ids = None, _own(identity)
    if isolation.namespaces & USER:
        maps, ids = _maps(isolation, identity, emperor)
    kept = isolation.capabilities
    if kept is None and (identity.uid != 0 or (isolation.namespaces & USER and not isolation.root_map)):
        kept = ()
    elif kept is None:
        kept = isolation.bound
    return {
        # A cgroup namespace is made later: it begins where its maker stands.
        "flags": isolation.namespaces & ~CGROUP,
        "cgroup": bool(isolation.namespaces & CGROUP),
        "init": isolation.init,
        "maps": maps,
        "ids": ids,
        "hostname": isolation.hostname,
        "loopback": bool(isolation.namespaces & NET) and isolation.network is not Network.HOST,
        "network": None,
        "scene": _scene(isolation, ids, emperor, notify) if isolation.namespaces & MOUNT else None,
        "kept": None if kept is None else list(kept),
        "asked": isolation.capabilities is not None or isolation.bound is not None,
        "no_new_privileges": isolation.no_new_privileges,
    }


def _own(identity: Identity) -> list[Any] | None:
    return [identity.uid, identity.gid, list(identity.groups)] if identity.switch else None


def _scene(isolation: Isolation, ids: list[Any] | None, emperor: int, notify: str) -> dict[str, Any]:
    return {
        "emperor": emperor,
        "user": bool(isolation.namespaces & USER),
        "ids": ids,
        "root": isolation.chroot,
        "tmp": isolation.private_tmp,
        "dev": isolation.private_devices,
        "proc": isolation.proc,
        "ro": list(isolation.read_only),
        "rw": list(isolation.read_write),
        "hide": list(isolation.inaccessible),
        "binds": [[bind.source, bind.target, bind.read_only] for bind in isolation.binds],
        "notify": notify,
    }


def _maps(isolation: Isolation, identity: Identity, emperor: int) -> tuple[dict[str, Any], list[Any] | None]:
    """The maps of the user namespace, and who to become there."""
    uids, gids = isolation.uid_map, isolation.gid_map
    if isolation.root_map:
        every = (IdMap(0, 0, _ALL_IDS),)
        uids = every if emperor == 0 else (IdMap(0, identity.uid),)
        gids = every if emperor == 0 else (IdMap(0, identity.gid),)
    # An Emperor that is not root may map one of each, its own. Where it has the right to become somebody else, that
    # right is needed for the maps, too, so that the zygote has it or the launch fails.
    alone = emperor != 0 and not identity.switch
    groups = [identity.gid] if alone else sorted({identity.gid, *identity.groups})
    uids = uids or (IdMap(identity.uid, identity.uid),)
    gids = gids or tuple(IdMap(gid, gid) for gid in groups)
    maps = {"uid": _lines(uids), "gid": _lines(gids), "deny": alone}
    uid, gid = _inside(uids, identity.uid), _inside(gids, identity.gid)
    if uid is None:
        raise Unmapped(f"uidMap gives no id to the vassal's own user, {identity.uid} ({printable(identity.name)})")
    if gid is None:
        raise Unmapped(f"gidMap gives no id to the vassal's own group, {identity.gid}")
    if not identity.switch:
        return maps, None
    others = [found for group in identity.groups if (found := _inside(gids, group)) is not None]
    return maps, [uid, gid, others]


def _lines(maps: Sequence[IdMap]) -> str:
    return "".join(f"{one.inside} {one.outside} {one.count}\n" for one in maps)


def _inside(maps: Sequence[IdMap], outside: int) -> int | None:
    for one in maps:
        if one.outside <= outside < one.outside + one.count:
            return one.inside + outside - one.outside
    return None


def explain(isolation: Isolation, report: Mapping[str, Any], *, root: bool) -> tuple[str, str, str]:
    """Reason, message and remedy of a failure at one of `STEPS`. `root`: the Emperor is."""
    step, number = str(report.get("step", "")), int(report.get("errno", 0))
    words = os.strerror(number) if number else printable(str(report.get("detail", ""))) or "unknown error"
    if step == "namespaces":
        return _namespaces(isolation, number, words, root=root)
    if step == "maps":
        remedy = "an Emperor that is not root can map nothing but its own user and group, one id each"
        return "NotPermitted", f"the ids of its user namespace can't be mapped: {words}", "" if root else remedy
    if step in ("mounts", "chroot"):
        return _mounts(report, number, words)
    if step == "network":
        return outlets.explain(isolation, report, number)
    if step == "hostname":
        return "IsolationFailed", f'its host can\'t be called "{isolation.hostname}": {words}', ""
    return "IsolationFailed", f"{step} failed: {words}", ""


def _namespaces(isolation: Isolation, number: int, words: str, *, root: bool) -> tuple[str, str, str]:
    listed = ", ".join(namespace_names(isolation.namespaces))
    message = f"its namespaces ({listed}) can't be made: {words}"
    if number == errno.EPERM and not root and not isolation.namespaces & USER:
        remedy = "run the Emperor as root (with --uid: --cap …,sys_admin), or add user to spec.isolation.namespaces"
    elif number == errno.EPERM:
        remedy = (
            "allow user namespaces on this host: sysctl kernel.unprivileged_userns_clone=1 (Debian),"
            " kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); in a container, they have to be allowed there"
        )
        if isolation.init and not root:
            remedy += "; where it is another user's, and the Emperor is not root, do without one of user and pid"
        if root and not isolation.namespaces & USER:
            remedy = "the Emperor needs CAP_SYS_ADMIN: in a container, it has to be given it"
    elif number in (errno.ENOSPC, errno.EUSERS):
        remedy = "raise the limits on them: sysctl user.max_user_namespaces, user.max_mnt_namespaces …"
    elif number == errno.EINVAL:
        remedy = "this kernel lacks one of them: do without, or run another"
    else:
        remedy = "see to the host's limits (processes, memory)"
    return "NoNamespaces", message, remedy


def _mounts(report: Mapping[str, Any], number: int, words: str) -> tuple[str, str, str]:
    field, path = str(report.get("field", "")), printable(str(report.get("path", "")))
    if "link" in report:
        link = printable(str(report["link"]))
        message = f'{field}: on the way to {path} lies a link, "{link}", that others than root could have made'
        return "UntrustedLink", message, "write the path that it leads to, or make the link and its directory root's"
    if number in (errno.ENOENT, errno.ENOTDIR) and path:
        return "MissingPath", f"{field}: {path} does not exist", f"create it, or correct {field}"
    if number == errno.EACCES and path:
        remedy = "give that user the x permission on all directories above it"
        return "ForbiddenPath", f"{field}: the vassal's user can't get to {path}", remedy
    if number == errno.EINVAL and field == "bindPaths":
        remedy = "bind a file on a file, or a directory on a directory"
        return "IsolationFailed", f"bindPaths: {path} can't be covered by what is to be bound there", remedy
    if number == errno.ENOSYS:
        return "OldKernel", f"{field or 'mounts'}: this kernel is too old", "isolation takes Linux 5.12 or later"
    where = f"{field}: {path}" if path else "its view of the file system"
    return "IsolationFailed", f"{where} can't be arranged: {words}", ""
