"""circus' watchers as manifests."""

from __future__ import annotations

import pytest

from tests.models.converting import conversion, notes, only

FILE = "circus.ini"

FULL = """
[watcher:web]
cmd = python -u web.py
args = --wid $(circus.wid) --city $(CIRCUS.ENV.CITY) --rate 5%
working_dir = /srv/web
uid = www-data
gid = www-data
stop_signal = SIGINT
graceful_timeout = 4.5
send_hup = yes
rlimit_nofile = 500
rlimit_core = -1
stdout_stream.max_bytes = 1048576
stdout_stream.backup_count = 2
autostart = true
singleton = true

[env]
tz = UTC
[env:web,other]
city = paris
[env:o*]
secret = 1
"""


def test_everything_that_has_a_field() -> None:
    result = conversion(FULL, FILE)
    (one,) = result.converted
    assert one.manifest["spec"] == {
        "command": ["python", "-u", "web.py", "--wid", "1", "--city", "paris", "--rate", "5%%"],
        "env": {"TZ": "UTC", "CITY": "paris"},
        "workingDir": "/srv/web",
        "user": "www-data",
        "group": "www-data",
        "rlimits": {"nofile": 500, "core": "unlimited"},
        "reload": {"signal": "SIGHUP"},
        "stop": {"signal": "SIGINT", "gracePeriod": "4s500ms"},
        "logs": {"maxSize": 1048576, "maxFiles": 2},
    }
    assert not one.notes
    assert notes(result) == {"[env:o*] secret": "it belongs to no watcher"}


@pytest.mark.parametrize(
    "setting",
    [
        "autostart = false",
        "respawn = false",
        "max_retry = 5",
        "warmup_delay = 1",
        "priority = 3",
        "use_sockets = true",
        "on_demand = true",
        "copy_env = true",
        "copy_path = true",
        "virtualenv = /venv",
        "stop_children = true",
        "max_age = 60",
        "hooks.before_start = mod.fn",
        "stdout_stream.class = FileStream",
        "stderr_stream.filename = /x",
        "rlimit_bogus = 4",
        "rlimit_nofile = many",
        "send_hup = maybe",
        "something_new = 1",
    ],
)
def test_what_can_not_be_carried_over_is_named(setting: str) -> None:
    one = only(f"[watcher:x]\ncmd = true\n{setting}\n", FILE)
    (note,) = one.notes
    assert (note.setting, note.value) == tuple(setting.split(" = "))
    assert note.why and note.line == 3
    assert one.manifest["spec"] == {"command": ["true"], "stop": {"gracePeriod": "10s"}}


def test_several_processes_and_a_shell() -> None:
    result = conversion("[watcher:W b]\ncmd = echo $HOME | cat\nshell = true\nnumprocesses = 2\n", FILE)
    assert [one.name for one in result.converted] == ["w-b-1", "w-b-2"]
    assert result.converted[0].manifest["spec"]["command"] == ["sh", "-c", "echo $HOME | cat"]


def test_references_to_what_is_not_known() -> None:
    one = only("[watcher:x]\ncmd = x ((circus.wid)) $(circus.sockets.web)\n[env:x]\npath = $PATH:/x\n", FILE)
    assert one.manifest["spec"]["command"] == ["x", "1", "$(circus.sockets.web)"]
    assert "env" not in one.manifest["spec"]
    assert set(notes(one)) == {"cmd", "path"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[watcher:x]\nargs = a\n", "no cmd"),
        ("[watcher:x]\ncmd = 'a\n", "quotes"),
        ("[watcher:x]\ncmd = a\nnumprocesses = 9999999\n", "expected 1 to 256"),
        (f"[env]\na = {'x' * 20_000}\n[watcher:x]\ncmd = {'$(circus.env.a)' * 1000}\n", "longer than"),
    ],
)
def test_a_watcher_that_is_wrong_does_not_take_the_others_along(text: str, words: str) -> None:
    result = conversion(text + "[watcher:good]\ncmd = y\n", FILE)
    assert [one.name for one in result.converted] == ["good"]
    (problem,) = result.problems
    assert words in problem.message and problem.remedy and problem.line
