"""The commands, against a control server in a thread."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from emperorctl.cli import about
from emperorctl.cli.app import app
from tests.fakes.control import in_thread
from tests.fakes.emperor import FakeEmperor, vassal

Run = Callable[..., "Result"]


class Result:
    def __init__(self, result: Any) -> None:
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception


@pytest.fixture
def emperor() -> FakeEmperor:
    return FakeEmperor(
        vassal("blog.ini", status_kind="uwsgi", status_log="", meta_labels={"team": "web"}),
        vassal("shop", status_respawns=2),
        vassal("worker", status_phase="Signal:9", status_ready=0, status_processes=[]),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "e.sock"


@pytest.fixture
def server(emperor: FakeEmperor, path: Path) -> Iterator[Callable[[Callable[[], object]], None]]:
    with in_thread(emperor, path) as call:
        yield call


@pytest.fixture
def run(server: object, path: Path) -> Run:
    def one(*arguments: str) -> Result:
        return Result(CliRunner().invoke(app, [*arguments], env={"EMPERORCTL_SOCKET": str(path)}))

    return one


def blacklisted(name: str) -> dict[str, Any]:
    entry = {
        "attempts": 3,
        "firstAttempt": "2026-11-24T03:00:00Z",
        "lastAttempt": "2026-11-24T03:01:00Z",
        "throttle": 3.0,
        "nextTry": "2026-11-24T03:01:03Z",
        "lastExit": {"code": 3, "reason": "Error", "message": "exited with code 3", "at": "2026-11-24T03:01:00Z"},
    }
    labels = {"team": "web"} if name == "blog.ini" else {}
    return vassal(name, status_phase="Blacklisted", status_blacklist=entry, meta_labels=labels)


def without_ages(text: str) -> str:
    return re.sub(r"\b\d+[dhmsy]\w*|<invalid>", "AGE", text)


def test_get_vassals(run: Run) -> None:
    result = run("get", "vassals")
    assert (result.code, result.err) == (0, "")
    header, *rows = result.out.splitlines()
    assert header == "NAME       READY   STATUS     LOYAL   RESTARTS   AGE"
    assert [row.split()[:5] for row in rows] == [
        ["blog.ini", "1/1", "Running", "True", "0"],
        ["shop", "1/1", "Running", "True", "2"],
        ["worker", "0/1", "Signal:9", "True", "0"],
    ]


def test_get_wide_with_labels(run: Run) -> None:
    result = run("get", "v", "blog", "-o", "wide", "--show-labels")
    header, row = result.out.splitlines()
    assert header.split()[6:] == ["PID", "UID", "MONITOR", "SOCKET", "LAST-RELOAD", "LABELS"]
    assert row.split()[6:] == ["4711", "33", "dir:///etc/vassals", "<none>", "<none>", "team=web"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["vassals"], ["blog.ini", "shop", "worker"]),
        (["vassal", "worker", "blog"], ["worker", "blog.ini"]),
        (["vassal/shop", "v/blog"], ["shop", "blog.ini"]),
        (["vassals", "-l", "team=web"], ["blog.ini"]),
        (["vassals", "-l", "!team"], ["shop", "worker"]),
        (["vassals", "--sort-by", "{.status.respawns}"], ["blog.ini", "worker", "shop"]),
        (["vassals", "--sort-by", ".status.phase"], ["blog.ini", "shop", "worker"]),
    ],
)
def test_names(run: Run, arguments: list[str], names: list[str]) -> None:
    result = run("get", *arguments, "-o", "name")
    assert result.code == 0
    assert result.out.splitlines() == [f"vassal.emperor/{name}" for name in names]


def test_json_and_yaml(run: Run) -> None:
    one = json.loads(run("get", "vassal", "blog", "-o", "json").out)
    assert (one["kind"], one["metadata"]["name"]) == ("Vassal", "blog.ini")
    assert yaml.safe_load(run("get", "vassal", "blog", "-o", "yaml").out) == one
    many = json.loads(run("get", "vassal", "blog", "shop", "-o", "json").out)
    assert (many["kind"], many["apiVersion"], len(many["items"])) == ("List", "v1", 2)
    everything = yaml.safe_load(run("get", "vassals", "-o", "yaml").out)
    assert [item["metadata"]["name"] for item in everything["items"]] == ["blog.ini", "shop", "worker"]


def test_escapes_in_objects_are_neutral_in_every_form(run: Run, emperor: FakeEmperor, server: Any) -> None:
    hostile = vassal("x", status_phase="\x1b[2J", meta_labels={"a": "\u202e\x9b\U000e0001"})
    server(lambda: emperor.put(hostile))
    for form in ("wide", "json", "yaml", "name"):
        text = run("get", "vassals", "-o", form, "--show-labels").out
        assert all(char == "\n" or char.isprintable() for char in text), form
    assert json.loads(run("get", "v", "x", "-o", "json").out)["status"]["phase"] == "\x1b[2J"
    assert yaml.safe_load(run("get", "v", "x", "-o", "yaml").out)["metadata"]["labels"] == {"a": "\u202e\x9b\U000e0001"}


def test_nothing_found(run: Run) -> None:
    result = run("get", "vassals", "-l", "team=nobody")
    assert (result.code, result.out, result.err) == (0, "", "No resources found\n")
    assert json.loads(run("get", "vassals", "-l", "team=nobody", "-o", "json").out)["items"] == []


def test_a_missing_name(run: Run) -> None:
    result = run("get", "vassal", "shop", "nobody", "--no-headers")
    assert result.code == 1
    assert result.out.split()[0] == "shop"
    assert result.err == 'Error from server (NotFound): vassals "nobody" not found\n'
    assert run("get", "vassal", "nobody", "--ignore-not-found").code == 0
    quiet = run("get", "vassal", "nobody", "--ignore-not-found")
    assert (quiet.out, quiet.err) == ("", "")


def test_an_ambiguous_name(run: Run, emperor: FakeEmperor, server: Any) -> None:
    server(lambda: emperor.put(vassal("blog.yaml")))
    result = run("get", "vassal", "blog")
    assert result.code == 1
    assert result.err.startswith('Error from server (Ambiguous): vassals "blog" could be any of: blog.ini, blog.yaml')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get"], "error: required resource not specified"),
        (["get", "pods"], 'error: the server doesn\'t have a resource type "pods"'),
        (["get", "vassal", "a", "-l", "b"], "error: name cannot be provided when a selector is specified"),
        (["get", "vassals", "-l", "=="], "Error from server (BadRequest): can't read the label selector"),
        (["get", "vassals", "--sort-by", "{..x y}"], "error: --sort-by: expected a path"),
        (["get", "vassals", "-o", "xml"], "error: Invalid value"),
        (["get", "vassals", "--wat"], "error: No such option: --wat"),
        (["get", "vassal", "a", "b", "-w"], "error: you may only watch one vassal, or all of them"),
        (["get", "blacklist", "-w"], "error: only vassals can be watched: emperorctl get vassals -w"),
        (["get", "vassals,blacklist", "--watch-only"], "error: only vassals can be watched"),
        (["describe", "blacklist", "shop"], "error: only vassals can be described"),
        (["gte"], "error: No such command 'gte'. Did you mean 'get'?"),
        (["reload"], "error: expected either names of vassals or --all"),
        (["reload", "shop", "--all"], "error: expected either names of vassals or --all"),
        (["stop"], "error: expected the name of at least one vassal"),
        (["events", "--for", "shop"], "error: --for: expected TYPE/NAME"),
        (["events", "--for", "monitor"], "error: --for: expected TYPE/NAME"),
        (["events", "--for", "emperor/x"], "error: --for: expected TYPE/NAME"),
        (["events", "-w", "-o", "json"], "error: --watch prints a table only"),
        (["events", "--types", "Bad"], "error: --types: expected Normal or Warning"),
        (["logs"], "error: Missing argument"),
        (["validate"], "error: expected at least one file"),
        (["run"], "error: no source"),
    ],
)
def test_misuse_is_one_line_and_exit_code_1(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith(message)
    assert len(result.err.splitlines()) <= 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "vassals"],
        ["describe", "vassal", "shop"],
        ["reload", "--all"],
        ["stop", "shop"],
        ["logs", "shop"],
        ["events"],
        ["blacklist", "list"],
        ["blacklist", "clear"],
    ],
)
def test_without_an_emperor(path: Path, arguments: list[str]) -> None:
    result = Result(CliRunner().invoke(app, ["-s", str(path), *arguments]))
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"The connection to the Emperor at {path} was refused - is it running? Start it with: emperorctl run DIR\n"
    )


def test_the_socket_may_be_named_before_and_after_the_command(run: Run, path: Path, tmp_path: Path) -> None:
    wrong = str(tmp_path / "wrong.sock")
    for arguments in (
        ["--socket", str(path), "get", "vassals"],
        ["get", "vassals", "-s", str(path)],
        ["-s", wrong, "get", "vassals", "-s", str(path)],
        ["-s", wrong, "blacklist", "list", "-s", str(path)],
    ):
        result = Result(CliRunner().invoke(app, arguments, env={"EMPERORCTL_SOCKET": wrong}))
        assert result.code == 0, result.err


def test_orders(run: Run, emperor: FakeEmperor) -> None:
    assert run("reload", "blog", "vassal.emperor/shop").out == (
        "vassal.emperor/blog.ini reload ordered\nvassal.emperor/shop reload ordered\n"
    )
    assert run("stop", "shop").out == "vassal.emperor/shop stop ordered\n"
    assert run("start", "shop").out == "vassal.emperor/shop start ordered\n"
    assert run("reload", "--all").out == "3 vassals: reload ordered\n"
    assert emperor.orders == ["reload blog.ini", "reload shop", "stop shop", "start shop", "reload all"]


def test_one_wrong_name_does_not_keep_the_others(run: Run, emperor: FakeEmperor) -> None:
    result = run("reload", "nobody", "shop")
    assert result.code == 1
    assert result.err == 'Error from server (NotFound): vassals "nobody" not found\n'
    assert result.out == "vassal.emperor/shop reload ordered\n"
    assert emperor.orders == ["reload shop"]


def test_describe(run: Run, emperor: FakeEmperor, server: Any) -> None:
    server(lambda: emperor.note("blog.ini", "Spawned", "launch 1"))
    result = run("describe", "vassal", "blog", "nobody")
    assert result.code == 1
    assert result.out.startswith("Name:         blog.ini\n")
    assert "launch 1" in result.out
    assert result.err == 'Error from server (NotFound): vassals "nobody" not found\n'
    everything = run("describe", "vassals")
    assert everything.out.count("Name: ") == 3


def test_logs(run: Run, emperor: FakeEmperor) -> None:
    emperor.logs.texts["shop"] = b"one\n\x1b[2Jtwo\n"
    assert run("logs", "shop").out == "one\n\x1b[2Jtwo\n"
    assert run("logs", "vassal/shop", "--tail", "1").out == "\x1b[2Jtwo\n"
    result = run("logs", "blog")
    assert result.code == 1
    assert result.err.startswith('Error from server (NotCaptured): the output of "blog.ini" is not captured')


def test_events(run: Run, emperor: FakeEmperor, server: Any) -> None:
    assert run("events").err == "No events found\n"
    server(lambda: emperor.note("shop", "Spawned", "launch 1"))
    server(lambda: emperor.note("blog.ini", "Crashed", "exited with code 3", warning=True))
    result = run("events")
    header, first, second = without_ages(result.out).splitlines()
    assert header.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert first.split() == ["AGE", "Normal", "Spawned", "vassal/shop", "launch", "1"]
    assert second.split()[1:4] == ["Warning", "Crashed", "vassal/blog.ini"]
    assert run("events", "--for", "vassal/blog", "--no-headers").out.split()[2] == "Crashed"
    assert len(run("events", "--types", "warning", "--no-headers").out.splitlines()) == 1
    assert json.loads(run("events", "-o", "json").out)["kind"] == "List"


def test_events_of_sources_and_of_the_emperor(run: Run, emperor: FakeEmperor, server: Any) -> None:
    server(lambda: emperor.note("dir:///etc/vassals", "EventsLost", warning=True))
    server(lambda: emperor.note("", "ZygoteReplaced", "\x1b[2J\u202e", warning=True))
    server(lambda: emperor.note("emperor", "Started"))
    assert [line.split()[3] for line in run("events", "--no-headers").out.splitlines()] == [
        *("monitor/dir:///etc/vassals", "emperor", "vassal/emperor"),
    ]
    for involved, reason in (
        ("emperor", "ZygoteReplaced"),
        ("Emperor/emperor", "ZygoteReplaced"),
        ("monitor/dir:///etc/vassals", "EventsLost"),
        ("vassal/emperor", "Started"),
    ):
        (line,) = run("events", "--no-headers", "--for", involved).out.splitlines()
        assert line.split()[2] == reason
    text = run("events").out
    assert all(char == "\n" or char.isprintable() for char in text)
    assert run("events", "--for", "vassal/dir:///etc/vassals").err == "No events found\n"


def test_the_blacklist(run: Run, emperor: FakeEmperor, server: Any) -> None:
    assert run("blacklist", "list").err == "No resources found\n"
    assert run("blacklist", "clear").err == "The blacklist is empty\n"
    server(lambda: emperor.put(blacklisted("worker")))
    header, row = run("blacklist", "list").out.splitlines()
    assert header.split() == ["NAME", "ATTEMPTS", "THROTTLE", "FIRST", "LAST", "NEXT", "TRY", "LAST", "EXIT"]
    assert row.split()[:3] == ["worker", "3", "3s"]
    assert row.split()[-1] == "ExitCode:3"
    assert run("blacklist", "clear", "shop").err == "None of them is on the blacklist\n"
    assert run("blacklist", "clear", "vassal/worker").out == "vassal.emperor/worker cleared\n"
    assert run("blacklist", "clear", "blacklistentry.emperor/worker").out == "vassal.emperor/worker cleared\n"
    assert run("blacklist", "clear", "nobody").code == 1


def test_get_blacklist(run: Run, emperor: FakeEmperor, server: Any) -> None:
    empty = run("get", "blacklist")
    assert (empty.code, empty.out, empty.err) == (0, "", "No resources found\n")
    server(lambda: [emperor.put(blacklisted(name)) for name in ("blog.ini", "worker")])
    table = run("get", "blacklist")
    assert without_ages(table.out) == without_ages(run("blacklist", "list").out)
    assert [line.split()[0] for line in table.out.splitlines()] == ["NAME", "blog.ini", "worker"]
    assert len(run("get", "bl", "--no-headers").out.splitlines()) == 2
    assert [line.split()[0] for line in run("get", "bl", "worker", "blog").out.splitlines()[1:]] == [
        "worker",
        "blog.ini",
    ]
    assert run("get", "blacklistentries", "-o", "name").out == (
        "blacklistentry.emperor/blog.ini\nblacklistentry.emperor/worker\n"
    )
    wide = run("get", "blacklist/worker", "-o", "wide", "--no-headers").out
    assert wide.endswith("exited with code 3\n")
    assert run("get", "blacklist", "-l", "team=web", "-o", "name").out == "blacklistentry.emperor/blog.ini\n"


def test_a_named_entry_shows_the_last_lines_of_the_log(run: Run, emperor: FakeEmperor, server: Any) -> None:
    server(lambda: emperor.put(blacklisted("worker")))
    emperor.logs.texts["worker"] = b"one\n\x1b[2Jtwo\n"
    entry = json.loads(run("get", "blacklist", "worker", "-o", "json").out)
    assert (entry["kind"], entry["metadata"]["name"], entry["attempts"]) == ("BlacklistEntry", "worker", 3)
    assert entry["log"] == {"lines": ["one", "\x1b[2Jtwo"], "message": ""}
    text = run("get", "blacklist", "worker", "-o", "yaml").out
    assert "\x1b" not in text
    assert yaml.safe_load(text) == entry
    assert "log" not in json.loads(run("get", "blacklist", "-o", "json").out)["items"][0]


def test_who_is_not_on_the_blacklist_is_not_found_there(run: Run) -> None:
    result = run("get", "blacklist", "shop", "nobody")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        'Error from server (NotFound): blacklistentries "shop" not found: this vassal is not on the blacklist',
        'Error from server (NotFound): vassals "nobody" not found',
    ]
    assert run("get", "blacklist", "shop", "--ignore-not-found").code == 0


def test_several_kinds_at_once(run: Run, emperor: FakeEmperor, server: Any) -> None:
    server(lambda: emperor.put(blacklisted("worker")))
    result = run("get", "vassals,blacklist")
    vassals, entries = (part.splitlines() for part in result.out.split("\n\n"))
    assert [line.split()[0] for line in vassals] == [
        *("NAME", "vassal.emperor/blog.ini", "vassal.emperor/shop", "vassal.emperor/worker"),
    ]
    assert [line.split()[0] for line in entries] == ["NAME", "blacklistentry.emperor/worker"]
    everything = json.loads(run("get", "bl,v", "-o", "json").out)
    assert [item["kind"] for item in everything["items"]] == ["BlacklistEntry", "Vassal", "Vassal", "Vassal"]
    both = run("get", "vassal/worker", "blacklist/worker", "-o", "name").out
    assert both == "vassal.emperor/worker\nblacklistentry.emperor/worker\n"


def test_version(run: Run, path: Path) -> None:
    result = run("version")
    assert result.out.splitlines()[0].startswith("Client Version: ")
    assert result.out.splitlines()[1] == "Server Version: 0.1.0"
    assert json.loads(run("version", "-o", "json").out)["serverVersion"] == {"version": "0.1.0", "pid": 1}
    assert "Server" not in run("version", "--client").out
    alone = Result(CliRunner().invoke(app, ["-s", f"{path}x", "version"]))
    assert alone.code == 0
    assert alone.out.startswith("Client Version: ")
    assert "is it running?" in alone.err


def test_schema(run: Run) -> None:
    schema = json.loads(run("schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")


def test_help_needs_no_emperor(tmp_path: Path) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        result = Result(CliRunner().invoke(app, arguments))
        assert result.code == 0
        for command in ("run", "get", "describe", "blacklist", "version"):
            assert re.search(rf"^  {command} ", result.out, re.MULTILINE)
    assert Result(CliRunner().invoke(app, ["blacklist"])).out.count("clear") == 1


class _Until:
    """Standard output that calls back once a text has been written."""

    def __init__(self) -> None:
        self.seen = threading.Condition()
        self.text = ""

    def write(self, text: str) -> int:
        with self.seen:
            self.text += text
            self.seen.notify_all()
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False

    def wait(self, text: str) -> None:
        with self.seen:
            assert self.seen.wait_for(lambda: text in self.text, 10), self.text


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["get", "vassals", "-w", "--no-headers"], "shop"),
        (["get", "vassal", "shop", "-w", "-o", "name"], "shop"),
        (["get", "vassals", "--watch-only", "-o", "json"], ""),
    ],
)
def test_watching(
    emperor: FakeEmperor, path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], first: str
) -> None:
    out, err, codes = _Until(), _Until(), []

    def command() -> None:
        codes.append(app(["-s", str(path), *arguments], standalone_mode=False))

    thread = threading.Thread(target=command, daemon=True)
    with in_thread(emperor, path) as call:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        thread.start()
        if first:
            out.wait(first)
            before = out.text
        else:
            before = ""
        # The watch begins after what is seen first; whichever change comes first, one of them is seen.
        while out.text == before:
            call(lambda: emperor.put(vassal("shop", status_phase="Reloading")))
            call(lambda: None)
        call(lambda: emperor.take("shop"))
        out.wait("shop")
    thread.join(10)
    monkeypatch.undo()
    assert codes == [1]
    assert err.text == f"The Emperor at {path} ended the watch: it is stopping\n"


def test_stats(run: Run) -> None:
    shown = run("stats")
    assert (shown.code, shown.err) == (0, "")
    assert [one["id"] for one in json.loads(shown.out)["vassals"]] == ["blog.ini", "shop", "worker"]
    assert shown.out.startswith('{\n    "version": ')
    assert yaml.safe_load(run("stats", "-o", "yaml").out) == json.loads(shown.out)


def test_version_says_who_the_emperor_is() -> None:
    zygote = {"pid": 2, "capabilities": ["setuid", "setgid"]}
    server = {"uid": 33, "gid": 34, "capabilities": [], "zygote": zygote}
    assert about._user(server) == "uid 33, gid 34, capabilities none, its zygote's setuid setgid"
    assert (
        about._user({"uid": 0, "gid": 0, "capabilities": "all"}) == "uid 0, gid 0, capabilities all, its zygote's none"
    )
