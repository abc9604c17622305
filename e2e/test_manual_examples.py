"""What uWSGI's manual shows of its Emperor, with our command in uwsgi's place: directories, patterns, the protocol, on
demand, broodlord mode, other programs. The configs are our own, of the same shape; applications are as small as can be.

Not in here: what passes configuration to all vassals, skeletons, tyrant mode, namespaces, and monitors other than
directories and patterns.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGUSR1

import psutil
import pytest

from e2e.harness import Emperor, alive
from e2e.test_uwsgi import answers

Make = Callable[..., Emperor]

APP = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.path.basename(os.getcwd())} {os.environ.get('SETTINGS', '-')} {os.getppid()}".encode()]
"""

# A program of one's own that takes part: it says what the page on the protocol lists, and obeys it.
SNAKE = """#!{python} -IS
import os, signal, sys, time
if "UWSGI_EMPEROR_FD" not in os.environ:
    sys.exit("nobody reigns")
fd = int(os.environ["UWSGI_EMPEROR_FD"])
diary = open({diary!r}, "a", buffering=1)
print("vassal", os.getpid(), *sys.argv[1:], file=diary)
with open({orders!r}, "rb") as orders:
    said = orders.read()
os.write(fd, said if not sys.argv[-1].endswith(":zerg") else b"")
while byte := os.read(fd, 1):
    print("told", byte[0], file=diary)
    if byte == b"\\0":
        break
    os.write(fd, said)
"""


def unix_reply(path: Path) -> list[str]:
    """One request over a Unix socket; the words of the answer, none where nobody answers."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        try:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        except OSError:
            return []
    return answer.rpartition(b"\r\n\r\n")[2].decode().split()


def wait_reply(e: Emperor, path: Path) -> list[str]:
    """Wait until somebody answers there."""
    return e.wait_for(lambda: unix_reply(path), what=f"{path} answers")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application that says where it runs, with what settings, and under which master."""
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


# Imperial monitors


def test_four_configs_in_three_formats_in_one_directory(
    emperor: Make, uwsgi_python: Path, uwsgi_formats: frozenset[str], app: Path
) -> None:
    """dir://, its declaration left out: each file is a site with options of its own."""
    if missing := {"xml", "yaml"} - uwsgi_formats:
        pytest.skip(f"this uwsgi was built without {', '.join(sorted(missing))}")
    e = emperor()
    at = {name: e.root / f"{name}.sock" for name in ("tester", "tracker", "rails", "blog")}
    (e.root / "railsapp").mkdir()
    e.write(
        "tester.xml",
        f"<uwsgi>\n<wsgi-file>{app}</wsgi-file>\n<master/>\n<processes>2</processes>\n"
        f"<http-socket>{at['tester']}</http-socket>\n</uwsgi>\n",
    )
    e.write(
        "tracker.ini",
        f"[uwsgi]\nmaster = true\nprocesses = 2\nwsgi-file = {app}\nenv = SETTINGS=project001\n"
        f"http-socket = {at['tracker']}\n",
    )
    e.write(
        "rails.yml",
        f"uwsgi:\n  wsgi-file: {app}\n  master: 1\n  processes: 1\n  http-socket: {at['rails']}\n"
        f"  post-buffering: 4096\n  chdir: {e.root}/railsapp\n",
    )
    e.write(
        "blog.ini",
        f"[uwsgi]\nhttp-socket = {at['blog']}\nthreads = 4\nmaster = 1\nenv = SETTINGS=blog.settings\n"
        f"wsgi-file = {app}\n",
    )
    e.start()
    assert wait_reply(e, at["tester"])[:2] == ["vassals", "-"]
    assert wait_reply(e, at["tracker"])[:2] == ["vassals", "project001"]
    assert wait_reply(e, at["rails"])[:2] == ["railsapp", "-"]
    assert wait_reply(e, at["blog"])[:2] == ["vassals", "blog.settings"]
    masters = {name: e.main_pid(name) for name in ("tester.xml", "tracker.ini", "rails.yml", "blog.ini")}
    assert int(wait_reply(e, at["tracker"])[2]) == masters["tracker.ini"]
    assert len(psutil.Process(masters["tester.xml"]).children()) == 2


def test_a_file_comes_changes_and_goes(emperor: Make, uwsgi_python: Path, app: Path) -> None:
    """The first promises: spawned with its file, reloaded by touch, respawned, stopped with its file, dead with all."""
    e = emperor().start()
    at = e.root / "one.sock"
    path = e.write("one.ini", f"[uwsgi]\nmaster = true\nhttp-socket = {at}\nwsgi-file = {app}\n")
    wait_reply(e, at)
    master = e.wait_running("one.ini")
    workers = {child.pid for child in psutil.Process(master).children()}
    os.utime(path)
    e.wait_for(lambda: not workers & {child.pid for child in psutil.Process(master).children()}, what="other workers")
    wait_reply(e, at)
    os.kill(master, SIGKILL)
    again = e.wait_running("one.ini", other_than=master)
    e.wait_for(lambda: unix_reply(at)[2:] == [str(again)], what="the new one answers")
    path.unlink()
    e.wait_absent("one.ini")
    assert not alive(again)
    e.write("one.ini", f"[uwsgi]\nmaster = true\nhttp-socket = {at}\nwsgi-file = {app}\n")
    wait_reply(e, at)
    assert e.stop(SIGINT) == 0
    assert unix_reply(at) == []


def test_patterns_over_a_hierarchy(emperor: Make, uwsgi_python: Path, app: Path) -> None:
    """glob://: one directory for each application, its config beside its files, and a second source besides."""
    e = emperor()
    for name, file in (("app1", "app1.yml"), ("app2", "app2.ini"), ("other", "other.ini")):
        (e.root / "apps" / name).mkdir(parents=True)
        options = {"http-socket": e.root / f"{name}.sock", "wsgi-file": app, "chdir": "%d", "master": "1"}
        text = "[uwsgi]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
        if file.endswith(".yml"):
            text = f"uwsgi:\n  http-socket: {e.root}/{name}.sock\n  wsgi-file: {app}\n  chdir: {e.root}/apps/%c\n"
        (e.root / "apps" / name / file).write_text(text)
    e.sources = [f"{e.root}/apps/app*/app*.*", f"glob://{e.root}/apps/*/other.ini"]
    e.start()
    for name in ("app1", "app2", "other"):
        assert wait_reply(e, e.root / f"{name}.sock")[0] == name
    assert set(e.objects()) == {f"{e.root}/apps/{one}" for one in ("app1/app1.yml", "app2/app2.ini", "other/other.ini")}


# Configuration


def test_magic_variables_name_what_belongs_to_a_vassal(emperor: Make, uwsgi_python: Path, app: Path) -> None:
    """The options of one shape for all: directory, socket and settings by the file's name."""
    e = emperor()
    text = (
        f"[uwsgi]\nchdir = {e.root}/%n\nthreads = 2\nhttp-socket = {e.root}/%n.sock\nenv = SETTINGS=%n.settings\n"
        f"wsgi-file = {app}\n"
    )
    for name in ("app1", "app2"):
        (e.root / name).mkdir()
        e.write(f"{name}.ini", text)
    e.write("app.skel", text)  # no extension that is known: skipped
    e.start()
    for name in ("app1", "app2"):
        assert wait_reply(e, e.root / f"{name}.sock")[:2] == [name, f"{name}.settings"]
    assert set(e.objects()) == {"app1.ini", "app2.ini"}


def test_variables_for_all_vassals(emperor: Make, uwsgi_python: Path, app: Path) -> None:
    """UWSGI_VASSAL_MASTER in the Emperor's environment is UWSGI_MASTER in each vassal's, with what that means there."""
    e = emperor(env={"UWSGI_VASSAL_MASTER": "1", "UWSGI_VASSAL_WSGI_FILE": str(app)})
    for name in ("one", "two"):
        e.write(f"{name}.ini", f"[uwsgi]\nhttp-socket = {e.root}/%n.sock\n")
    e.start()
    for name in ("one", "two"):
        assert int(wait_reply(e, e.root / f"{name}.sock")[2]) == e.main_pid(f"{name}.ini")


def test_binary_path_where_uwsgi_is_not_in_path(emperor: Make, uwsgi_python: Path, app: Path) -> None:
    """The note on --binary-path; the vassals start in the vassals' directory."""
    e = emperor("--binary-path", str(uwsgi_python), env={"PATH": "/usr/bin:/bin"})
    at = e.root / "one.sock"
    e.write("one.ini", f"[uwsgi]\nhttp-socket = {at}\nwsgi-file = {app}\n")
    e.start()
    assert wait_reply(e, at)[0] == "vassals"


# Signals


def test_signals(emperor: Make) -> None:
    """USR1 tells of the vassals in the log, HUP reloads all of them, INT is Ragnarok."""
    e, snake = with_snake(emperor, [1, 5, 17])
    e.write("a.ini", "[uwsgi]\n")
    e.write("b.ini", "[uwsgi]\n")
    e.start()
    e.wait_for(lambda: sum(line.startswith("vassal") for line in snake()) == 2, what="both speak")
    for name in ("a.ini", "b.ini"):
        e.wait_condition(name, "Loyal", "True")
    e.signal(SIGUSR1)
    e.wait_log("a.ini")
    e.signal(SIGHUP)
    e.wait_for(lambda: snake().count("told 1") == 2, what="both are told to reload")
    assert e.stop(SIGINT) == 0
    assert snake().count("told 0") == 2


# The protocol


def with_snake(emperor: Make, says: list[int], *options: str) -> tuple[Emperor, Callable[[], list[str]]]:
    """An Emperor, not yet started, whose vassals are snakes that say these bytes; what they write down."""
    e = emperor(*options)
    diary, orders, program = e.root / "diary", e.root / "orders", e.root / "snake"
    diary.touch()
    orders.write_bytes(bytes(says))
    program.write_text(SNAKE.format(python=sys.executable, diary=str(diary), orders=str(orders)))
    program.chmod(0o755)
    e.options += ["--emperor-wrapper", str(program)]
    return e, lambda: diary.read_text().splitlines()


def test_a_vassal_of_ones_own_finds_its_emperor(emperor: Make) -> None:
    """UWSGI_EMPEROR_FD is a descriptor to talk over: 1 comes for a reload, 0 to stop; 17 is loyalty."""
    e, snake = with_snake(emperor, [17])
    path = e.write("snake.ini", "[uwsgi]\n")
    e.start()
    e.wait_condition("snake.ini", "Loyal", "True")
    assert snake() == [f"vassal {e.main_pid('snake.ini')} --ini snake.ini"]
    os.utime(path, (1, 1))
    e.wait_for(lambda: "told 1" in snake(), what="it is told to reload")
    path.unlink()
    e.wait_absent("snake.ini")
    assert snake()[1:] == ["told 1", "told 0"]


def test_voluntary_shutdown(emperor: Make) -> None:
    """22: it wants to go; it is stopped, and as its file is there, comes back."""
    e, snake = with_snake(emperor, [17, 22])
    e.write("snake.ini", "[uwsgi]\n")
    e.start()
    e.wait_for(lambda: sum(line.startswith("vassal") for line in snake()) >= 2, what="it comes back")
    assert snake()[1] == "told 0"


def test_after_a_heartbeat_more_are_expected(emperor: Make) -> None:
    """26, once, and then silence for longer than is allowed: it has to reload."""
    e, snake = with_snake(emperor, [17, 26], "--emperor-required-heartbeat", "1")
    e.write("snake.ini", "[uwsgi]\n")
    e.start()
    e.wait_for(lambda: snake().count("told 1") >= 2, what="it is told to reload when it falls silent")
    assert sum(line.startswith("vassal") for line in snake()) == 1, "the reload is a graceful one"


def test_broodlord(emperor: Make) -> None:
    """30: a vassal asks for reinforcements, and gets the stanza [zerg] of its file, as many as are allowed in all."""
    e, snake = with_snake(emperor, [17, 30, 30, 30], "--emperor-broodlord", "2")
    e.write("snake.ini", "[uwsgi]\nvassal-sos-backlog = 10\n[zerg]\nidle = 30\ndie-on-idle = true\n")
    e.start()
    e.wait_for(lambda: sum("--ini snake.ini:zerg" in line for line in snake()) == 2, what="both zergs run")
    assert set(e.objects()) == {"snake.ini", "snake.ini:zerg", "snake.ini:zerg2"}


# Statistics


def test_the_bureau_of_statistics_over_tcp(emperor: Make, free_port: int) -> None:
    """emperor-stats with an address of TCP: whoever connects gets one JSON document."""
    e, _ = with_snake(emperor, [17], "--emperor-stats", f"127.0.0.1:{free_port}")
    e.write("snake.ini", "[uwsgi]\n")
    e.start()
    e.wait_condition("snake.ini", "Loyal", "True")
    with socket.create_connection(("127.0.0.1", free_port), timeout=30) as connection:
        document = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    (vassal,) = document["vassals"]
    assert (vassal["id"], vassal["loyal"]) == ("snake.ini", 1)
    assert document["emperor"] == [str(e.vassals)]


# On demand


def test_on_demand(emperor: Make, uwsgi_python: Path, app: Path, free_port: int) -> None:
    """A file beside the config holds the address; the first connection starts it; idle and die-on-idle end it."""
    e = emperor("--emperor-on-demand-extension", ".socket")
    text = f"[uwsgi]\nprotocol = http\nwsgi-file = {app}\nmaster = 1\nidle = 2\ndie-on-idle = 1\n"
    for name, address in (("unix", e.root / "unix.sock"), ("tcp", f"127.0.0.1:{free_port}")):
        e.write(f"{name}.ini.socket", f"{address}\n")
        e.write(f"{name}.ini", text)
    e.start()
    for name in ("unix.ini", "tcp.ini"):
        e.wait_phase(name, "OnDemand")
        assert e.main_pid(name) is None
    assert wait_reply(e, e.root / "unix.sock")[0] == "vassals"
    assert e.main_pid("tcp.ini") is None
    e.wait_for(lambda: answers(free_port), what="the other one answers, too")
    for name in ("unix.ini", "tcp.ini"):
        e.wait_phase(name, "OnDemand")
    assert wait_reply(e, e.root / "unix.sock")[0] == "vassals"


# Other programs


@pytest.mark.parametrize("with_uwsgi", [True, False])
def test_another_server_in_uwsgis_place_gets_its_arguments(
    emperor: Make, with_uwsgi: bool, request: pytest.FixtureRequest
) -> None:
    """unprivileged-binary-patch: called as the vassal would have been."""
    if with_uwsgi:
        request.getfixturevalue("uwsgi_bin")
    if os.geteuid() != 0 and with_uwsgi:
        pytest.skip("an ordinary user's uWSGI ignores it")
    e = emperor(*([] if with_uwsgi else ["--binary-path", "/nowhere/uwsgi"]), "--emperor-curse-tolerance", "1")
    out = e.root / "out"
    server = e.root / "funnyserver"
    server.write_text(f'#!/bin/sh\necho "$@" > {out}\nexec sleep 1000\n')
    server.chmod(0o755)
    e.write("funny.ini", f"; another binary\n[uwsgi]\nunprivileged-binary-patch = {server}\n")
    e.start()
    e.wait_for(lambda: out.exists() and out.read_text(), what="it runs")
    assert out.read_text() == "--ini funny.ini\n"
