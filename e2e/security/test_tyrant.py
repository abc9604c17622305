"""Tyrant mode: who a vassal runs as, what a file may not ask for, and what happens when it changes hands."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Emperor, alive
from e2e.security.tenants import (
    ALICE,
    BOB,
    Make,
    chown,
    home,
    identity_of,
    ini,
    listener,
    manifest,
    put,
)

pytestmark = pytest.mark.as_root
TYRANT = "--emperor-tyrant"


def tyrant(emperor: Make, *options: str, **more: Any) -> Emperor:
    """One in tyrant mode, whose uWSGI configs are run by a small program."""
    one = emperor(TYRANT, *options, **more)
    one.options.append(listener(one))
    return one


# Who it runs as


def test_a_vassal_runs_as_the_owner_of_its_file(emperor: Make) -> None:
    e = tyrant(emperor, env={"SECRET": "of the Emperor", "UWSGI_VASSAL_COLOUR": "blue"})
    put(e.vassals / "shop.yaml", manifest(), ALICE, gid=BOB)
    put(e.vassals / "web.ini", ini(), BOB)
    e.start()
    shop, web = e.wait_running("shop.731001"), e.wait_running("web.ini")
    assert identity_of(shop) == ({ALICE}, {BOB}, [])
    assert identity_of(web) == ({BOB}, {BOB}, [])
    environment = Path(f"/proc/{web}/environ").read_bytes().split(b"\0")
    assert b"UWSGI_COLOUR=blue" in environment and b"USER=731002" in environment and b"HOME=/" in environment
    assert not any(b"SECRET" in one for one in environment)
    # Nothing of the Emperor's is open in it: its output is captured too.
    links = {os.readlink(f"/proc/{web}/fd/{fd}").partition(":")[0] for fd in (0, 1, 2, 3)}
    assert links == {"/dev/null", "pipe", "socket"}
    found = e.get("shop.731001")
    assert found and found["status"]["owner"] == f"{ALICE}:{BOB}"
    assert f"{ALICE}:{BOB}" in e.cli("describe", "vassal", "shop.731001").stdout
    wide = e.cli("get", "vassals", "-o", "wide").stdout
    assert str(ALICE) in wide and str(BOB) in wide


def test_statistics_say_that_a_tyrant_reigns_and_over_whom(emperor: Make) -> None:
    e = tyrant(emperor)
    put(e.vassals / "web.ini", ini(), BOB)
    e.start()
    e.wait_running("web.ini")
    document = json.loads(e.cli("stats").stdout)
    assert document["emperor_tyrant"] == 1
    assert [(one["uid"], one["gid"]) for one in document["vassals"]] == [(BOB, BOB)]


def member() -> pwd.struct_passwd:
    """Some user of this machine who is not root; one who is in more groups than one, if there is any."""
    users = [entry for entry in pwd.getpwall() if entry.pw_uid]
    return max(users, key=lambda entry: len(os.getgrouplist(entry.pw_name, entry.pw_gid)))


@pytest.mark.parametrize("option", [(), ("--emperor-tyrant-initgroups",)])
def test_groups_are_none_or_with_initgroups_the_users(emperor: Make, option: tuple[str, ...]) -> None:
    e = tyrant(emperor, *option)
    user = member()
    put(e.vassals / "a.ini", ini(), user.pw_uid, gid=ALICE)
    put(e.vassals / "b.ini", ini(), ALICE)
    e.start()
    expected = sorted(os.getgrouplist(user.pw_name, ALICE)) if option else []
    assert identity_of(e.wait_running("a.ini"))[2] == expected
    assert identity_of(e.wait_running("b.ini"))[2] == []  # no entry, no groups


@pytest.mark.parametrize(
    ("uid", "gid", "fix"), [(0, ALICE, "chown USER"), (0, 0, "chown USER"), (ALICE, 0, "chgrp GROUP")]
)
def test_root_is_refused_and_the_message_names_the_fix(emperor: Make, uid: int, gid: int, fix: str) -> None:
    e = tyrant(emperor)
    path = put(e.vassals / "web.ini", ini(), uid, gid=gid)
    e.start()
    found = e.wait_condition("web.ini", "Accepted", "False", "OwnedByRoot")
    assert f"`{fix} {path}`" in found["message"]
    assert e.main_pid("web.ini") is None
    chown(path, ALICE)
    assert identity_of(e.wait_running("web.ini"))[0] == {ALICE}


@pytest.mark.parametrize("missing", ["setuid", "setgid"])
def test_without_the_right_to_change_users_it_does_not_start(emperor: Make, missing: str) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv here")
    e = emperor(TYRANT)
    command = ["setpriv", f"--bounding-set=-{missing}", *e.command()]
    done = subprocess.run(command, env=e.environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and "--emperor-tyrant needs the right to change users" in done.stderr


# What a file may not ask for

ASKED: dict[str, dict[str, Any]] = {
    "spec.user": {"user": "root"},
    "spec.user ": {"user": str(ALICE)},
    "spec.group": {"group": "root"},
    "spec.nice": {"nice": -1},
    "spec.rlimits.nofile": {"rlimits": {"nofile": 2**40}},
    "spec.rlimits.nofile ": {"rlimits": {"nofile": "unlimited"}},
    **{
        f"spec.hooks.{name}[1].asEmperor": {
            "hooks": {name: [{"command": ["true"]}, {"command": ["true"], "asEmperor": True}]}
        }
        for name in ("preStart", "postStart", "preStop", "postStop")
    },
    "spec.onDemand.addresses[0]": {"onDemand": {"addresses": ["127.0.0.1:80"]}},
    "spec.onDemand.addresses[0] ": {"onDemand": {"addresses": [{"address": "/tmp/x.sock", "owner": "root"}]}},
    "spec.onDemand.addresses[0]  ": {"onDemand": {"addresses": [{"address": "/tmp/x.sock", "group": "root"}]}},
}


def test_what_a_manifest_may_not_ask_for(emperor: Make) -> None:
    e = tyrant(emperor)
    for number, spec in enumerate(ASKED.values()):
        put(e.vassals / f"v{number}.yaml", manifest(**spec), ALICE)
    put(e.vassals / "good.yaml", manifest(nice=19, rlimits={"nofile": 64}, umask="027"), ALICE)
    e.start()
    e.wait_running(f"good.{ALICE}")
    for number, field in enumerate(ASKED):
        found = e.wait_condition(f"v{number}.{ALICE}", "Accepted", "False", "TyrantForbids")
        assert field.strip() in found["message"], field
        assert e.main_pid(f"v{number}.{ALICE}") is None


@pytest.mark.parametrize(
    "option",
    ["uid = root", "gid = 0", "cap = setuid", "exec-as-root = id", "unshare = fs", "privileged-binary-patch = /bin/id"],
)
def test_what_a_config_may_not_ask_for(emperor: Make, option: str) -> None:
    """Also where there is no uwsgi, and the Emperor itself would do what the options say."""
    e = emperor(TYRANT, "--binary-path", "/nonexistent/uwsgi")
    put(e.vassals / "a.ini", f"[uwsgi]\nunprivileged-binary-patch = /bin/sleep\n{option}\n", ALICE)
    e.start()
    found = e.wait_condition("a.ini", "Accepted", "False", "TyrantForbids")
    assert option.partition(" ")[0] in found["message"]


def test_a_privilege_asked_for_later_is_refused_and_the_last_good_version_runs_on(emperor: Make) -> None:
    e = tyrant(emperor)
    name = f"shop.{ALICE}"
    put(e.vassals / "shop.yaml", manifest(), ALICE)
    e.start()
    pid = e.wait_running(name)
    put(e.vassals / "shop.yaml", manifest(user="root"), ALICE)
    e.wait_condition(name, "Accepted", "False", "TyrantForbids")
    assert e.main_pid(name) == pid


def test_hooks_run_as_the_owner(emperor: Make) -> None:
    e = tyrant(emperor)
    place = home(e, "alice", ALICE)
    hook = {"command": ["/bin/sh", "-c", f"id -u > {place}/$EMPEROR_HOOK"]}
    put(e.vassals / "shop.yaml", manifest(hooks={"preStart": [hook], "postStart": [hook]}), ALICE)
    e.start()
    e.wait_running(f"shop.{ALICE}")
    for name in ("preStart", "postStart"):
        e.wait_for(lambda name=name: (place / name).exists() and (place / name).read_text() == f"{ALICE}\n")  # type: ignore[misc]
        assert (place / name).stat().st_uid == ALICE


def test_nobody_can_take_the_name_of_anothers_vassal(emperor: Make) -> None:
    e = tyrant(emperor)
    put(e.vassals / "z.yaml", manifest(name="shop"), ALICE)
    put(e.vassals / "a.yaml", manifest(name="shop"), BOB)
    e.start()
    for uid in (ALICE, BOB):
        assert identity_of(e.wait_running(f"shop.{uid}"))[0] == {uid}
        assert e.condition(f"shop.{uid}", "Conflict") == {}


# Sockets


def test_sockets_are_made_with_their_owners_rights(emperor: Make) -> None:
    e = tyrant(emperor)
    alice, bob = home(e, "alice", ALICE), home(e, "bob", BOB)
    chown_to_link = bob / "to-alice"
    chown_to_link.symlink_to(alice)
    spec = {"passing": "stdin"}
    put(e.vassals / "own.yaml", manifest(onDemand={"addresses": [str(alice / "s")], **spec}), ALICE)
    put(e.vassals / "theirs.yaml", manifest(onDemand={"addresses": [str(alice / "t")], **spec}), BOB)
    put(e.vassals / "link.yaml", manifest(onDemand={"addresses": [str(chown_to_link / "u")], **spec}), BOB)
    put(e.vassals / "roots.yaml", manifest(onDemand={"addresses": [str(e.root / "v")], **spec}), BOB)
    e.start()
    e.wait_condition(f"own.{ALICE}", "Ready", "False", "Asleep")
    assert ((alice / "s").stat().st_uid, (alice / "s").stat().st_gid) == (ALICE, ALICE)
    for name in ("theirs", "link", "roots"):
        found = e.wait_condition(f"{name}.{BOB}", "Ready", "False", "CannotListen")
        assert f"user id {BOB}" in found["message"]
    assert {one.name for one in alice.iterdir()} == {"s"} and not (e.root / "v").exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(alice / "s"))
        assert identity_of(e.wait_running(f"own.{ALICE}"))[0] == {ALICE}
    os.unlink(e.vassals / "own.yaml")
    e.wait_for(lambda: not (alice / "s").exists(), what="the socket's file is removed")


# A file that changes hands


def test_a_changed_owner_stops_the_vassal_and_the_next_begins_afresh(emperor: Make) -> None:
    e = tyrant(emperor)
    path = put(e.vassals / "web.ini", ini(), ALICE)
    e.start()
    first = e.wait_running("web.ini")
    os.kill(first, signal.SIGKILL)
    e.wait_for(lambda: (e.get("web.ini") or {})["status"]["blacklist"], what="it is blacklisted")
    e.cli("blacklist", "clear", "web.ini")
    second = e.wait_running("web.ini", other_than=first)
    e.wait_for(lambda: f"words of {ALICE}" in e.cli("logs", "web.ini").stdout)
    chown(path, BOB)
    third = e.wait_running("web.ini", other_than=second)
    assert identity_of(third) == ({BOB}, {BOB}, []) and not alive(second)
    found = e.get("web.ini")
    assert found and (found["metadata"]["generation"], found["status"]["respawns"]) == (1, 0)
    assert found["status"]["lastExit"] is None and found["status"]["blacklist"] is None
    e.wait_for(lambda: f"words of {BOB}" in e.cli("logs", "web.ini").stdout)
    assert str(ALICE) not in e.cli("logs", "web.ini").stdout
    assert not any("Blacklisted" in one["reason"] for one in e.events("web.ini"))
    assert any("Blacklisted" in one["reason"] for one in e.events(f"web.ini@{ALICE}"))
    events = [one["message"] for one in e.events("web.ini") if one["reason"] == "OwnerChanged"]
    assert any(f"belonged to {ALICE}:{ALICE}, and belongs to {BOB}:{BOB} now" in one for one in events)


def test_the_logs_of_a_former_owner_stay_closed_after_a_restart(emperor: Make) -> None:
    e = tyrant(emperor)
    path = put(e.vassals / "web.ini", ini(), ALICE)
    e.start()
    e.wait_running("web.ini")
    e.wait_for(lambda: f"words of {ALICE}" in e.cli("logs", "web.ini").stdout)
    e.stop()
    put(path, "", BOB)
    e.start()
    e.wait_phase("web.ini", "Invalid")
    assert e.cli("logs", "web.ini").stdout == ""


@pytest.mark.parametrize("then", ["root", "group-root", "broken", "writable"])
def test_nothing_of_the_former_owners_runs_on_where_the_next_has_nothing_right(emperor: Make, then: str) -> None:
    e = tyrant(emperor)
    path = put(e.vassals / "web.ini", ini(), ALICE)
    e.start()
    pid = e.wait_running("web.ini")
    match then:
        case "root":
            chown(path, 0)
        case "group-root":
            chown(path, ALICE, 0)
        case "broken":
            put(path, "", BOB)
        case "writable":
            put(path, ini(), BOB, mode=0o666)
    e.wait_for(lambda: not alive(pid), what="the former owner's process is gone")
    e.wait_phase("web.ini", "Invalid")
    assert any(one["reason"] == "OwnerChanged" for one in e.events("web.ini"))


def test_a_manifest_that_changes_hands(emperor: Make) -> None:
    e = tyrant(emperor)
    path = put(e.vassals / "shop.yaml", manifest(), ALICE)
    e.start()
    pid = e.wait_running(f"shop.{ALICE}")
    chown(path, BOB)
    assert identity_of(e.wait_running(f"shop.{BOB}"))[0] == {BOB}
    e.wait_absent(f"shop.{ALICE}")
    assert not alive(pid)
    assert any(one["reason"] == "OwnerChanged" for one in e.events(f"shop.{ALICE}"))


def test_an_owner_that_changes_during_a_reload(emperor: Make) -> None:
    """Whenever it happens, nothing that alice started is told to go on for bob."""
    e = tyrant(emperor)
    path = put(e.vassals / "web.ini", ini(), ALICE)
    e.start()
    seen = {e.wait_running("web.ini"): ALICE}
    for turn in range(12):
        uid = BOB if turn % 2 == 0 else ALICE
        os.utime(path)  # an order to reload …
        if turn % 3 == 0:
            e.api("POST", "/apis/emperor/v1/vassals/web.ini/reload")
        chown(path, uid)  # … and at once another owner
        before = max(seen, key=list(seen).index)
        pid = e.wait_running("web.ini", other_than=before)
        assert identity_of(pid) == ({uid}, {uid}, [])
        assert not alive(before)
        seen[pid] = uid
    log = e.logs / f"web.ini@{BOB}.log"
    assert f"words of {ALICE}" not in log.read_text() and f"reload in {ALICE}" not in log.read_text()


def test_a_former_owner_that_does_not_listen_is_killed(emperor: Make) -> None:
    """Its own grace period is its own, but not for how long the next one waits."""
    e = tyrant(emperor)
    stubborn = ("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    place = home(e, "alice", ALICE)
    e.sources = [f"glob://{e.root}/homes/*/*.ini"]
    path = put(place / "v.ini", ini(), ALICE)
    program = e.root / "stubborn"
    program.write_text(f"#!/bin/sh\n{stubborn[2]}\n")
    program.chmod(0o755)
    e.options = [TYRANT, f"--emperor-wrapper={program}", "--emperor-curse-tolerance=3600"]
    e.start()
    pid = e.wait_running(str(path))
    chown(path, BOB)
    e.wait_condition(str(path), "Accepted", "False", "UnsafeDirectory")
    e.wait_condition(str(path), "Ready", "False", "OwnerChanged")
    e.wait_for(lambda: not alive(pid), what="it is killed after ten seconds, not after an hour")


def test_a_zerg_does_not_outlive_the_change(emperor: Make) -> None:
    e = emperor(TYRANT, "--emperor-broodlord=2")
    program = e.root / "brood"
    # Byte 30 calls for a zerg; a zerg only lives.
    program.write_text(
        "#!/bin/sh\ncase $* in *:zerg) ;; *) printf '\\036' >&$UWSGI_EMPEROR_FD;; esac\n"
        "head -c1 <&$UWSGI_EMPEROR_FD >/dev/null\n"
    )
    program.chmod(0o755)
    e.options.append(f"--emperor-wrapper={program}")
    path = put(e.vassals / "web.ini", ini() + "[zerg]\nmaster = true\n", ALICE)
    e.start()
    zerg = e.wait_running("web.ini:zerg")
    assert identity_of(zerg)[0] == {ALICE}
    chown(path, BOB)
    e.wait_for(lambda: not alive(zerg))
    other = e.wait_running("web.ini:zerg", other_than=zerg)
    assert identity_of(other)[0] == {BOB}


def test_the_real_uwsgi_runs_as_its_tenant(emperor: Make, uwsgi_bin: Path) -> None:
    e = emperor(TYRANT, f"--binary-path={uwsgi_bin}")
    if subprocess.run([uwsgi_bin, "--version"], user=ALICE, group=ALICE, extra_groups=[], check=False,
                      capture_output=True, cwd="/").returncode:  # fmt: skip
        pytest.skip("run from a place that an ordinary user can't read")
    path = put(e.vassals / "web.ini", ini(), ALICE)
    e.start()
    pid = e.wait_running("web.ini")
    assert identity_of(pid) == ({ALICE}, {ALICE}, [])
    chown(path, BOB)

    def bobs() -> bool:
        try:
            return identity_of(e.wait_running("web.ini", other_than=pid)) == ({BOB}, {BOB}, [])
        except (ProcessLookupError, FileNotFoundError):
            return False  # it has just ended, and another is on its way

    e.wait_for(bobs, what="it runs as its new owner")


def test_follow_is_warned_of(emperor: Make) -> None:
    e = emperor(TYRANT, "--tyrant-follow").start()
    e.wait_log("--tyrant-follow: links are followed")


def test_a_stop_hook_of_roots_is_not_run_where_a_tenant_can_write(emperor: Make) -> None:
    e = tyrant(emperor)
    place = home(e, "alice", ALICE)
    hook = e.root / "hook"
    hook.write_text(f"#!/bin/sh\npwd > {e.root}/where\n")
    hook.chmod(0o755)
    e.sources = [f"glob://{e.root}/homes/*/*.ini"]
    e.options.append(f"--vassals-stop-hook={hook}")
    path = put(place / "v.ini", ini(), ALICE)
    e.start()
    e.wait_running(str(path))
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    e.wait_absent(str(path))
    assert (e.root / "where").read_text() == "/\n"
