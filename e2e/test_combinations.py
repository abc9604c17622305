"""Features together that were each made for themselves: tyrant and paranoid mode, isolation, limits, exec, names."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Emperor, command_path, wait_for
from e2e.security.tenants import ALICE, BOB, Make, chown, home, ini, listener, manifest, put
from emperorctl.reconciler.runtime import cgroups, controllers
from emperorctl.reconciler.runtime.lock import instance_of

pytestmark = pytest.mark.as_root
TYRANT = "--emperor-tyrant"


def capabilities(pid: int) -> set[str]:
    """All five sets of a process, as written there."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith("Cap")}


def status(pid: int, key: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:"))


def refusal(e: Emperor, name: str) -> str:
    message: str = e.wait_condition(name, "Accepted", "False", "TyrantForbids")["message"]
    return message


# What the administrator gives to tenants


def given(e: Emperor, **spec: Any) -> str:
    """The option with these defaults."""
    path = e.root / "defaults.json"
    path.write_text(manifest(**spec).replace('"command": ["/bin/sleep", "1000"], ', ""))
    return f"--vassal-defaults={path}"


def test_what_the_administrator_gives_is_not_refused_and_what_a_tenant_asks_for_is(emperor: Make) -> None:
    e = emperor(TYRANT, "--vassal-set", "spec.nice=-3")
    hostname = "h-%(vassal.name)"
    e.options.append(
        given(e, isolation={"capabilities": ["net_bind_service"], "hostname": hostname, "privateTmp": True})
    )
    put(e.vassals / "plain.yaml", manifest(), ALICE)
    put(e.vassals / "own.yaml", manifest(isolation={"readOnlyPaths": ["/usr"]}), BOB)
    put(e.vassals / "fewer.yaml", manifest(isolation={"capabilities": []}), BOB)
    put(e.vassals / "more.yaml", manifest(isolation={"capabilities": ["net_bind_service", "sys_admin"]}), BOB)
    put(e.vassals / "jail.yaml", manifest(isolation={"chroot": "/srv"}), BOB)
    e.start()
    for name, uid in (("plain", ALICE), ("own", BOB)):
        pid = e.wait_running(f"{name}.{uid}")
        assert capabilities(pid) == {"0000000000000400"} and status(pid, "Uid").split()[0] == str(uid)
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16] == "-3"
        # Whoever else calls a vassal so, it is not this one.
        assert e.cli("exec", name, "--", "hostname").stdout == f"h-{name}.{uid}\n"
    assert capabilities(e.wait_running(f"fewer.{BOB}")) == {"0000000000000000"}
    assert "spec.isolation.capabilities" in refusal(e, f"more.{BOB}")
    assert "spec.isolation.chroot" in refusal(e, f"jail.{BOB}")


def test_set_user_id_programs_that_are_allowed_to_all_are_not_to_be_deceived(emperor: Make) -> None:
    e = emperor(TYRANT, "--vassal-set", "spec.isolation.noNewPrivileges=false")
    bind = e.root / "shadow"
    bind.write_text("")
    put(e.vassals / "plain.yaml", manifest(), ALICE)
    put(e.vassals / "sly.yaml", manifest(isolation={"bindPaths": [f"{bind}:/etc/shadow"]}), ALICE)
    e.start()
    assert status(e.wait_running(f"plain.{ALICE}"), "NoNewPrivs") == "0"
    assert "nothing of their own" in refusal(e, f"sly.{ALICE}")


def test_a_limit_that_is_set_for_all_holds_for_those_who_would_rather_have_none(emperor: Make) -> None:
    e = emperor(TYRANT, "--vassal-set", "spec.rlimits.nofile=64", "--vassal-set", "spec.resources.limits.memory=64Mi")
    e.options += ["--vassal-set", "spec.resources.required=false"]
    put(e.vassals / "a.yaml", manifest(resources={"limits": {"memory": "1Gi"}}, rlimits={"nofile": 128}), ALICE)
    put(e.vassals / "b.yaml", manifest(resources={"limits": {"memory": None}}), BOB)
    e.start()
    for name in (f"a.{ALICE}", f"b.{BOB}"):
        e.wait_running(name)
        spec = (e.get(name) or {})["spec"]
        assert (spec["resources"]["limits"]["memory"], spec["rlimits"]["nofile"]) == ("64Mi", 64)


@pytest.mark.parametrize(
    "setting", ["spec.user=www-data", 'spec.hooks={"preStart": [{"command": ["a"], "asEmperor": true}]}']
)
def test_what_can_not_be_given_in_tyrant_mode_is_said_at_the_start(emperor: Make, setting: str) -> None:
    e = emperor(TYRANT, "--vassal-set", setting).start(ready=False)
    assert e.wait() == 1
    assert "tenant" in e.log() or "owner of its file" in e.log()
    e.process = None


def test_namespaces_and_capabilities_of_all_vassals_for_tenants(emperor: Make) -> None:
    e = emperor(TYRANT, "--emperor-use-clone=pid,ipc,user", "--emperor-cap=net_bind_service")
    e.options.append(listener(e))
    put(e.vassals / "web.ini", ini(), ALICE)
    put(e.vassals / "shop.yaml", manifest(), ALICE)
    put(e.vassals / "sections.ini", "[uwsgi:one]\nmaster = true\n[uwsgi:two]\nuid = root\n", BOB)
    e.start()
    for name, uid, inside in (("web.ini", ALICE, "1"), (f"shop.{ALICE}", ALICE, "2"), ("sections.ini:one", BOB, "1")):
        pid = e.wait_running(name)
        assert status(pid, "Uid").split() == [str(uid)] * 4 and status(pid, "NSpid").split()[1] == inside
        assert capabilities(pid) <= {"0000000000000000", "0000000000000400"}
        assert status(pid, "CapEff") == "0000000000000000"
        # An Emperor's order to run something there is carried out as the tenant, without a right.
        said = e.cli("exec", name, "--", "sh", "-c", "id -u; grep CapEff /proc/self/status").stdout
        assert said.split() == [str(uid), "CapEff:", "0000000000000000"], name
    assert "uid" in refusal(e, "sections.ini:two")
    assert set(e.objects()) == {"web.ini", f"shop.{ALICE}", "sections.ini:one", "sections.ini:two"}


# Paranoid mode


PARANOID = 60301
BASIC = "setuid,setgid,kill,chown,dac_read_search"
MORE = f"{BASIC},sys_admin,setpcap,net_admin,sys_chroot,sys_ptrace"


@pytest.fixture
def paranoid(emperor: Make) -> Iterator[Make]:
    """A factory of Emperors that root starts and that go on as somebody else."""
    made: list[Emperor] = []

    def make(*options: str) -> Emperor:
        one = emperor("--uid", str(PARANOID), *options)
        os.chown(one.root, PARANOID, PARANOID)
        made.append(one)
        return one

    yield make
    place = cgroups.find_place()
    for top in {*controllers.hierarchies().values(), *([place.directory] if place else [])}:
        for one in made:
            for entry in Path(top).glob(f"emperorctl-{instance_of(str(one.socket))}-*"):
                # Empty by now, and root's.
                with contextlib.suppress(OSError):
                    cgroups.remove(str(entry))


def test_a_tyrant_without_roots_rights_serves_tenants_and_refuses_what_takes_theirs(paranoid: Make) -> None:
    e = paranoid(TYRANT, "--cap", BASIC)
    e.options.append(listener(e))
    alice = home(e, "alice", ALICE)
    put(alice / "linked.ini", ini(), ALICE)
    for name, uid in (("hers.ini", ALICE), ("roots.ini", 0)):
        (e.vassals / name).symlink_to(alice / "linked.ini")
        chown(e.vassals / name, uid)
    put(e.vassals / "web.ini", ini(), ALICE)
    put(e.vassals / "file.yaml", manifest(onDemand={"addresses": [str(alice / "s")], "passing": "stdin"}), ALICE)
    put(e.vassals / "port.yaml", manifest(onDemand={"addresses": ["@combinations"], "passing": "stdin"}), ALICE)
    e.start()
    e.wait_log("NoLinks")
    assert status(e.wait_running("web.ini"), "Uid").split() == [str(ALICE)] * 4
    assert "tenant's link" in e.wait_condition("hers.ini", "Accepted", "False", "PermissionDenied")["message"]
    assert "LinkOwner" in str(e.wait_condition("roots.ini", "Accepted", "False"))
    assert (
        f"rights of user id {ALICE}" in e.wait_condition(f"file.{ALICE}", "Ready", "False", "CannotListen")["message"]
    )
    e.wait_condition(f"port.{ALICE}", "Ready", "False", "Asleep")
    assert not (alice / "s").exists()


def test_nobody_gets_the_emperors_own_user_by_a_user_namespace(paranoid: Make) -> None:
    e = paranoid(TYRANT, "--cap", BASIC)
    put(e.vassals / "shop.yaml", manifest(isolation={"namespaces": ["user"]}), ALICE)
    put(e.vassals / "cell.yaml", manifest(isolation={"namespaces": ["user", "pid"]}), ALICE)
    e.start()
    pid = e.wait_running(f"shop.{ALICE}")
    assert status(pid, "Uid").split() == status(pid, "Gid").split() == [str(ALICE)] * 4
    assert capabilities(pid) == {"0000000000000000"}
    assert e.cli("exec", "shop", "--", "id", "-u").stdout == f"{ALICE}\n"
    # Not possible, and not done by halves.
    e.wait_condition(f"cell.{ALICE}", "Ready", "False", "Blacklisted")
    assert "NoNamespaces" in e.log() and e.main_pid(f"cell.{ALICE}") is None


@pytest.mark.parametrize("caps", [BASIC, MORE])
def test_isolation_and_exec_without_roots_rights(paranoid: Make, caps: str) -> None:
    e = paranoid("--cap", caps)
    e.manifest("plain", ["sleep", "1000"], user=str(ALICE))
    isolation = {"namespaces": ["pid", "net", "cgroup"], "hostname": "cell", "privateTmp": True, "readOnlyPaths": ["/"]}
    e.manifest("cell", ["sleep", "1000"], user=str(ALICE), isolation=isolation)
    e.start()
    e.wait_running("plain")
    done = e.cli("exec", "plain", "--", "id", "-u")
    if caps == BASIC:
        assert done.returncode == 1 and "sys_ptrace" in done.stderr
        e.wait_condition("cell", "Ready", "False", "Blacklisted")
        assert "sys_admin" in e.condition("cell", "Ready")["message"]
        return
    assert done.stdout == f"{ALICE}\n"
    pid = e.wait_running("cell")
    assert status(pid, "Uid").split() == [str(ALICE)] * 4 and status(pid, "CapEff") == "0000000000000000"
    done = e.cli("exec", "cell", "--", "sh", "-c", "hostname; id -u; ls /tmp; exit 7")
    assert (done.stdout, done.returncode) == (f"cell\n{ALICE}\n", 7)


def test_paranoid_mode_says_where_it_is_weaker(paranoid: Make) -> None:
    e = paranoid("--cap", BASIC)
    hide = 'umount -l -a -t cgroup2 && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide, "sh", *e.command()]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command[:4], "umount -l -a -t cgroup2"], check=False).returncode
    ):
        pytest.skip("no mount namespace can be made here, or there is no cgroup v2 to be hidden")
    e.command = lambda: command  # type: ignore[method-assign]
    e.start()
    e.wait_log("NoControlGroup")


# Commands within vassals


def test_exec_goes_wherever_a_vassal_lives(emperor: Make) -> None:
    e = emperor()
    secret = e.root / "secret"
    secret.write_text("of the vassal\n")
    os.chown(secret, ALICE, ALICE)
    jail = e.root / "jail"
    system = [path for path in ("/bin", "/lib", "/lib64", "/usr") if os.path.exists(path)]
    for path in (*system, "/proc"):
        (jail / path[1:]).mkdir(parents=True)
    isolated: dict[str, dict[str, Any]] = {
        "cell": {"namespaces": ["pid"]},
        "mapped": {"namespaces": ["user", "pid"]},
        "read-only": {"privateTmp": True, "readOnlyPaths": ["/"]},
        "jail": {"chroot": str(jail), "bindPaths": [f"{path}:{path}:ro" for path in system], "namespaces": ["pid"]},
    }
    for name, isolation in isolated.items():
        e.manifest(name, ["/bin/sleep", "1000"], user=str(ALICE), isolation=isolation)
    env = {"PASSWORD": {"valueFrom": {"file": str(secret)}}}
    e.manifest("secretive", ["sleep", "1000"], user=str(ALICE), env=env)
    e.start()

    def run(name: str, script: str) -> tuple[str, int]:
        e.wait_running(name)
        done = e.cli("exec", name, "--", "/bin/sh", "-c", script)
        return done.stdout, done.returncode

    assert run("cell", "id -u; kill -0 1 && echo $$ below 20; exit 3")[1] == 3
    assert run("cell", "ls -d /proc/[0-9]* | wc -l")[0].strip() in {"4", "5"}  # keeper, vassal, and the command's
    assert run("mapped", "id -u; kill -9 $$") == (f"{ALICE}\n", 137)
    assert run("read-only", "touch /tmp/a /var/tmp/b && ls /tmp; touch /a 2>/dev/null || echo no") == ("a\nno\n", 0)
    assert run("jail", "pwd; echo /*") == ("/\n" + " ".join(sorted(f"/{one.name}" for one in jail.iterdir())) + "\n", 0)
    # It is in the vassal's environment, so the command has it, and nobody else.
    assert run("secretive", "echo $PASSWORD") == ("of the vassal\n", 0)
    told = "".join(e.cli(*words).stdout for words in (("get", "vassal", "secretive", "-o", "yaml"), ("events",)))
    assert "of the vassal" not in told + e.cli("describe", "vassal", "secretive").stdout and "PASSWORD" in told


def test_a_shell_in_a_cell_on_a_real_terminal(emperor: Make) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux here")
    e = emperor(TYRANT)
    isolation = {"namespaces": ["pid"], "hostname": "cell", "privateTmp": True}
    put(e.vassals / "shop.yaml", manifest(isolation=isolation), ALICE)
    e.start()
    e.wait_running(f"shop.{ALICE}")

    def tmux(*words: str) -> str:
        env = e.environment() | {"EMPERORCTL_SOCKET": str(e.socket), "TERM": "xterm"}
        command = ["tmux", "-S", str(e.root / "tmux"), "-f", "/dev/null", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout

    def type_in(line: str, then: str) -> None:
        tmux("send-keys", line, "Enter")
        e.wait_for(lambda: then in tmux("capture-pane", "-p"), what=f"{then!r} is on the screen after {line!r}")

    tmux("new-session", "-d", "-x", "90", "-y", "30", "sh")
    try:
        type_in(f"{command_path('emperorctl')} exec -it shop -- sh", "$")
        type_in("echo in-$(hostname)-$(id -u)-$(stty size)", f"in-cell-{ALICE}-30 90")
        type_in("echo ready-$((1+1)); sleep 1000", "ready-2")
        tmux("send-keys", "C-c")
        type_in("echo after-$((2+2))", "after-4")
        tmux("resize-window", "-x", "70", "-y", "20")
        e.wait_for(lambda: tmux("display-message", "-p", "#{window_width}").strip() == "70")
        type_in("clear; echo size-$(stty size)", "size-20 70")
        type_in("exit 5", "command terminated with exit code 5")
        type_in("echo back-$?", "back-5")
        tmux("send-keys", f"clear; {command_path('emperorctl')} exec shop -- sleep 1000", "Enter")
        e.wait_for(lambda: sum(one.name() == "sleep" for one in e.processes()) == 2, what="the command runs")
        tmux("send-keys", "C-c")
        type_in("echo back-$?", "back-130")
        e.wait_for(lambda: sum(one.name() == "sleep" for one in e.processes()) == 1, what="it ended with its client")
    finally:
        tmux("kill-server")


# Changes while it runs


def groups_of(e: Emperor) -> list[str]:
    """Every control group that Emperors of this socket have, in any hierarchy."""
    place = cgroups.find_place()
    tops = {*controllers.hierarchies().values(), *([place.directory] if place else [])}
    instance = instance_of(str(e.socket))
    return [str(path) for top in tops for path in Path(top).glob(f"emperorctl-{instance}-*/*")]


@pytest.mark.parametrize("tyrant", [False, True])
def test_a_manifest_that_gains_and_loses_everything_leaves_nothing_behind(emperor: Make, tyrant: bool) -> None:
    e = emperor(*([TYRANT] if tyrant else []))
    place = home(e, "alice", ALICE)
    put(place / "secret", "secret", ALICE, mode=0o600)
    name = f"v.{ALICE}" if tyrant else "v"

    def write(**spec: Any) -> None:
        who = {} if tyrant else {"user": str(ALICE)}
        put(e.vassals / "v.yaml", manifest(**spec, **who), ALICE if tyrant else 0)

    demand = {"addresses": [str(place / "s")], "passing": "stdin"}
    limited = {"limits": {"memory": "64Mi"}, "required": False}
    changes: list[tuple[dict[str, Any], bool]] = [
        ({"isolation": {"namespaces": ["pid"], "privateTmp": True}}, True),
        ({}, True),
        ({"resources": limited}, True),
        ({"resources": {**limited, "limits": {"memory": "32Mi"}}}, False),
        ({}, False),
        ({"hooks": {"postStop": {"command": ["/bin/true"]}}}, False),
        ({}, False),
        ({"env": {"A": {"valueFrom": {"file": str(place / "secret")}}}}, True),
        ({}, True),
        ({"onDemand": demand}, True),
        ({}, True),
    ]
    write()
    e.start()
    pid = e.wait_running(name)
    for number, (spec, replaced) in enumerate(changes, 2):
        write(**spec)
        e.wait_for(lambda number=number: (e.get(name) or {})["metadata"]["generation"] == number)  # type: ignore[misc]
        if "onDemand" in spec:
            assert e.wait_running(name, other_than=pid) if e.phase(name) == "Running" else (place / "s").exists()
        elif replaced:
            pid = e.wait_running(name, other_than=pid)
        else:
            e.wait_condition(name, "Progressing", "False", "Settled")
            assert e.wait_running(name) == pid, spec
    assert not (place / "s").exists()
    hooks = {"preStart": {"command": ["/bin/true"]}}
    write(isolation={"namespaces": ["pid"]}, resources=limited, onDemand=demand, hooks=hooks)
    e.wait_for((place / "s").exists, what="it listens")
    with contextlib.closing(connect(place / "s")):
        e.wait_running(name)
        command = [command_path("emperorctl"), "exec", name, "--", "sleep", "1000"]
        env = e.environment() | {"EMPERORCTL_SOCKET": str(e.socket)}
        client = e.household.spawn(command, env=env, stdin=subprocess.DEVNULL)
        e.wait_for(lambda: sum(one.name() == "sleep" for one in e.processes()) == 2, what="the command runs")
        e.kill()
        assert client.wait(20) != 0
    wait_for(lambda: not e.household.orphans() and not groups_of(e), what="nothing of it is left")
    e.start()
    e.wait_for(lambda: e.phase(name) == "OnDemand", what="it sleeps again")
    (e.vassals / "v.yaml").unlink()
    e.wait_absent(name)
    assert not (place / "s").exists() and {one.name() for one in e.processes()} <= {"emperor-zygote", "python"}
    e.stop()
    assert not groups_of(e)


def test_a_changed_owner_of_a_cell_with_a_socket_and_a_command_in_it(emperor: Make) -> None:
    e = emperor(TYRANT)
    demand = {"addresses": ["@combinations-owner"], "passing": "stdin"}
    path = put(e.vassals / "v.yaml", manifest(onDemand=demand, isolation={"namespaces": ["pid"]}), ALICE)
    e.start()
    e.wait_condition(f"v.{ALICE}", "Ready", "False", "Asleep")
    with contextlib.closing(connect("\0combinations-owner")):
        e.wait_running(f"v.{ALICE}")
    command = [command_path("emperorctl"), "exec", "v", "--", "sleep", "1000"]
    env = e.environment() | {"EMPERORCTL_SOCKET": str(e.socket)}
    client = e.household.spawn(command, env=env, stdin=subprocess.DEVNULL)
    e.wait_for(lambda: sum(one.name() == "sleep" for one in e.processes()) == 2, what="the command runs")
    chown(path, BOB)
    e.wait_absent(f"v.{ALICE}")
    assert client.wait(20) != 0
    e.wait_condition(f"v.{BOB}", "Ready", "False", "Asleep")
    assert not [one for one in e.processes() if one.uids().real == ALICE]
    with contextlib.closing(connect("\0combinations-owner")):
        assert status(e.wait_running(f"v.{BOB}"), "Uid").split() == [str(BOB)] * 4
    assert e.cli("exec", "v", "--", "id", "-u").stdout == f"{BOB}\n"


def connect(address: Path | str) -> socket.socket:
    """A connection to a Unix socket."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(address))
    return client
