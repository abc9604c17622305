"""What a tenant sees of an Emperor that has others, too: nothing that tells of them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.errors import NotFound
from emperorctl.models.execution import Execution
from emperorctl.reconciler.api import server
from emperorctl.reconciler.api.peers import EVERYTHING, Admission, Peer, Reach
from emperorctl.reconciler.api.rations import Allowance
from emperorctl.reconciler.api.realm import Realms
from emperorctl.reconciler.api.routes import routes
from emperorctl.reconciler.api.server import Limits
from tests.fakes.control import Answer, ask, exchange, request, served
from tests.fakes.emperor import FakeEmperor, vassal

API = "/apis/emperor/v1"
VASSALS = f"{API}/vassals"
ALICE, BOB, ROOT = 1001, 1002, 0
GATE = Admission(tyrant=True, masters=frozenset({ROOT}))
HELD = {
    "attempts": 3,
    "firstAttempt": "2026-11-24T03:00:00Z",
    "lastAttempt": "2026-11-24T03:01:00Z",
    "throttle": 3.0,
    "nextTry": "2026-11-24T03:01:03Z",
    "lastExit": None,
}


def owned(name: str, uid: int, **changes: Any) -> dict[str, Any]:
    process = {"pid": 4711, "startTime": 99, "uid": uid, "gid": uid, "since": "2026-11-24T03:00:00Z"}
    return vassal(name, status_processes=[process], **changes)


@pytest.fixture
def emperor() -> FakeEmperor:
    made = FakeEmperor(
        owned("shop", ALICE),
        owned("blog.ini", ALICE),
        owned("secret", BOB, status_blacklist=HELD),
        owned("secret.ini", BOB),
        owned("blog", BOB),
        owned("blog.yaml", BOB),
        vassal("sleeper", status_processes=[]),
    )
    for name in ("shop", "secret", "sleeper", ""):
        made.note(name, "Something", f"happened to {name or 'the Emperor'}")
    made.logs.texts = {"shop": b"mine\n", "secret": b"hers\n"}
    made.sources = [{"apiVersion": "emperor/v1", "kind": "Monitor", "metadata": {"name": "dir:///v", "labels": {}}}]
    return made


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def one(uid: int) -> None:
        monkeypatch.setattr(server, "peer_of", lambda connection: Peer(42, uid, uid))

    return one


@pytest.fixture
def tenant(emperor: FakeEmperor, tmp_path: Path, become: Callable[[int], None]) -> Callable[..., Answer]:
    """One request of Alice's."""

    def one(method: str, target: str, body: bytes = b"", uid: int = ALICE) -> Answer:
        become(uid)
        answer = served(emperor, tmp_path, lambda path: ask(path, method, target, body), gate=GATE)
        assert isinstance(answer, Answer)
        return answer

    return one


def names(answer: Answer) -> list[str]:
    return [item["metadata"]["name"] for item in answer.json["items"]]


def test_a_tenant_lists_and_gets_her_own(tenant: Callable[..., Answer]) -> None:
    answer = tenant("GET", VASSALS)
    assert names(answer) == ["blog.ini", "shop"]
    assert set(answer.json["metadata"]) == {"resourceVersion"}
    assert tenant("GET", f"{VASSALS}/shop").json["metadata"]["name"] == "shop"
    assert tenant("GET", f"{VASSALS}/shop/log").body == b"mine\n"
    assert [event["message"] for event in tenant("GET", f"{API}/events").json["items"]] == []


def test_a_name_means_only_ones_own(tenant: Callable[..., Answer], emperor: FakeEmperor) -> None:
    assert tenant("GET", f"{VASSALS}/blog").json["metadata"]["name"] == "blog.ini"
    assert tenant("POST", f"{VASSALS}/blog/stop").json["details"]["name"] == "blog.ini"
    assert tenant("GET", f"{VASSALS}/blog", uid=BOB).json["metadata"]["name"] == "blog"
    emperor.put(owned(f"cart.{ALICE}", ALICE))
    emperor.put(owned(f"cart.{BOB}", BOB))
    assert tenant("GET", f"{VASSALS}/cart").json["metadata"]["name"] == f"cart.{ALICE}"
    assert tenant("GET", f"{VASSALS}/cart.{BOB}").status == 404
    assert emperor.orders == ["stop blog.ini"]
    assert emperor.callers == ["uid 1001 (pid 42)"]


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{sorted(route.methods)[-1]} {route.path}")
def test_no_route_tells_of_others(route: Any, tenant: Callable[..., Answer], emperor: FakeEmperor) -> None:
    """What is somebody else's and what does not exist are answered alike, byte for byte but for the name itself."""
    method = "POST" if "POST" in route.methods else "GET"
    for other in ("secret", "blog.yaml", "sleeper"):
        for query in ("", "?involvedObject={}", "?fieldSelector=metadata.name={}"):
            seen = [
                tenant(method, route.path.replace("{name}", name) + query.format(name))
                for name in (other, "x" * len(other))
            ]
            bodies = [answer.body.replace(b"x" * len(other), other.encode()) for answer in seen]
            assert seen[0].status == seen[1].status
            assert without_version(bodies[0]) == without_version(bodies[1])
            text = without_version(bodies[0]).decode().replace(other, "")
            for word in ("hers", "1002", "secret.ini", "blog.yaml", "dir:///v", "happened to the", "happened to sec"):
                assert word not in text
    assert not [order for order in emperor.orders if any(word in order for word in ("secret", "yaml", "sleeper"))]


def without_version(body: bytes) -> bytes:
    """Each server counts from a number of its own."""
    return re.sub(rb'"resourceVersion":"[0-9]+"', b"", body)


@pytest.mark.parametrize("path", [f"{API}/monitors", f"{API}/monitors/dir:%2F%2F%2Fv", f"{API}/stats"])
def test_what_tells_of_all_is_forbidden(tenant: Callable[..., Answer], path: str) -> None:
    answer = tenant("GET", path)
    assert (answer.status, answer.json["reason"]) == (403, "Forbidden")


@pytest.mark.parametrize("verb", ["reload", "stop", "start"])
def test_orders_for_others_vassals_are_not_found(
    tenant: Callable[..., Answer], emperor: FakeEmperor, verb: str
) -> None:
    answer = tenant("POST", f"{VASSALS}/secret/{verb}")
    assert (answer.status, answer.json["message"]) == (404, 'vassals "secret" not found')
    assert emperor.orders == []


def test_orders_for_all_are_for_ones_own(tenant: Callable[..., Answer], emperor: FakeEmperor) -> None:
    assert tenant("POST", f"{API}/reload").json["details"] == {"count": 2}
    assert sorted(emperor.orders) == ["reload blog.ini", "reload shop"]
    emperor.orders.clear()
    assert tenant("POST", f"{API}/blacklist/clear").json["details"] == {"names": []}
    assert emperor.orders == ["clear "]
    assert tenant("POST", f"{API}/blacklist/clear", b'{"names": ["shop", "secret"]}').status == 404
    assert emperor.orders == ["clear "]
    assert tenant("POST", f"{API}/blacklist/clear", uid=BOB).json["details"] == {"names": ["secret"]}
    assert names(tenant("GET", f"{API}/blacklist")) == []
    assert names(tenant("GET", f"{API}/blacklist", uid=BOB)) == ["secret"]


def test_root_sees_everything(tenant: Callable[..., Answer]) -> None:
    assert len(names(tenant("GET", VASSALS, uid=ROOT))) == 7
    assert len(tenant("GET", f"{API}/events", uid=ROOT).json["items"]) == 4


def test_a_stranger_sees_an_empty_realm(tenant: Callable[..., Answer]) -> None:
    assert names(tenant("GET", VASSALS, uid=4242)) == []
    assert tenant("GET", f"{VASSALS}/shop", uid=4242).status == 404


def test_versions_tell_nothing_of_others(emperor: FakeEmperor, tmp_path: Path, become: Callable[[int], None]) -> None:
    become(ALICE)

    async def scenario(path: str) -> None:
        before = await ask(path, "GET", VASSALS), await ask(path, "GET", f"{API}/events")
        for number in range(50):
            emperor.put(owned("secret", BOB, status_respawns=number))
            emperor.put(owned(f"new-{number}", BOB))
            emperor.note("secret", "Noise", str(number))
        after = await ask(path, "GET", VASSALS), await ask(path, "GET", f"{API}/events")
        assert [answer.body for answer in before] == [answer.body for answer in after]

    served(emperor, tmp_path, scenario, gate=GATE)


async def watching(path: str, target: str, during: Callable[[], None]) -> list[Any]:
    """What a watch says, until it has said that `marker` was there."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request("GET", target))
    lines: list[Any] = []
    await reader.readuntil(b"\r\n\r\n")
    during()
    while not any("marker" in json.dumps(line) for line in lines):
        size = int(await reader.readline(), 16)
        chunk = await reader.readexactly(size)
        await reader.readline()
        lines += [json.loads(line) for line in chunk.splitlines()]
    writer.close()
    return lines


def test_a_watch_shows_ones_own(emperor: FakeEmperor, tmp_path: Path, become: Callable[[int], None]) -> None:
    become(ALICE)

    def during() -> None:
        emperor.put(owned("secret", BOB, status_respawns=1))
        emperor.put(owned("theirs", BOB))
        emperor.take("blog.yaml")
        emperor.put(owned("shop", ALICE, status_respawns=7))
        emperor.take("blog.ini")
        emperor.put(owned("marker", ALICE))

    lines = served(emperor, tmp_path, lambda path: watching(path, f"{VASSALS}?watch=true", during), gate=GATE)
    told = [(line["type"], line["object"]["metadata"]["name"]) for line in lines]
    assert {name for _, name in told} <= {"shop", "blog.ini", "marker"}
    assert ("ADDED", "marker") in told


def test_a_vassal_that_changes_hands(emperor: FakeEmperor, tmp_path: Path, become: Callable[[int], None]) -> None:
    """Its last owner hears that it is gone, and nothing of what it has become."""
    become(ALICE)

    async def scenario(path: str) -> None:
        version = (await ask(path, "GET", VASSALS)).json["metadata"]["resourceVersion"]

        def during() -> None:
            emperor.note("shop", "Before", "while it was Alice's")
            emperor.put(owned("shop", ALICE, status_respawns=1))  # so that nothing older is kept
            emperor.put(owned("shop", BOB, meta_labels={"code": "bobs"}))
            emperor.note("shop", "After", "it is Bob's now")
            emperor.put(owned("marker", ALICE))

        lines = await watching(path, f"{VASSALS}?watch=true&resourceVersion={version}", during)
        assert [line["type"] for line in lines if line["object"]["metadata"]["name"] == "shop"] == ["DELETED"]
        assert "bobs" not in json.dumps(lines)
        assert (await ask(path, "GET", f"{VASSALS}/shop")).status == 404
        assert (await ask(path, "GET", f"{VASSALS}/shop/log")).status == 404
        said = (await ask(path, "GET", f"{API}/events?involvedObject=shop")).body.decode()
        assert "while it was Alice's" in said
        assert "Bob" not in said
        become(BOB)
        said = (await ask(path, "GET", f"{API}/events?involvedObject=shop")).body.decode()
        assert "it is Bob's now" in said
        assert "Alice" not in said

    served(emperor, tmp_path, scenario, gate=GATE)


def test_a_realm_does_not_rely_on_the_routes(emperor: FakeEmperor) -> None:
    realms = Realms(emperor)
    realms.open()
    alice = realms.of(Reach(ALICE))
    for order in (alice.reload, alice.stop, alice.start):
        with pytest.raises(NotFound):
            order("secret")
    with pytest.raises(NotFound):
        alice.clear_blacklist(["secret"])
    for reading in (alice.logs.follow, alice.logs.read):
        with pytest.raises(NotFound):
            reading("secret", 1)
    for asked in (alice.logs.tail("secret", 1, 10), alice.execute("secret", Execution(("id",)))):
        with pytest.raises(NotFound):
            asyncio.run(asked)  # type: ignore[arg-type]
    assert alice.owner("secret") is None
    assert emperor.orders == []


def test_strangers_files_are_not_named(emperor: FakeEmperor, tenant: Callable[..., Answer]) -> None:
    condition = {
        "type": "Conflict",
        "status": "True",
        "reason": "Conflict",
        "message": "claimed by /home/bob/shop.yaml",
    }
    emperor.put(owned("shop", ALICE, status_conditions=[condition]))
    found = tenant("GET", f"{VASSALS}/shop").json["status"]["conditions"]
    assert "bob" not in json.dumps(found)
    assert found[0]["reason"] == "Conflict"


def test_nor_in_events(emperor: FakeEmperor, tmp_path: Path, become: Callable[[int], None]) -> None:
    become(ALICE)

    async def scenario(path: str) -> None:
        for _ in range(2):  # before its realm is made, and after
            emperor.note("shop", "Conflict", "claimed by /home/bob/shop.yaml", warning=True)
            items = (await ask(path, "GET", f"{API}/events")).json["items"]
            assert items[-1]["reason"] == "Conflict"
            assert "bob" not in items[-1]["message"]

    served(emperor, tmp_path, scenario, gate=GATE)


def test_realms_without_vassals_are_not_kept_for_ever(emperor: FakeEmperor) -> None:
    realms = Realms(emperor)
    realms.open()
    alice = realms.of(Reach(ALICE))
    for uid in range(100_000, 101_000):
        realms.of(Reach(uid))
    assert len(realms._realms) < 100
    assert realms.of(Reach(ALICE)) is alice
    assert realms.of(EVERYTHING) is emperor
    assert realms.rules(ALICE)
    assert not realms.rules(100_000)
    for name in ("shop", "blog.ini"):
        emperor.take(name)
    assert not realms.rules(ALICE)
    assert realms._owners.keys() == {"secret", "secret.ini", "blog", "blog.yaml"}


Limited = Callable[[Limits, Callable[[str], Awaitable[None]]], None]


@pytest.fixture
def limited(emperor: FakeEmperor, tmp_path: Path) -> Limited:
    return lambda limits, scenario: served(emperor, tmp_path, scenario, limits, GATE)


def test_one_tenant_does_not_starve_root_or_another(limited: Limited, become: Callable[[int], None]) -> None:
    async def scenario(path: str) -> None:
        become(ALICE)
        kept = [await asyncio.open_unix_connection(path) for _ in range(2)]
        assert (await exchange(path, b"")).startswith(b"HTTP/1.1 503")
        for uid in (BOB, ROOT):
            become(uid)
            assert (await ask(path, "GET", "/healthz")).status == 200
        for _, writer in kept:
            writer.close()

    limited(Limits(each=Allowance(connections=2)), scenario)


def test_all_tenants_together_leave_room_for_root(limited: Limited, become: Callable[[int], None]) -> None:
    async def scenario(path: str) -> None:
        become(ALICE)
        kept = [await asyncio.open_unix_connection(path) for _ in range(2)]
        become(BOB)
        assert (await exchange(path, b"")).startswith(b"HTTP/1.1 503")
        become(ROOT)
        assert (await ask(path, "GET", "/healthz")).status == 200
        for _, writer in kept:
            writer.close()

    limited(Limits(others=2), scenario)


def test_who_has_no_vassal_counts_as_a_stranger(limited: Limited, become: Callable[[int], None]) -> None:
    async def scenario(path: str) -> None:
        become(4242)
        kept = await asyncio.open_unix_connection(path)
        become(4243)
        assert (await exchange(path, b"")).startswith(b"HTTP/1.1 503")
        become(ALICE)
        assert (await ask(path, "GET", "/healthz")).status == 200
        kept[1].close()

    limited(Limits(strangers=1), scenario)


def test_requests_and_watches_are_rationed(
    limited: Limited, become: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(path: str) -> None:
        become(ALICE)
        answers = [(await ask(path, "GET", "/healthz")).status for _ in range(4)]
        assert answers == [200, 200, 200, 429]
        become(ROOT)
        assert {(await ask(path, "GET", "/healthz")).status for _ in range(9)} == {200}
        become(BOB)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("GET", f"{VASSALS}?watch=true"))
        await reader.readuntil(b"\r\n\r\n")
        assert (await ask(path, "GET", f"{API}/events?watch=true")).json["reason"] == "TooManyRequests"
        assert (await ask(path, "GET", VASSALS)).status == 200
        writer.close()

    limited(Limits(each=Allowance(watches=1, burst=3.0, rate=0.0)), scenario)
    assert [record.message for record in caplog.records] == ["uid 1001 (pid 42) was refused (429): GET /healthz"]


def test_refused_orders_are_logged_once(
    limited: Limited, become: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(path: str) -> None:
        become(ALICE)
        for name in ("secret", "nothing", "secret"):
            assert (await ask(path, "POST", f"{VASSALS}/{name}/stop")).status == 404
        become(BOB)
        assert (await ask(path, "POST", f"{VASSALS}/sh%1Bop/stop")).status == 404

    limited(Limits(), scenario)
    lines = [record.message for record in caplog.records]
    assert lines == [
        f"uid 1001 (pid 42) was refused (404): POST {VASSALS}/secret/stop",
        f"uid 1002 (pid 42) was refused (404): POST {VASSALS}/sh%1Bop/stop",
    ]
