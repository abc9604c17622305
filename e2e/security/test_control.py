"""What users who are neither root nor the Emperor's can do at its control socket: real uids, without entries in passwd.

Each test is an attack; in its name stands what must come of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import usable_by_nobody
from e2e.harness import API, Emperor, command_path, wait_for

pytestmark = pytest.mark.as_root

ALICE, BOB, STRANGER = 61_001, 61_002, 61_003
GROUP = 61_900
ALICES, BOBS = f"alices.{ALICE}", f"bobs.{BOB}"  # a manifest's name, and in tyrant mode its owner
VASSALS = f"{API}/vassals"
SPEAK = ["sh", "-c", "echo secret of $(id -u); exec sleep 1000"]
EVERY_ROUTE = [
    ("GET", "/version"),
    ("GET", "/healthz"),
    ("GET", VASSALS),
    ("GET", f"{VASSALS}?watch=true"),
    ("GET", f"{VASSALS}?fieldSelector=metadata.name=NAME"),
    ("GET", f"{VASSALS}/NAME"),
    ("GET", f"{VASSALS}/NAME/log"),
    ("GET", f"{VASSALS}/NAME/log?follow=true"),
    ("POST", f"{VASSALS}/NAME/reload"),
    ("POST", f"{VASSALS}/NAME/stop"),
    ("POST", f"{VASSALS}/NAME/start"),
    ("POST", f"{VASSALS}/NAME/exec"),
    ("POST", f"{API}/reload"),
    ("GET", f"{API}/blacklist"),
    ("GET", f"{API}/blacklist/NAME"),
    ("POST", f"{API}/blacklist/clear"),
    ("GET", f"{API}/monitors"),
    ("GET", f"{API}/monitors/dir"),
    ("GET", f"{API}/events"),
    ("GET", f"{API}/events?involvedObject=NAME"),
    ("GET", f"{API}/events?involvedKind=Emperor"),
    ("GET", f"{API}/stats"),
]


def as_uid(uid: int, act: Callable[[], Any], *, gid: int | None = None, groups: tuple[int, ...] = ()) -> Any:
    """What `act` returns (as JSON) or raises, done by a child process that is this user and nothing more."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said: Any = None
        try:
            os.setgroups(list(groups))
            os.setresgid(*[uid if gid is None else gid] * 3)
            os.setresuid(uid, uid, uid)
            said = {"value": act()}
        except BaseException as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        finally:
            os.write(writing, json.dumps(said).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer = json.loads(text)
    if "error" in answer:
        raise ConnectionError(answer["error"])
    return answer["value"]


def said(emperor: Emperor, method: str, path: str, body: str = "", limit: float = 0.5) -> str:
    """All that comes back within `limit` seconds of silence."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.connect(str(emperor.socket))
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        caller.sendall(head.encode())
        caller.settimeout(limit if "=true" in path else 20.0)
        parts = []
        with contextlib.suppress(TimeoutError):
            while part := caller.recv(65536):
                parts.append(part)
    return b"".join(parts).decode(errors="replace")


def status(answer: str) -> int:
    return int(answer.split(None, 2)[1])


def own(emperor: Emperor, name: str, uid: int, command: list[str] = SPEAK, **spec: Any) -> None:
    """A vassal of this user's: in tyrant mode its file's owner decides."""
    document = {"apiVersion": "emperor/v1", "kind": "Vassal", "spec": {"command": command} | spec}
    draft = emperor.root / "draft"
    draft.write_text(json.dumps(document))
    os.chown(draft, uid, uid)
    draft.rename(emperor.vassals / f"{name}.yaml")


@pytest.fixture
def tyrant(emperor: Callable[..., Emperor]) -> Emperor:
    """An Emperor of strangers: a vassal of Alice's and one of Bob's."""
    made = emperor("--emperor-tyrant")
    own(made, "alices", ALICE)
    own(made, "bobs", BOB)
    made.start(ready=False)
    wait_for(lambda: made._answers() or not made.running, what="it answers or has given up")
    if not made.running and "not supported yet" in made.log():
        made.process = None
        pytest.skip("this build has no tyrant mode")
    for name in (ALICES, BOBS):
        made.wait_running(name)
        made.wait_for(lambda name=name: "secret" in made.api("GET", f"{VASSALS}/{name}/log").body)  # type: ignore[misc]
    return made


# Without tyrant mode


def test_other_users_do_not_even_reach_the_socket(emperor: Callable[..., Emperor]) -> None:
    made = emperor().start()
    for uid in (ALICE, 65534):
        with pytest.raises(ConnectionError, match="PermissionError"):
            as_uid(uid, lambda: said(made, "GET", "/version"))
    # Nor does it help if somebody opens up the socket's mode: the peer is asked for as well.
    made.socket.chmod(0o666)
    for method, path in EVERY_ROUTE:
        answer = as_uid(ALICE, lambda method=method, path=path: said(made, method, path))  # type: ignore[misc]
        assert status(answer) == 403
        assert "only root and the user who runs the Emperor" in answer


def test_the_members_of_the_socket_group_may_everything_and_no_others(emperor: Callable[..., Emperor]) -> None:
    made = emperor("--socket-group", str(GROUP))
    made.manifest("shop", SPEAK)
    made.start()
    made.wait_running("shop")
    found = made.socket.lstat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o660, GROUP)
    for identity in ({"gid": GROUP}, {"groups": (4, GROUP)}):
        assert status(as_uid(ALICE, lambda: said(made, "POST", f"{VASSALS}/shop/stop"), **identity)) == 200
        assert status(as_uid(ALICE, lambda: said(made, "GET", f"{API}/stats"), **identity)) == 200
        assert status(as_uid(ALICE, lambda: said(made, "POST", f"{VASSALS}/shop/start"), **identity)) == 200
    with pytest.raises(ConnectionError, match="PermissionError"):
        as_uid(ALICE, lambda: said(made, "GET", "/version"), groups=(4, GROUP + 1))
    made.socket.chmod(0o666)
    assert status(as_uid(ALICE, lambda: said(made, "GET", "/version"), groups=(GROUP + 1,))) == 403
    # What was ordered stands in the events and in the log, with who did it.
    event = re.compile(rf"held until started again; ordered by uid {ALICE} \(pid \d+\)")
    assert event.search(made.cli("events", "--for", "vassal/shop").stdout)
    assert event.search(made.log())
    made.wait_log(f"uid {ALICE} (pid ")


def test_a_group_that_does_not_exist_is_refused_at_the_start(emperor: Callable[..., Emperor]) -> None:
    made = emperor("--socket-group", "no-such-group").start(ready=False)
    assert made.wait() != 0
    assert '--socket-group: there is no group "no-such-group"' in made.log()
    made.process = None


# In tyrant mode


def test_every_route_answers_for_others_as_for_what_does_not_exist(tyrant: Emperor) -> None:
    for method, path in EVERY_ROUTE:

        def asked(uid: int, name: str, method: str = method, path: str = path) -> str:
            answer = as_uid(uid, lambda: said(tyrant, method, path.replace("NAME", name)))
            assert isinstance(answer, str)
            return re.sub(r'"resourceVersion":"[0-9]+"', "", answer.replace(name, "NAME"))

        bobs, none = asked(ALICE, BOBS), asked(ALICE, f"nope.{BOB}")
        if path not in {VASSALS, f"{API}/events", f"{VASSALS}?watch=true", f"{API}/reload"}:
            assert bobs == none, (method, path)
        for word in ("bobs", str(BOB), "vassals/bobs.yaml"):
            assert word not in bobs, (method, path)
        stranger = asked(STRANGER, ALICES)
        assert "alices" not in stranger and str(ALICE) not in stranger, (method, path)
    assert (tyrant.get(BOBS) or {})["status"]["suspended"] is False
    assert (tyrant.get(BOBS) or {})["status"]["reloads"] == 0


def test_a_tenant_steers_ones_own(tyrant: Emperor) -> None:
    answer = as_uid(ALICE, lambda: said(tyrant, "GET", VASSALS))
    assert [item["metadata"]["name"] for item in json.loads(answer.partition("\r\n\r\n")[2])["items"]] == [ALICES]
    assert f"secret of {ALICE}" in as_uid(ALICE, lambda: said(tyrant, "GET", f"{VASSALS}/alices/log"))
    assert status(as_uid(ALICE, lambda: said(tyrant, "POST", f"{VASSALS}/alices/stop"))) == 200
    tyrant.wait_phase(ALICES, "Suspended")
    assert status(as_uid(ALICE, lambda: said(tyrant, "POST", f"{VASSALS}/alices/start"))) == 200
    tyrant.wait_running(ALICES)
    assert status(as_uid(ALICE, lambda: said(tyrant, "POST", f"{VASSALS}/{BOBS}/stop"))) == 404
    tyrant.wait_log("was refused (404)")
    assert re.search(rf"uid {ALICE} \(pid \d+\) was refused \(404\): POST {VASSALS}/{BOBS}/stop", tyrant.log())
    assert re.search(rf"ordered by uid {ALICE} \(pid \d+\)", tyrant.cli("events", "--for", f"vassal/{ALICES}").stdout)


def test_the_client_of_a_tenant(tyrant: Emperor) -> None:
    if not usable_by_nobody():
        pytest.skip("run by root from a place that an ordinary user can't read")

    def client(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command_path("emperorctl"), "--socket", str(tyrant.socket), *words],
            user=ALICE, group=ALICE, extra_groups=[], cwd="/", env={"PATH": "/usr/bin:/bin", "HOME": "/"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert "alices" in (listed := client("get", "vassals").stdout)
    assert "bobs" not in listed
    refused = client("describe", BOBS)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.replace("bobs", "nope") == client("describe", f"nope.{BOB}").stderr
    assert "Forbidden" in client("get", "monitors").stderr


def test_versions_do_not_count_what_others_do(tyrant: Emperor) -> None:
    def mine() -> Any:
        return as_uid(STRANGER, lambda: said(tyrant, "GET", VASSALS) + said(tyrant, "GET", f"{API}/events"))

    before = mine()
    for _ in range(3):
        tyrant.api("POST", f"{VASSALS}/{BOBS}/reload")
    own(tyrant, "third", BOB)
    tyrant.wait_running(f"third.{BOB}")
    assert mine() == before


def test_who_takes_over_a_name_learns_nothing_of_it(tyrant: Emperor) -> None:
    assert status(as_uid(ALICE, lambda: said(tyrant, "POST", f"{VASSALS}/alices/reload"))) == 200
    (tyrant.vassals / "alices.yaml").unlink()
    tyrant.wait_absent(ALICES)
    own(tyrant, "alices", BOB)
    tyrant.wait_running(f"alices.{BOB}")
    tyrant.wait_for(lambda: "secret" in as_uid(BOB, lambda: said(tyrant, "GET", f"{VASSALS}/alices/log")))
    for path in (f"{VASSALS}/alices", f"{VASSALS}/alices/log", f"{API}/events?involvedObject=alices"):
        assert f"secret of {ALICE}" not in as_uid(BOB, lambda path=path: said(tyrant, "GET", path))  # type: ignore[misc]
        assert f"secret of {BOB}" not in as_uid(ALICE, lambda path=path: said(tyrant, "GET", path))  # type: ignore[misc]


@contextlib.contextmanager
def crowd(emperor: Emperor, uid: int, count: int, first: bytes) -> Iterator[None]:
    """So many connections of this user's, each with these bytes sent and kept open, while the block runs."""
    reading, writing = os.pipe()
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(writing)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            kept = []
            for _ in range(count):
                one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                one.settimeout(5.0)
                with contextlib.suppress(OSError):
                    one.connect(str(emperor.socket))
                    one.sendall(first)
                kept.append(one)
            os.write(tell, b"!")
            os.read(reading, 1)
        finally:
            os._exit(0)
    os.close(reading)
    try:
        assert os.read(ready, 1) == b"!"
        yield
    finally:
        for fd in (writing, ready, tell):
            os.close(fd)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /apis/emperor/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
        b"GET /apis/emperor/v1/vassals?watch=true HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["idle", "half a head", "half a body", "watches"],
)
def test_a_crowd_of_one_tenant_keeps_nobody_else_out(tyrant: Emperor, first: bytes) -> None:
    with crowd(tyrant, ALICE, 300, first), crowd(tyrant, STRANGER, 300, first):
        for _ in range(5):
            assert status(as_uid(BOB, lambda: said(tyrant, "GET", f"{VASSALS}/bobs"))) == 200
            assert tyrant.api("GET", f"{VASSALS}/{ALICES}").status == 200
    assert (tyrant.get(ALICES) or {})["status"]["reloads"] == 0


def test_a_slow_request_is_cut_off(tyrant: Emperor) -> None:
    def slowly() -> float:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(str(tyrant.socket))
            begun = time.monotonic()
            caller.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nX: ")
            with contextlib.suppress(OSError):
                while time.monotonic() - begun < 100.0:
                    caller.sendall(b"y")
                    time.sleep(0.05)
            return time.monotonic() - begun

    assert as_uid(ALICE, slowly) < 60.0


def test_oversized_requests_are_refused_unread(tyrant: Emperor) -> None:
    def sent(head: str, more: bytes = b"") -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(20.0)
            caller.connect(str(tyrant.socket))
            with contextlib.suppress(OSError):
                caller.sendall(head.encode() + more)
            try:
                return caller.recv(65536).decode(errors="replace")
            except OSError:
                return "HTTP/1.1 000 cut off"

    clear = f"POST {API}/blacklist/clear HTTP/1.1\r\nHost: x\r\n"
    assert status(as_uid(ALICE, lambda: sent(f"{clear}Content-Length: 1073741824\r\n\r\n"))) == 413
    assert status(as_uid(ALICE, lambda: sent(f"{clear}Transfer-Encoding: chunked\r\n\r\n"))) == 411
    assert status(as_uid(ALICE, lambda: sent("GET /version HTTP/1.1\r\n", b"X: " + b"y" * 1_000_000))) in {0, 400}
    assert status(as_uid(ALICE, lambda: sent(f"GET /{'a' * 1_000_000} HTTP/1.1\r\n\r\n"))) in {0, 400}
    nested = "[" * 60_000
    assert status(as_uid(ALICE, lambda: sent(f"{clear}Content-Length: {len(nested)}\r\n\r\n{nested}"))) == 400
    assert tyrant.api("GET", "/healthz").status == 200


def test_a_flood_of_requests_is_rationed(tyrant: Emperor) -> None:
    def flood() -> list[int]:
        return [status(said(tyrant, "GET", "/version")) for _ in range(500)]

    codes = as_uid(ALICE, flood)
    assert set(codes) == {200, 429}
    assert status(as_uid(BOB, lambda: said(tyrant, "GET", "/version"))) == 200
    assert len(re.findall(rf"uid {ALICE} .* was refused \(429\)", tyrant.log())) == 1


@pytest.mark.parametrize(
    "name",
    ["..", "../bobs", "..%2Fbobs", "..%2F..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "alices%00", "bobs.yaml",
     "%ff", "alices%2F..%2Fbobs", "a" * 4000, "alices%0a", "%1b%5b31malices"],
)  # fmt: skip
def test_names_lead_nowhere_else(tyrant: Emperor, name: str) -> None:
    for path in (f"{VASSALS}/{name}", f"{VASSALS}/{name}/log", f"{API}/blacklist/{name}"):
        answer = as_uid(ALICE, lambda path=path: said(tyrant, "GET", path))  # type: ignore[misc]
        assert status(answer) in {400, 404}
        assert "root:" not in answer and f"secret of {BOB}" not in answer
        assert "\x1b" not in answer


# Log files


@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o770, 0), (0o700, ALICE)])
def test_a_log_directory_that_a_tenant_can_write_in_is_refused(
    emperor: Callable[..., Emperor], mode: int, owner: int
) -> None:
    made = emperor()
    made.logs.mkdir()
    made.logs.chmod(mode)
    os.chown(made.logs, owner, owner)
    made.start(ready=False)
    assert made.wait() != 0
    assert str(made.logs) in made.log() and "by others" in made.log()
    made.process = None


def test_a_log_directory_that_a_tenant_can_exchange_is_refused(emperor: Callable[..., Emperor]) -> None:
    made = emperor("--emperor-tyrant")
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chown(home, ALICE, ALICE)
        made.logs = Path(home) / "logs"
        made.start(ready=False)
        assert made.wait() != 0
        if "not supported yet" in made.log():
            made.process = None
            pytest.skip("this build has no tyrant mode")
        assert f"others may put something else in the place of the log directory {made.logs}" in made.log()
        made.process = None


def test_a_log_file_that_became_a_link_is_not_written_through(emperor: Callable[..., Emperor]) -> None:
    made = emperor()
    victim = made.root / "victim"
    victim.write_text("precious\n")
    made.logs.mkdir(mode=0o700)
    (made.logs / "shop.log").symlink_to(victim)
    made.manifest("shop", SPEAK)
    made.start()
    made.wait_running("shop")
    made.wait_log("LogWriteFailed")
    assert victim.read_text() == "precious\n"
    assert "precious" not in made.api("GET", f"{VASSALS}/shop/log").body
