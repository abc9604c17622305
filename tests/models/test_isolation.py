"""What `spec.isolation` and `spec.network` may say, what goes without saying, and how every mistake is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emperorctl.models.errors import Problem
from emperorctl.models.isolation import (
    CGROUP,
    IPC,
    MOUNT,
    NET,
    PID,
    USER,
    UTS,
    Bind,
    IdMap,
    Isolation,
    Network,
    Port,
    for_all,
    imposed,
    namespace_flags,
    raises_rights,
)
from emperorctl.models.magic import Place
from emperorctl.models.manifest import read_manifests
from emperorctl.models.manifest_isolation import DEFAULT, impose
from emperorctl.models.vassal import Vassal

PLACE = Place("shop.yaml", "/etc/vassals/shop.yaml", "/etc/vassals", hostname="host")


def read(spec: dict[str, Any]) -> tuple[Vassal | None, Problem | None]:
    document = {"apiVersion": "emperor/v1", "kind": "Vassal", "spec": {"command": ["a"]} | spec}
    data = json.dumps(document).encode()
    (claim,) = read_manifests(data, "json", file="f", stem="shop", place=PLACE, source="s")
    return claim.vassal, claim.problem


def isolation(network: Any = None, **fields: Any) -> Isolation:
    vassal, problem = read({"isolation": fields} | ({"network": network} if network else {}))
    assert vassal is not None, problem
    assert vassal.launch.isolation is not None
    # What is shown as meant, means the same.
    again, problem = read({key: vassal.spec[key] for key in ("isolation", "network") if key in vassal.spec})
    assert again is not None, problem
    assert again.launch.isolation == vassal.launch.isolation
    return vassal.launch.isolation


def wrong(network: Any = None, **fields: Any) -> str:
    vassal, problem = read({"isolation": fields} | ({"network": network} if network else {}))
    assert vassal is None
    assert problem is not None
    return f"{problem.field}: {problem.message} ({problem.remedy})"


def test_one_that_says_nothing_gains_no_privileges_and_shares_what_it_means() -> None:
    vassal, _ = read({})
    other, _ = read({"network": "host"})
    assert vassal is not None
    assert other is not None
    assert vassal.launch.isolation is other.launch.isolation is DEFAULT
    assert Isolation(no_new_privileges=True) == DEFAULT
    assert vassal.spec["isolation"] == {"noNewPrivileges": True}


def test_new_privileges_can_be_asked_for() -> None:
    assert isolation(noNewPrivileges=False) == Isolation()


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["fs", "net", "ipc", "uts"], MOUNT | NET | IPC | UTS),
        (["mount"], MOUNT),
        (["ns", "mnt"], MOUNT),
        (["cgroup", "user"], CGROUP | USER),
        (["pid"], PID | MOUNT),
    ],
)
def test_namespaces_by_their_names_and_uwsgis(words: list[str], flags: int) -> None:
    assert isolation(namespaces=words).namespaces == flags


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({"hostname": "jail"}, UTS),
        ({"privateTmp": True}, MOUNT),
        ({"privateDevices": True}, MOUNT),
        ({"readOnlyPaths": ["/"]}, MOUNT),
        ({"inaccessiblePaths": ["/root"]}, MOUNT),
        ({"bindPaths": ["/a:/b"]}, MOUNT),
        ({"chroot": "/srv/jail"}, MOUNT),
        ({"proc": True}, PID | MOUNT),
        ({"uidMap": [{"inside": 0, "outside": 5}]}, USER),
        ({"network": "none"}, NET),
    ],
)
def test_what_a_field_needs_goes_without_saying(fields: dict[str, Any], flags: int) -> None:
    assert isolation(**fields).namespaces == flags


def test_in_a_pid_namespace_proc_shows_it_and_something_else_is_process_one() -> None:
    found = isolation(namespaces=["pid"])
    assert (found.proc, found.init) == (True, True)
    found = isolation(namespaces=["pid"], proc=False)
    assert (found.proc, found.init, found.namespaces) == (False, True, PID)


def test_a_network_namespace_is_a_network_of_its_own() -> None:
    assert isolation(namespaces=["net"]).network is Network.NONE
    assert isolation(namespaces=["ipc"]).network is Network.HOST


def test_a_network_with_a_way_out_belongs_to_its_user_namespace() -> None:
    found = isolation(network="user")
    assert (found.network, found.namespaces, found.ports) == (Network.USER, NET | USER, ())
    assert isolation(network={"user": {}}) == found
    assert isolation(network={"none": {}}) == isolation(network="none")
    vassal, _ = read({"network": "user"})
    assert vassal is not None
    assert vassal.spec["network"] == "user"
    # What all vassals get takes nothing from it.
    assert imposed(found, NET | PID, None).network is Network.USER


def test_ports_in_both_forms() -> None:
    short = ["127.0.0.1:8080:80", "127.0.0.1:53:5353/udp", "[::1]:8080:80", "443"]
    long = [
        {"hostPort": 8080, "containerPort": 80, "hostIP": "127.0.0.1"},
        {"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "127.0.0.1"},
        {"hostPort": 8080, "containerPort": 80, "hostIP": "::1"},
        {"containerPort": 443},
    ]
    for form in (short, long):
        assert isolation(network={"user": {"ports": form}}).ports == (
            Port(80, 8080, "tcp", "127.0.0.1"),
            Port(5353, 53, "udp", "127.0.0.1"),
            Port(80, 8080, "tcp", "::1"),
            Port(443, 443),
        )
    vassal, _ = read({"network": {"user": {"ports": ["127.0.0.1:53:5353/udp", "80"]}}})
    assert vassal is not None
    assert vassal.spec["network"]["user"]["ports"] == [
        {"containerPort": 5353, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"},
        {"containerPort": 80, "hostPort": 80, "protocol": "TCP"},
    ]


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (Port(80, 8080), Port(81, 8080), True),
        (Port(80, 8080), Port(80, 8080, "udp"), False),
        (Port(80, 8080), Port(80, 8081), False),
        (Port(80, 8080, address="127.0.0.1"), Port(80, 8080, address="127.0.0.2"), False),
        (Port(80, 8080, address="127.0.0.1"), Port(80, 8080), True),
        (Port(80, 8080, address="::1"), Port(80, 8080, address="::"), True),
    ],
)
def test_which_ports_exclude_each_other(one: Port, other: Port, clash: bool) -> None:
    assert one.clashes(other) is other.clashes(one) is clash


def test_everything_said() -> None:
    found = isolation(
        namespaces=["ipc"],
        hostname="jail-1.example",
        privateTmp=True,
        privateDevices=True,
        readOnlyPaths=["/", "/srv/a/"],
        readWritePaths=["/srv/a/b"],
        inaccessiblePaths=["/root"],
        bindPaths=["/x", "/d:/e", "/f:/g:ro", {"source": "/h:i", "target": "/j", "readOnly": True}],
        uidMap=[{"inside": 0, "outside": 1000, "count": 2}],
        gidMap=[{"inside": 5, "outside": 5}],
        capabilities=["CAP_NET_BIND_SERVICE", "chown"],
    )
    assert found == Isolation(
        namespaces=IPC | UTS | MOUNT | USER,
        hostname="jail-1.example",
        private_tmp=True,
        private_devices=True,
        read_only=("/", "/srv/a"),
        read_write=("/srv/a/b",),
        inaccessible=("/root",),
        binds=(Bind("/x", "/x"), Bind("/d", "/e"), Bind("/f", "/g", True), Bind("/h:i", "/j", True)),
        uid_map=(IdMap(0, 1000, 2),),
        gid_map=(IdMap(5, 5),),
        capabilities=(0, 10),
        no_new_privileges=True,
    )


def test_no_capability_is_not_the_same_as_nothing_said() -> None:
    assert isolation(capabilities=[]).capabilities == ()
    assert isolation().capabilities is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"namespaces": ["fss"]}, 'spec.isolation.namespaces[0]: expected one of mount, net, ipc, pid,'),
        ({"namespaces": "fs"}, "spec.isolation.namespaces: expected a list"),
        ({"hostname": "-a"}, "spec.isolation.hostname: expected a host name"),
        ({"hostname": "a" * 65}, "spec.isolation.hostname: expected a host name"),
        ({"hostname": "a\nb"}, "spec.isolation.hostname: expected a host name"),
        ({"privateTmp": "yes"}, "spec.isolation.privateTmp: "),
        ({"readOnlyPaths": ["srv"]}, "spec.isolation.readOnlyPaths[0]: expected an absolute path"),
        ({"readOnlyPaths": ["/srv/../etc"]}, 'spec.isolation.readOnlyPaths[0]: "/srv/../etc" holds . or ..'),
        ({"readOnlyPaths": ["/a\0b"]}, "spec.isolation.readOnlyPaths[0]: holds a NUL"),
        ({"readWritePaths": ["/srv"]}, "spec.isolation.readWritePaths: /srv lies below none of readOnlyPaths"),
        ({"inaccessiblePaths": ["/"]}, "spec.isolation.inaccessiblePaths[0]: / can't be meant here"),
        ({"inaccessiblePaths": [f"/{n}" for n in range(65)]}, "spec.isolation.inaccessiblePaths: "),
        ({"bindPaths": "/a"}, "spec.isolation.bindPaths: expected a list, got a string"),
        ({"bindPaths": ["/a:/b:rx"]}, "spec.isolation.bindPaths: "),
        ({"bindPaths": ["/a:"]}, "spec.isolation.bindPaths: "),
        ({"bindPaths": ["/a:b"]}, "spec.isolation.bindPaths[0].target: expected an absolute path"),
        ({"bindPaths": ["/a:/b", "/c:/b"]}, "spec.isolation.bindPaths: /b is given twice"),
        ({"bindPaths": ["/a:/tmp"], "privateTmp": True}, "spec.isolation.bindPaths: /tmp is given in privateTmp"),
        ({"bindPaths": ["/a:/dev"], "privateDevices": True}, "spec.isolation.bindPaths: /dev is given in private"),
        ({"bindPaths": ["/a:/b"], "readOnlyPaths": ["/b/c"]}, "spec.isolation.readOnlyPaths: /b/c lies below a target"),
        ({"chroot": "/"}, "spec.isolation.chroot: / can't be meant here"),
        ({"chroot": "jail"}, "spec.isolation.chroot: expected an absolute path"),
        ({"uidMap": []}, "spec.isolation.uidMap: "),
        ({"uidMap": [{"inside": -1, "outside": 0}]}, "spec.isolation.uidMap[0].inside: expected at least 0"),
        ({"uidMap": [{"inside": 0, "outside": 2**32}]}, "spec.isolation.uidMap[0].outside: expected at most"),
        ({"uidMap": [{"inside": 0, "outside": 5, "count": 0}]}, "spec.isolation.uidMap[0].count: expected at least 1"),
        (
            {"uidMap": [{"inside": 0, "outside": 5, "count": 3}, {"inside": 2, "outside": 50}]},
            "spec.isolation.uidMap: two ranges overlap within",
        ),
        (
            {"gidMap": [{"inside": 0, "outside": 5, "count": 3}, {"inside": 9, "outside": 7}]},
            "spec.isolation.gidMap: two ranges overlap outside",
        ),
        ({"capabilities": ["net_bind"]}, "spec.isolation.capabilities[0]: expected the name of a capability"),
        ({"capabilities": [21]}, "spec.isolation.capabilities[0]: expected the name of a capability"),
        ({"noNewPrivileges": "off"}, "spec.isolation.noNewPrivileges: "),
        ({"namespaces": ["net"], "network": "host"}, "spec.network: the network is the host's"),
        ({"namespaces": ["net"], "network": {"host": {}}}, "spec.network: the network is the host's"),
        ({"network": "bridge"}, "spec.network: expected host, none or user, got \"bridge\""),
        ({"network": ["user"]}, "spec.network: expected host, none or user, got a list"),
        ({"network": {"none": {}, "user": {}}}, "spec.network: expected exactly one of host, none and user"),
        ({"network": {"user": {"ports": "8080:80"}}}, "spec.network.user.ports: expected a list of ports"),
        ({"network": {"user": {"ports": ["8080:80:90"]}}}, "spec.network.user.ports: \"8080:80:90\" is not HOSTPORT"),
        ({"network": {"user": {"ports": ["70000:80"]}}}, "spec.network.user.ports[0].hostPort: "),
        ({"network": {"user": {"ports": [{"containerPort": 0}]}}}, "spec.network.user.ports[0].containerPort: "),
        ({"network": {"user": {"ports": [{"hostPort": 80}]}}}, "spec.network.user.ports[0].containerPort: "),
        ({"network": {"user": {"ports": [{"containerPort": 80, "protocol": "SCTP"}]}}}, "spec.network.user.ports[0]"),
        (
            {"network": {"user": {"ports": [{"containerPort": 80, "hostIP": "localhost"}]}}},
            "spec.network.user.ports[0].hostIP: expected an IP address such as 127.0.0.1",
        ),
        (
            {"network": {"user": {"ports": [{"containerPort": 80, "hostIP": "224.0.0.1"}]}}},
            "spec.network.user.ports[0].hostIP: \"224.0.0.1\" can't be listened on",
        ),
        (
            {"network": {"user": {"ports": ["127.0.0.1:8080:80", "8080:81"]}}},
            "spec.network.user.ports: ports[1]: 8080/TCP is published twice",
        ),
        ({"network": {"user": {"ports": ["1"] * 65}}}, "spec.network.user.ports: "),
        ({"privatetmp": True}, "spec.isolation.privatetmp: is not a known field (did you mean `privateTmp`?)"),
    ],
)  # fmt: skip
def test_every_mistake_is_told(fields: dict[str, Any], said: str) -> None:
    assert wrong(**fields).startswith(said)


def test_the_notification_socket_lies_outside_of_a_chroot() -> None:
    vassal, problem = read({"isolation": {"chroot": "/srv"}, "readiness": {"notify": {}}})
    assert vassal is None
    assert problem is not None
    assert problem.field == "spec.isolation"


def test_words_that_are_no_namespaces() -> None:
    with pytest.raises(ValueError, match="files"):
        namespace_flags(("fs", "files"))


def test_what_uwsgi_vassals_get_is_left_to_them() -> None:
    assert for_all(0, None) is None
    found = for_all(PID | MOUNT | NET, None)
    assert found == Isolation(PID | MOUNT | NET)
    assert found is not None
    assert not found.init
    assert for_all(USER, (7,)) == Isolation(USER, root_map=True, bound=(7,))


def test_what_native_vassals_get_is_ready_to_live_in() -> None:
    found = imposed(DEFAULT, PID | NET, None)
    assert (found.namespaces, found.init, found.proc) == (PID | NET | MOUNT, True, True)
    assert found.network is Network.NONE
    assert imposed(DEFAULT, 0, None) is DEFAULT


def test_capabilities_beyond_the_emperors_are_refused() -> None:
    vassal, _ = read({"isolation": {"capabilities": ["sys_admin", "chown"]}})
    assert vassal is not None
    with pytest.raises(Exception, match="sys_admin, which the Emperor keeps"):
        impose(vassal, 0, (0,))
    kept = impose(vassal, 0, (0, 21)).launch.isolation
    assert kept is not None
    assert (kept.capabilities, kept.bound) == ((0, 21), (0, 21))


def test_what_raises_rights_is_named() -> None:
    assert raises_rights(DEFAULT) == ""
    assert raises_rights(isolation(namespaces=["user", "pid"], privateTmp=True)) == ""
    assert raises_rights(isolation(capabilities=["chown"])) == "isolation.capabilities"
    assert raises_rights(isolation(noNewPrivileges=False)) == "isolation.noNewPrivileges"
    assert raises_rights(isolation(chroot="/srv")) == "isolation.chroot"
    assert raises_rights(isolation(uidMap=[{"inside": 0, "outside": 0}])) == "isolation.uidMap"
