"""systemd's service units as manifests."""

from __future__ import annotations

from typing import Any

import pytest

from emperorctl.models.convert.systemd_exec import kill_signal
from emperorctl.models.convert.systemd_syntax import span, unquoted_words
from emperorctl.models.errors import ConfigError
from tests.models.converting import conversion, notes, only, read_back

FILE = "/etc/systemd/system/shop.service"

FULL = r"""
[Unit]
Description=The shop, 100% up
[Service]
Type=notify
NotifyAccess=all
Environment="GREETING=hello world" RATE=5%% \
# a comment within
  'B=\x41'
ExecStart=/srv/shop/bin/serve --name %N --host %H --run %t/shop "two words" ${RATE} $GREETING $$x \
    --last
ExecReload=/bin/kill -USR1 $MAINPID
User=shop
Group=www-data
WorkingDirectory=/srv/%p
UMask=0027
Nice=-5
KillSignal=SIGINT
KillMode=mixed
TimeoutStopSec=1min 30s
LimitNOFILE=1024:65536
LimitCORE=infinity
LimitAS=4G
LimitCPU=2min
LimitNICE=+5
Restart=always
StandardOutput=journal
"""


def service(settings: str, file: str = FILE) -> Any:
    return only(f"[Service]\nRestart=always\nExecStart=/bin/x\n{settings}\n", file)


def test_everything_that_has_a_field() -> None:
    one = only(FULL, FILE)
    assert one.name == "shop"
    assert one.manifest["metadata"]["annotations"] == {"description": "The shop, 100% up"}
    assert one.manifest["spec"] == {
        "command": [
            *("/srv/shop/bin/serve", "--name", "shop", "--host", "%h", "--run", "/run/shop", "two words"),
            *("5%%", "hello", "world", "$x", "--last"),
        ],
        "env": {"GREETING": "hello world", "RATE": "5%%", "B": "A"},
        "workingDir": "/srv/shop",
        "user": "shop",
        "group": "www-data",
        "umask": "027",
        "nice": -5,
        "rlimits": {
            "nofile": {"soft": 1024, "hard": 65536},
            "core": "unlimited",
            "as": 4 * 1024**3,
            "cpu": 120,
            "nice": 15,
        },
        "reload": {"signal": "SIGUSR1"},
        "stop": {"signal": "SIGINT", "gracePeriod": "1m30s"},
        "readiness": {"notify": {"access": "all"}},
    }
    assert not one.notes


@pytest.mark.parametrize(
    "setting",
    [
        "ExecStartPre='open",
        "ExecStartPost=/bin/tell $MAINPID",
        "ExecStop=/bin/a ; /bin/b",
        "ExecCondition=/bin/true",
        "ExecReload=/bin/x reload",
        "EnvironmentFile=-/etc/default/x",
        "PassEnvironment=A",
        "UnsetEnvironment=A",
        "RestartSec=5",
        "WatchdogSec=10",
        "RuntimeMaxSec=1d",
        "TimeoutStartSec=5",
        "PIDFile=/run/x.pid",
        "Type=forking",
        "Type=dbus",
        "KillMode=process",
        "KillMode=control-group",
        "SendSIGKILL=no",
        "StandardOutput=file:/x",
        "StandardError=null",
        "StandardInput=tty",
        "SupplementaryGroups=a b",
        "PrivateTmp=yes",
        "ProtectSystem=strict",
        "Sockets=x.socket",
        "NotifyAccess=main",
        "ReloadSignal=HUP",
        "WorkingDirectory=relative",
        "User=two words",
        "UMask=9",
        "Nice=99",
        "KillSignal=NOPE",
        "TimeoutStopSec=soon",
        "TimeoutStopSec=2h",
        "LimitNOFILE=a lot",
        "LimitNOFILE=10:5",
        "SomethingNew=1",
    ],
)
def test_what_can_not_be_carried_over_is_named(setting: str) -> None:
    one = service(setting)
    key, _, value = setting.partition("=")
    (note,) = one.notes
    assert (note.setting, note.value) == (key, value)
    assert note.why and note.line == 4 and not note.changed


def test_units_around_it_are_named() -> None:
    text = "[Unit]\nAfter=a.service\nRequires=b\n[Service]\nExecStart=x\n[Install]\nWantedBy=m.target\n[Path]\nA=b\n"
    result = conversion(text, FILE)
    assert set(notes(result.converted[0])) == {"After", "Requires", "WantedBy", "Restart"}
    assert set(notes(result)) == {"[Path] A"}


def test_without_restart_it_is_said_that_the_emperor_restarts() -> None:
    assert "always starts it again" in notes(only("[Service]\nExecStart=/bin/x\n", FILE))["Restart"]


def test_commands_around_it_are_hooks() -> None:
    found = service(
        "Environment=DIR=/run/x\nExecStartPre=+/bin/mkdir -p ${DIR}\nExecStartPre=-/bin/check '100%%'\n"
        "ExecStartPost=/bin/a\nExecStop=/bin/x stop\nExecStopPost=-/bin/rm -f ${OTHER}"
    )
    assert found.manifest["spec"]["hooks"] == {
        "preStart": [
            {"command": ["/bin/mkdir", "-p", "/run/x"], "timeout": "1m30s", "asEmperor": True},
            {"command": ["sh", "-c", '"$0" "$@" || :', "/bin/check", "100%%"], "timeout": "1m30s"},
        ],
        "postStart": [{"command": ["/bin/a"], "timeout": "1m30s"}],
        "preStop": [{"command": ["/bin/x", "stop"], "timeout": "1m30s"}],
        "postStop": [{"command": ["sh", "-c", 'set -f; exec /bin/rm -f "${OTHER}"'], "timeout": "1m30s"}],
    }
    assert not found.notes


def test_more_hooks_than_there_may_be_are_named() -> None:
    found = service("ExecStartPre=/bin/a\n" * 20)
    assert len(found.manifest["spec"]["hooks"]["preStart"]) == 16
    assert len(found.notes) == 4


def test_a_kill_that_stops_it_is_its_signal() -> None:
    found = service("ExecStop=/bin/kill -QUIT $MAINPID")
    assert found.manifest["spec"]["stop"] == {"signal": "SIGQUIT", "gracePeriod": "1m30s"}
    assert "hooks" not in found.manifest["spec"]


def test_an_empty_value_forgets_what_came_before() -> None:
    text = "ExecStart=/a\nExecStart=\nExecStart=/b\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\n"
    found = only(f"[Service]\n{text}", FILE).manifest["spec"]
    assert (found["command"], found["env"]) == (["/b"], {"B": "2"})


def test_defaults_of_systemd_stay() -> None:
    assert service("").manifest["spec"] == {
        "command": ["/bin/x"],
        "workingDir": "/",
        "stop": {"gracePeriod": "1m30s"},
    }


def test_prefixes() -> None:
    one = only("[Service]\nRestart=always\nExecStart=-@/bin/x other ${A}\n", FILE)
    assert one.manifest["spec"]["command"] == ["sh", "-c", 'set -f; exec /bin/x "${A}"']
    assert all(note.changed for note in one.notes) and len(one.notes) == 2
    one = only("[Service]\nRestart=always\nExecStart=:/bin/x ${A} $B\n", FILE)
    assert one.manifest["spec"]["command"] == ["/bin/x", "${A}", "$B"]
    assert not one.notes


def test_variables_of_a_file_that_is_not_read_are_left_to_a_shell() -> None:
    settings = "Environment='A=it is'\nExecStart=\nExecStart=/bin/x --p=${PORT}! $OPTS \"it's ${A}\" 5%%"
    assert service(settings).manifest["spec"]["command"] == [
        *("sh", "-c", "set -f; exec /bin/x --p=\"${PORT}\"'!' $OPTS 'it'\"'\"'s it is' 5%%"),
    ]
    with_file = service("EnvironmentFile=/e\n" + settings).manifest["spec"]["command"]
    assert '"${A}"' in with_file[2]


def test_templates_and_instances() -> None:
    text = "[Service]\nRestart=always\nExecStart=/bin/x %i %I %n %p\n"
    template = only(text, "web@.service")
    assert template.name == "web"
    assert template.manifest["spec"]["command"] == ["/bin/x", "%n", "%n", "web@%n.service", "web"]
    assert "INSTANCE.yaml" in notes(template)["unit"]
    instance = only(text, "web@a-b.service")
    assert instance.name == "web-a-b"
    assert instance.manifest["spec"]["command"] == ["/bin/x", "a-b", "a/b", "web@a-b.service", "web"]


def test_specifiers_of_the_user_manager_and_of_the_machine_are_not_known() -> None:
    one = only("[Service]\nRestart=always\nExecStart=/bin/x %m %h\n", FILE)
    assert read_back(one.manifest).launch.command == ("/bin/x", "%m", "/root")
    assert "%m is not known" in notes(one)["ExecStart"]
    text, directory = "[Service]\nExecStart=/bin/x %h\n", "/home/a/.config/systemd/user"
    (user,) = conversion(text, "x.service", directory=directory).converted
    assert "%h is not known" in notes(user)["ExecStart"]


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ("WorkingDirectory=~", {"workingDir": "/root"}),
        ("User=root\nWorkingDirectory=~", {"workingDir": "/root"}),
        ("User=0\nGroup=0", {"user": "root", "group": "root"}),
        ("WorkingDirectory=-/srv", {"workingDir": "/srv"}),
        ("Type=notify", {"readiness": {"notify": {"access": "main"}}}),
        ("Type=notify-reload", {"readiness": {"notify": {"access": "main"}}, "reload": {"signal": "SIGHUP"}}),
        ("Type=notify-reload\nReloadSignal=USR2", {"reload": {"signal": "SIGUSR2"}}),
        ("TimeoutStopSec=infinity", {"stop": {"gracePeriod": "1h"}}),
        ("TimeoutSec=5", {"stop": {"gracePeriod": "5s"}}),
    ],
)
def test_fields(settings: str, fields: dict[str, Any]) -> None:
    found = service(settings).manifest["spec"]
    assert {field: found[field] for field in fields} == fields


def test_the_home_of_another_user_is_not_guessed() -> None:
    one = service("User=shop\nWorkingDirectory=~")
    assert "workingDir" not in one.manifest["spec"]
    assert "home of shop" in notes(one)["WorkingDirectory"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/bin/kill -HUP $MAINPID", "SIGHUP"),
        ("-/usr/bin/kill -s USR1 ${MAINPID}", "SIGUSR1"),
        ("kill --signal=2 $MAINPID", "SIGINT"),
        ("/bin/kill $MAINPID", "SIGTERM"),
        ("/bin/kill -NOPE $MAINPID", None),
        ("/bin/kill -HUP 1", None),
        ("/bin/kill -HUP -x $MAINPID", None),
        ("/usr/sbin/nginx -s reload", None),
        ("", None),
    ],
)
def test_reload_signals(text: str, name: str | None) -> None:
    assert kill_signal(text) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ('\'a b\' "c\'d" e"f g"h', ["a b", "c'd", "ef gh"]),
        (r"\x41 \101 \u00e4 a\sb \q \"x", ["A", "A", "ä", "a b", r"\q", '"x']),
        ("'' \"\"", ["", ""]),
        ("a\\", ["a\\"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert unquoted_words(text) == words


@pytest.mark.parametrize("text", ["'a", '"', r"\x00", r"\ud800", r"\Uffffffff"])
def test_words_that_are_wrong(text: str) -> None:
    with pytest.raises(ValueError, match=r"closed|character"):
        unquoted_words(text)


def test_spans() -> None:
    assert [span(text) for text in ("90", "5min 20s", "1.5s", "100ms", "2h", "1d")] == [
        *("1m30s", "5m20s", "1s500ms", "100ms", "2h", "24h"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Unit]\nDescription=x\n", "no [Service] section, only [Unit]"),
        ("[Service]\nType=oneshot\nExecStart=/bin/x\n", "oneshot"),
        ("[Service]\nRestart=no\n", "found 0"),
        ("[Service]\nExecStart=/a\nExecStart=/b\n", "found 2"),
        ("[Service]\nExecStart=/a 'open\n", "not closed"),
        ("[Service]\njunk\n", "neither a section"),
        ("Type=x\n[Service]\n", "neither a section"),
        ("[Service]\n" + "A=b\n" * 2000, "more than 1000"),
    ],
)
def test_units_that_can_not_be_converted(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        conversion(text, FILE)
    problem = caught.value.problem
    assert words in problem.message and problem.file == FILE
    assert problem.remedy


def test_limits_of_the_whole_service() -> None:
    one = service("MemoryMax=64M\nCPUQuota=150%\nTasksMax=20\nIOWeight=50")
    limits = {"memory": "64Mi", "cpu": "1500m", "pids": 20, "ioWeight": 50}
    assert one.manifest["spec"]["resources"] == {"limits": limits}
    assert not notes(one)


@pytest.mark.parametrize(
    "setting", ["MemoryMax=infinity", "MemoryMax=10%", "CPUQuota=half", "TasksMax=80%", "IOWeight=idle"]
)
def test_a_limit_that_has_no_counterpart_is_named(setting: str) -> None:
    one = service(setting)
    assert "resources" not in one.manifest["spec"]
    assert list(notes(one)) == [setting.partition("=")[0]]
