"""The life of native vassals under a real Emperor: start, reload, replace, stop, respawn, budgets, signals, sources."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.harness import Emperor, alive, wait_for

Make = Callable[..., Emperor]

RECORDER = """
trap 'echo "$$ hup" >> "$OUT"' HUP
trap 'echo "$$ usr2" >> "$OUT"' USR2
trap 'echo "$$ term" >> "$OUT"; exit 0' TERM
echo "$$ start" >> "$OUT"
while :; do sleep 1000 & wait $!; done
"""
STUBBORN = """
trap '' TERM HUP INT
sh -c 'trap "" TERM HUP INT; echo $$ >> "$OUT"; while :; do sleep 1000; done' &
setsid sh -c 'trap "" TERM HUP INT; echo $$ >> "$OUT"; while :; do sleep 1000; done' &
wait_for_two() { [ -f "$OUT" ] && [ "$(wc -l < "$OUT")" -ge 2 ]; }
until wait_for_two; do sleep 0.01; done
echo $$ >> "$OUT"
while :; do sleep 1000; done
"""
LOYAL = {"after": "0s"}


def out(emperor: Emperor, name: str) -> Path:
    """The file in which a vassal notes what happens to it."""
    return emperor.root / f"{name}.out"


def said(emperor: Emperor, name: str) -> list[str]:
    """The lines of that file."""
    path = out(emperor, name)
    return path.read_text().splitlines() if path.exists() else []


def record(emperor: Emperor, name: str, **spec: Any) -> int:
    """Start a vassal that notes its signals, and wait until it listens; its pid."""
    env = {"OUT": str(out(emperor, name))} | spec.pop("env", {})
    emperor.manifest(name, ["sh", "-c", RECORDER], env=env, loyalty=LOYAL, **spec)
    pid = emperor.wait_running(name)
    wait_for(lambda: f"{pid} start" in said(emperor, name), what="it listens")
    return pid


def write_document(emperor: Emperor, file: str, **document: Any) -> Path:
    """Write a manifest with more than a spec."""
    return emperor.write(file, json.dumps({"apiVersion": "emperor/v1", "kind": "Vassal"} | document))


def sleeper(seconds: int, **spec: Any) -> dict[str, Any]:
    """The spec of a vassal that does nothing; `seconds` tells it from others."""
    return {"command": ["sleep", str(seconds)], **spec}


def seconds_of(emperor: Emperor, name: str) -> int | None:
    """Which sleeper runs under this name."""
    pid = emperor.main_pid(name)
    try:
        return int(psutil.Process(pid).cmdline()[-1]) if pid else None
    except (psutil.NoSuchProcess, IndexError, ValueError):
        return None


def touch(path: Path) -> None:
    """A new mtime, and the same content."""
    os.utime(path)


def reasons(emperor: Emperor, name: str) -> list[str]:
    """The reasons of a vassal's events, in their order."""
    return [event["reason"] for event in emperor.events(name)]


# --- start and stop ---


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.yaml", "apiVersion: emperor/v1\nkind: Vassal\nspec: {command: [sleep, '1001']}\n"),
        ("a.yml", "apiVersion: emperor/v1\nkind: Vassal\nspec:\n  command:\n  - sleep\n  - '1001'\n"),
        ("a.json", '{"apiVersion": "emperor/v1", "kind": "Vassal", "spec": {"command": ["sleep", "1001"]}}'),
        ("a.toml", 'apiVersion = "emperor/v1"\nkind = "Vassal"\n[spec]\ncommand = ["sleep", "1001"]\n'),
    ],
)
def test_a_manifest_becomes_a_process_and_its_removal_ends_it(emperor: Make, file: str, text: str) -> None:
    e = emperor().start()
    path = e.write(file, text)
    pid = e.wait_running("a")
    assert psutil.Process(pid).cmdline() == ["sleep", "1001"]
    assert psutil.Process(pid).ppid() == e.pid
    found = e.get("a")
    assert found is not None
    assert found["status"]["kind"] == "native"
    assert found["status"]["file"] == str(path)
    assert (found["status"]["ready"], found["status"]["wanted"]) == (1, 1)
    path.unlink()
    e.wait_absent("a")
    wait_for(lambda: not alive(pid))


def test_a_vassal_is_asked_to_stop_with_its_own_signal(emperor: Make) -> None:
    e = emperor().start()
    term = record(e, "term")
    usr2 = record(e, "usr2", stop={"signal": "SIGUSR2", "gracePeriod": "300ms"})
    (e.vassals / "term.yaml").unlink()
    (e.vassals / "usr2.yaml").unlink()
    e.wait_absent("term")
    e.wait_absent("usr2")
    assert said(e, "term")[-1] == f"{term} term"
    assert said(e, "usr2")[-1] == f"{usr2} usr2"  # it does not end by that, and is killed


def test_what_outlasts_its_grace_period_is_killed_with_everything_of_its_session(emperor: Make) -> None:
    e = emperor().start()
    env = {"OUT": str(out(e, "deaf"))}
    e.manifest("deaf", ["sh", "-c", STUBBORN], env=env, stop={"gracePeriod": "600ms"})
    wait_for(lambda: len(said(e, "deaf")) == 3, what="both grandchildren are there")
    pids = [int(line) for line in said(e, "deaf")]
    assert all(alive(pid) for pid in pids)
    started = time.monotonic()
    (e.vassals / "deaf.yaml").unlink()
    e.wait_phase("deaf", "Terminating")
    e.wait_absent("deaf")
    assert 0.55 < time.monotonic() - started < 5
    wait_for(lambda: not any(alive(pid) for pid in pids), what="all three are gone")
    assert "GraceExceeded" in reasons(e, "deaf")


def test_children_left_behind_by_a_vassal_that_ends_are_ended_too(emperor: Make) -> None:
    e = emperor().start()
    script = 'setsid sleep 1234 & echo $! >> "$OUT"; sleep 1235 & echo $! >> "$OUT"; trap "exit 0" TERM; wait'
    e.manifest("parent", ["sh", "-c", script], env={"OUT": str(out(e, "parent"))}, loyalty=LOYAL)
    wait_for(lambda: len(said(e, "parent")) == 2)
    children = [int(line) for line in said(e, "parent")]
    (e.vassals / "parent.yaml").unlink()
    e.wait_absent("parent")
    wait_for(lambda: not any(alive(pid) for pid in children), what="its children are gone")


# --- death ---


def test_a_killed_vassal_runs_again(emperor: Make) -> None:
    e = emperor().start()
    pid = record(e, "a")
    os.kill(pid, signal.SIGKILL)
    again = e.wait_running("a", other_than=pid)
    status = e.objects()["a"]["status"]
    assert status["respawns"] == 1
    assert status["lastRespawn"]
    assert status["lastExit"]["signal"] == signal.SIGKILL
    assert status["blacklist"] is None
    assert {"Created", "Died", "Respawned"} <= set(reasons(e, "a"))
    os.kill(again, signal.SIGTERM)  # it ends by itself, with code 0: that is a death as well
    e.wait_running("a", other_than=again)
    assert e.objects()["a"]["status"]["lastExit"]["code"] == 0


def test_a_crash_loop_is_blacklisted_and_tried_again_when_told(emperor: Make) -> None:
    e = emperor().start()
    other = record(e, "good")
    e.manifest("bad", ["sh", "-c", 'echo "$$ start" >> "$OUT"; exit 3'], env={"OUT": str(out(e, "bad"))})
    file = e.vassals / "bad.yaml"

    def tries() -> int:
        return len(said(e, "bad"))

    e.wait_phase("bad", "Blacklisted")

    def wait_held(attempts: int) -> dict[str, Any]:
        entry: dict[str, Any] = e.wait_for(
            lambda: (held := e.objects()["bad"]["status"]["blacklist"]) and held["attempts"] == attempts and held,
            what=f"blacklisted, attempt {attempts}",
        )
        return entry

    def clear() -> None:
        assert e.cli("blacklist", "clear", "bad").returncode == 0

    entry = wait_held(1)
    assert entry["throttle"] == 3
    assert e.phase("bad") == "Blacklisted"
    assert e.condition("bad", "Ready")["reason"] == "Blacklisted"
    assert "exited with code 3" in e.condition("bad", "Ready")["message"]
    assert "bad" in e.cli("blacklist", "list").stdout
    assert "good" not in e.cli("blacklist", "list").stdout

    def touch_it() -> None:
        touch(file)

    def edit() -> None:
        file.write_text(file.read_text().replace("exit 3", "exit 4"))

    def order() -> None:
        assert e.cli("reload", "bad").returncode == 0

    def urg() -> None:
        e.signal(signal.SIGURG)

    def pardons() -> int:
        return sum(event["count"] for event in e.events("bad") if event["reason"] == "Pardoned")

    for number, retry in enumerate((clear, touch_it, edit, order, urg), start=1):
        before = tries()
        retry()
        e.wait_for(lambda: pardons() == number, what=f"{retry.__name__} overrules the list")  # noqa: B023
        e.wait_for(lambda: tries() > before, what=f"{retry.__name__} tries again")  # noqa: B023
        wait_held(1)
    assert e.objects()["bad"]["status"]["lastExit"]["code"] == 4
    file.write_text(file.read_text().replace("exit 4", "exec sleep 1000"))
    e.wait_running("bad")
    assert e.objects()["bad"]["status"]["blacklist"] is None
    assert e.main_pid("good") == other


def test_a_crash_loop_is_tried_again_by_itself_after_longer_and_longer_waits(emperor: Make) -> None:
    e = emperor().start()
    e.manifest("bad", ["sh", "-c", 'date +%%s.%%N >> "$OUT"; exit 3'], env={"OUT": str(out(e, "bad"))})
    e.wait_for(lambda: len(said(e, "bad")) == 3, what="three tries")
    first, second, third = (float(line) for line in said(e, "bad"))
    assert second - first > 2.9
    assert third - second > 3.9


# --- reload and replace ---


@pytest.mark.parametrize("order", ["touch", "reload NAME", "reload --all", "SIGHUP"])
def test_an_order_to_reload_reaches_the_vassal_once(emperor: Make, order: str) -> None:
    e = emperor().start()
    by_signal = record(e, "signal", reload={"signal": "SIGUSR2"})
    by_restart = record(e, "restart")
    match order:
        case "touch":
            touch(e.vassals / "signal.yaml")
            touch(e.vassals / "restart.yaml")
        case "reload NAME":
            assert e.cli("reload", "signal", "restart").returncode == 0
        case "reload --all":
            assert e.cli("reload", "--all").returncode == 0
        case "SIGHUP":
            e.signal(signal.SIGHUP)
    again = e.wait_running("restart", other_than=by_restart)
    e.wait_for(lambda: f"{by_signal} usr2" in said(e, "signal"), what="the signal arrives")
    e.wait_for(lambda: f"{again} start" in said(e, "restart"))
    assert said(e, "restart") == [f"{by_restart} start", f"{by_restart} term", f"{again} start"]
    assert said(e, "signal") == [f"{by_signal} start", f"{by_signal} usr2"]
    assert e.main_pid("signal") == by_signal
    assert e.objects()["signal"]["status"]["lastReload"]
    assert e.objects()["signal"]["status"]["respawns"] == 0


SPEAKER = """
import os
fd = int(os.environ["UWSGI_EMPEROR_FD"])
with open(os.environ["OUT"], "a", buffering=1) as out:
    os.write(fd, bytes([1]))
    while not os.path.exists(os.environ["OUT"] + ".accept"):
        os.sched_yield()
    os.write(fd, bytes([5]))
    print(os.getpid(), "start", file=out)
    while byte := os.read(fd, 1):
        print(os.getpid(), byte[0], file=out)
        os.write(fd, bytes([1, 5, 17]))
"""


def test_a_native_vassal_can_speak_the_emperor_protocol(emperor: Make) -> None:
    e = emperor().start()
    env = {"OUT": str(out(e, "talk"))}
    e.manifest("talk", ["python3", "-I", "-S", "-c", SPEAKER], env=env, reload={"protocol": {}})
    pid = e.wait_running("talk")
    e.wait_condition("talk", "Ready", "Unknown", "Silent")
    Path(f"{out(e, 'talk')}.accept").touch()
    e.wait_condition("talk", "Ready", "True", "Accepting")
    assert e.condition("talk", "Loyal")["status"] == "False"
    touch(e.vassals / "talk.yaml")
    wait_for(lambda: f"{pid} 1" in said(e, "talk"), what="byte 1 arrives")
    e.wait_condition("talk", "Loyal", "True", "FirstRequest")
    assert e.wait_running("talk") == pid
    assert said(e, "talk") == [f"{pid} start", f"{pid} 1"]


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("command", {"command": ["sleep", "1002"]}),
    ("env", {"env": {"A": "2"}}),
    ("workingDir", {"workingDir": "/usr"}),
    ("umask", {"umask": "027"}),
    ("nice", {"nice": 5}),
    ("rlimits", {"rlimits": {"nofile": 512}}),
    pytest.param("user", {"user": "nobody"}, marks=pytest.mark.as_root),  # type: ignore[list-item]
    pytest.param("group", {"group": "nogroup"}, marks=pytest.mark.as_root),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("field", "change"), CHANGES)
def test_a_changed_launch_replaces_the_process(emperor: Make, field: str, change: dict[str, Any]) -> None:
    e = emperor().start()
    before = {"command": ["sleep", "1001"], "env": {"A": "1"}, "loyalty": LOYAL, "reload": {"signal": "SIGHUP"}}
    write_document(e, "a.yaml", spec=before)
    pid = e.wait_running("a")
    write_document(e, "a.yaml", spec=before | change)
    e.wait_running("a", other_than=pid)
    assert not alive(pid)
    found = e.objects()["a"]
    assert found["metadata"]["generation"] == found["status"]["observedGeneration"] == 2
    assert found["status"]["respawns"] == 1
    assert "LaunchChanged" in reasons(e, "a"), field


def test_an_edit_of_what_is_not_launched_touches_nothing(emperor: Make) -> None:
    e = emperor().start()
    spec = {
        "command": ["sh", "-c", RECORDER],
        "env": {"OUT": str(out(e, "a"))},
        "loyalty": LOYAL,
        "reload": {"signal": "SIGHUP"},
    }
    path = write_document(e, "a.yaml", spec=spec)
    pid = e.wait_running("a")
    wait_for(lambda: said(e, "a"))
    edits: list[dict[str, Any]] = [
        {"metadata": {"labels": {"team": "web"}}},
        {"metadata": {"labels": {"team": "shop"}, "annotations": {"why": "so"}}},
        {"spec": spec | {"stop": {"gracePeriod": "7s"}}},
        {"spec": spec | {"loyalty": {"after": "1ms"}}},
        {"spec": spec | {"logs": {"maxFiles": 9}}},
    ]
    for number, edit in enumerate(edits, start=2):
        write_document(e, "a.yaml", **({"spec": spec} | edit))
        e.wait_for(lambda: e.objects()["a"]["status"]["observedGeneration"] == number, what=f"{edit}")  # noqa: B023
    touch(path)
    wait_for(lambda: len(said(e, "a")) > 1)
    assert said(e, "a") == [f"{pid} start", f"{pid} hup"]  # nothing reached it before the touch
    assert e.main_pid("a") == pid


def test_labels_show_as_soon_as_they_are_edited(emperor: Make) -> None:
    e = emperor().start()
    write_document(e, "a.yaml", metadata={"labels": {"team": "web"}}, spec=sleeper(1001))
    pid = e.wait_running("a")
    write_document(e, "a.yaml", metadata={"labels": {"team": "shop"}}, spec=sleeper(1001))
    e.wait_for(lambda: e.objects()["a"]["metadata"]["labels"] == {"team": "shop"})
    assert e.main_pid("a") == pid


def test_an_edit_while_the_old_process_is_stopping_ends_at_the_newest(emperor: Make) -> None:
    e = emperor().start()
    stubborn = ["sh", "-c", 'trap "" TERM; echo up >> "$OUT"; while :; do sleep 1000; done']
    e.manifest("a", stubborn, env={"OUT": str(out(e, "a"))}, stop={"gracePeriod": "500ms"})
    first = e.wait_running("a")
    wait_for(lambda: said(e, "a"))
    for seconds in (1001, 1002, 1003):
        e.manifest("a", ["sleep", str(seconds)], stop={"gracePeriod": "500ms"})
        e.wait_for(lambda: e.objects()["a"]["spec"]["command"][-1] == str(seconds))  # noqa: B023
    assert alive(first)
    e.wait_running("a", other_than=first)
    assert seconds_of(e, "a") == 1003
    assert e.objects()["a"]["status"]["respawns"] == 1


def test_a_removed_file_that_comes_back_while_its_vassal_stops_is_started_again(emperor: Make) -> None:
    e = emperor().start()
    stubborn = ["sh", "-c", 'trap "" TERM; echo up >> "$OUT"; while :; do sleep 1000; done']
    spec = {"env": {"OUT": str(out(e, "a"))}, "stop": {"gracePeriod": "500ms"}}
    path = e.manifest("a", stubborn, **spec)
    first = e.wait_running("a")
    wait_for(lambda: said(e, "a"))
    path.unlink()
    e.wait_phase("a", "Terminating")
    e.manifest("a", ["sleep", "1004"])
    second = e.wait_running("a", other_than=first)
    assert seconds_of(e, "a") == 1004
    assert not alive(first)
    sleepers = psutil.Process(e.pid).children
    # What was killed may take a moment to be reaped.
    wait_for(lambda: [process.pid for process in sleepers() if process.name() == "sleep"] == [second])


# --- suspended ---


def test_a_stopped_vassal_stays_down_across_the_emperors_restart(emperor: Make) -> None:
    e = emperor().start()
    pid = record(e, "a")
    other = record(e, "b")
    assert e.cli("stop", "a").returncode == 0
    e.wait_phase("a", "Suspended")
    wait_for(lambda: not alive(pid))
    found = e.objects()["a"]["status"]
    assert found["suspended"] is True
    assert (found["ready"], found["wanted"], found["processes"]) == (0, 0, [])
    touch(e.vassals / "a.yaml")
    assert e.cli("reload", "b").returncode == 0
    e.wait_running("b", other_than=other)
    assert e.phase("a") == "Suspended"
    assert e.stop() == 0
    e.start()
    e.wait_running("b")
    e.wait_phase("a", "Suspended")
    e.manifest("a", ["sleep", "1005"])
    e.wait_for(lambda: e.objects()["a"]["spec"]["command"] == ["sleep", "1005"])
    assert e.phase("a") == "Suspended"
    assert e.cli("start", "a").returncode == 0
    e.wait_running("a")
    assert seconds_of(e, "a") == 1005
    assert e.stop() == 0
    e.start()
    e.wait_running("a")


# --- what the process gets ---


def umask_of(pid: int) -> int:
    """The file mode creation mask of a process."""
    found = re.search(r"^Umask:\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1], 8)


def test_the_process_gets_what_its_manifest_says(emperor: Make) -> None:
    e = emperor(env={"SECRET_OF_THE_EMPEROR": "1", "UWSGI_FOO": "1"}).start()
    work = e.root / "work"
    work.mkdir(mode=0o755)
    e.manifest(
        "a",
        ["sleep", "1001"],
        env={"GREETING": "hällo wörld", "EMPTY": ""},
        workingDir=str(work),
        umask="037",
        nice=7,
        rlimits={"nofile": {"soft": 123, "hard": 456}, "core": 0, "fsize": "unlimited"},
    )
    process = psutil.Process(e.wait_running("a"))
    assert process.cwd() == str(work)
    environment = process.environ()
    assert environment["GREETING"] == "hällo wörld"
    assert environment["EMPTY"] == ""
    assert "PATH" in environment
    assert not {"SECRET_OF_THE_EMPEROR", "UWSGI_FOO", "UWSGI_EMPEROR_FD"} & environment.keys()
    assert umask_of(process.pid) == 0o037
    assert process.nice() == 7
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (123, 456)
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_FSIZE) == (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY)
    assert os.getsid(process.pid) == process.pid
    assert sorted(os.listdir(f"/proc/{process.pid}/fd")) == ["0", "1", "2"]
    blocked = re.search(r"^SigBlk:\t(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert blocked is not None
    assert int(blocked[1], 16) == 0


@pytest.mark.as_root
def test_user_and_group_become_the_processs(emperor: Make) -> None:
    nobody = pwd.getpwnam("nobody")
    e = emperor().start()
    e.manifest("user", ["sleep", "1001"], user="nobody")
    e.manifest("both", ["sleep", "1001"], user="nobody", group="daemon")
    e.manifest("number", ["sleep", "1001"], user=str(nobody.pw_uid), group="12345")
    user = psutil.Process(e.wait_running("user"))
    both = psutil.Process(e.wait_running("both"))
    number = psutil.Process(e.wait_running("number"))
    assert set(user.uids()) == set(both.uids()) == set(number.uids()) == {nobody.pw_uid}
    assert set(user.gids()) == {nobody.pw_gid}
    assert set(both.gids()) == {1}
    assert set(number.gids()) == {12345}
    for process in (user, both, number):
        groups = re.search(r"^Groups:\t(.*)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
        assert groups is not None
        assert "0" not in groups[1].split()
    assert user.environ()["HOME"] == nobody.pw_dir
    assert user.environ()["USER"] == "nobody"
    assert e.objects()["user"]["status"]["processes"][0]["uid"] == nobody.pw_uid


@pytest.mark.as_user
def test_an_ordinary_users_emperor_reigns_as_well(emperor: Make) -> None:
    e = emperor().start()
    e.manifest("a", ["sleep", "1001"])
    pid = e.wait_running("a")
    assert psutil.Process(pid).uids().real == psutil.Process(e.pid).uids().real != 0
    e.manifest("b", ["sleep", "1001"], user="root")
    e.wait_phase("b", "Blacklisted", "Error")
    assert e.condition("b", "Ready")["message"]
    os.kill(pid, signal.SIGKILL)
    e.wait_for(lambda: e.phase("a") == "Blacklisted")  # it had not yet lived long enough
    assert e.cli("blacklist", "clear").returncode == 0
    e.wait_running("a")


def test_magic_variables_work_in_every_string(emperor: Make) -> None:
    e = emperor().start()
    command = ["sh", "-c", "exec sleep 1001", "%n", "%p", "%e", "100%%"]
    e.manifest("shop", command, env={"NAME": "%n.settings", "DIR": "%d", "SELF": "%s"}, workingDir="%d")
    pid = e.wait_running("shop")
    process = psutil.Process(pid)
    assert process.environ()["NAME"] == "shop.settings"
    assert process.environ()["DIR"] == f"{e.vassals}/"
    assert process.environ()["SELF"] == "shop.yaml"
    assert process.cwd() == str(e.vassals)
    assert e.objects()["shop"]["spec"]["command"][3:] == ["shop", str(e.vassals / "shop.yaml"), "yaml", "100%"]


def test_several_documents_of_one_file_are_several_vassals(emperor: Make) -> None:
    def document(name: str, seconds: int) -> str:
        return (
            f"apiVersion: emperor/v1\nkind: Vassal\nmetadata: {{name: {name}}}\n"
            f"spec: {{command: [sleep, '{seconds}']}}\n"
        )

    e = emperor().start()
    e.write("all.yaml", "---\n".join([document("a", 1001), document("b", 1002), document("c", 1003)]))
    pids = {name: e.wait_running(name) for name in "abc"}
    e.write("all.yaml", "---\n".join([document("a", 1001), document("b", 2002), document("d", 1004)]))
    e.wait_absent("c")
    e.wait_running("d")
    e.wait_running("b", other_than=pids["b"])
    assert seconds_of(e, "b") == 2002
    assert e.main_pid("a") == pids["a"]
    assert set(e.objects()) == {"a", "b", "d"}
    (e.vassals / "all.yaml").unlink()
    for name in "abd":
        e.wait_absent(name)


# --- logs ---


def test_rotated_logs_hold_every_byte(emperor: Make) -> None:
    e = emperor().start()
    script = 'i=0; while [ $i -lt 30000 ]; do echo "line $i of the output"; i=$((i+1)); done; echo end >&2; sleep 1000'
    e.manifest("talk", ["sh", "-c", script], logs={"maxSize": "64Ki", "maxFiles": 100})
    e.wait_running("talk")
    log = Path(e.objects()["talk"]["status"]["log"])
    assert log.parent == e.logs
    e.wait_for(lambda: log.exists() and log.read_bytes().endswith(b"end\n"), what="all is written")
    files = [path for path in e.logs.iterdir() if path.name.startswith("talk")]
    assert len(files) > 5
    assert all(path.stat().st_size <= 2 * 64 * 1024 for path in files)
    older = sorted((path for path in files if path != log), key=lambda path: int(path.name.rsplit(".", 1)[1]))
    whole = b"".join(path.read_bytes() for path in [*reversed(older), log])
    assert whole == b"".join(b"line %d of the output\n" % number for number in range(30000)) + b"end\n"
    assert e.cli("logs", "talk", "--tail", "2").stdout == "line 29999 of the output\nend\n"


def test_the_last_words_of_a_dying_vassal_are_in_its_log(emperor: Make) -> None:
    e = emperor().start()
    e.manifest("a", ["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo last words; exit 1"])
    e.wait_phase("a", "Blacklisted")
    log = Path(e.objects()["a"]["status"]["log"])
    e.wait_for(lambda: log.exists() and log.read_bytes().endswith(b"last words\n"))
    assert log.stat().st_size == 300000 + len("last words\n")


# --- the Emperor itself ---


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_emperor_ends_everything_and_exits_with_0(emperor: Make, signum: signal.Signals) -> None:
    e = emperor().start()
    pids = [record(e, name) for name in "abc"]
    assert e.stop(signum) == 0
    assert not any(alive(pid) for pid in pids)
    assert [said(e, name)[-1] for name in "abc"] == [f"{pid} term" for pid in pids]
    assert not e.socket.exists()


def test_the_mercy_bounds_what_vassals_get_and_a_second_term_ends_it(emperor: Make) -> None:
    e = emperor("--reload-mercy", "25").start()
    env = {"OUT": str(out(e, "deaf"))}
    e.manifest("deaf", ["sh", "-c", STUBBORN], env=env, stop={"gracePeriod": "1h"})
    wait_for(lambda: len(said(e, "deaf")) == 3)
    pids = [int(line) for line in said(e, "deaf")]
    started = time.monotonic()
    e.signal(signal.SIGTERM)
    e.wait_log("Ragnarok")
    e.wait_phase("deaf", "Terminating")
    assert all(alive(pid) for pid in pids)
    e.signal(signal.SIGTERM)
    assert e.wait() == 0
    assert time.monotonic() - started < 10
    wait_for(lambda: not any(alive(pid) for pid in pids))

    e = emperor("--reload-mercy", "0.5").start()
    env = {"OUT": str(out(e, "deaf"))}
    e.manifest("deaf", ["sh", "-c", STUBBORN], env=env, stop={"gracePeriod": "1h"})
    wait_for(lambda: len(said(e, "deaf")) == 3)
    started = time.monotonic()
    assert e.stop() == 0
    assert 0.45 < time.monotonic() - started < 10


def test_nothing_is_started_once_the_emperor_is_ending(emperor: Make) -> None:
    e = emperor().start()
    env = {"OUT": str(out(e, "deaf"))}
    e.manifest("deaf", ["sh", "-c", STUBBORN], env=env, stop={"gracePeriod": "1500ms"})
    wait_for(lambda: len(said(e, "deaf")) == 3)
    e.signal(signal.SIGTERM)
    e.wait_log("Ragnarok")
    e.manifest("late", ["sh", "-c", 'echo late >> "$OUT"; sleep 1000'], env={"OUT": str(out(e, "late"))})
    assert e.wait() == 0
    assert said(e, "late") == []


def test_usr1_writes_the_table_to_the_log(emperor: Make) -> None:
    e = emperor().start()
    pid = record(e, "a")
    e.signal(signal.SIGUSR1)
    e.wait_for(lambda: re.search(rf"NAME +READY +STATUS.*\n.* a +1/1 +Running .* {pid} ", e.log()), what="the table")


def test_a_killed_emperor_takes_everything_with_it(emperor: Make) -> None:
    e = emperor().start()
    pids: list[int] = []
    for number in range(5):
        name = f"deaf{number}"
        env = {"OUT": str(out(e, name))}
        e.manifest(name, ["sh", "-c", STUBBORN], env=env, stop={"gracePeriod": "300ms"})
    for number in range(5):
        wait_for(lambda: len(said(e, f"deaf{number}")) == 3)  # noqa: B023
        pids += [int(line) for line in said(e, f"deaf{number}")]
    zygotes = [child.pid for child in psutil.Process(e.pid).children() if child.pid not in pids]
    assert len(zygotes) == 1
    killed = time.monotonic()
    e.kill()
    wait_for(lambda: not any(alive(pid) for pid in [*pids, *zygotes]), what="nobody is left")
    assert time.monotonic() - killed < 1.0
    e.start()  # over the stale socket of the one before
    for number in range(5):
        e.wait_running(f"deaf{number}")


def test_a_killed_zygote_is_replaced_and_no_vassal_notices(emperor: Make) -> None:
    e = emperor().start()
    pid = record(e, "a")
    (zygote,) = [child.pid for child in psutil.Process(e.pid).children() if child.pid != pid]
    os.kill(zygote, signal.SIGKILL)
    record(e, "b")
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    e.wait_running("a", other_than=pid)


# --- several sources, and who holds a name ---


def test_several_sources_at_once(emperor: Make, tmp_path: Path) -> None:
    e = emperor(sources=[])
    other, parts = e.root / "other", e.root / "parts"
    for directory in (other, parts / "x", parts / "y"):
        directory.mkdir(parents=True)
    e.sources = [str(e.vassals), "--emperor", f"dir://{other}", f"glob://{parts}/*/*.yaml"]
    write_document(e, "a.yaml", spec=sleeper(1001))
    e.write(other / "b.yaml", (e.vassals / "a.yaml").read_bytes())
    e.write(parts / "x" / "c.yaml", (e.vassals / "a.yaml").read_bytes())
    e.start()
    for name in "abc":
        e.wait_running(name)
    e.write(parts / "y" / "d.yaml", (e.vassals / "a.yaml").read_bytes())
    e.write(other / "e.yaml", (e.vassals / "a.yaml").read_bytes())
    e.wait_running("d")
    e.wait_running("e")
    sources = {name: found["status"]["source"] for name, found in e.objects().items()}
    assert len(set(sources.values())) == 3
    assert sources["b"] == sources["e"] != sources["a"] != sources["c"] == sources["d"]
    (other / "b.yaml").unlink()
    e.wait_absent("b")
    assert set(e.objects()) == {"a", "c", "d", "e"}


def test_the_first_claimant_of_a_name_keeps_it_until_it_leaves(emperor: Make) -> None:
    e = emperor().start()
    first = write_document(e, "first.yaml", metadata={"name": "shop"}, spec=sleeper(1001, loyalty=LOYAL))
    pid = e.wait_running("shop")
    second = write_document(e, "second.yaml", metadata={"name": "shop"}, spec=sleeper(1002, loyalty=LOYAL))
    conflict = e.wait_condition("shop", "Conflict", "True")
    assert str(second) in conflict["message"]
    e.wait_for(lambda: "Conflict" in reasons(e, "shop"))
    assert e.main_pid("shop") == pid

    write_document(e, "second.yaml", metadata={"name": "shop"}, spec=sleeper(2002, loyalty=LOYAL))  # changes nothing
    write_document(e, "first.yaml", metadata={"name": "shop"}, spec=sleeper(2001, loyalty=LOYAL))
    pid = e.wait_running("shop", other_than=pid)
    assert seconds_of(e, "shop") == 2001

    first.unlink()
    e.wait_running("shop", other_than=pid)
    e.wait_for(lambda: seconds_of(e, "shop") == 2002, what="the second takes over")
    e.wait_for(lambda: not e.condition("shop", "Conflict"))
    assert e.objects()["shop"]["status"]["file"] == str(second)
    second.unlink()
    e.wait_absent("shop")


def test_who_holds_a_name_is_the_same_after_every_restart(emperor: Make) -> None:
    e = emperor()
    later = e.root / "later"
    later.mkdir()
    e.sources.append(str(later))
    text = write_document(e, "z.yaml", metadata={"name": "shop"}, spec=sleeper(1001)).read_text()
    e.write(later / "a.yaml", text.replace("1001", "1002"))
    for seconds, letter in ((3005, "y"), (3004, "m"), (3002, "b"), (3003, "c")):
        e.write(f"{letter}.yaml", text.replace("1001", str(seconds)))
    for _ in range(2):
        e.start()
        e.wait_running("shop")
        assert seconds_of(e, "shop") == 3002  # of the first source the first by name
        e.wait_condition("shop", "Conflict", "True")
        assert e.stop() == 0


def test_an_invalid_edit_leaves_the_last_good_generation_running(emperor: Make) -> None:
    e = emperor().start()
    path = e.manifest("a", ["sleep", "1001"])
    pid = e.wait_running("a")
    good = path.read_text()
    e.write("a.yaml", good.replace('"command"', '"comand"'))
    condition = e.wait_condition("a", "Accepted", "False")
    assert "did you mean" in condition["message"]
    assert f"{path}:" in condition["message"]
    assert e.main_pid("a") == pid
    e.write("a.yaml", good)
    e.wait_condition("a", "Accepted", "True")
    assert e.main_pid("a") == pid
