"""Real uWSGI vassals: every config format, reload without a refused connection, and how they are run."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from e2e.harness import Emperor, alive, command_path, wait_for

Make = Callable[..., Emperor]

APP = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.environ.get('GREETING', '')} {os.getpid()} {os.getppid()}".encode()]
"""

# Stands in for uwsgi: notes its arguments, environment and every byte that it hears, and obeys them.
WRAPPER = """#!{python} -IS
import json, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
fd = int(os.environ["UWSGI_EMPEROR_FD"])
with open({out!r}, "a", buffering=1) as out:
    print(json.dumps({{"pid": os.getpid(), "argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ)}}), file=out)
    {then}
    os.write(fd, bytes([1, 5]))
    while byte := os.read(fd, 1):
        print(json.dumps({{"pid": os.getpid(), "byte": byte[0]}}), file=out)
        if byte[0] in (0, 2):
            break
        os.write(fd, bytes([1, 5]))
"""


def settings(emperor: Emperor, port: int, greeting: str = "hello", **more: str) -> dict[str, str]:
    """The options of a small web site; a value of "" leaves an option out."""
    app = emperor.root / "app.py"
    if not app.exists():
        app.write_text(APP)
        app.chmod(0o644)
    options = {
        "http-socket": f"127.0.0.1:{port}",
        "wsgi-file": str(app),
        "need-app": "true",
        "master": "true",
        "processes": "1",
        "env": f"GREETING={greeting}",
        "worker-reload-mercy": "2",
    } | {key.replace("_", "-"): value for key, value in more.items()}
    return {key: value for key, value in options.items() if value}


def ini(options: dict[str, str]) -> str:
    """As an ini file."""
    return "[uwsgi]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())


def xml(options: dict[str, str]) -> str:
    """As an XML file."""
    return "<uwsgi>\n" + "".join(f"  <{key}>{value}</{key}>\n" for key, value in options.items()) + "</uwsgi>\n"


def yaml(options: dict[str, str]) -> str:
    """As a YAML file."""
    return "uwsgi:\n" + "".join(f"  {key}: {value}\n" for key, value in options.items())


def as_json(options: dict[str, str]) -> str:
    """As a JSON file."""
    return json.dumps({"uwsgi": options})


def ask(port: int, timeout: float = 10.0) -> list[str]:
    """One request: the greeting, the worker's pid, the master's pid."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode().split()
    finally:
        connection.close()


def answers(port: int) -> list[str] | None:
    """As `ask`; None while nobody answers."""
    try:
        return ask(port)
    except OSError:
        return None


def wait_greeting(emperor: Emperor, port: int, greeting: str) -> list[str]:
    """Wait until the site answers with this greeting."""
    return emperor.wait_for(
        lambda: found if (found := answers(port)) and found[0] == greeting else None, what=f"port {port}: {greeting}"
    )


@pytest.fixture
def site(emperor: Make, uwsgi_python: Path, free_port: int) -> Iterator[tuple[Emperor, Path, int, int]]:
    """An Emperor with one uWSGI site that serves: Emperor, config, port, the master's pid."""
    e = emperor().start()
    path = e.write("shop.ini", ini(settings(e, free_port)))
    pid = e.wait_running("shop.ini")
    wait_greeting(e, free_port, "hello")
    yield e, path, free_port, pid


@pytest.mark.parametrize(
    ("file", "option", "written"),
    [
        ("shop.ini", "ini", ini),
        ("shop.xml", "xml", xml),
        ("shop.yaml", "yaml", yaml),
        ("shop.yml", "yaml", yaml),
        ("shop.json", "json", as_json),
        ("shop.js", "json", as_json),
    ],
)
def test_every_config_format_serves(  # noqa: PLR0917
    emperor: Make,
    uwsgi_python: Path,
    uwsgi_formats: frozenset[str],
    free_port: int,
    file: str,
    option: str,
    written: Callable[[dict[str, str]], str],
) -> None:
    if option not in uwsgi_formats:
        library = {"json": "libjansson", "xml": "libxml2 or expat"}.get(option, option)
        pytest.skip(f"this uwsgi was built without {option} support ({library} was missing)")
    e = emperor().start()
    path = e.write(file, written(settings(e, free_port)))
    pid = e.wait_running(file)
    process = psutil.Process(pid)
    assert process.cmdline() == ["uwsgi", f"--{option}", file]
    assert process.cwd() == str(e.vassals)
    assert wait_greeting(e, free_port, "hello")[2] == str(pid)
    found = e.get(file)
    assert found is not None
    assert found["status"]["kind"] == "uwsgi"
    assert found["status"]["file"] == str(path)
    e.wait_condition(file, "Ready", "True", "Accepting")
    path.unlink()
    e.wait_absent(file)
    assert answers(free_port) is None
    assert not alive(pid)


def test_a_pattern_names_its_vassals_by_their_paths(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor()
    e.sources = [f"{e.root}/sites/*/uwsgi.ini"]
    (e.root / "sites" / "one").mkdir(parents=True)
    path = e.write(e.root / "sites" / "one" / "uwsgi.ini", ini(settings(e, free_port)))
    e.start()
    pid = e.wait_running(str(path))
    assert psutil.Process(pid).cmdline() == ["uwsgi", "--ini", str(path)]
    wait_greeting(e, free_port, "hello")
    assert e.cli("get", "vassal", str(path)).returncode == 0


def test_the_first_request_makes_it_loyal(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor().start()
    e.write("shop.ini", ini(settings(e, free_port)))
    e.wait_condition("shop.ini", "Ready", "True", "Accepting")
    assert e.condition("shop.ini", "Loyal")["status"] == "False"
    ask(free_port)
    e.wait_condition("shop.ini", "Loyal", "True", "FirstRequest", timeout=5)


def test_a_reload_keeps_the_master_and_refuses_no_connection(site: tuple[Emperor, Path, int, int]) -> None:
    e, path, port, pid = site
    stop = threading.Event()
    seen: list[list[str]] = []
    failed: list[str] = []

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                seen.append(ask(port))
            except (OSError, http.client.HTTPException) as error:
                failed.append(repr(error))

    clients = [threading.Thread(target=keep_asking) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            before, worker = len(seen), ask(port)[1]
            os.utime(path)
            e.wait_for(
                lambda: any(answer[1] != worker for answer in seen[before:]),  # noqa: B023
                what="another worker answers",
            )
            assert e.wait_running("shop.ini") == pid
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert not failed, failed[:3]
    assert {answer[2] for answer in seen} == {str(pid)}
    status = e.objects()["shop.ini"]["status"]
    assert status["respawns"] == 0
    assert status["lastReload"]


def test_an_edit_is_a_reload_with_the_new_config(site: tuple[Emperor, Path, int, int]) -> None:
    e, path, port, pid = site
    path.write_text(path.read_text().replace("GREETING=hello", "GREETING=goodbye"))
    assert wait_greeting(e, port, "goodbye")[2] == str(pid)
    assert e.main_pid("shop.ini") == pid
    found = e.objects()["shop.ini"]
    assert found["metadata"]["generation"] == found["status"]["observedGeneration"] == 2


@pytest.mark.parametrize("order", ["reload shop", "reload shop.ini", "reload --all", "SIGHUP"])
def test_orders_reload_it(site: tuple[Emperor, Path, int, int], order: str) -> None:
    e, _, port, pid = site
    worker = ask(port)[1]
    if order == "SIGHUP":
        e.signal(signal.SIGHUP)
    else:
        assert e.cli(*order.split()).returncode == 0
    e.wait_for(lambda: (found := answers(port)) and found[1] != worker, what="another worker answers")
    assert e.main_pid("shop.ini") == pid


def test_a_broken_edit_leaves_it_serving(site: tuple[Emperor, Path, int, int]) -> None:
    e, path, port, pid = site
    good = path.read_text()
    worker = ask(port)[1]
    path.write_text("[uwsg]\nmaster = true\n")
    condition = e.wait_condition("shop.ini", "Accepted", "False", "NoUwsgiSection")
    assert str(path) in condition["message"]
    assert ask(port) == ["hello", worker, str(pid)]
    path.write_text(good)
    e.wait_condition("shop.ini", "Accepted", "True")
    assert ask(port)[2] == str(pid)


def test_it_runs_again_after_a_kill(site: tuple[Emperor, Path, int, int]) -> None:
    e, _, port, pid = site
    workers = psutil.Process(pid).children()
    e.wait_condition("shop.ini", "Loyal", "True")
    os.kill(pid, signal.SIGKILL)
    again = e.wait_running("shop.ini", other_than=pid)
    assert wait_greeting(e, port, "hello")[2] == str(again)
    assert not any(alive(worker.pid) for worker in workers)
    assert e.objects()["shop.ini"]["status"]["respawns"] == 1


def test_stop_and_start(site: tuple[Emperor, Path, int, int]) -> None:
    e, _, port, pid = site
    assert e.cli("stop", "shop").returncode == 0
    e.wait_phase("shop.ini", "Suspended")
    assert answers(port) is None
    assert not alive(pid)
    assert e.cli("start", "shop").returncode == 0
    wait_greeting(e, port, "hello")


def test_its_output_goes_to_the_emperors_stderr(site: tuple[Emperor, Path, int, int]) -> None:
    e, _, _, _ = site
    assert "*** Starting uWSGI" in e.log()
    assert e.objects()["shop.ini"]["status"]["log"] == ""


def test_its_output_is_captured_where_told_so(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor("--uwsgi-logs", "capture").start()
    e.write("shop.ini", ini(settings(e, free_port)))
    wait_greeting(e, free_port, "hello")
    log = Path(e.objects()["shop.ini"]["status"]["log"])
    e.wait_for(lambda: "GET / " in log.read_text(), what="the request's line")
    assert "*** Starting uWSGI" in log.read_text()
    assert "*** Starting uWSGI" not in e.log()
    assert "GET / " in e.cli("logs", "shop").stdout


def test_a_config_that_fails_is_blacklisted_and_says_so(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor().start()
    path = e.write("shop.ini", ini(settings(e, free_port, wsgi_file="/nonexistent/app.py")))
    e.wait_phase("shop.ini", "Blacklisted")
    path.write_text(ini(settings(e, free_port)))
    wait_greeting(e, free_port, "hello")
    assert e.objects()["shop.ini"]["status"]["blacklist"] is None


def test_several_sites_and_native_vassals_side_by_side(emperor: Make, uwsgi_python: Path) -> None:
    e = emperor().start()
    ports = []
    for number in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        e.write(f"s{number}.ini", ini(settings(e, ports[-1], f"site{number}")))
    e.manifest("native", ["sleep", "1001"])
    e.wait_running("native")
    for number, port in enumerate(ports):
        wait_greeting(e, port, f"site{number}")
    (e.vassals / "s2.ini").unlink()
    e.wait_absent("s2.ini")
    assert [bool(answers(port)) for port in ports] == [True, True, False, True, True]


@pytest.mark.as_root
def test_one_that_changes_its_user_dies_with_a_killed_emperor(
    emperor: Make, uwsgi_python: Path, free_port: int
) -> None:
    e = emperor().start()
    options = settings(e, free_port, uid="nobody", gid="nogroup", wsgi_file="", need_app="", env="", processes="2")
    e.write("shop.ini", ini(options))
    pid = e.wait_running("shop.ini")
    uid = pwd.getpwnam("nobody").pw_uid

    def became_nobody() -> bool:
        if "init_fs_encoding" in e.log():
            pytest.skip("an ordinary user can't read the Python that this uwsgi was built with")
        with contextlib.suppress(psutil.NoSuchProcess):
            master = psutil.Process(pid)
            return master.uids().real == uid and len(master.children()) == 2
        return False

    e.wait_for(became_nobody, what="it has become nobody")
    workers = [child.pid for child in psutil.Process(pid).children()]
    e.wait_condition("shop.ini", "Ready", "True")
    killed = time.monotonic()
    e.kill()
    wait_for(lambda: not any(alive(each) for each in [pid, *workers]), what="all of it is gone")
    assert time.monotonic() - killed < 1.0


# --- how it is run: seen by a program in uwsgi's place ---


def wrapper(emperor: Emperor, then: str = "pass") -> tuple[Path, Callable[[], list[dict[str, object]]]]:
    """A program in uwsgi's place, and what it has noted so far."""
    out = emperor.root / "wrapper.out"
    path = emperor.root / "wrapper"
    path.write_text(WRAPPER.format(python=os.path.realpath(command_path("python")), out=str(out), then=then))
    path.chmod(0o755)

    def noted() -> list[dict[str, object]]:
        return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []

    return path, noted


@pytest.mark.parametrize("option", ["--emperor-wrapper", "--binary-path"])
def test_another_program_runs_in_uwsgis_place(emperor: Make, option: str) -> None:
    e = emperor(env={"UWSGI_VASSAL_FOO": "bar", "NOTIFY_SOCKET": "@nobody-listens", "OURS": "1"})
    path, noted = wrapper(e)
    e.options += [option, str(path)]
    file = e.write("a.ini", "[uwsgi]\nmaster = true\n")
    e.start()
    pid = e.wait_running("a.ini")
    e.wait_condition("a.ini", "Ready", "True", "Accepting")
    (first,) = noted()
    environment = first["env"]
    assert isinstance(environment, dict)
    assert first["pid"] == pid
    assert first["argv"] == [str(path), "--ini", "a.ini"]
    assert first["cwd"] == str(e.vassals)
    assert environment["UWSGI_FOO"] == "bar"
    assert environment["OURS"] == "1"
    assert re.fullmatch(r"\d+", environment["UWSGI_EMPEROR_FD"])
    assert not {"UWSGI_VASSAL_FOO", "NOTIFY_SOCKET", "UWSGI_RELOADS"} & environment.keys()
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    os.utime(file)
    e.wait_for(lambda: {"pid": pid, "byte": 1} in noted(), what="byte 1")
    file.unlink()
    e.wait_absent("a.ini")
    assert noted()[1:] == [{"pid": pid, "byte": 1}, {"pid": pid, "byte": 0}]  # and no signal: it ignores SIGTERM


def test_exit_code_26_asks_not_to_be_started_again(emperor: Make) -> None:
    e = emperor()
    path, noted = wrapper(e, then="sys.exit(26)")
    e.options += ["--emperor-wrapper", str(path)]
    file = e.write("a.ini", "[uwsgi]\nmaster = true\n")
    e.write("b.ini", "[uwsgi]\nmaster = true\n")
    e.start()
    e.wait_phase("a.ini", "ExitCode:26")
    e.wait_phase("b.ini", "ExitCode:26")
    assert e.condition("a.ini", "Ready")["reason"] == "DoNotRespawn"
    assert e.objects()["a.ini"]["status"]["blacklist"] is None
    os.utime(file)
    e.wait_for(lambda: len(noted()) == 3, what="touched: one more try")
    e.wait_phase("a.ini", "ExitCode:26")
    assert e.cli("blacklist", "clear", "b").returncode == 0
    e.wait_for(lambda: len(noted()) == 4, what="cleared: one more try")
    e.wait_phase("b.ini", "ExitCode:26")
    assert {e.objects()[name]["status"]["respawns"] for name in ("a.ini", "b.ini")} == {1}


def test_one_that_does_not_listen_is_killed_when_it_must_go(emperor: Make) -> None:
    e = emperor("--reload-mercy", "0.5")
    path, noted = wrapper(e, then="signal.pause()")
    e.options += ["--emperor-wrapper", str(path)]
    e.write("a.ini", "[uwsgi]\nmaster = true\n")
    e.start()
    pid = e.wait_running("a.ini")
    e.wait_for(noted)
    begun = time.monotonic()
    assert e.stop() == 0
    assert 0.4 < time.monotonic() - begun < 10
    assert not alive(pid)
