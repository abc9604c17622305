"""What runs in uWSGI's place, with real uWSGI and on a machine that has none: wrappers tried in turn, executable
configs, configs over a socket, other extensions, binary patches."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import psutil
import pytest

from e2e.harness import Emperor, alive, wait_for
from e2e.test_uwsgi import answers, ini, settings, wait_greeting

Make = Callable[..., Emperor]

NOWHERE = "/nowhere/uwsgi"

# Stands in for uwsgi: notes its arguments and every byte that it hears.
PUPPET = """#!{python} -IS
import json, os, sys
fd = int(os.environ["UWSGI_EMPEROR_FD"])
with open({out!r}, "a", buffering=1) as out:
    print(json.dumps([sys.argv, os.getcwd()]), file=out)
    os.write(fd, bytes([1, 5]))
    while (byte := os.read(fd, 1)) not in (b"\\0", b""):
        print(byte[0], file=out)
"""

# Asks for its config without end, and never reads it.
GREEDY = """#!{python} -IS
import os
fd = int(os.environ["UWSGI_EMPEROR_FD"])
while True:
    os.write(fd, bytes([2]))
"""

# Stands in for nginx: its options, and a site that says who runs it.
NGINX = """#!{python} -IS
import http.server, os, sys
assert sys.argv[1:2] + sys.argv[3:] == ["-c", "-g", "daemon off;"], sys.argv
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"nginx {{os.getpid()}} {{os.getuid()}}".encode())
http.server.HTTPServer(("127.0.0.1", int(open(sys.argv[2]).read())), Handler).serve_forever()
"""

# Writes down what it finds itself to be, in one go, then stays. A shell is what every user may execute.
SELF = """#!/bin/sh
{{
    for word in "$0" "$@"; do echo "argv $word"; done
    echo "cwd $(pwd)"
    echo "umask $(umask)"
    env | sed 's/^/env /'
    for fd in /proc/$$/fd/*; do echo "fd ${{fd##*/}}"; done
    for name in net uts ipc mnt; do echo "ns $name $(readlink /proc/$$/ns/$name)"; done
    sed 's/^/status /' /proc/$$/status
}} > {out}.new
mv {out}.new {out}
exec sleep 3600
"""


def program(e: Emperor, name: str, text: str, out: Path | None = None) -> Path:
    """A program of the test's own, and where it writes to."""
    path = e.root / name
    path.write_text(text.format(python=sys.executable, out=str(out or "")))
    path.chmod(0o755)
    return path


def notes(path: Path) -> list[object]:
    """What a puppet wrote down so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def without_uwsgi() -> dict[str, str]:
    """An environment in which no uwsgi is to be found."""
    path = "/usr/bin:/bin"
    if shutil.which("uwsgi", path=path):
        pytest.skip("a uwsgi lies in /usr/bin")
    return {"PATH": path}


class Seen:
    """What SELF has written."""

    def __init__(self, text: str) -> None:
        pairs = [line.partition(" ")[::2] for line in text.splitlines()]
        self.argv = [value for key, value in pairs if key == "argv"]
        self.cwd = next(value for key, value in pairs if key == "cwd")
        self.umask = next(value for key, value in pairs if key == "umask")
        self.fds = {value for key, value in pairs if key == "fd"}
        self.env = dict(value.partition("=")[::2] for key, value in pairs if key == "env")
        self.namespaces = dict(value.split() for key, value in pairs if key == "ns")
        status = (value.partition(":")[::2] for key, value in pairs if key == "status")
        self.status = {key: value.split() for key, value in status}


def wait_written(e: Emperor, path: Path) -> Seen:
    """Wait for what SELF writes."""
    e.wait_for(path.exists, what=f"{path} is written")
    return Seen(path.read_text())


# Configs over a socket


def test_the_config_travels_at_the_start_and_at_every_reload(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor("--emperor-force-config-pipe").start()
    path = e.write("shop.ini", ini(settings(e, free_port)))
    pid = e.wait_running("shop.ini")
    assert psutil.Process(pid).cmdline() == ["uwsgi", "--ini", "emperor://shop.ini"]
    wait_greeting(e, free_port, "hello")
    for number in range(4):
        # None of them may be the one before: the config that was sent is the config that is read.
        e.write("shop.ini", ini(settings(e, free_port, f"edit{number}")))
        assert wait_greeting(e, free_port, f"edit{number}")[2] == str(pid)
    worker = answers(free_port)
    os.utime(path)
    e.wait_for(lambda: (now := answers(free_port)) and now != worker, what="another worker answers")
    assert wait_greeting(e, free_port, "edit3")[2] == str(pid)
    found = e.get("shop.ini")
    assert found is not None
    assert found["status"]["respawns"] == 0
    psutil.Process(pid).kill()
    e.wait_running("shop.ini", other_than=pid)
    wait_greeting(e, free_port, "edit3")


def test_the_file_need_not_be_there_for_the_vassal(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor("--emperor-force-config-pipe").start()
    e.write("shop.ini", ini(settings(e, free_port)))
    wait_greeting(e, free_port, "hello")
    e.write("shop.ini", "[uwsgo]\nmaster = true\n")
    e.wait_condition("shop.ini", "Accepted", "False", "NoUwsgiSection")
    pid = e.wait_running("shop.ini")
    psutil.Process(pid).kill()
    # The last good config is what it is started with.
    e.wait_running("shop.ini", other_than=pid)
    wait_greeting(e, free_port, "hello")


def test_a_config_that_is_too_long_to_travel_is_refused_and_nothing_lost(emperor: Make) -> None:
    e = emperor("--emperor-force-config-pipe")
    e.options += ["--emperor-wrapper", str(program(e, "puppet", PUPPET, e.root / "out"))]
    e.start()
    e.write("a.ini", "[uwsgi]\n#" + "x" * 65000)
    pid = e.wait_running("a.ini")
    e.write("a.ini", "[uwsgi]\n#" + "x" * 65536)
    found = e.wait_condition("a.ini", "Accepted", "False", "TooLarge")
    assert "65535" in found["message"]
    assert e.wait_running("a.ini") == pid
    e.write("a.ini", "[uwsgi]\n#short")
    e.wait_condition("a.ini", "Accepted", "True")
    e.wait_for(lambda: 1 in notes(e.root / "out"), what="it hears of the change")


def test_one_that_asks_without_end_and_never_reads_delays_nobody(emperor: Make) -> None:
    e = emperor("--emperor-force-config-pipe", "--emperor-curse-tolerance", "1")
    e.options += ["--emperor-wrapper", str(program(e, "greedy", GREEDY))]
    e.start()
    e.write("greedy.ini", "[uwsgi]\n#" + "x" * 60000)
    e.wait_running("greedy.ini")
    memory = psutil.Process(e.pid).memory_info().rss
    for number in range(20):
        e.manifest(f"other{number}", ["sleep", "3600"])
        e.wait_running(f"other{number}")
    assert psutil.Process(e.pid).memory_info().rss - memory < 32 * 1024 * 1024
    e.write("greedy.ini", "[uwsgi]\n#" + "y" * 60000)
    (e.vassals / "greedy.ini").unlink()
    e.wait_absent("greedy.ini")


# Other extensions


def test_a_further_extension_is_left_for_the_program_to_read(emperor: Make) -> None:
    e = emperor("--emperor-extra-extension", ".site")
    out = e.root / "out"
    e.options += ["--emperor-wrapper", str(program(e, "puppet", PUPPET, out))]
    e.start()
    e.write("a.site", b"no config of ours \xff\n")
    e.write("a.other", "nothing")
    e.wait_running("a.site")
    argv, cwd = e.wait_for(lambda: notes(out), what="it runs")[0]  # type: ignore[misc]
    assert argv[1:] == ["--config", "a.site"]
    assert cwd == str(e.vassals)
    e.write("a.site", "changed")
    e.wait_for(lambda: 1 in notes(out), what="it hears of the change")
    e.write("a.site", b"NUL\0")
    e.wait_condition("a.site", "Accepted", "False", "Binary")
    assert set(e.objects()) == {"a.site"}
    (e.vassals / "a.site").unlink()
    e.wait_absent("a.site")


# Executable configs


@pytest.mark.parametrize("file", ["shop.ini", "my 'shop'.ini"])
def test_what_an_executable_config_prints_is_the_config(
    emperor: Make, uwsgi_python: Path, free_port: int, file: str
) -> None:
    e = emperor("--emperor-magic-exec").start()
    greeting = e.root / "greeting"
    greeting.write_text("hello")
    lines = ini(settings(e, free_port, "@")).replace("@", f"$(cat {greeting})")
    draft = e.root / "draft"
    draft.write_text(f"#!/bin/sh\ncat <<EOF\n{lines}\nEOF\n")
    draft.chmod(0o755)
    draft.rename(e.vassals / file)
    pid = e.wait_running(file)
    wait_greeting(e, free_port, "hello")
    greeting.write_text("again")
    os.utime(e.vassals / file)
    assert wait_greeting(e, free_port, "again")[2] == str(pid)


def test_a_config_that_is_not_executable_is_read_as_ever(emperor: Make, uwsgi_python: Path, free_port: int) -> None:
    e = emperor("--emperor-magic-exec").start()
    path = e.write("shop.ini", ini(settings(e, free_port)))
    pid = e.wait_running("shop.ini")
    wait_greeting(e, free_port, "hello")
    assert psutil.Process(pid).cmdline() == ["uwsgi", "--ini", "shop.ini"]
    path.chmod(0o755)
    # As a shell script it is none; but it is what the person in charge now asks for.
    e.wait_for(lambda: e.get("shop.ini")["spec"]["command"][2] == "exec://./shop.ini")  # type: ignore[index]


# Wrappers in turn


@pytest.mark.parametrize(
    ("options", "run"),
    [
        (["--emperor-wrapper-override", "{b}", "--emperor-wrapper", "{a}"], "b"),
        (["--emperor-wrapper-override", "/nope", "--emperor-wrapper-override", "{b}"], "b"),
        (["--emperor-wrapper-override", "{dir}", "--emperor-wrapper", "{a}"], "a"),
        (["--emperor-wrapper", "{a}", "--emperor-wrapper-fallback", "{b}"], "a"),
        (["--binary-path", NOWHERE, "--emperor-wrapper-fallback", "/nope", "--emperor-wrapper-fallback", "{b}"], "b"),
    ],
)
def test_the_first_that_can_be_executed_runs(emperor: Make, options: list[str], run: str) -> None:
    e = emperor()
    out = e.root / "out"
    paths = {name: program(e, name, PUPPET, out) for name in "ab"} | {"dir": e.root}
    e.options += [option.format(**paths) for option in options]
    e.start()
    e.write("a.ini", "[uwsgi]\n")
    e.wait_running("a.ini")
    argv, _ = e.wait_for(lambda: notes(out), what="it runs")[0]  # type: ignore[misc]
    assert argv == [str(paths[run]), "--ini", "a.ini"]


def test_where_none_can_be_executed_the_failure_is_that_of_the_binary(emperor: Make) -> None:
    e = emperor("--emperor-wrapper-override", "/nope/a", "--emperor-wrapper-fallback", "/nope/b")
    e.options += ["--binary-path", NOWHERE]
    e.start()
    e.write("a.ini", "[uwsgi]\n")
    found = e.wait_condition("a.ini", "Ready", "False", "Blacklisted")
    last = e.wait_for(lambda: (e.get("a.ini") or {})["status"]["lastExit"])
    assert last["reason"] == "MissingProgram", found
    assert NOWHERE in last["message"]


# Binary patches


@pytest.fixture(params=["uwsgi", "none"])
def patched(request: pytest.FixtureRequest, emperor: Make) -> Emperor:
    """An Emperor that captures output, with real uWSGI or without any."""
    options = ["--uwsgi-logs", "capture", "--emperor-curse-tolerance", "1"]
    if request.param == "uwsgi":
        request.getfixturevalue("uwsgi_bin")
        return emperor(*options)
    return emperor(*options, env=without_uwsgi())


def test_the_manuals_ps_example_runs_and_runs_again(patched: Emperor) -> None:
    e = patched.start()
    e.write("ps.ini", "; with custom options\n[uwsgi]\nprivileged-binary-patch-arg = ps aux\n")
    e.wait_for(lambda: "COMMAND" in e.cli("logs", "ps.ini").stdout, what="ps prints its table")
    e.wait_for(lambda: e.get("ps.ini")["status"]["respawns"] >= 2, what="it is run again")  # type: ignore[index]
    last = e.get("ps.ini")["status"]["lastExit"]  # type: ignore[index]
    assert last["code"] == 0
    described = e.cli("describe", "vassal", "ps.ini").stdout
    assert "ps aux" in described


def test_the_manuals_nginx_example_serves(patched: Emperor, free_port: int) -> None:
    e = patched
    program(e, "nginx", NGINX)
    conf = e.root / "nginx.conf"
    conf.write_text(str(free_port))
    path = e.environment()["PATH"]
    e.env["PATH"] = f"{e.root}:{path}"
    e.start()
    file = e.write("nginx.ini", f'[uwsgi]\nprivileged-binary-patch-arg = exec nginx -c {conf} -g "daemon off;"\n')
    pid = e.wait_running("nginx.ini")
    found = e.wait_for(lambda: answers(free_port), what="it serves")
    assert found == ["nginx", str(pid), str(os.geteuid())]
    file.unlink()
    e.wait_absent("nginx.ini")
    assert not alive(pid)


def test_an_edited_patch_replaces_the_program(patched: Emperor) -> None:
    e = patched.start()
    e.write("a.ini", "[uwsgi]\nprivileged-binary-patch-arg = exec sleep 3600\n")
    pid = e.wait_running("a.ini")
    wait_for(lambda: psutil.Process(pid).name() == "sleep")
    e.write("a.ini", "[uwsgi]\nprivileged-binary-patch-arg = exec sleep 3601\n")
    other = e.wait_running("a.ini", other_than=pid)
    wait_for(lambda: psutil.Process(other).cmdline() == ["sleep", "3601"])


def test_without_arg_the_program_gets_the_arguments_of_the_vassal(patched: Emperor) -> None:
    e = patched
    out = e.root / "self.json"
    path = program(e, "self", SELF, out)
    e.start()
    e.write("a.ini", f"[uwsgi]\nenv = GREETING=hello\numask = 027\nprivileged-binary-patch = {path}\n")
    found = wait_written(e, out)
    assert found.argv == [str(path), "--ini", "a.ini"]
    assert found.cwd == str(e.vassals)
    assert found.umask == "0027"
    assert found.env["GREETING"] == "hello"
    assert found.env["UWSGI_EMPEROR_FD"] in found.fds


@pytest.mark.as_root
def test_privileges_are_dropped_before_an_unprivileged_patch(patched: Emperor) -> None:
    e = patched
    e.root.chmod(0o777)
    out, order = e.root / "self.json", e.root / "order"
    order.touch()
    order.chmod(0o666)
    path = program(e, "self", SELF, out)
    e.start()
    e.write(
        "a.ini",
        "[uwsgi]\nuid = nobody\ngid = nogroup\nunshare = net,uts\n"
        f"exec-as-root = echo root $(id -u) >> {order}\n"
        f"exec-as-user = echo user $(id -u) >> {order}\n"
        f"unprivileged-binary-patch = {path}\n",
    )
    found = wait_written(e, out)
    nobody = pwd.getpwnam("nobody")
    assert found.status["Uid"] == [str(nobody.pw_uid)] * 4
    assert found.status["Gid"] == [str(nobody.pw_gid)] * 4
    assert found.status["Groups"] in ([], [str(nobody.pw_gid)])
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("net", "uts", "ipc", "mnt")}
    assert {name for name in own if found.namespaces[name] != own[name]} == {"net", "uts"}
    assert found.status["CapEff"] == ["0" * 16]
    assert order.read_text().split() == ["root", "0", "user", str(nobody.pw_uid)]
    assert e.wait_running("a.ini")


@pytest.mark.as_root
def test_without_uwsgi_capabilities_and_directory_reach_the_program(emperor: Make) -> None:
    e = emperor("--emperor-curse-tolerance", "1", env=without_uwsgi())
    e.root.chmod(0o777)
    out = e.root / "self.json"
    path = program(e, "self", SELF, out)
    e.start()
    text = f"[uwsgi]\nset-placeholder = who=nobody\nuid = %(who)\nchdir = /usr\nunprivileged-binary-patch = {path}\n"
    e.write("a.ini", text + "env = FILE=%n-$(HOME)\ncap = net_bind_service,chown\n")
    found = wait_written(e, out)
    mask = ["0000000000000401"]
    assert [found.status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [mask] * 5
    assert found.cwd == "/usr"
    assert found.env["FILE"] == f"a-{e.root}"
    pid = e.wait_running("a.ini")
    # It has changed its user, and dies with its Emperor all the same.
    e.kill()
    wait_for(lambda: not alive(pid))


@pytest.mark.as_root
def test_without_uwsgi_root_keeps_no_other_capability(emperor: Make) -> None:
    e = emperor("--emperor-curse-tolerance", "1", env=without_uwsgi())
    out = e.root / "self.json"
    path = program(e, "self", SELF, out)
    e.start()
    e.write("a.ini", f"[uwsgi]\ncap = net_bind_service,dac_override\nunprivileged-binary-patch = {path}\n")
    found = wait_written(e, out)
    assert found.status["CapEff"] == found.status["CapBnd"] == ["0000000000000402"]


def test_a_command_that_fails_is_a_failed_start(emperor: Make) -> None:
    e = emperor("--uwsgi-logs", "capture", env=without_uwsgi()).start()
    e.write("a.ini", "[uwsgi]\nexec-as-user = exit 3\nunprivileged-binary-patch-arg = sleep 3600\n")
    e.wait_condition("a.ini", "Ready", "False", "Blacklisted")
    last = e.wait_for(lambda: (e.get("a.ini") or {})["status"]["lastExit"])
    assert last["code"] == 1
    assert 'the command "exit 3" exited with code 3' in e.cli("logs", "a.ini").stdout


def test_a_command_that_hangs_delays_nobody_and_is_stopped_with_its_vassal(emperor: Make) -> None:
    e = emperor("--emperor-curse-tolerance", "1", env=without_uwsgi()).start()
    e.write("a.ini", "[uwsgi]\nexec-as-root = sleep 3600\nunprivileged-binary-patch-arg = true\n")
    e.wait_running("a.ini")
    e.write("b.ini", "[uwsgi]\nunprivileged-binary-patch-arg = exec sleep 3600\n")
    e.wait_running("b.ini")
    (e.vassals / "a.ini").unlink()
    e.wait_absent("a.ini")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("http-socket = :8080", "only uWSGI knows the option http-socket"),
        ("unshare = user", "unshare = user is not supported"),
        ("cap = fly", "cap = fly is not a capability"),
        ("chdir = @(/etc/dir)", "only uWSGI reads files"),
    ],
)
def test_what_takes_uwsgi_says_so_where_there_is_none(emperor: Make, lines: str, why: str) -> None:
    e = emperor(env=without_uwsgi()).start()
    e.write("a.ini", f"[uwsgi]\n{lines}\nunprivileged-binary-patch-arg = sleep 3600\n")
    e.wait_condition("a.ini", "Ready", "False", "Blacklisted")
    last = e.wait_for(lambda: (e.get("a.ini") or {})["status"]["lastExit"])
    assert last["reason"] == "MissingProgram"
    assert why in last["message"]


def test_a_program_that_is_missing_too_is_named(emperor: Make) -> None:
    e = emperor(env=without_uwsgi()).start()
    e.write("a.ini", "[uwsgi]\nunprivileged-binary-patch = /nowhere/server\n")
    e.wait_condition("a.ini", "Ready", "False", "Blacklisted")
    last = e.wait_for(lambda: (e.get("a.ini") or {})["status"]["lastExit"])
    assert last["reason"] == "MissingProgram"
    assert "/nowhere/server" in last["message"]


@pytest.mark.as_root
def test_an_unknown_user_is_a_clear_failure(emperor: Make) -> None:
    e = emperor(env=without_uwsgi()).start()
    e.write("a.ini", "[uwsgi]\nuid = nosuchuser\nunprivileged-binary-patch-arg = sleep 3600\n")
    e.wait_condition("a.ini", "Ready", "False", "Blacklisted")
    last = e.wait_for(lambda: (e.get("a.ini") or {})["status"]["lastExit"])
    assert last["reason"] == "UnknownUser"


@pytest.mark.as_user
def test_an_ordinary_user_can_run_patches_too(emperor: Make) -> None:
    e = emperor("--emperor-curse-tolerance", "1", env=without_uwsgi()).start()
    e.write("a.ini", "[uwsgi]\nunprivileged-binary-patch-arg = exec sleep 3600\n")
    pid = e.wait_running("a.ini")
    assert psutil.Process(pid).uids().real == psutil.Process(e.pid).uids().real
    e.write("b.ini", "[uwsgi]\nuid = root\nunprivileged-binary-patch-arg = exec sleep 3600\n")
    e.wait_condition("b.ini", "Ready", "False", "Blacklisted")
    last = e.wait_for(lambda: (e.get("b.ini") or {})["status"]["lastExit"])
    assert last["reason"] == "NotPermitted"
    psutil.Process(pid).send_signal(SIGKILL)
    e.wait_running("a.ini", other_than=pid)
