"""Hooks around real launches: their order, their identity, their failures, and what is left of them (nothing)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Emperor, alive, wait_for
from e2e.runtime_court import both, court, gone, native
from emperorctl.models.observed import LaunchState
from emperorctl.models.vassal import Hook, Hooks

Make = Callable[..., Emperor]
NOBODY = 65534
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
OBEDIENT = "while :; do sleep 0.05; done"
IN_VAIN = "while :; do sleep 100; done"


class Diary:
    """A file that hooks and programs write lines into."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="h-", dir="/tmp"))
        self.directory.chmod(0o777)
        self.file = self.directory / "diary"
        self.file.touch()
        self.file.chmod(0o666)

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()

    def shell(self, *commands: str) -> list[str]:
        """A shell that knows the file as $D."""
        return ["sh", "-c", "; ".join([f"D={self.file}", *commands])]

    def says(self, word: str, *then: str, **fields: Any) -> dict[str, Any]:
        """A hook that writes this word, then goes on."""
        return {"command": self.shell(f"echo {word} >> $D", *then), **fields}


@pytest.fixture
def diary() -> Iterator[Diary]:
    made = Diary()
    yield made
    shutil.rmtree(made.directory, ignore_errors=True)


def manifest(emperor: Emperor, name: str, command: list[str], **spec: Any) -> None:
    emperor.manifest(name, command, stop={"gracePeriod": "20s"} | spec.pop("stop", {}), **spec)


def event(emperor: Emperor, name: str, reason: str) -> str:
    """The message of the first event with this reason, once there is one."""

    def look() -> str | None:
        return next((str(item["message"]) for item in emperor.events(name) if item["reason"] == reason), None)

    return emperor.wait_for(look, what=f"{name} has an event {reason}")


def all_four(diary: Diary) -> dict[str, Any]:
    return {name: diary.says("$EMPEROR_HOOK") for name in ("preStart", "postStart", "preStop", "postStop")}


@pytest.mark.parametrize("whose", ["own", pytest.param("ordinary", marks=pytest.mark.as_user)])
def test_the_four_of_them_come_in_order(emperor: Make, diary: Diary, whose: str) -> None:
    made = emperor().start()
    program = diary.shell("trap 'echo stopped >> $D; exit 0' TERM", "echo program >> $D", OBEDIENT)
    manifest(made, "web", program, hooks=all_four(diary))
    made.wait_running("web")
    made.wait_for(lambda: len(diary.lines()) == 3, what=f"{whose}: it has started")
    (made.vassals / "web.yaml").unlink()
    made.wait_absent("web")
    lines = diary.lines()
    assert lines[0] == "preStart"
    assert sorted(lines[1:3]) == ["postStart", "program"]
    assert lines[3:] == ["preStop", "stopped", "postStop"]


@pytest.mark.as_root
def test_they_are_the_vassals_own_user_unless_said_otherwise(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    who = 'echo $EMPEROR_HOOK $(id -u) $(id -g) $PWD $GREETING "${NOTIFY_SOCKET-}" >> $D'
    hooks = {
        "preStart": [{"command": diary.shell(who)}, {"command": diary.shell(who), "asEmperor": True}],
        "postStop": {"command": diary.shell(who)},
    }
    fields = {"user": NOBODY, "workingDir": "/usr", "env": {"GREETING": "hello"}, "readiness": {"notify": {}}}
    manifest(made, "web", ["sleep", "1000"], hooks=hooks, **fields)
    pid = made.wait_running("web")
    os.kill(pid, signal.SIGKILL)
    made.wait_for(lambda: len(diary.lines()) >= 3, what="postStop has written")
    own, emperors, after = [line.strip() for line in diary.lines()[:3]]
    assert own == f"preStart {NOBODY} {NOBODY} /usr hello"
    assert emperors == f"preStart {os.geteuid()} {os.getegid()} /usr hello"
    assert after == f"postStop {NOBODY} {NOBODY} /usr hello"


def test_a_failing_prestart_is_a_failed_start_with_its_output(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    hooks = {
        "preStart": [
            {"command": ["sh", "-c", "echo looking; echo 'no database at /srv/db' >&2; exit 7"]},
            diary.says("never"),
        ],
        "postStop": diary.says("tidied"),
    }
    manifest(made, "web", diary.shell("echo started >> $D"), hooks=hooks)
    message = event(made, "web", "PreStartFailed")
    assert "its preStart hook failed: sh exited with code 7" in message
    assert "looking | no database at /srv/db" in message
    made.wait_phase("web", "Blacklisted")
    described = made.cli("describe", "vassal", "web").stdout
    assert "no database at /srv/db" in described and "PreStartFailed" in described
    assert made.get("web")["status"]["lastExit"]["reason"] == "PreStartFailed"  # type: ignore[index]
    made.wait_for(diary.lines, what="postStop has tidied up")
    assert set(diary.lines()) == {"tidied"}
    # Mended, it is started at once.
    manifest(made, "web", ["sleep", "1000"])
    made.wait_running("web")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["/nonexistent/tool"], "/nonexistent/tool does not exist"),
        (["sh", "-c", "kill -SEGV $$"], "killed by SIGSEGV"),
        (["true", "\x00"], ""),
    ],
)
def test_every_way_to_fail_is_told(emperor: Make, command: list[str], says: str) -> None:
    made = emperor().start()
    manifest(made, "web", ["sleep", "1000"], hooks={"preStart": {"command": command}})
    if not says:
        made.wait_condition("web", "Accepted", "False")
        return
    assert says in event(made, "web", "PreStartFailed")


def test_a_hanging_prestart_is_ended_with_all_it_started_and_delays_nobody(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    hook = diary.shell("trap '' TERM", "(trap '' TERM; setsid sleep 1000 & echo $! >> $D)", "echo $$ >> $D", IN_VAIN)
    manifest(made, "stuck", ["sleep", "1000"], hooks={"preStart": {"command": hook, "timeout": "2s"}})
    made.wait_for(lambda: len(diary.lines()) == 2, what="the hook hangs")
    assert made.phase("stuck") == "Starting"
    assert made.condition("stuck", "Ready")["message"] == "its preStart hook is running"
    for number in range(20):
        manifest(made, f"other-{number}", ["sleep", "1000"])
    for number in range(20):
        made.wait_running(f"other-{number}")
    pids = [int(line) for line in diary.lines()]
    message = event(made, "stuck", "PreStartFailed")
    assert "was killed: not done within 2s" in message and "longer timeout" in message
    made.wait_condition("stuck", "Ready", "False", "Blacklisted")
    wait_for(lambda: not any(map(alive, pids[:2])), what="nothing is left of the hook")


def test_a_hanging_prestart_is_called_off_by_another_word(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    stuck = diary.shell("echo $$ >> $D", IN_VAIN)
    manifest(made, "web", ["sleep", "1000"], hooks={"preStart": {"command": stuck, "timeout": "1h"}})
    manifest(made, "gone", ["sleep", "1000"], hooks={"preStart": {"command": stuck, "timeout": "1h"}})
    made.wait_for(lambda: len(diary.lines()) == 2, what="the hooks hang")
    manifest(made, "web", ["sleep", "1000"], hooks={"preStart": {"command": ["true"]}})
    made.wait_running("web")
    (made.vassals / "gone.yaml").unlink()
    made.wait_absent("gone")
    wait_for(lambda: not any(alive(int(line)) for line in diary.lines()), what="both hooks are ended")
    assert made.get("web")["status"]["blacklist"] is None  # type: ignore[index]


def test_a_flood_is_bounded_and_its_end_is_kept(emperor: Make) -> None:
    made = emperor().start()
    flood = "import os\nfor n in range(64): os.write(1, b'x' * 65536)\nos.write(2, b'\\nthe end\\xff\\n')\nos._exit(1)"
    manifest(made, "web", ["sleep", "1000"], hooks={"preStart": {"command": [PYTHON, "-I", "-S", "-c", flood]}})
    manifest(made, "ever", ["sleep", "1000"], hooks={"preStart": {"command": ["yes"], "timeout": "3s"}})
    message = event(made, "web", "PreStartFailed")
    assert "xxx | the end\ufffd" in message
    assert "output ended: …" in message
    assert len(message) <= 1024
    manifest(made, "other", ["sleep", "1000"])
    made.wait_running("other")
    message = event(made, "ever", "PreStartFailed")
    assert "was killed: not done within 3s" in message and "y | y | y" in message
    # Of what floods only the end is kept, and nothing reaches the vassal's own log.
    assert made.cli("logs", "ever").stdout == ""


def test_a_failing_poststart_is_only_reported(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    hooks = {"postStart": [{"command": ["sh", "-c", "echo cannot register; exit 1"]}, diary.says("second")]}
    manifest(made, "web", ["sleep", "1000"], hooks=hooks)
    pid = made.wait_running("web")
    assert "its postStart hook failed: sh exited with code 1; its output: cannot register" in event(
        made, "web", "PostStartFailed"
    )
    made.wait_for(lambda: diary.lines() == ["second"], what="the second command is run all the same")
    assert made.main_pid("web") == pid and made.phase("web") == "Running"


def test_a_prestop_talks_to_the_program_that_still_runs(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    program = diary.shell(
        "trap 'echo drained >> $D' USR1",
        "trap 'echo stopped >> $D; exit 0' TERM",
        f"echo $$ > {diary.directory}/pid",
        OBEDIENT,
    )
    talk = f"kill -USR1 $(cat {diary.directory}/pid); until grep -q drained $D; do sleep 0.02; done"
    manifest(made, "web", program, hooks={"preStop": {"command": diary.shell(talk, "echo told >> $D")}})
    made.wait_running("web")
    made.wait_for((diary.directory / "pid").exists, what="the program listens")
    (made.vassals / "web.yaml").unlink()
    made.wait_absent("web")
    assert diary.lines() == ["drained", "told", "stopped"]


def test_the_grace_period_ends_a_prestop_too(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    program = diary.shell("trap 'echo stopped >> $D; exit 0' TERM", OBEDIENT)
    hooks = {"preStop": diary.says("$$", IN_VAIN, timeout="1h"), "postStop": diary.says("after")}
    manifest(made, "web", program, hooks=hooks, stop={"gracePeriod": "1s"})
    pid = made.wait_running("web")
    (made.vassals / "web.yaml").unlink()
    event(made, "web", "GraceExceeded")
    made.wait_absent("web")
    hook, after = diary.lines()
    assert after == "after"
    assert not alive(pid) and not alive(int(hook))


def test_a_poststop_is_done_before_anything_takes_its_place(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    gate = diary.directory / "gate"
    wait = f"until [ -e {gate} ]; do sleep 0.02; done"
    hooks = {"postStop": diary.says("tidying", wait, "echo tidied >> $D")}
    program = diary.shell("echo started >> $D", "exec sleep 1000")
    manifest(made, "web", program, hooks=hooks, loyalty={"after": "0s"})
    pid = made.wait_running("web")
    made.wait_for(lambda: made.condition("web", "Loyal").get("status") == "True", what="it is loyal")
    os.kill(pid, signal.SIGKILL)
    made.wait_condition("web", "Ready", "False", "TidyingUp")
    made.wait_for(lambda: diary.lines()[-1] == "tidying", what="the hook runs")
    assert made.cli("reload", "web").returncode == 0
    assert "TidyingUp" in made.condition("web", "Ready")["reason"]
    assert "nothing to do: it goes on once the hook is done" in made.cli("describe", "vassal", "web").stdout
    gate.touch()
    made.wait_running("web", other_than=pid)
    made.wait_for(lambda: len(diary.lines()) == 4, what="it is started again")
    assert diary.lines() == ["started", "tidying", "tidied", "started"]


def test_what_a_hook_leaves_running_ends_with_it(emperor: Make, diary: Diary) -> None:
    made = emperor().start()
    hook = diary.says("begun", "setsid sleep 1000 >/dev/null 2>&1 & echo $! >> $D")
    manifest(made, "web", ["sleep", "1000"], hooks={"preStart": hook})
    made.wait_running("web")
    left = int(diary.lines()[1])
    wait_for(lambda: not alive(left), what="the hook's child is gone")


@pytest.mark.parametrize("when", ["preStart", "postStart", "preStop", "postStop"])
def test_nothing_is_left_when_the_emperor_is_killed_in_a_hook(emperor: Make, diary: Diary, when: str) -> None:
    made = emperor().start()
    hook = diary.says("$$", "(setsid sleep 1000 & echo $! >> $D)", IN_VAIN, timeout="1h")
    manifest(made, "web", ["sleep", "1000"], hooks={when: hook}, stop={"gracePeriod": "1h"})
    if when.endswith("Stop"):
        made.wait_running("web")
        (made.vassals / "web.yaml").unlink()
    made.wait_for(lambda: len(diary.lines()) == 2, what="the hook runs")
    pids = [process.pid for process in made.processes()] + [int(line) for line in diary.lines()]
    made.kill()
    wait_for(lambda: not any(map(alive, pids)), what="all are gone")


def test_ragnarok_runs_them_and_has_an_end(emperor: Make, diary: Diary) -> None:
    made = emperor("--reload-mercy=2").start()
    manifest(made, "web", ["sleep", "1000"], hooks=all_four(diary))
    manifest(made, "slow", ["sleep", "1000"], hooks={"postStop": diary.says("slow", IN_VAIN, timeout="1h")})
    manifest(made, "stuck", ["sleep", "1000"], hooks={"preStart": diary.says("stuck", IN_VAIN, timeout="1h")})
    made.wait_running("web")
    made.wait_running("slow")
    made.wait_for(lambda: {"stuck", "postStart"} <= set(diary.lines()), what="the hooks have run")
    assert made.stop() == 0
    lines = diary.lines()
    assert lines.index("preStop") < lines.index("postStop")
    assert "slow" in lines


# On one host, without a plan


@both
def test_a_hooks_processes_are_found_by_either_containment(tmp_path: Path, diary: Diary, containment: str) -> None:
    stuck = diary.shell("trap '' TERM", "(setsid sleep 1000 & echo $! >> $D)", "echo $$ >> $D", IN_VAIN)
    hook = Hook(tuple(stuck), 1.0)

    async def body() -> None:
        async with court(tmp_path, containment) as made:
            made.host.launch(replace(native("web", "sleep", "1000"), hooks=Hooks(pre_start=(hook,))), 1, 1)
            await made.until("web", lambda seen: seen.hook == "preStart")
            seen = await made.over("web")
            assert seen.failure is not None and seen.failure.reason == "PreStartFailed" and not seen.failure.transient
            assert len(diary.lines()) == 2
            async with asyncio.timeout(10):
                while made.host._orders or not all(gone(int(line)) for line in diary.lines()):
                    await asyncio.sleep(0.005)

    asyncio.run(body())


@both
def test_a_lost_zygote_costs_no_hook(tmp_path: Path, diary: Diary, containment: str) -> None:
    gate = diary.directory / "gate"
    hook = Hook(tuple(diary.shell("echo $$ >> $D", f"until [ -e {gate} ]; do sleep 0.02; done")))

    async def body() -> None:
        async with court(tmp_path, containment) as made:
            made.host.launch(replace(native("web", "sleep", "1000"), hooks=Hooks((hook,), post_stop=(hook,))), 1, 1)
            async with asyncio.timeout(10):
                while not diary.lines():
                    await asyncio.sleep(0.005)
            os.kill(made.zygote.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                while not any(note.reason == "ZygoteReplaced" for _, note in made.notes):
                    await asyncio.sleep(0.005)
            gate.touch()
            await made.alive("web")
            assert len(diary.lines()) == 1
            made.host.end("web", 1)
            seen = await made.over("web")
            assert seen.hook == "postStop"
            seen = await made.until("web", lambda seen: not seen.hook)
            assert seen.state is LaunchState.EXITED and len(diary.lines()) == 2
            made.host.forget("web")

    asyncio.run(body())


def test_a_host_that_closes_waits_for_no_hook(tmp_path: Path, diary: Diary) -> None:
    stuck = (Hook(tuple(diary.shell("echo $$ >> $D", IN_VAIN)), 3600.0),)

    async def body() -> None:
        async with court(tmp_path) as made:
            for name, hooks in (("a", Hooks(stuck, post_stop=stuck)), ("b", Hooks(post_start=stuck, post_stop=stuck))):
                made.host.launch(replace(native(name, "sleep", "1000"), hooks=hooks), 1, 1)
            async with asyncio.timeout(10):
                while len(diary.lines()) < 2:
                    await asyncio.sleep(0.005)

    asyncio.run(body())
    assert len(diary.lines()) == 2 and all(gone(int(line)) for line in diary.lines())


# The Emperor's own two; e2e/conformance compares them with uWSGI's

WITNESS = """#!/bin/sh
echo "$(basename "$0") $# $1 $(id -u) $PWD $UWSGI_VASSALS_DIR" >> DIARY
exit 3
"""


@pytest.mark.as_root
def test_the_emperors_hooks_are_for_native_vassals_too_each_in_its_identity(emperor: Make, diary: Diary) -> None:
    options = []
    for name in ("start", "stop"):
        path = diary.directory / name
        path.write_text(WITNESS.replace("DIARY", str(diary.file)))
        path.chmod(0o755)
        options.append(f"--vassals-{name}-hook={path}")
    made = emperor(*options).start()
    # What a vassal's file says must not reach what is run as the Emperor.
    manifest(made, "web", ["sleep", "1000"], user=NOBODY, env={"UWSGI_VASSALS_DIR": "/tmp"})
    made.wait_running("web")
    (made.vassals / "web.yaml").unlink()
    made.wait_absent("web")
    where = made.vassals.resolve()
    assert diary.lines() == [f"start 1 web {NOBODY} {where} {where}", f"stop 1 web {os.geteuid()} {where} {where}"]
    assert "its vassals-start-hook failed" in event(made, "web", "StartHookFailed")
    assert "its vassals-stop-hook failed" in event(made, "web", "StopHookFailed")
