"""What a manifest may say, what it comes to, and how every mistake is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperorctl.models.documents import Format
from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.isolation import Isolation
from emperorctl.models.magic import Place
from emperorctl.models.manifest import read_manifests, recognise
from emperorctl.models.source import Claim
from emperorctl.models.vassal import Hook, Hooks, Kind, Launch, Logs, Notify, Reload, ReloadMethod, Rlimit, Stop, Vassal

PLACE = Place("shop.yaml", "/etc/vassals/shop.yaml", "/etc/vassals", hostname="host")
HEAD = "apiVersion: emperor/v1\nkind: Vassal\n"
SPEC = HEAD + "spec:\n  command: [a]\n"


def read(text: str | bytes, format: Format = "yaml") -> list[Claim]:
    data = text.encode() if isinstance(text, str) else text
    return read_manifests(data, format, file="shop.yaml", stem="shop", place=PLACE, source="dir:///etc/vassals")


def vassal(text: str, format: Format = "yaml") -> Vassal:
    (claim,) = read(text, format)
    assert claim.problem is None
    assert claim.vassal is not None
    return claim.vassal


def wrong(text: str | bytes, format: Format = "yaml") -> Problem:
    (claim,) = read(text, format)
    assert claim.vassal is None
    assert claim.problem is not None
    assert claim.problem.file == "shop.yaml"
    return claim.problem


def unusable(text: str | bytes, format: Format = "yaml") -> Problem:
    with pytest.raises(ConfigError) as caught:
        read(text, format)
    assert caught.value.problem.file == "shop.yaml"
    return caught.value.problem


FULL = """
apiVersion: emperor/v1
kind: Vassal
metadata: {name: web, labels: {team: web, example.org/tier: ""}, annotations: {note: any text}}
spec:
  command: [gunicorn, "%n.wsgi"]
  env: {B: "%d", A: 100%%}
  workingDir: /srv/%n
  user: "1000"
  group: www-data
  umask: 022
  nice: 5
  rlimits: {nofile: {soft: 1024, hard: unlimited}, core: 0, as: unlimited}
  reload: {signal: HUP}
  stop: {signal: SIGINT, gracePeriod: 1m30s}
  loyalty: {after: 500ms}
  logs: {maxSize: 64Ki, maxFiles: 1}
"""


def test_everything_said() -> None:
    found = vassal(FULL)
    assert (found.name, found.kind, found.file, found.line) == ("web", Kind.NATIVE, "shop.yaml", 2)
    assert found.launch == Launch(
        command=("gunicorn", "shop.wsgi"),
        env=(("A", "100%"), ("B", "/etc/vassals/")),
        working_dir="/srv/shop",
        user="1000",
        group="www-data",
        umask=0o022,
        nice=5,
        rlimits=(Rlimit("as", None, None), Rlimit("core", 0, 0), Rlimit("nofile", 1024, None)),
        isolation=Isolation(no_new_privileges=True),
    )
    assert found.reload == Reload(ReloadMethod.SIGNAL, 1)
    assert found.stop == Stop(signal=2, grace=90.0)
    assert found.logs == Logs(65536, 1)
    assert found.loyal_after == 0.5
    assert found.labels == {"team": "web", "example.org/tier": ""}
    assert json.loads(json.dumps(dict(found.spec))) == {
        "command": ["gunicorn", "shop.wsgi"],
        "env": {"B": "/etc/vassals/", "A": "100%"},
        "workingDir": "/srv/shop",
        "user": "1000",
        "group": "www-data",
        "nice": 5,
        "umask": "022",
        "rlimits": {"as": "unlimited", "core": 0, "nofile": {"soft": 1024, "hard": "unlimited"}},
        "reload": {"signal": "SIGHUP"},
        "stop": {"signal": "SIGINT", "gracePeriod": "1m30s"},
        "loyalty": {"after": "500ms"},
        "logs": {"maxSize": "64Ki", "maxFiles": 1},
        "isolation": {"noNewPrivileges": True},
    }


def test_nothing_but_a_command() -> None:
    found = vassal(SPEC)
    launch = Launch(("a",), isolation=Isolation(no_new_privileges=True))
    assert found == Vassal("shop", Kind.NATIVE, "dir:///etc/vassals", "shop.yaml", launch, line=1, spec=found.spec)
    assert found.spec["reload"] == {"restart": {}}
    assert found.spec["stop"] == {"signal": "SIGTERM", "gracePeriod": "30s"}


def test_the_effective_spec_is_a_manifest_again() -> None:
    found = vassal(FULL)
    spec = json.dumps(dict(found.spec)).replace("100%", "100%%")
    again = vassal(f'{{"apiVersion": "emperor/v1", "kind": "Vassal", "spec": {spec}}}', "json")
    assert (again.launch, again.spec) == (found.launch, found.spec)


def test_labels_and_the_order_of_variables_do_not_touch_the_launch() -> None:
    one = vassal(SPEC + "  env: {A: x, B: y}\nmetadata: {labels: {a: b}}\n")
    two = vassal(SPEC + "  env: {B: y, A: x}\nmetadata: {annotations: {c: d}}\n")
    assert (one.launch, one.reload, one.stop, one.content) == (two.launch, two.reload, two.stop, two.content)


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("json", '{"apiVersion": "emperor/v1", "kind": "Vassal", "spec": {"command": ["a"]}}'),
        ("toml", 'apiVersion = "emperor/v1"\nkind = "Vassal"\nspec.command = ["a"]\n'),
    ],
)
def test_other_formats(format: Format, text: str) -> None:
    assert vassal(text, format) == vassal(SPEC)


def test_protocol_reload_gets_the_socket() -> None:
    found = vassal(SPEC + "  reload: {protocol: {}}\n")
    assert (found.reload.method, found.launch.protocol) == (ReloadMethod.PROTOCOL, True)


@pytest.mark.parametrize(
    ("lines", "notify", "shown"),
    [
        ("", Notify.NONE, None),
        ("  readiness: {notify: {}}\n", Notify.MAIN, "main"),
        ("  readiness: {notify: {access: main}}\n", Notify.MAIN, "main"),
        ("  readiness: {notify: {access: all}}\n", Notify.ALL, "all"),
    ],
)
def test_readiness_gets_a_notification_socket(lines: str, notify: Notify, shown: str | None) -> None:
    found = vassal(SPEC + lines)
    assert found.launch.notify is notify
    assert found.spec.get("readiness") == (None if shown is None else {"notify": {"access": shown}})
    again = vassal(json.dumps({"apiVersion": "emperor/v1", "kind": "Vassal", "spec": found.spec}), "json")
    assert again.launch == found.launch


HOOKS = """  hooks:
    preStart: {command: [mkdir, -p, "/run/%n"], timeout: 1m, asEmperor: true}
    postStop:
      - {command: [one]}
      - {command: [two]}
"""


def test_hooks_are_a_command_or_a_list_of_them() -> None:
    found = vassal(SPEC + HOOKS)
    assert found.hooks == Hooks(
        pre_start=(Hook(("mkdir", "-p", "/run/shop"), 60.0, as_emperor=True),),
        post_stop=(Hook(("one",)), Hook(("two",), 30.0)),
    )
    assert found.spec["hooks"]["postStop"][1] == {"command": ["two"], "timeout": "30s", "asEmperor": False}


def test_a_hook_is_no_part_of_the_launch() -> None:
    assert vassal(SPEC + HOOKS).launch == vassal(SPEC).launch
    assert vassal(SPEC).hooks == Hooks() and "hooks" not in vassal(SPEC).spec


@pytest.mark.parametrize(
    ("hooks", "field", "says"),
    [
        ("{preStart: make}", "spec.hooks.preStart", "expected {command: [program, …]}, or a list of these"),
        ("{preStart: [make, all]}", "spec.hooks.preStart", "expected {command: [program, …]}"),
        ("{preStart: []}", "spec.hooks.preStart", "expected 1 to 16 commands, got 0"),
        (f"{{preStart: [{'{command: [a]},' * 17}]}}", "spec.hooks.preStart", "expected 1 to 16 commands, got 17"),
        ("{preStart: [{command: a b}]}", "spec.hooks.preStart[0].command", "expected a list of strings"),
        ("{preStart: {}}", "spec.hooks.preStart[0].command", "is missing"),
        ("{preStart: {command: [a], timeout: 2h}}", "spec.hooks.preStart[0].timeout", "expected at most 1h"),
        ("{preStart: {command: [a], timeout: 0s}}", "spec.hooks.preStart[0].timeout", "expected a duration from 100ms"),
        ("{preStart: {command: [a], timeout: 5}}", "spec.hooks.preStart[0].timeout", "expected a duration such as 30s"),
        ("{preStart: {command: [a], asEmperor: 1}}", "spec.hooks.preStart[0].asEmperor", "boolean"),
        ("{preStart: {command: [a], asRoot: true}}", "spec.hooks.preStart[0].asRoot", "is not a known field"),
        ("{preStart: {command: [a], timout: 3s}}", "spec.hooks.preStart[0].timout", "did you mean `timeout`?"),
        ("{prestart: {command: [a]}}", "spec.hooks.prestart", "did you mean `preStart`?"),
    ],
)
def test_a_wrong_hook(hooks: str, field: str, says: str) -> None:
    problem = wrong(f"{SPEC}  hooks: {hooks}\n")
    assert problem.field == field
    assert says in problem.sentence()
    assert problem.line == 5


def test_the_variables_of_the_notification_socket_are_free_without_one() -> None:
    assert vassal(SPEC + "  env: {NOTIFY_SOCKET: /run/x}\n").launch.env == (("NOTIFY_SOCKET", "/run/x"),)


@pytest.mark.parametrize(
    ("lines", "field", "says"),
    [
        ("  env: {PORT: 8000}", "spec.env.PORT", 'expected a string, got the integer 8000 (write "8000" in quotes)'),
        ("  env: {A: 1e3}", "spec.env.A", 'the number 1e3 (write "1e3" in quotes)'),
        ("  user: 0", "spec.user", "0 is root, which must be named (write root if that is meant)"),
        ('  group: "00"', "spec.group", "0 is root, which must be named"),
        ("  env: {A: true}", "spec.env.A", 'the boolean true (write "true" in quotes)'),
        ("  env: {A: 0x10}", "spec.env.A", 'the integer 0x10 (write "0x10" in quotes)'),
        ("  env: {A: }", "spec.env.A", "expected a value, got nothing"),
        ("  env: {A: [x]}", "spec.env.A", "expected a string, got a list"),
        ("  env: [A=x]", "spec.env", "expected a mapping, got a list"),
        ("  env: {A: {}}", "spec.env.A", "expected a string, or a mapping with nothing but a file"),
        ("  env: {A: {valueFrom: {}}}", "spec.env.A", "write {valueFrom: {file: /PATH}}"),
        ("  env: {A: {valueFrom: {file: /x, key: y}}}", "spec.env.A", "nothing but a file"),
        ("  env: {A: {valueFrom: {file: /x}, value: y}}", "spec.env.A", "nothing but a file"),
        ("  env: {A: {valueFrom: {file: 7}}}", "spec.env.A", "nothing but a file"),
        (
            "  env: {A: {valueFrom: {file: secret}}}",
            "spec.env.A",
            'expected an absolute path of at most 4095 bytes, got "s',
        ),
        ('  env: {A: {valueFrom: {file: "/a\\0b"}}}', "spec.env.A", "NUL"),
        ("  env: {EMPERORCTL_X: {valueFrom: {file: /x}}}", "spec.env.EMPERORCTL_X", "reserved"),
        ("  env: {A=B: x}", "spec.env.A=B", "not a name"),
        ('  env: {"": x}', "spec.env.", "not a name"),
        ('  env: {"a\\0b": x}', "spec.env.a\\x00b", "not a name"),
        ('  env: {A: "a\\0b"}', "spec.env.A", "NUL"),
        ("  env: {EMPERORCTL_X: x}", "spec.env.EMPERORCTL_X", "reserved"),
        ("  env: {UWSGI_EMPEROR_FD: x}", "spec.env.UWSGI_EMPEROR_FD", "reserved"),
        (f"  env: {{A: {'x' * 131070}}}", "spec.env.A", "longer than 131071 bytes"),
        ("  readiness: {}", "spec.readiness.notify", "is missing (add spec.readiness.notify)"),
        ("  readiness: notify", "spec.readiness", 'expected a mapping, got "notify" (write {notify: {}})'),
        ("  readiness: {notify: main}", "spec.readiness.notify", 'expected a mapping, got "main"'),
        (
            "  readiness: {notify: {access: exec}}",
            "spec.readiness.notify.access",
            'expected main or all, got "exec"',
        ),
        (
            "  env: {WATCHDOG_PID: x}\n  readiness: {notify: {}}",
            "spec.env",
            "WATCHDOG_PID is set by the Emperor where there is readiness.notify (remove it)",
        ),
        ("  user:", "spec.user", "expected a value, got nothing"),
        ("  user: null", "spec.user", "expected a value, got nothing"),
        *(
            (f"  user: {value}", "spec.user", "expected a name or a decimal id")
            for value in (
                *(
                    "-1",
                    "4294967295",
                    "2147483648",
                    '"-1"',
                    '"4294967295"',
                    '"2147483648"',
                    '"0x0"',
                    "0day",
                    '" 1_000 "',
                ),
                *("1_000", '"\u0661"', '"\u0660"', '""', '"a:b"', '"a b"', "1.5", "true", "[a]", '"-root"'),
            )
        ),
        ("  group: 4294967295", "spec.group", "expected a name or a decimal id"),
        ("  nice: 20", "spec.nice", "expected at most 19, got the integer 20"),
        ("  nice: -21", "spec.nice", "expected at least -20"),
        ('  nice: "5"', "spec.nice", 'expected an integer, got "5"'),
        ("  nice: true", "spec.nice", "expected an integer, got the boolean true"),
        ("  umask: 22", "spec.umask", 'got the integer 22 (such as "022")'),
        ('  umask: "999"', "spec.umask", "octal"),
        ('  umask: "7777"', "spec.umask", "octal"),
        ("  rlimits: {nofiles: 1}", "spec.rlimits.nofiles", "did you mean `nofile`?"),
        ("  rlimits: {nofile: -1}", "spec.rlimits.nofile", "an integer from 0, or unlimited"),
        ("  rlimits: {nofile: {soft: 2, hard: 1}}", "spec.rlimits.nofile", "above the hard"),
        ("  rlimits: {nofile: {soft: 2}}", "spec.rlimits.nofile", "soft and hard"),
        ("  reload: restart", "spec.reload", "write {restart: {}}"),
        ("  reload: {}", "spec.reload", "exactly one"),
        ("  reload: {signal: HUP, restart: {}}", "spec.reload", "exactly one"),
        ("  reload: {signal: SIGKILL}", "spec.reload.signal", "can't be used here"),
        ("  reload: {signal: WAT}", "spec.reload.signal", "expected a signal"),
        ("  reload: {signal: 65}", "spec.reload.signal", "expected a signal"),
        ("  reload: {restart: {x: 1}}", "spec.reload.restart.x", "write {}"),
        ("  stop: {gracePeriod: 30}", "spec.stop.gracePeriod", "add a unit"),
        ("  stop: {gracePeriod: 5 parsecs}", "spec.stop.gracePeriod", 'got "5 parsecs"'),
        ("  stop: {gracePeriod: -1s}", "spec.stop.gracePeriod", "expected a duration"),
        ("  stop: {gracePeriod: NaN}", "spec.stop.gracePeriod", "expected a duration"),
        ("  stop: {gracePeriod: 2h}", "spec.stop.gracePeriod", "expected at most 1h"),
        ("  stop: {gracePeriod: 1000000000000000000s}", "spec.stop.gracePeriod", "expected"),
        ("  loyalty: {after: 2d}", "spec.loyalty.after", "expected at most 24h"),
        ("  logs: {maxSize: 10MB}", "spec.logs.maxSize", "a size from 1Ki"),
        ("  logs: {maxSize: 0}", "spec.logs.maxSize", "a size from 1Ki"),
        ("  logs: {maxFiles: 1.5}", "spec.logs.maxFiles", "expected an integer, got the number 1.5"),
        ("  logs: {maxFiles: 1000000000}", "spec.logs.maxFiles", "at most 1000"),
        ("  workingDir: srv", "spec.workingDir", "an absolute path"),
        ("  workingDir: /%q", "spec.workingDir", "the variable %q is not known"),
        ("  workingDir: /%", "spec.workingDir", "a lone %"),
        ('  env: {A: "%(x)"}', "spec.env.A", "%(x) is not known"),
    ],
)
def test_a_wrong_field(lines: str, field: str, says: str) -> None:
    found = wrong(SPEC + lines + "\n")
    assert found.field == field
    assert says in found.sentence()
    assert found.line == 5


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("gunicorn -b 'x'", "spec.command", "[sh, -c, \"gunicorn -b 'x'\"]"),
        ("[]", "spec.command", "is empty"),
        ('[""]', "spec.command", "begins with an empty string"),
        ("[a, 1]", "spec.command[1]", 'write "1" in quotes'),
        ('["a", "b\\0"]', "spec.command[1]", "NUL"),
        (f"[a, {'x' * 131072}]", "spec.command[1]", "longer than 131071 bytes"),
        ("{a: b}", "spec.command", "expected a list, got a mapping"),
    ],
)
def test_a_wrong_command(text: str, field: str, says: str) -> None:
    found = wrong(f"{HEAD}spec:\n  command: {text}\n")
    assert (found.field, found.line) == (field, 4)
    assert says in found.sentence()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("  working_dir: /x", "did you mean `workingDir`?"),
        ("  workingdir: /x", "did you mean `workingDir`?"),
        ("  working-dir: /x", "did you mean `workingDir`?"),
        ("  WorkingDirectory: /x", "did you mean `workingDir`?"),
        ("  cwd: /x", "did you mean `workingDir`?"),
        ("  environment: {}", "did you mean `env`?"),
        ("  args: [x]", "did you mean `command`?"),
        ("  relaod: {}", "did you mean `reload`?"),
        ("  stop: {gracePeriode: 1s}", "did you mean `gracePeriod`?"),
        ("  stop: {timeout: 1s}", "did you mean `gracePeriod`?"),
        ("  stopSignal: HUP", "did you mean `spec.stop.signal`?"),
        ("  labels: {a: b}", "did you mean `metadata.labels`?"),
        ("  replcias: 1", "known here: command, env, group"),
        ("user: x", "did you mean `spec.user`?"),
    ],
)
def test_an_unknown_field_gets_a_suggestion(lines: str, says: str) -> None:
    found = wrong(SPEC + lines + "\n")
    assert (found.reason, found.line) == ("UnknownField", 5)
    assert says in found.sentence()


def test_the_first_error_speaks_and_the_others_are_counted() -> None:
    found = wrong(SPEC + "  nice: 99\n  umask: 1\n  x: 1\n")
    assert (found.field, found.line) == ("spec.nice", 5)
    assert "and 2 more" in found.message


@pytest.mark.parametrize(
    ("text", "reason", "says"),
    [
        ("kind: vassal\napiVersion: emperor/v1\n", "UnknownKind", "expected Vassal"),
        ("kind: 5\n", "UnknownKind", "the integer 5"),
        ("apiVersion: emperor/v1\n", "MissingField", "write kind: Vassal"),
        ("kind: Vassal\n", "MissingField", "write apiVersion: emperor/v1"),
        ("kind: Vassal\napiVersion: emperor/v9\n", "UnknownApiVersion", "expected emperor/v1"),
        (HEAD, "MissingField", "add spec"),
        (HEAD + "spec:\n", "InvalidValue", "got nothing"),
        (HEAD + "spec: {env: {}}\n", "MissingField", "add spec.command"),
        (SPEC + "metadata: {labels: {a: 1}}\n", "InvalidValue", 'write "1" in quotes'),
        (SPEC + "metadata: {labels: {a b: x}}\n", "InvalidValue", "not a label"),
        (SPEC + "metadata: {labels: {a: x y}}\n", "InvalidValue", "not a label's value"),
        (SPEC + "metadata: nothing\n", "InvalidValue", "expected a mapping"),
    ],
)
def test_a_wrong_document_keeps_its_name(text: str, reason: str, says: str) -> None:
    assert read(text)[0].name == "shop"
    found = wrong(text)
    assert found.reason == reason
    assert found.line is not None
    assert says in found.sentence()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- a\n", "InvalidValue"),
        ("hello", "InvalidValue"),
        ("a: [", "InvalidSyntax"),
        ("# x\n", "Empty"),
        (HEAD + "metadata: {name: 5}\n", "InvalidName"),
        *(
            (HEAD + f"metadata: {{name: {name}}}\n", "InvalidName")
            for name in (
                '""',
                "..",
                ".",
                "a/b",
                "-a",
                ".a",
                '"a b"',
                "A",
                '"caf\u00e9"',
                '"a\\n"',
                '"\\e[1m"',
                '"\\u202e"',
                "a" * 64,
            )
        ),
        (SPEC + "---\n" + SPEC, "NoName"),
        (SPEC + "metadata: {name: a}\n---\n" + SPEC, "NoName"),
    ],
)
def test_a_file_without_a_usable_name_is_refused_as_a_whole(text: str, reason: str) -> None:
    assert unusable(text).reason == reason


def test_two_documents_of_one_name() -> None:
    one = SPEC + "metadata: {name: a}\n"
    found = unusable(one + "---\n" + one)
    assert found.reason == "DuplicateName"
    assert "line 1 and in line 7" in found.message


def test_one_wrong_document_does_not_touch_the_other() -> None:
    good, bad = read(SPEC + "metadata: {name: a}\n---\n" + SPEC + "  x: 1\nmetadata: {name: b}\n")
    assert good.vassal is not None
    assert (good.name, bad.name, bad.vassal) == ("a", "b", None)
    assert bad.problem is not None
    assert bad.problem.line == 11


def test_lines_in_json_and_toml() -> None:
    assert wrong('{"kind": "Vassal",\n"apiVersion": "emperor/v1",\n"spec": {\n"command": 5}}', "json").line == 4
    assert wrong('kind = "Vassal"\napiVersion = "emperor/v1"\n[spec]\ncommand = 5\n', "toml").line == 4


@pytest.mark.parametrize(
    ("data", "format", "kind"),
    [
        (b"kind: Vassal\n", "yaml", "native"),
        (b"kind: Deployment\n", "yaml", "native"),
        (b"uwsgi: {}\n", "yaml", "uwsgi"),
        (b"a: {kind: Vassal}\n", "yaml", "unknown"),
        (b"a: 1\n---\nkind: Vassal\n", "yaml", "native"),
        (b'{"uwsgi": {}}', "json", "uwsgi"),
        (b'{"kind": "Vassal"}', "json", "native"),
        (b"[1]", "json", "unknown"),
        (b"whatever", "toml", "native"),
        (b"apiVersion: x\nkind: Vassal\nspec: [\n", "yaml", "native"),
        (b'{"apiVersion":"emperor/v1","kind":"Vassal"', "json", "native"),
        (b"uwsgi:\n  chdir: %d\n", "yaml", "uwsgi"),
        (b"uwsgi:\n  plugin: a\n  plugin: b\n", "yaml", "uwsgi"),
        (b"", "yaml", "unknown"),
        (b"\xff", "yaml", "unknown"),
        (b"\n" * 300_000, "yaml", "unknown"),
        (b" " * 300_000, "json", "unknown"),
    ],
)
def test_whose_file_it_is(data: bytes, format: Format, kind: str) -> None:
    assert recognise(data, format) == kind


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["%n", "%", "HUP", "1s"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = [
    "command",
    "env",
    "workingDir",
    "user",
    "group",
    "umask",
    "nice",
    "rlimits",
    "reload",
    "stop",
    "loyalty",
    "logs",
    "x",
]


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(st.sampled_from(_FIELDS), _VALUES),
    st.dictionaries(st.sampled_from(["name", "labels", "y"]), _VALUES),
)
def test_any_value_in_any_field_is_a_claim_or_a_config_error(spec: object, metadata: object) -> None:
    document = {"apiVersion": "emperor/v1", "kind": "Vassal", "metadata": metadata, "spec": spec}
    try:
        (claim,) = read(json.dumps(document), "json")
    except ConfigError as error:
        assert error.problem.reason
        return
    assert (claim.vassal is None) != (claim.problem is None)
    if claim.vassal is not None:
        json.dumps(dict(claim.vassal.spec), allow_nan=False).encode()


def test_a_manifest_may_suspend_its_vassal() -> None:
    assert vassal(SPEC + "  suspend: true\n").suspend
    assert vassal(SPEC + "  suspend: true\n").spec["suspend"] is True
    assert not vassal(SPEC + "  suspend: false\n").suspend
    assert "suspend" not in vassal(SPEC).spec
    assert vassal(SPEC + "  suspend: true\n").launch == vassal(SPEC).launch
    assert wrong(SPEC + "  suspend: yes\n").field == "spec.suspend"


def test_a_secret_is_known_by_its_file_alone() -> None:
    one = vassal(SPEC + '  env: {B: x, KEY: {valueFrom: {file: "%dkey"}}, API: {valueFrom: {file: /run/api}}}\n')
    assert one.launch.env == (("B", "x"),)
    assert one.launch.secrets == (("API", "/run/api"), ("KEY", "/etc/vassals/key"))
    assert one.spec["env"]["KEY"] == {"valueFrom": {"file": "/etc/vassals/key"}}
