"""`emperorctl convert` to its end: what other supervisors read is converted, put into a directory, and really run.

Every expectation is what the other supervisor would have run, written out; nothing is computed from the manifest.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import psutil
import pytest

from e2e.harness import Emperor

Make = Callable[..., Emperor]

# Writes down how it was started, in one go; then notes the signals that it gets, and ends with all but HUP and USR1.
# A shell is what every user may execute.
WITNESS = """#!/bin/sh
name=$1
out={notes}/$1.$$
for signal in HUP USR1; do trap "echo $signal >> $out.signals" $signal; done
for signal in TERM INT QUIT USR2; do trap "echo $signal >> $out.signals; exit 0" $signal; done
{{
    echo "pid $$"
    for word in "$@"; do echo "argv $word"; done
    echo "cwd $(pwd)"
    echo "umask $(umask)"
    env | sed 's/^/env /'
    sed 's/^/status /' /proc/$$/status
    sed 's/^Max //; s/   */|/g; s/^/limit /' /proc/$$/limits
    echo "nice $(cut -d' ' -f19 /proc/$$/stat)"
}} > $out.new
mv $out.new $out
echo "$name speaks"
while :; do sleep 1000 & wait $!; done
"""

NOTIFIER = """#!{python} -IS
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"READY=1\\nSTATUS=open for business", os.environ["NOTIFY_SOCKET"])
time.sleep(1000)
"""


class Seen:
    """What one witness wrote down."""

    def __init__(self, path: Path) -> None:
        pairs = [line.partition(" ")[::2] for line in path.read_text().splitlines()]
        self.path = path
        self.words = [value for key, value in pairs if key == "argv"]
        self.env = dict(value.partition("=")[::2] for key, value in pairs if key == "env")
        self.limits = {cells[0]: tuple(cells[1:3]) for key, value in pairs if key == "limit"
                       for cells in [value.split("|")]}  # fmt: skip
        status = [value.partition(":")[::2] for key, value in pairs if key == "status"]
        self.status = {key: value.split() for key, value in status}
        said = dict(pairs)
        self.pid, self.cwd, self.umask, self.nice = int(said["pid"]), said["cwd"], said["umask"], int(said["nice"])

    @property
    def signals(self) -> list[str]:
        """The signals that it has noted so far."""
        path = Path(f"{self.path}.signals")
        return path.read_text().split() if path.exists() else []


class Move:
    """The place that vassals are moved from, and the Emperor that they move to."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        self.old = emperor.root / "old"
        self.notes = emperor.root / "notes"
        self.site = self.old / "site"
        for path, mode in ((self.old, 0o755), (self.notes, 0o777), (self.site, 0o755)):
            path.mkdir()
            path.chmod(mode)
        self.witness = self.program("witness", WITNESS.format(notes=self.notes))
        if emperor.user is not None:
            for path in (self.old, self.site):
                os.chown(path, emperor.user, emperor.user)

    def program(self, name: str, text: str) -> Path:
        """A program of the other supervisor's."""
        path = self.old / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def convert(self, file: str, text: str) -> str:
        """Write the other supervisor's file, convert it into the vassals' directory; what was said on stderr."""
        path = self.old / file
        path.write_text(text)
        done = self.emperor.cli("convert", str(path), "--output-dir", str(self.emperor.vassals))
        assert done.returncode == 0, done.stderr
        made = [Path(line) for line in done.stdout.splitlines()]
        assert made and all(one.parent == self.emperor.vassals and one.suffix == ".yaml" for one in made)
        checked = self.emperor.cli("validate", str(self.emperor.vassals))
        assert checked.returncode == 0, checked.stderr
        return done.stderr

    def seen(self, name: str, count: int = 1) -> Seen:
        """Wait for so many starts of this witness; the newest."""

        def look() -> Path | None:
            found = [path for path in self.notes.glob(f"{name}.*") if path.suffix[1:].isdigit()]
            return max(found, key=lambda path: path.stat().st_mtime_ns) if len(found) >= count else None

        return Seen(self.emperor.wait_for(look, what=f"start {count} of {name}"))

    def stopped_by(self, vassal: str, seen: Seen) -> list[str]:
        """Remove a vassal's manifest; the signals that its process got for it."""
        (self.emperor.vassals / f"{vassal}.yaml").unlink()
        self.emperor.wait_absent(vassal)
        return seen.signals


@pytest.fixture
def move(emperor: Make) -> Move:
    """An Emperor that is not yet started, beside the files of another supervisor."""
    return Move(emperor())


def without(said: str, *settings: str) -> list[str]:
    """Which of these settings are not named as left behind or changed."""
    lines = [line for line in said.splitlines() if "not carried over: " in line or "changed: " in line]
    return [setting for setting in settings if not any(f": {setting} " in line for line in lines)]


SUPERVISORD = """[unix_http_server]
file = /run/supervisor.sock

[supervisord]
environment = SHARED="one",LAMP="general"
minfds = 1024

[program:web]
command = %(here)s/witness web-%(process_num)02d --port=80%(process_num)02d "two words" 100%%  ; a comment
process_name = %(program_name)s-%(process_num)02d
numprocs = 2
directory = %(here)s/site
umask = 027
environment = GREETING="hello, %(program_name)s",LAMP='own'
stopsignal = USR2
stopwaitsecs = 7
startsecs = 1
autorestart = unexpected
exitcodes = 0
stdout_logfile = /var/log/web.log
stdout_logfile_maxbytes = 5MB
priority = 5

[program:job]
command = sh -c "exec %(ENV_TOOL)s"
autorestart = false
startretries = 3

[eventlistener:mail]
command = crashmail
"""


def test_supervisord(move: Move) -> None:
    said = move.convert("supervisord.conf", SUPERVISORD)
    left = without(
        said, "autorestart = unexpected", "exitcodes = 0", "stdout_logfile = /var/log/web.log", "priority = 5",
        "[supervisord] minfds = 1024", "[unix_http_server] file = /run/supervisor.sock", "autorestart = false",
        "startretries = 3", "[eventlistener:mail] command = crashmail",
    )  # fmt: skip
    assert left == []
    assert "%(ENV_TOOL)s is not known here" in said
    e = move.emperor.start()
    for number in ("00", "01"):
        seen = move.seen(f"web-{number}")
        assert seen.words == [f"web-{number}", f"--port=80{number}", "two words", "100%"]
        assert seen.cwd == str(move.site)
        assert seen.umask == "0027"
        assert {key: seen.env[key] for key in ("SHARED", "LAMP", "GREETING")} == {
            "SHARED": "one", "LAMP": "own", "GREETING": "hello, web",
        }  # fmt: skip
    seen = move.seen("web-00")
    e.wait_condition("web-00", "Loyal", "True")
    assert "web-00 speaks" in e.cli("logs", "web-00").stdout
    psutil.Process(seen.pid).send_signal(SIGKILL)  # unexpected, as supervisord would say
    again = move.seen("web-00", 2)
    e.wait_condition("web-00", "Loyal", "True")
    psutil.Process(again.pid).terminate()  # it ends with exit code 0, and is started again as the note says
    third = move.seen("web-00", 3)
    assert move.stopped_by("web-00", third) == ["USR2"]


@pytest.mark.as_root
def test_supervisord_user(move: Move) -> None:
    text = (
        "[supervisord]\nuser = nobody\n[program:{0}]\ncommand = {1} {0}\n[program:{2}]\ncommand = {1} {2}\nuser = 0\n"
    )
    move.convert("supervisord.conf", text.format("web", move.witness, "adm"))
    move.emperor.start()
    nobody = pwd.getpwnam("nobody")
    seen = move.seen("web")
    assert seen.status["Uid"] == [str(nobody.pw_uid)] * 4
    assert seen.status["Gid"] == [str(nobody.pw_gid)] * 4
    assert seen.status["Groups"] == [str(gid) for gid in os.getgrouplist("nobody", nobody.pw_gid)]
    assert (seen.env["USER"], seen.env["HOME"]) == ("nobody", nobody.pw_dir)
    assert move.seen("adm").status["Uid"] == ["0"] * 4


CIRCUS = """[circus]
check_delay = 5

[watcher:web]
cmd = {old}/$(circus.env.tool)
args = web-$(circus.wid) --worker=((CIRCUS.WID))
numprocesses = 2
working_dir = {old}/site
stop_signal = INT
graceful_timeout = 4
send_hup = true
rlimit_nofile = 321
rlimit_core = 0
copy_env = true
max_retry = 5
singleton = false
stdout_stream.class = FileStream
hooks.before_start = site.hooks.check

[env]
shared = one

[env:w*]
tool = witness
greeting = hello

[env:other]
greeting = not ours

[socket:front]
port = 80
"""


def test_circus(move: Move) -> None:
    said = move.convert("circus.ini", CIRCUS.format(old=move.old))
    left = without(
        said, "[circus] check_delay = 5", "copy_env = true", "max_retry = 5", "[socket:front] port = 80",
        "stdout_stream.class = FileStream", "hooks.before_start = site.hooks.check",
    )  # fmt: skip
    assert left == []
    e = move.emperor.start()
    for number in ("1", "2"):
        seen = move.seen(f"web-{number}")
        assert seen.words == [f"web-{number}", f"--worker={number}"]
        assert seen.cwd == str(move.site)
        assert (seen.env["SHARED"], seen.env["GREETING"]) == ("one", "hello")  # circus makes them capitals
        assert seen.limits["open files"] == ("321", "321")
        assert seen.limits["core file size"] == ("0", "0")
    seen = move.seen("web-1")
    pid = e.wait_running("web-1")
    os.utime(e.vassals / "web-1.yaml", (1, 1))
    e.wait_for(lambda: seen.signals == ["HUP"], what="send_hup: a reload is SIGHUP")
    assert e.main_pid("web-1") == pid == seen.pid
    psutil.Process(pid).send_signal(SIGKILL)
    again = move.seen("web-1", 2)
    assert move.stopped_by("web-1", again) == ["INT"]


@pytest.mark.as_root
def test_circus_user(move: Move) -> None:
    move.convert("circus.ini", f"[watcher:web]\ncmd = {move.witness} web\nuid = nobody\ngid = daemon\n")
    move.emperor.start()
    seen = move.seen("web")
    assert seen.status["Uid"] == [str(pwd.getpwnam("nobody").pw_uid)] * 4
    assert seen.status["Gid"] == ["1"] * 4


PROCFILE = """# what runs
web: GREETING="hello there" ./witness web --port $PORT
worker: cd site && exec ../witness worker 100% "$PORT" 'a b'
plain: ./witness plain 'two words'
release: ./witness release
"""


def test_procfile(move: Move) -> None:
    said = move.convert("Procfile", PROCFILE)
    assert "release: ./witness release" in said or "release = ./witness release" in said
    assert without(said, "PORT = 5000") == []
    (move.emperor.vassals / "release.yaml").unlink()
    e = move.emperor.start()
    web, worker, plain = (move.seen(name) for name in ("web", "worker", "plain"))
    assert web.words == ["web", "--port", "5000"]
    assert web.env["GREETING"] == "hello there"
    assert web.cwd == str(move.old)
    assert worker.words == ["worker", "100%", "5100", "a b"]
    assert worker.cwd == str(move.site)
    assert (plain.words, plain.env["PORT"]) == (["plain", "two words"], "5200")
    for name, seen in (("web", web), ("worker", worker), ("plain", plain)):
        assert e.wait_running(name) == seen.pid, "the program itself gets the signals, not a shell"
    assert move.stopped_by("worker", worker) == ["TERM"]


UNIT = """[Unit]
Description=The shop
After=network.target
StartLimitBurst=3

[Service]
Environment=GREETING=hello "WHOM=the world" PERCENT=100%%
Environment=PORT=8000
WorkingDirectory={old}/site
UMask=0077
Nice=3
LimitNOFILE=200:300
LimitCORE=0
ExecStartPre={old}/witness-once pre $GREETING
ExecStart={old}/witness %N --port=${{PORT}} $WHOM "${{WHOM}}" $$HOME \\
    --unit=%n
ExecReload=/bin/kill -USR1 $MAINPID
ExecStopPost={old}/witness-once post
KillSignal=SIGINT
TimeoutStopSec=1min 5s
Restart=on-failure
RestartSec=5
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def test_systemd(move: Move) -> None:
    diary = move.notes / "diary"
    move.program("witness-once", f'#!/bin/sh\necho "$@" in $(pwd) >> {diary}\n')
    said = move.convert("shop.service", UNIT.format(old=move.old))
    left = without(
        said, "After = network.target", "StartLimitBurst = 3", "Restart = on-failure", "RestartSec = 5",
        "PrivateTmp = yes", "WantedBy = multi-user.target",
    )  # fmt: skip
    assert left == []
    e = move.emperor.start()
    seen = move.seen("shop")
    assert seen.words == ["shop", "--port=8000", "the", "world", "the world", "$HOME", "--unit=shop.service"]
    assert (seen.env["GREETING"], seen.env["WHOM"], seen.env["PERCENT"]) == ("hello", "the world", "100%")
    assert seen.cwd == str(move.site)
    assert seen.umask == "0077"
    assert seen.nice == 3
    assert seen.limits["open files"] == ("200", "300")
    assert seen.limits["core file size"] == ("0", "0")
    assert diary.read_text() == f"pre hello in {move.site}\n"
    pid = e.wait_running("shop")
    found = e.get("shop")
    assert found is not None and found["metadata"]["annotations"]["description"] == "The shop"
    assert found["spec"]["stop"]["gracePeriod"] == "1m5s"
    e.cli("reload", "shop")
    e.wait_for(lambda: seen.signals == ["USR1"], what="the reload is the unit's")
    assert e.main_pid("shop") == pid == seen.pid
    assert move.stopped_by("shop", seen) == ["USR1", "INT"]
    assert diary.read_text().splitlines()[1:] == [f"post in {move.site}"]


def test_systemd_notify(move: Move) -> None:
    program = move.program("notifier", NOTIFIER.format(python=sys.executable))
    move.convert("shop.service", f"[Service]\nType=notify\nRestart=always\nExecStart={program}\n")
    e = move.emperor.start()
    assert e.wait_condition("shop", "Ready", "True")
    found = e.get("shop")
    assert found is not None and "open for business" in str(found["status"])


@pytest.mark.as_root
def test_systemd_template_and_user(move: Move) -> None:
    text = f"[Service]\nUser=nobody\nGroup=daemon\nRestart=always\nExecStart={move.witness} job-%i\n"
    said = move.convert("job@.service", text)
    assert "a template: copy the file to INSTANCE.yaml without metadata.name" in said
    template = move.emperor.vassals / "job.yaml"
    lines = [line for line in template.read_text().splitlines() if not line.startswith(("metadata:", "  name:"))]
    (move.emperor.vassals / "blue.yaml").write_text("\n".join(lines) + "\n")
    template.unlink()
    move.emperor.start()
    seen = move.seen("job-blue")
    assert seen.status["Uid"] == [str(pwd.getpwnam("nobody").pw_uid)] * 4
    assert seen.status["Gid"] == ["1"] * 4
    assert seen.cwd == "/"


PATCH = """[uwsgi]
who = world
greeting = hello %(who)
env = GREETING=%(greeting)
env = FILE=%s in %c
umask = 027
master = true
{identity}
{option} = exec {witness} %n "two words" 100%%
"""


@pytest.mark.as_root
def test_a_binary_patch_runs_as_it_did_under_uwsgi(move: Move, uwsgi_bin: Path) -> None:
    text = PATCH.format(witness=move.witness, option="unprivileged-binary-patch-arg", identity="uid = 65534\ngid = 1")
    (move.emperor.vassals / "before.ini").write_text(text)
    said = move.convert("after.ini", text)
    assert without(said, "master = true") == []
    move.emperor.options += ["--emperor-curse-tolerance", "1"]  # under uWSGI, it hears of no order to stop
    move.emperor.start()
    for name in ("before", "after"):
        seen = move.seen(name)
        assert seen.words == [name, "two words", "100%"]
        assert (seen.env["GREETING"], seen.umask) == ("hello world", "0027")
        assert seen.cwd == str(move.emperor.vassals)
        assert seen.status["Uid"] == ["65534"] * 4
        assert seen.status["Gid"] == ["1"] * 4


def test_a_privileged_patch_needs_no_uwsgi_afterwards(move: Move) -> None:
    text = PATCH.format(witness=move.witness, option="privileged-binary-patch-arg", identity="chdir = /")
    said = move.convert("shop.ini", text)
    assert without(said, "chdir = /", "master = true") == []
    e = move.emperor
    e.options += ["--binary-path", "/nowhere/uwsgi"]
    e.start()
    seen = move.seen("shop")
    assert seen.words == ["shop", "two words", "100%"]
    assert seen.env["GREETING"] == "hello world"
    assert seen.env["FILE"] == "shop.ini in vassals"
    assert move.stopped_by("shop", seen) == ["TERM"]


def test_what_is_printed_can_be_piped_into_the_directory(move: Move) -> None:
    (move.old / "supervisord.conf").write_text(SUPERVISORD)
    e = move.emperor.start()
    done = e.cli("convert", str(move.old / "supervisord.conf"))
    assert done.returncode == 0
    e.write("all.yaml", done.stdout)
    for number in ("00", "01"):
        assert e.wait_running(f"web-{number}") == move.seen(f"web-{number}").pid


def test_an_ordinary_config_is_sent_back(move: Move) -> None:
    (move.old / "site.ini").write_text("[uwsgi]\nsocket = :3031\nmaster = true\n")
    done = move.emperor.cli("convert", str(move.old / "site.ini"))
    assert done.returncode == 1 and done.stdout == ""
    assert "runs under emperorctl unchanged" in done.stderr
