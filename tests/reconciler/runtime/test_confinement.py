"""Isolation written down as an order, and what its failures are called."""

from __future__ import annotations

import errno
import marshal
from typing import Any

import pytest

from emperorctl.models.isolation import CGROUP, IPC, MOUNT, NET, PID, USER, UTS, Bind, IdMap, Isolation, Network
from emperorctl.models.vassal import Kind, Launch, Vassal
from emperorctl.reconciler.runtime import failures
from emperorctl.reconciler.runtime.confinement import STEPS, Unmapped, explain, write_isolation
from emperorctl.reconciler.runtime.identity import Identity
from emperorctl.reconciler.runtime.ordering import Unusable, Where, write_order

ROOT = Identity(0, 0, (), "root", "/root", "/bin/sh", switch=False)
WEB = Identity(33, 34, (34, 35), "web", "/", "/bin/sh", switch=True)
OWN = Identity(1000, 1001, (), "me", "/", "/bin/sh", switch=False)
HERE = Where(7, ("out", "err"), "/cg/7", "/logs/a.log")


def order(isolation: Isolation, identity: Identity = WEB, emperor: int = 0, notify: str = "") -> dict[str, Any]:
    found: dict[str, Any] = marshal.loads(marshal.dumps(write_isolation(isolation, identity, emperor, notify), 2))
    return found


@pytest.mark.parametrize(
    ("isolation", "identity", "kept", "asked"),
    [
        (Isolation(), WEB, [], False),
        (Isolation(), ROOT, None, False),
        (Isolation(bound=(7,)), ROOT, [7], True),
        (Isolation(bound=(7,)), WEB, [], True),
        (Isolation(capabilities=(0,), bound=(0, 7)), ROOT, [0], True),
        (Isolation(capabilities=(10,)), WEB, [10], True),
        (Isolation(capabilities=()), ROOT, [], True),
        (Isolation(USER), ROOT, [], False),
        (Isolation(USER, root_map=True), ROOT, None, False),
        (Isolation(), OWN, [], False),
    ],
)
def test_the_capabilities_that_are_kept(
    isolation: Isolation, identity: Identity, kept: list[int] | None, asked: bool
) -> None:
    found = order(isolation, identity)
    assert (found["kept"], found["asked"]) == (kept, asked)


def test_a_cgroup_namespace_is_made_within_the_cgroup() -> None:
    found = order(Isolation(CGROUP | IPC))
    assert (found["flags"], found["cgroup"]) == (IPC, True)


def test_the_loopback_device_is_raised_for_those_that_do_not_see_to_it() -> None:
    assert order(Isolation(NET, network=Network.NONE))["loopback"]
    assert not order(Isolation(NET))["loopback"]


def test_there_is_a_scene_where_there_is_a_mount_namespace() -> None:
    assert order(Isolation(UTS | PID))["scene"] is None
    scene = order(Isolation(MOUNT, private_tmp=True, binds=(Bind("/a", "/b", True),)), notify="/run/n")["scene"]
    assert (scene["tmp"], scene["binds"], scene["notify"]) == (True, [["/a", "/b", True]], "/run/n")
    assert scene["ids"] == [33, 34, [34, 35]]


def test_own_ids_stand_for_themselves() -> None:
    found = order(Isolation(USER))
    assert found["maps"] == {"uid": "33 33 1\n", "gid": "34 34 1\n35 35 1\n", "deny": False}
    assert found["ids"] == [33, 34, [34, 35]]


def test_an_ordinary_user_maps_itself_and_changes_to_nobody() -> None:
    found = order(Isolation(USER), OWN, emperor=1000)
    assert found["maps"] == {"uid": "1000 1000 1\n", "gid": "1001 1001 1\n", "deny": True}
    assert found["ids"] is None
    found = order(Isolation(USER, root_map=True), OWN, emperor=1000)
    assert (found["maps"]["uid"], found["maps"]["gid"]) == ("0 1000 1\n", "0 1001 1\n")


def test_an_emperor_with_the_right_to_it_makes_others_vassals_theirs_in_user_namespaces_too() -> None:
    """In paranoid mode: nobody else's vassal may be left with the Emperor's own user."""
    found = order(Isolation(USER), WEB, emperor=1000)
    assert found["ids"] == [33, 34, [34, 35]] and not found["maps"]["deny"]
    found = order(Isolation(USER, root_map=True), WEB, emperor=1000)
    assert (found["maps"]["uid"], found["ids"][:2]) == ("0 33 1\n", [0, 0])


def test_whom_it_becomes_is_said_in_the_ids_of_its_namespace() -> None:
    maps = {"uid_map": (IdMap(0, 30, 10),), "gid_map": (IdMap(100, 34),)}
    assert order(Isolation(USER, **maps))["ids"] == [3, 100, [100]]


def test_root_is_everybody_where_uwsgi_sees_to_the_rest() -> None:
    found = order(Isolation(USER, root_map=True), ROOT)
    assert found["maps"]["uid"] == found["maps"]["gid"] == "0 0 4294967295\n"


@pytest.mark.parametrize("name", ["uid_map", "gid_map"])
def test_a_map_without_its_own_user(name: str) -> None:
    isolation = Isolation(USER, **{name: (IdMap(0, 5),)})
    with pytest.raises(Unmapped):
        order(isolation)
    vassal = Vassal("a", Kind.NATIVE, "s", "f", Launch(("a",), isolation=isolation))
    with pytest.raises(Unusable) as unusable:
        write_order(vassal, {}, WEB, HERE)
    assert unusable.value.reason == "UnmappedUser"


def test_without_isolation_nothing_is_said_of_it() -> None:
    vassal = Vassal("a", Kind.UWSGI, "s", "f", Launch(("uwsgi",)))
    assert "isolation" not in marshal.loads(write_order(vassal, {}, WEB, HERE))["launch"]


@pytest.mark.parametrize(
    ("report", "root", "reason", "words"),
    [
        ({"step": "namespaces", "errno": errno.EPERM}, False, "NoNamespaces", "add user to spec.isolation.namespaces"),
        ({"step": "namespaces", "errno": errno.EPERM}, True, "NoNamespaces", "CAP_SYS_ADMIN"),
        ({"step": "namespaces", "errno": errno.ENOSPC}, True, "NoNamespaces", "user.max_user_namespaces"),
        ({"step": "namespaces", "errno": errno.EINVAL}, True, "NoNamespaces", "kernel"),
        ({"step": "maps", "errno": errno.EPERM}, False, "NotPermitted", "one id each"),
        ({"step": "mounts", "errno": errno.ENOENT, "field": "chroot", "path": "/x"}, True, "MissingPath", "chroot: /x"),
        ({"step": "mounts", "errno": errno.EACCES, "field": "bindPaths", "path": "/x"}, True, "ForbiddenPath", "/x"),
        (
            {"step": "mounts", "errno": 0, "field": "f", "path": "/x/y", "link": "x\n"},
            True,
            "UntrustedLink",
            '"x\\x0a"',
        ),
        ({"step": "mounts", "errno": errno.ENOSYS}, True, "OldKernel", "5.12"),
        ({"step": "mounts", "errno": errno.EINVAL, "field": "f", "path": "/x"}, True, "IsolationFailed", "f: /x"),
        (
            {"step": "mounts", "errno": errno.EINVAL, "field": "bindPaths", "path": "/x"},
            True,
            "IsolationFailed",
            "a file on a file",
        ),
        ({"step": "hostname", "errno": errno.EINVAL}, True, "IsolationFailed", "jail"),
        ({"step": "keeper", "errno": 0, "detail": "odd"}, True, "IsolationFailed", "odd"),
    ],
)
def test_failures_in_words(report: dict[str, Any], root: bool, reason: str, words: str) -> None:
    isolation = Isolation(MOUNT | UTS, hostname="jail")
    assert report["step"] in STEPS
    found, message, remedy = explain(isolation, report, root=root)
    assert found == reason
    assert words in f"{message} ({remedy})"


def test_user_namespaces_that_a_host_does_not_allow() -> None:
    _, _, remedy = explain(Isolation(USER), {"step": "namespaces", "errno": errno.EPERM}, root=False)
    assert "sysctl kernel.unprivileged_userns_clone=1" in remedy


def test_a_shortage_is_no_fault_of_the_vassals() -> None:
    vassal = Vassal("a", Kind.NATIVE, "s", "f", Launch(("a",), isolation=Isolation(PID)))
    assert failures.explain(vassal, {"step": "namespaces", "errno": errno.EAGAIN}, 1.0).transient
    assert not failures.explain(vassal, {"step": "namespaces", "errno": errno.EPERM}, 1.0).transient
