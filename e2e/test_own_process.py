"""What the Emperor does to its own process: its name, its pid file, orphans; and how gracefully it lets vassals go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from e2e.harness import Emperor, alive
from emperorctl.reconciler.runtime import zygote

Make = Callable[..., Emperor]
SLEEPER = ["sleep", "1000"]

LISTENER = """#!{python} -IS
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
fd = int(os.environ["UWSGI_EMPEROR_FD"])
os.write(fd, bytes([1, 5]))
with open({out!r}, "a", buffering=1) as out:
    while byte := os.read(fd, 1):
        print(byte[0], file=out)
        if byte[0] in (0, 2):
            break
"""


def test_the_pid_file_comes_and_goes(emperor: Make) -> None:
    e = emperor()
    path = e.root / "pid"
    path.write_text("4711\n")
    e.options.append(f"--emperor-pidfile={path}")
    e.start()
    assert path.read_text() == f"{e.pid}\n"
    e.stop()
    assert not path.exists()


def test_nothing_but_a_pid_file_is_replaced_and_nothing_is_started(emperor: Make) -> None:
    e = emperor()
    path = e.root / "precious"
    path.write_text("precious\n")
    e.options.append(f"--emperor-pidfile={path}")
    e.manifest("shop", SLEEPER)
    e.start(ready=False)
    assert e.wait() == 1
    assert "holds something else than a pid" in e.log()
    assert path.read_text() == "precious\n"


def test_a_second_emperor_leaves_the_first_ones_pid_file_alone(emperor: Make) -> None:
    e = emperor()
    path = e.root / "pid"
    e.options.append(f"--emperor-pidfile={path}")
    e.start()
    other = emperor(f"--emperor-pidfile={path}")
    other.socket = e.socket
    other.start(ready=False)
    assert other.wait() == 1
    assert path.read_text() == f"{e.pid}\n"


def test_the_process_has_the_name_that_was_asked_for(emperor: Make) -> None:
    e = emperor("--emperor-procname=the-emperor-of-all").start()
    assert Path(f"/proc/{e.pid}/comm").read_text() == "the-emperor-of-\n"


@pytest.mark.parametrize(("options", "byte"), [((), "0"), (("--emperor-graceful-shutdown",), "2")])
def test_how_uwsgi_vassals_are_told_to_stop(emperor: Make, options: tuple[str, ...], byte: str) -> None:
    e = emperor(*options)
    out, program = e.root / "heard", e.root / "listener"
    program.write_text(LISTENER.format(python=sys.executable, out=str(out)))
    program.chmod(0o755)
    e.options.append(f"--emperor-wrapper={program}")
    e.write("a.ini", "[uwsgi]\n")
    e.write("b.ini", "[uwsgi]\n")
    e.start()
    for name in ("a.ini", "b.ini"):
        e.wait_condition(name, "Ready", "True", "Accepting")
    (e.vassals / "a.ini").unlink()
    e.wait_absent("a.ini")
    assert out.read_text().split() == [byte]
    e.stop()
    assert out.read_text().split() == [byte, byte]


def test_orphans_come_to_the_emperor_and_leave_no_zombies(emperor: Make) -> None:
    e = emperor("--emperor-subreaper")
    pids = e.root / "pids"
    script = f"(sleep 1000 & echo $! > {pids}.new; mv {pids}.new {pids}); exec sleep 1000"
    e.manifest("shop", ["sh", "-c", script])
    e.start()
    e.wait_running("shop")
    orphan = int(e.wait_for(lambda: pids.exists() and pids.read_text(), what="the grandchild says who it is"))
    e.wait_for(lambda: psutil.Process(orphan).ppid() == e.pid, what="the Emperor is its parent now")
    os.kill(orphan, signal.SIGKILL)
    e.wait_for(lambda: not psutil.pid_exists(orphan), what="it is reaped")
    assert e.phase("shop") == "Running"


def test_orphans_end_with_their_vassal(emperor: Make) -> None:
    e = emperor("--emperor-subreaper")
    pids = e.root / "pids"
    script = f"setsid sh -c 'echo $$ > {pids}.new; mv {pids}.new {pids}; exec sleep 1000' & exec sleep 1000"
    file = e.manifest("shop", ["sh", "-c", script])
    e.start()
    e.wait_running("shop")
    orphan = int(e.wait_for(lambda: pids.exists() and pids.read_text(), what="the grandchild says who it is"))
    file.unlink()
    e.wait_absent("shop")
    e.wait_for(lambda: not alive(orphan), what="the grandchild is gone")
    e.wait_for(lambda: not psutil.pid_exists(orphan), what="it is reaped")


def test_the_zygote_loads_little() -> None:
    """Each module that it holds costs every launch."""
    directory = Path(zygote.__file__).parent.parent
    program = f"import sys; sys.path.append({str(directory)!r}); import zygote.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert not {"typing", "re", "enum", "collections", "json", "contextlib"} & set(done.stdout.split())
