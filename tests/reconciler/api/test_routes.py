from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.errors import WorldError
from tests.fakes.control import Answer, ask, served
from tests.fakes.emperor import FakeEmperor, vassal

VASSALS = "/apis/emperor/v1/vassals"
BLACKLIST = "/apis/emperor/v1/blacklist"
Asking = Callable[..., Answer]


@pytest.fixture
def emperor() -> FakeEmperor:
    return FakeEmperor(
        vassal("blog.ini", status_kind="uwsgi", status_log="", meta_labels={"team": "web"}),
        vassal("blog.yaml"),
        vassal("shop", meta_labels={"team": "web", "tier": "front"}),
        vassal("/srv/x/a b.ini", status_kind="uwsgi"),
        vassal(
            "worker",
            status_phase="Blacklisted",
            status_blacklist={
                "attempts": 3,
                "firstAttempt": "2026-11-24T03:00:00Z",
                "lastAttempt": "2026-11-24T03:01:00Z",
                "throttle": 3.0,
                "nextTry": "2026-11-24T03:01:03Z",
                "lastExit": {
                    "code": 3,
                    "reason": "Error",
                    "message": "exited with code 3",
                    "at": "2026-11-24T03:01:00Z",
                },
            },
            meta_labels={"shift": "night"},
        ),
    )


@pytest.fixture
def asking(emperor: FakeEmperor, tmp_path: Path) -> Asking:
    def one(method: str, target: str, body: bytes = b"", *more: str) -> Answer:
        answer = served(emperor, tmp_path, lambda path: ask(path, method, target, body, *more))
        assert isinstance(answer, Answer)
        return answer

    return one


def refusal(answer: Answer) -> tuple[int, str, str]:
    status = answer.json
    assert status["apiVersion"] == "v1"
    assert status["kind"] == "Status"
    assert status["status"] == "Failure"
    assert status["code"] == answer.status
    assert answer.headers["content-type"] == "application/json"
    return answer.status, status["reason"], status["message"]


def names(answer: Answer) -> list[str]:
    return [item["metadata"]["name"] for item in answer.json["items"]]


def test_version_and_health(asking: Asking) -> None:
    assert asking("GET", "/version").json == {"version": "0.1.0", "pid": 1}
    assert asking("GET", "/healthz").body == b"ok\n"


def test_the_list_holds_the_objects_as_they_are_on_the_board(asking: Asking, emperor: FakeEmperor) -> None:
    answer = asking("GET", VASSALS)
    assert answer.json["kind"] == "VassalList"
    assert answer.json["apiVersion"] == "emperor/v1"
    assert answer.json["metadata"] == {"resourceVersion": str(emperor.board.version)}
    assert answer.json["items"] == [json.loads(encoded) for encoded in emperor.board.snapshot()[1]]
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_a_list_of_none(tmp_path: Path) -> None:
    answer = served(FakeEmperor(), tmp_path, lambda path: ask(path, "GET", VASSALS))
    assert answer.json["items"] == []


def test_a_long_list_arrives_whole(tmp_path: Path) -> None:
    emperor = FakeEmperor(*[vassal(f"app-{number:04d}") for number in range(1200)])
    answer = served(emperor, tmp_path, lambda path: ask(path, "GET", VASSALS))
    assert names(answer) == [f"app-{number:04d}" for number in range(1200)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("labelSelector=team%3Dweb", ["blog.ini", "shop"]),
        ("labelSelector=team%3Dweb,!tier", ["blog.ini"]),
        ("labelSelector=tier+in+(front,back)", ["shop"]),
        ("fieldSelector=metadata.name%3Dshop", ["shop"]),
        ("fieldSelector=metadata.name%3Dblog", None),
        ("fieldSelector=metadata.name%3Dnobody", []),
    ],
)
def test_selectors(asking: Asking, query: str, expected: list[str] | None) -> None:
    answer = asking("GET", f"{VASSALS}?{query}")
    if expected is None:
        assert refusal(answer)[1] == "Ambiguous"
    else:
        assert names(answer) == expected


@pytest.mark.parametrize(
    "target",
    [
        f"{VASSALS}?labelSelector=%3D%3D%3D",
        f"{VASSALS}?fieldSelector=status.phase%3DRunning",
        f"{VASSALS}?watch=perhaps",
        f"{VASSALS}?watch=true&resourceVersion=x",
        f"{VASSALS}?watch=true&resourceVersion=-4",
        f"{VASSALS}/shop/log?tail=many",
        f"{VASSALS}/shop/log?tail={'9' * 5000}",
        f"{VASSALS}/%ff%fe",
    ],
)
def test_bad_questions_are_refused(asking: Asking, target: str) -> None:
    code, reason, message = refusal(asking("GET", target))
    assert (code, reason) == (400, "BadRequest")
    assert message


def test_one_vassal_by_its_name_with_or_without_extension(asking: Asking) -> None:
    for target in ("shop", "blog.ini", "%2Fsrv%2Fx%2Fa%20b.ini", "%2Fsrv%2Fx%2Fa%20b"):
        answer = asking("GET", f"{VASSALS}/{target}")
        assert answer.status == 200
        assert answer.json["kind"] == "Vassal"
    assert refusal(asking("GET", f"{VASSALS}/nobody")) == (404, "NotFound", 'vassals "nobody" not found')
    code, reason, message = refusal(asking("GET", f"{VASSALS}/blog"))
    assert (code, reason) == (409, "Ambiguous")
    assert "blog.ini, blog.yaml" in message


def test_a_hostile_name_comes_back_harmless(asking: Asking) -> None:
    message = refusal(asking("GET", f"{VASSALS}/%1b%5B31m%0a%E2%80%AE"))[2]
    assert message == 'vassals "\\x1b[31m\\x0a\\u202e" not found'


@pytest.mark.parametrize("verb", ["reload", "stop", "start"])
def test_orders(asking: Asking, emperor: FakeEmperor, verb: str) -> None:
    answer = asking("POST", f"{VASSALS}/blog.ini/{verb}")
    assert answer.json == {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Success",
        "details": {"kind": "vassals", "name": "blog.ini"},
    }
    assert refusal(asking("POST", f"{VASSALS}/nobody/{verb}"))[:2] == (404, "NotFound")
    assert emperor.orders == [f"{verb} blog.ini"]


def test_reload_all(asking: Asking, emperor: FakeEmperor) -> None:
    assert asking("POST", "/apis/emperor/v1/reload").json["details"] == {"count": 5}
    assert emperor.orders == ["reload all"]


@pytest.mark.parametrize(
    ("method", "target", "code", "reason"),
    [
        ("GET", "/", 404, "NotFound"),
        ("GET", f"{VASSALS}/", 404, "NotFound"),
        ("GET", f"{VASSALS}/shop/nothing", 404, "NotFound"),
        ("GET", f"{VASSALS}/shop/reload", 405, "MethodNotAllowed"),
        ("DELETE", f"{VASSALS}/shop", 405, "MethodNotAllowed"),
        ("POST", "/version", 405, "MethodNotAllowed"),
        ("GET", "/version/__class__", 404, "NotFound"),
    ],
)
def test_only_what_is_in_the_table(asking: Asking, method: str, target: str, code: int, reason: str) -> None:
    assert refusal(asking(method, target))[:2] == (code, reason)


def test_the_statistics(asking: Asking) -> None:
    answer = asking("GET", "/apis/emperor/v1/stats")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert list(answer.json) == ["version", "vassals"]


def test_the_blacklist(asking: Asking) -> None:
    answer = asking("GET", "/apis/emperor/v1/blacklist")
    assert answer.json["kind"] == "BlacklistEntryList"
    (entry,) = answer.json["items"]
    assert entry["kind"] == "BlacklistEntry"
    assert entry == {
        "apiVersion": "emperor/v1",
        "kind": "BlacklistEntry",
        "metadata": {"name": "worker", "labels": {"shift": "night"}},
        "attempts": 3,
        "firstAttempt": "2026-11-24T03:00:00Z",
        "lastAttempt": "2026-11-24T03:01:00Z",
        "throttle": 3.0,
        "nextTry": "2026-11-24T03:01:03Z",
        "lastExit": {"code": 3, "reason": "Error", "message": "exited with code 3", "at": "2026-11-24T03:01:00Z"},
    }
    assert names(asking("GET", "/apis/emperor/v1/blacklist?labelSelector=shift")) == ["worker"]
    assert names(asking("GET", "/apis/emperor/v1/blacklist?labelSelector=!shift")) == []


def test_an_entry_of_the_blacklist_ends_with_the_last_lines_of_the_log(asking: Asking, emperor: FakeEmperor) -> None:
    (listed,) = asking("GET", BLACKLIST).json["items"]
    emperor.logs.texts["worker"] = b"".join(b"line %d \xff\n" % number for number in range(12))
    entry = asking("GET", f"{BLACKLIST}/worker").json
    assert entry.pop("log") == {"lines": [f"line {number} \\xff" for number in range(2, 12)], "message": ""}
    assert entry == listed


def test_an_entry_of_one_who_printed_nothing(asking: Asking) -> None:
    assert asking("GET", f"{BLACKLIST}/worker").json["log"] == {"lines": [], "message": "it has printed nothing"}


def test_an_entry_says_where_output_went_that_is_not_captured(asking: Asking, emperor: FakeEmperor) -> None:
    held = emperor.objects["worker"]["status"]["blacklist"]
    emperor.put(vassal("blog.ini", status_kind="uwsgi", status_log="", status_blacklist=held))
    log = asking("GET", f"{BLACKLIST}/blog.ini").json["log"]
    assert log["lines"] == []
    assert log["message"].startswith('the output of "blog.ini" is not captured: it goes to the Emperor\'s stderr')


@pytest.mark.parametrize("text", [b"x" * 100_000, "é€𐍈".encode() * 10_000, b"\x80" * 100_000, b"a\n" * 9 + b"y" * 9000])
def test_an_entry_holds_a_bounded_part_of_the_log(asking: Asking, emperor: FakeEmperor, text: bytes) -> None:
    emperor.logs.texts["worker"] = text
    lines = asking("GET", f"{BLACKLIST}/worker").json["log"]["lines"]
    assert lines[0].startswith("…")
    held = "\n".join(lines)[1:]
    assert text.decode(errors="backslashreplace").endswith(held)
    # What can't be decoded takes four characters a byte.
    assert 1000 < len(held) <= 4 * 4096


@pytest.mark.parametrize(("name", "what"), [("shop", 'blacklistentries "shop"'), ("nobody", 'vassals "nobody"')])
def test_one_that_is_not_on_the_blacklist(asking: Asking, name: str, what: str) -> None:
    code, reason, message = refusal(asking("GET", f"{BLACKLIST}/{name}"))
    assert (code, reason) == (404, "NotFound")
    assert message.startswith(f"{what} not found")


def test_a_vassal_may_be_called_clear(asking: Asking, emperor: FakeEmperor) -> None:
    emperor.put(vassal("clear", status_blacklist=emperor.objects["worker"]["status"]["blacklist"]))
    assert asking("GET", f"{BLACKLIST}/clear").json["metadata"]["name"] == "clear"
    assert refusal(asking("POST", f"{BLACKLIST}/worker"))[:2] == (405, "MethodNotAllowed")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"names": null}', b'{"names": []}', b'{"names": ["worker"]}'])
def test_clearing_the_blacklist(asking: Asking, emperor: FakeEmperor, body: bytes) -> None:
    assert asking("POST", "/apis/emperor/v1/blacklist/clear", body).json["details"] == {"names": ["worker"]}
    assert emperor.orders == ["clear worker"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"names": ["worker", "nobody"]}', 404),
        (b'{"names": ["blog"]}', 409),
        (b'{"names": "worker"}', 400),
        (b'{"names": [1]}', 400),
        (b'{"name": ["worker"]}', 400),
        (b"[]", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 60_000, 400),
    ],
)
def test_a_wrong_pardon_pardons_nobody(asking: Asking, emperor: FakeEmperor, body: bytes, code: int) -> None:
    assert refusal(asking("POST", "/apis/emperor/v1/blacklist/clear", body))[0] == code
    assert emperor.orders == []


def test_events(asking: Asking, emperor: FakeEmperor) -> None:
    emperor.note("blog.ini", "Spawned")
    emperor.note("gone", "Removed")
    emperor.note("shop", "Crashed", warning=True)
    everything = asking("GET", "/apis/emperor/v1/events")
    assert everything.json["kind"] == "EventList"
    assert [item["reason"] for item in everything.json["items"]] == ["Spawned", "Removed", "Crashed"]

    def reasons(query: str) -> list[str]:
        return [item["reason"] for item in asking("GET", f"/apis/emperor/v1/events?{query}").json["items"]]

    assert reasons("involvedObject=blog.ini") == ["Spawned"]
    assert reasons("involvedObject=gone") == ["Removed"]
    assert reasons("involvedObject=nobody") == []
    assert reasons("types=Warning") == ["Crashed"]
    assert reasons("types=Warning&involvedObject=gone") == []


def test_events_are_about_vassals_sources_or_the_emperor(asking: Asking, emperor: FakeEmperor) -> None:
    emperor.note("dir:///etc/vassals", "EventsLost")
    emperor.note("", "ZygoteReplaced")
    emperor.note("emperor", "Spawned")
    emperor.note("/srv/x/a b.ini", "Spawned")

    def involved(query: str = "") -> list[tuple[str, str]]:
        items = asking("GET", f"/apis/emperor/v1/events?{query}").json["items"]
        return [(item["involvedObject"]["kind"], item["involvedObject"]["name"]) for item in items]

    everything = [
        ("Monitor", "dir:///etc/vassals"),
        ("Emperor", "emperor"),
        ("Vassal", "emperor"),
        ("Vassal", "/srv/x/a b.ini"),
    ]
    assert involved() == everything
    assert involved("involvedKind=Emperor") == everything[1:2]
    assert involved("involvedKind=Monitor&involvedObject=dir:///etc/vassals") == everything[:1]
    assert involved("involvedKind=Vassal&involvedObject=emperor") == everything[2:3]
    assert involved("involvedKind=Vassal&involvedObject=/srv/x/a+b") == everything[3:]
    assert involved("involvedKind=Vassal&involvedObject=dir:///etc/vassals") == []
    assert refusal(asking("GET", "/apis/emperor/v1/events?involvedKind=Pod"))[:2] == (400, "BadRequest")


def test_a_log(asking: Asking, emperor: FakeEmperor) -> None:
    emperor.logs.texts["shop"] = b"one\ntwo\n\xff\x1b[31mthree\n"
    answer = asking("GET", f"{VASSALS}/shop/log")
    assert answer.body == b"one\ntwo\n\xff\x1b[31mthree\n"
    assert answer.headers["content-type"].startswith("text/plain")
    assert asking("GET", f"{VASSALS}/shop/log?tail=2").body == b"two\n\xff\x1b[31mthree\n"
    assert asking("GET", f"{VASSALS}/shop/log?tail=0").body == b""
    assert asking("GET", f"{VASSALS}/worker/log").body == b""


def test_a_long_log_arrives_whole(asking: Asking, emperor: FakeEmperor) -> None:
    emperor.logs.texts["shop"] = bytes(range(256)) * 8192
    assert asking("GET", f"{VASSALS}/shop/log").body == bytes(range(256)) * 8192


def test_output_that_is_not_captured(asking: Asking) -> None:
    code, reason, message = refusal(asking("GET", f"{VASSALS}/blog.ini/log"))
    assert (code, reason) == (404, "NotCaptured")
    assert "stderr" in message
    assert "emperorctl run --uwsgi-logs capture" in message


def test_a_bug_is_an_answer_and_a_line_in_the_log(
    asking: Asking, emperor: FakeEmperor, caplog: pytest.LogCaptureFixture
) -> None:
    emperor.broken = True
    answer = asking("GET", "/version")
    assert refusal(answer)[:2] == (500, "InternalError")
    (record,) = caplog.records
    assert record.message == "bug while answering GET /version"
    assert record.exc_info is not None
    emperor.broken = False
    assert asking("GET", "/version").status == 200


def test_the_worlds_fault_is_not_a_bug(asking: Asking, emperor: FakeEmperor, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwilling(_name: str, _by: str) -> Any:
        raise WorldError("the launcher is silent")

    monkeypatch.setattr(emperor, "reload", unwilling)
    answer = asking("POST", f"{VASSALS}/shop/reload")
    assert refusal(answer) == (503, "ServiceUnavailable", "the launcher is silent")


def test_undecodable_names_of_files_are_shown(asking: Asking, emperor: FakeEmperor) -> None:
    emperor.note("caf\udce9.ini", "Invalid")
    (event,) = asking("GET", "/apis/emperor/v1/events").json["items"]
    assert event["involvedObject"]["name"] == "caf\\udce9.ini"


def source(name: str) -> dict[str, Any]:
    status = {"state": "Synced", "watch": "inotify", "vassals": 1, "lastSync": None, "lastError": None}
    return {
        "apiVersion": "emperor/v1",
        "kind": "Monitor",
        "metadata": {"name": name, "labels": {}},
        "status": status,
    }


def test_sources(emperor: FakeEmperor, asking: Asking) -> None:
    emperor.sources = [source("dir:///etc/vassals"), source("glob:///srv/*/v.ini")]
    listed = asking("GET", "/apis/emperor/v1/monitors").json
    assert listed["kind"] == "MonitorList"
    assert listed["items"] == emperor.sources
    for name in ("dir:%2F%2F%2Fetc%2Fvassals", "%2Fetc%2Fvassals"):
        assert asking("GET", f"/apis/emperor/v1/monitors/{name}").json == emperor.sources[0]
    assert asking("GET", "/apis/emperor/v1/monitors?labelSelector=team=web").json["items"] == []
    answer = asking("GET", "/apis/emperor/v1/monitors/nothing")
    assert refusal(answer) == (404, "NotFound", 'monitors "nothing" not found')
    assert refusal(asking("POST", "/apis/emperor/v1/monitors"))[0] == 405
