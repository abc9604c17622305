"""supervisord's programs as manifests."""

from __future__ import annotations

import pytest

from emperorctl.models.errors import ConfigError
from tests.models.converting import conversion, notes, only, read_back, spec

FILE = "supervisord.conf"

FULL = """
[supervisord]
logfile = /var/log/supervisord.log
environment = SHARED="1",BOTH=general
user = www-data

[program:shop]
command = /srv/shop/bin/gunicorn shop.wsgi -b 127.0.0.1:8000 --name "the shop" --rate 100%%   ; inline comment
directory = %(here)s/shop
environment = GREETING="hello, world",BOTH='own',NO=no,
    SECOND="line"
umask = 022
startsecs = 5
stopsignal = QUIT
stopwaitsecs = 20
stdout_logfile_maxbytes = 2MB
stdout_logfile_backups = 5
autostart = true
autorestart = true
redirect_stderr = true
"""


def test_everything_that_has_a_field() -> None:
    one = only(FULL, FILE)
    assert one.manifest["spec"] == {
        "command": [
            *("/srv/shop/bin/gunicorn", "shop.wsgi", "-b", "127.0.0.1:8000"),
            *("--name", "the shop", "--rate", "100%%"),
        ],
        "env": {"SHARED": "1", "BOTH": "own", "GREETING": "hello, world", "NO": "no", "SECOND": "line"},
        "workingDir": "/etc/app/shop",
        "user": "www-data",
        "umask": "022",
        "stop": {"signal": "SIGQUIT", "gracePeriod": "20s"},
        "loyalty": {"after": "5s"},
        "logs": {"maxSize": 2 * 1024**2, "maxFiles": 5},
    }
    assert not one.notes
    assert read_back(one.manifest).launch.command[-1] == "100%"


@pytest.mark.parametrize(
    "setting",
    [
        "autostart = false",
        "autorestart = unexpected",
        "exitcodes = 0,2",
        "startretries = 3",
        "priority = 10",
        "stopasgroup = true",
        "killasgroup = false",
        "redirect_stderr = false",
        "stdout_logfile = /var/log/x.log",
        "stdout_logfile = NONE",
        "stderr_logfile = /var/log/x.err",
        "stderr_logfile_maxbytes = 1MB",
        "stdout_events_enabled = true",
        "stdout_capture_maxbytes = 1MB",
        "stdout_syslog = true",
        "serverurl = http://localhost",
        "something_new = 1",
        "directory = relative/path",
        "user = two words",
        "umask = 999",
        "startsecs = soon",
        "stopsignal = NOPE",
        "stopsignal = STOP",
        "stopwaitsecs = 99999",
        "stdout_logfile_maxbytes = 0",
        "stdout_logfile_backups = many",
        "environment = junk",
        "environment = UWSGI_EMPEROR_FD=1",
    ],
)
def test_what_can_not_be_carried_over_is_named(setting: str) -> None:
    one = only(f"[program:x]\ncommand = true\n{setting}\n", FILE)
    (note,) = one.notes
    key, _, value = setting.partition(" = ")
    assert note.setting.split()[0] == key
    assert note.value in value and note.value
    assert note.why and note.line == 3 and not note.changed
    assert one.manifest["spec"] == {"command": ["true"], "stop": {"gracePeriod": "10s"}}


@pytest.mark.parametrize(
    "setting",
    ["autostart = yes", "killasgroup = true", "stopasgroup = false", "stdout_logfile = AUTO", "stdout_syslog = off"],
)
def test_what_makes_no_difference_is_not_named(setting: str) -> None:
    assert not only(f"[program:x]\ncommand = true\n{setting}\n", FILE).notes


def test_a_setting_given_twice_is_named_once_and_the_last_counts() -> None:
    one = only("[program:x]\ncommand = true\ndirectory = /a\ndirectory = /b\n", FILE)
    assert one.manifest["spec"]["workingDir"] == "/b"
    assert notes(one) == {"directory": "given again in line 4"}


def test_several_processes() -> None:
    text = "[program:web_1]\ncommand = x --port 80%(process_num)02d\nprocess_name = %(program_name)s_%(process_num)d\n"
    result = conversion(text + "numprocs = 3\nnumprocs_start = 7\n", FILE)
    assert [one.name for one in result.converted] == ["web-1-7", "web-1-8", "web-1-9"]
    assert [one.manifest["spec"]["command"][2] for one in result.converted] == ["8007", "8008", "8009"]
    assert notes(result.converted[0])["name"].endswith("web-1-7 here")


def test_names_that_are_left_to_chance_are_made_to_differ() -> None:
    result = conversion("[program:a_b]\ncommand=x\n[program:a.b]\ncommand=x\n[program:A-B]\ncommand=x\n", FILE)
    assert [one.name for one in result.converted] == ["a-b", "a.b", "a-b-2"]
    assert "another vassal has this name" in " ".join(note.why for note in result.converted[2].notes)


def test_expansions() -> None:
    references = "%(group_name)s %(host_node_name)s %(ENV_HOME)s %(here)s"
    result = conversion(f"[group:g]\nprograms = a,b\n[program:a]\ncommand = x {references}\n", FILE)
    (one,) = result.converted
    assert read_back(one.manifest).launch.command == ("x", "g", "box", "%(ENV_HOME)s", "/etc/app")
    assert "%(ENV_HOME)s is not known here" in notes(one)["command"]


def test_sections_that_are_no_programs_are_named_setting_by_setting() -> None:
    text = "[include]\nfiles = conf.d/*\n[eventlistener:e]\ncommand = l\nevents = TICK\n[program:a]\ncommand = x\n"
    assert set(notes(conversion(text, FILE))) == {
        "[include] files",
        "[eventlistener:e] command",
        "[eventlistener:e] events",
    }


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[program:x]\ncommand = 'open\n", 2, "quotes"),
        ("[program:x]\ncommand = 100%\n", 2, "lone %"),
        ("[program:x]\ncommand = %(program_name)d\n", 2, "wants a number"),
        ("[program:x]\nautostart = true\n", 1, "no command"),
        ("[program:x]\ncommand = x\nnumprocs = 100000000\n", 1, "expected 1 to 256"),
        ("[program:x]\ncommand = x\nnumprocs = -1\n", 1, "expected 1 to 256"),
        ("[program:x]\ncommand = x\nnumprocs = lots\n", 3, "whole number"),
        (f"[program:{'x' * 20_000}]\ncommand = {'%(program_name)s' * 1000}\n", 2, "longer than"),
    ],
)
def test_a_program_that_is_wrong_does_not_take_the_others_along(text: str, line: int, words: str) -> None:
    result = conversion(text + "[program:good]\ncommand = y\n", FILE)
    assert [one.name for one in result.converted] == ["good"]
    (problem,) = result.problems
    assert (problem.file, problem.line) == (FILE, line)
    assert words in problem.message and problem.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[program:x\ncommand = x\n", "closing bracket"),
        ("command = x\n[program:x]\n", "before any section"),
        ("[program:x]\njunk\n", "neither a section"),
        ("[supervisord]\nlogfile = x\n", "nothing to convert"),
        ("[program:x]\ncommand = \0\n", "NUL"),
        (b"[program:x]\ncommand = \xff\n", "not UTF-8"),
        ("[program:x]\n" + "a = b\n" * 2000, "more than 1000 settings"),
        ("[program:x]\n# " + "a" * 300_000, "larger than 256 KiB"),
    ],
)
def test_a_file_that_can_not_be_read(text: str | bytes, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        conversion(text, FILE)
    problem = caught.value.problem
    assert words in problem.message and problem.remedy and problem.file == FILE


def test_a_lone_number_stays_a_string() -> None:
    assert spec("[program:x]\ncommand = sleep 1e3 0o17 0x10 no ~ 1:30 2024-01-01\n", FILE)["command"][1:] == [
        *("1e3", "0o17", "0x10", "no", "~", "1:30", "2024-01-01"),
    ]
