"""Tyrant mode's rule: who may be run, and what a file may ask for."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from emperorctl.models.errors import ConfigError
from emperorctl.models.isolation import NET, USER, Bind, IdMap, Isolation, Network, Port
from emperorctl.models.limits import Limits
from emperorctl.models.merging import Layers
from emperorctl.models.patches import Patch
from emperorctl.models.sockets import OnDemand, parse_address
from emperorctl.models.tyranny import _HARMLESS, _LOOKED_INTO, Tyranny, govern, refuse_layers, refuse_options, unfit
from emperorctl.models.vassal import Hook, Hooks, Launch, Owner, Rlimit, Vassal
from tests.fakes import vassals
from tests.fakes.vassals import uwsgi

ALICE = Owner(1001, 1002)
TYRANNY = Tyranny(limits={"nofile": 1024, "core": None})
FILE = "/srv/a b/v.ini"


def native(**changes: Any) -> Vassal:
    """As one comes from its file."""
    vassal = vassals.native(**changes)
    return replace(vassal, launch=replace(vassal.launch, isolation=Isolation(no_new_privileges=True)))


@pytest.mark.parametrize(
    ("owner", "reason", "remedy"),
    [
        (Owner(0, 5), "OwnedByRoot", "`chown USER '/srv/a b/v.ini'`"),
        (Owner(5, 0), "OwnedByRoot", "`chgrp GROUP '/srv/a b/v.ini'`"),
        (Owner(65534, 5), "UnmappedOwner", "`chown USER:GROUP '/srv/a b/v.ini'` with ids that are mapped"),
        (Owner(9, 65533), "UnmappedOwner", "`chown USER:GROUP '/srv/a b/v.ini'` with ids that are mapped"),
        (Owner(7, 5), "OwnedByEmperor", "`chown USER '/srv/a b/v.ini'`"),
        (Owner(2**31, 5), "InvalidOwner", "`chown USER:GROUP '/srv/a b/v.ini'`"),
        (Owner(5, 2**32 - 1), "InvalidOwner", "`chown USER:GROUP '/srv/a b/v.ini'`"),
    ],
)
def test_who_is_never_run(owner: Owner, reason: str, remedy: str) -> None:
    problem = unfit(owner, Tyranny(emperor=7, unmapped=(65534, 65533)), FILE)
    assert problem is not None and (problem.reason, problem.remedy, problem.file) == (reason, remedy, FILE)


def test_everybody_else_is() -> None:
    assert unfit(Owner(1, 1), TYRANNY, FILE) is None
    assert unfit(Owner(2**31 - 1, 2**31 - 1), TYRANNY, FILE) is None


def test_a_vassal_runs_as_its_owner() -> None:
    governed = govern(native(), ALICE, TYRANNY)
    assert (governed.launch.user, governed.launch.group, governed.launch.init_groups) == ("1001", "1002", False)
    assert (governed.name, governed.owner) == ("shop.1001", ALICE)
    assert govern(uwsgi(), ALICE, TYRANNY).name == "shop.ini"
    assert govern(native(), ALICE, replace(TYRANNY, init_groups=True)).launch.init_groups


def refused(vassal: Vassal, tyranny: Tyranny = TYRANNY) -> str:
    with pytest.raises(ConfigError) as refusal:
        govern(vassal, ALICE, tyranny)
    problem = refusal.value.problem
    assert problem.reason == "TyrantForbids" and problem.remedy and problem.file == vassal.file
    return problem.field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"user": "root"}, "spec.user"),
        ({"user": "1001"}, "spec.user"),
        ({"group": "root"}, "spec.group"),
        ({"nice": -1}, "spec.nice"),
        ({"hooks": Hooks(post_stop=(Hook(("a",)), Hook(("b",), as_emperor=True)))}, "spec.hooks.postStop[1].asEmperor"),
    ],
)
def test_what_a_manifest_may_not_ask_for(changes: dict[str, Any], field: str) -> None:
    assert refused(native(**changes)) == field


@pytest.mark.parametrize(("soft", "hard"), [(1, 1025), (1, None), (None, None), (1025, 1024)])
def test_limits_above_the_emperors_own(soft: int | None, hard: int | None) -> None:
    vassal = native()
    launch = replace(vassal.launch, rlimits=(Rlimit("nofile", soft, hard),))
    assert refused(replace(vassal, launch=launch)) == "spec.rlimits.nofile"


def test_limits_within_them_and_where_there_are_none() -> None:
    vassal = native(nice=3)
    limits = (Rlimit("nofile", 5, 1024), Rlimit("core", None, None), Rlimit("cpu", None, None))
    governed = govern(replace(vassal, launch=replace(vassal.launch, rlimits=limits)), ALICE, TYRANNY)
    assert governed.launch.rlimits == limits and governed.launch.nice == 3
    assert refused(vassal, replace(TYRANNY, nice=5)) == "spec.nice"


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        (Patch("p", privileged=True), "privileged-binary-patch"),
        (Patch("p", user="root"), "uid"),
        (Patch("p", group="root"), "gid"),
        (Patch("p", unshare=1), "unshare"),
        (Patch("p", capabilities=()), "cap"),
        (Patch("p", as_root=("id",)), "exec-as-root"),
    ],
)
def test_what_a_patch_may_not_ask_for(patch: Patch, field: str) -> None:
    vassal = uwsgi()
    assert refused(replace(vassal, launch=replace(vassal.launch, patch=patch))) == field


def test_a_patch_that_asks_for_nothing_is_let_through() -> None:
    vassal = uwsgi()
    patch = Patch("p", working_dir="/x", env=(("A", "b"),), umask=0, as_user=("id",))
    assert govern(replace(vassal, launch=replace(vassal.launch, patch=patch)), ALICE, TYRANNY).launch.patch == patch


def test_a_field_that_nobody_has_judged_is_refused() -> None:
    """A right that a launch may get one day is not given to tenants by oversight."""
    vassal = native()
    assert refused(replace(vassal, launch=replace(vassal.launch, init_groups=True))) == "spec.init_groups"
    judged = _HARMLESS | _LOOKED_INTO | {"init_groups"}
    assert {item.name for item in fields(Launch)} == judged, "say in tyranny.py whether tenants may have the new field"


@pytest.mark.parametrize(
    ("isolation", "field"),
    [
        (Isolation(capabilities=(6,), no_new_privileges=True), "spec.isolation.capabilities"),
        (Isolation(), "spec.isolation.noNewPrivileges"),
        (Isolation(chroot="/x", no_new_privileges=True), "spec.isolation.chroot"),
        (Isolation(uid_map=(IdMap(0, 1, 1),), no_new_privileges=True), "spec.isolation.uidMap"),
        (
            Isolation(NET | USER, no_new_privileges=True, network=Network.USER, ports=(Port(80, 1023),)),
            "spec.network.user.ports[0].hostPort",
        ),
        (Isolation(gid_map=(IdMap(0, 1, 1),), no_new_privileges=True), "spec.isolation.gidMap"),
    ],
)
def test_what_would_give_rights_over_others(isolation: Isolation, field: str) -> None:
    vassal = native()
    assert refused(replace(vassal, launch=replace(vassal.launch, isolation=isolation))) == field


def test_a_native_vassal_without_any_is_none_that_a_file_can_have() -> None:
    assert refused(vassals.native()) == "spec.isolation"


def test_who_keeps_himself_apart_gets_no_rights_by_it() -> None:
    apart = Isolation(namespaces=0x2000_0000, private_tmp=True, read_only=("/",), no_new_privileges=True)
    vassal = native()
    assert govern(replace(vassal, launch=replace(vassal.launch, isolation=apart)), ALICE, TYRANNY)
    # A uWSGI config can't ask for any: what it has is what the administrator gives to all.
    given = replace(uwsgi(), launch=replace(uwsgi().launch, isolation=Isolation(bound=(6, 7))))
    assert govern(given, ALICE, TYRANNY).launch.isolation == Isolation(bound=(6, 7))


def test_nobody_takes_a_greater_share_of_the_disks() -> None:
    assert govern(native(limits=Limits(io_weight=100, memory=1)), ALICE, TYRANNY)
    assert refused(native(limits=Limits(io_weight=101))) == "spec.resources.limits.ioWeight"


def demand(*texts: str, **changes: Any) -> OnDemand:
    return OnDemand(tuple(replace(parse_address(text), **changes) for text in texts))


def test_sockets() -> None:
    assert refused(native(on_demand=demand(":8000", ":1023"))) == "spec.onDemand.addresses[1]"
    assert refused(native(on_demand=demand("/run/x", owner="1001"))) == "spec.onDemand.addresses[0]"
    assert refused(native(on_demand=demand("/run/x", group="1002"))) == "spec.onDemand.addresses[0]"
    governed = govern(native(on_demand=demand(":1024", "/run/x", "@x")), ALICE, TYRANNY).on_demand
    assert governed and [one.bound_as for one in governed.addresses] == [None, (1001, 1002), None]


def test_sockets_that_the_administrator_gives_are_the_emperors() -> None:
    granted = demand("/run/given/x.socket")
    governed = govern(replace(uwsgi(), on_demand=granted), ALICE, TYRANNY, granted=granted)
    assert governed.on_demand == granted
    other = govern(replace(uwsgi(), on_demand=demand("/etc/x")), ALICE, TYRANNY, granted=granted).on_demand
    assert other and other.addresses[0].bound_as == (1001, 1002)


@pytest.mark.parametrize(
    "option", ["uid", "gid", "cap", "unshare", "exec-as-root", "privileged-binary-patch", "chroot"]
)
def test_options_of_configs(option: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        refuse_options([("master", "true"), (option, "x")])
    assert refusal.value.problem.field == option
    refuse_options([("master", "true"), ("env", "uid=1"), ("exec-as-user", "id")])


def test_a_network_of_its_own_with_ports_that_anybody_may_have_is_no_right() -> None:
    vassal = native()
    isolation = Isolation(NET | USER, no_new_privileges=True, network=Network.USER, ports=(Port(80, 1024),))
    asked = replace(vassal, launch=replace(vassal.launch, isolation=isolation))
    assert govern(asked, ALICE, TYRANNY).launch.isolation == isolation


# What the administrator gives


def isolated(**fields: Any) -> Vassal:
    """One with this isolation."""
    vassal = native()
    return replace(
        vassal, launch=replace(vassal.launch, isolation=replace(Isolation(no_new_privileges=True), **fields))
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"capabilities": (10,)},
        {"no_new_privileges": False},
        {"chroot": "/srv/jail"},
        {"namespaces": 0x1000_0000, "uid_map": (IdMap(0, 100_000, 9),)},
        {"namespaces": 0x1000_0000, "gid_map": (IdMap(0, 100_000, 9),)},
    ],
)
def test_isolation_that_is_given_is_not_asked_for(fields: dict[str, Any]) -> None:
    assert refused(isolated(**fields))
    assert govern(isolated(**fields), ALICE, TYRANNY, given=isolated(**fields))
    # Also with what takes nothing from anybody, except where programs with set-user-id bits would be deceived by it.
    more = fields | {"binds": (Bind("/home/alice/a", "/etc/a"),)}
    if "no_new_privileges" in fields:
        with pytest.raises(ConfigError) as refusal:
            govern(isolated(**more), ALICE, TYRANNY, given=isolated(**fields))
        assert "nothing of their own" in refusal.value.problem.remedy
    else:
        assert govern(isolated(**more), ALICE, TYRANNY, given=isolated(**fields))


def test_what_goes_beyond_what_is_given_is_refused() -> None:
    given = isolated(capabilities=(10,), chroot="/srv/jail")
    for more in ({"capabilities": (10, 21)}, {"chroot": "/srv"}, {"no_new_privileges": False}):
        with pytest.raises(ConfigError):
            govern(isolated(**more), ALICE, TYRANNY, given=given)
    assert govern(isolated(capabilities=()), ALICE, TYRANNY, given=given)


def test_priority_limits_and_sockets_that_are_given() -> None:
    def made(nice: int, nofile: int, weight: int, where: str) -> Vassal:
        vassal = native(limits=Limits(io_weight=weight), on_demand=demand(where))
        launch = replace(vassal.launch, nice=nice, rlimits=(Rlimit("nofile", nofile, nofile),))
        return replace(vassal, launch=launch)

    given = made(-5, 4096, 200, "127.0.0.1:80")
    governed = govern(given, ALICE, TYRANNY, given=given)
    assert governed.on_demand == given.on_demand
    for other in (
        made(-6, 4096, 200, "127.0.0.1:80"),
        made(-5, 4097, 200, "127.0.0.1:80"),
        made(-5, 4096, 201, "127.0.0.1:80"),
        made(-5, 4096, 200, "127.0.0.1:81"),
    ):
        with pytest.raises(ConfigError):
            govern(other, ALICE, TYRANNY, given=given)


def test_hooks_as_the_emperor_are_never_given() -> None:
    vassal = native(hooks=Hooks(pre_start=(Hook(("true",), 1.0, as_emperor=True),)))
    with pytest.raises(ConfigError):
        govern(vassal, ALICE, TYRANNY, given=vassal)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"user": "www-data"}, "spec.user"),
        ({"group": "www-data"}, "spec.group"),
        ({"hooks": {"preStart": {"command": ["a"], "asEmperor": True}}}, "spec.hooks.preStart.asEmperor"),
        ({"hooks": {"postStop": [{"command": ["a"], "asEmperor": "%(x)"}]}}, "spec.hooks.postStop[0].asEmperor"),
    ],
)
def test_what_can_not_be_given_to_all(spec: dict[str, Any], field: str) -> None:
    for layers, where in ((Layers(given={"spec": spec}), "--vassal-set"), (Layers({"spec": spec}, file="f"), "f")):
        with pytest.raises(ConfigError) as refusal:
            refuse_layers(layers)
        assert (refusal.value.problem.field, refusal.value.problem.file) == (field, where)
    harmless = {"nice": 1, "hooks": {"preStart": [{"command": ["a"]}, {"command": ["a"], "asEmperor": False}]}}
    refuse_layers(Layers({"spec": harmless}, {"metadata": {}}))
