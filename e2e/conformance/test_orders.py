"""Signals to the Emperor, reloads under load, and its end."""

from __future__ import annotations

import http.client
import os
import re
import threading
import time
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1

import psutil
import pytest

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.conformance.site import Reply, Site
from e2e.harness import alive, wait_for


@scenario(
    "SIGHUP",
    uwsgi="byte 1 to every vassal: respawns + 1, last_run now, and last_mod now",
    emperorctl="byte 1 to every vassal: respawns + 1, last_run now; last_mod stays the file's time",
    why="last_mod is when the file was modified",
)
def test_hup(court: Court) -> None:
    court.start()
    puppets = {name: court.subject(name) for name in ("a.ini", "b.ini")}
    before = {name: court.wait_vassal(name) for name in puppets}
    court.signal(SIGHUP)
    for name, puppet in puppets.items():
        puppet.wait_bytes(1)
        after = court.wait_vassal(name, respawns=1, accepting=1)
        assert after["pid"] == puppet.pid
        assert after["last_run"] >= before[name]["last_run"]
        assert after["first_run"] == before[name]["first_run"]
        assert (after["last_mod"] == before[name]["last_mod"]) == (not court.real)
        assert puppet.bytes == [1]


@scenario(
    "SIGUSR1",
    uwsgi="a line for each vassal in its log: `vassal instance a.ini (last modified T) status 0 loyal 1 zerg 0`",
    emperorctl="the table of `get vassals` in its log",
    why="it says more, in the form that people know from the command",
)
def test_usr1(court: Court) -> None:
    court.start()
    court.subject(loyal=True)
    stamp = court.wait_vassal("a.ini")["last_mod"]
    court.signal(SIGUSR1)
    if court.real:
        court.wait_log(f"vassal instance a.ini (last modified {stamp}) status 0 loyal 1 zerg 0\n")
    else:
        row = re.compile(r"^.*\ba\.ini +1/1 +Running +True +0 ", re.MULTILINE)
        court.wait_for(lambda: row.search(court.log()), "the row of a.ini")
        assert "NAME" in court.log()


@scenario(
    "SIGTERM, SIGINT or SIGQUIT to the Emperor",
    uwsgi="Ragnarok: byte 0 to every vassal, no signal; exit code 0 when all have gone",
)
@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGQUIT])
def test_ragnarok(court: Court, number: int) -> None:
    court.start()
    puppets = [court.subject(name) for name in ("a.ini", "b.ini")]
    assert court.stop(number) == 0
    for puppet in puppets:
        puppet.wait_gone()
        assert puppet.bytes == [0]
        assert puppet.exit_code == 0
        assert not puppet.signals
    assert len(court.stage.puppets) == 2


@scenario(
    "--emperor-graceful-shutdown",
    uwsgi="byte 2 in place of 0 at every stop: when a file goes, and at Ragnarok",
)
def test_graceful(court: Court) -> None:
    court.start("--emperor-graceful-shutdown")
    first, second = (court.subject(name) for name in ("a.ini", "b.ini"))
    court.remove("a.ini")
    first.wait_gone()
    assert first.bytes == [2]
    assert court.stop() == 0
    second.wait_gone()
    assert second.bytes == [2]


@scenario(
    "--emperor-pidfile",
    uwsgi="the Emperor's pid and a line break; the file stays when the Emperor has ended",
    emperorctl="the same, but the file goes with the Emperor",
    why="what is left behind names a stranger some day",
)
def test_pidfile(court: Court) -> None:
    path = court.root / "pid"
    court.start("--emperor-pidfile", str(path))
    assert court.wait_for(path.exists, "the file") and path.read_text() == f"{court.pid}\n"
    assert court.stop() == 0
    assert path.exists() == court.real


@scenario(
    "--emperor-procname",
    uwsgi="the name is the command line of the Emperor's process",
    emperorctl="the name is what ps, top and pgrep call the process; the command line stays",
    why="the command line says how the Emperor was started, which nothing else does",
)
def test_procname(court: Court) -> None:
    court.start("--emperor-procname", "augustus")
    process = psutil.Process(court.pid)
    if court.real:
        assert process.cmdline()[0].rstrip("\0 ") == "augustus"
    else:
        assert Path(f"/proc/{court.pid}/comm").read_text() == "augustus\n"
        assert "run" in process.cmdline()


@scenario(
    "--imperial-monitor-list",
    uwsgi="`dir` and `glob`, with whatever its plugins add; then it goes on as if the option were not there",
    emperorctl="`dir://` and `glob://`, with what may follow them; then it ends with exit code 0",
    why="who asks for a list wants no server",
)
def test_monitor_list(court: Court) -> None:
    done = court.command("--imperial-monitor-list")
    words = {line.partition("://")[0] for line in done.stdout.splitlines()}
    assert {"dir", "glob"} <= words
    assert (done.returncode == 0) == (not court.real)


@scenario(
    "Ragnarok with a vassal that takes no notice (--reload-mercy 2)",
    uwsgi="SIGKILL after the mercy, exit code 0; the others are stopped in peace",
)
def test_mercy(court: Court) -> None:
    court.start("--reload-mercy", "2")
    stubborn = court.subject("a.ini")
    stubborn.order(stubborn=True)
    other = court.subject("b.ini")
    assert court.stop() == 0
    stubborn.wait_gone()
    assert stubborn.bytes == [0]
    assert stubborn.exit_code is None
    assert not stubborn.signals
    assert other.exit_code == 0


@scenario(
    "A second SIGTERM during Ragnarok (--reload-mercy 4)",
    uwsgi="only logged: `RAGNAROK ALREADY EVOKED`; the mercy runs on",
    emperorctl="no more mercy: SIGKILL to whoever is left, at once; exit code 0",
    why="who asks twice is in a hurry",
)
def test_second_term(court: Court) -> None:
    court.start("--reload-mercy", "4")
    puppet = court.subject()
    puppet.order(stubborn=True)
    court.signal(SIGTERM)
    puppet.wait_bytes(0)
    court.signal(SIGTERM)
    if court.real:
        court.wait_log("RAGNAROK ALREADY EVOKED")
        assert not puppet.gone
    assert court.wait() == 0
    puppet.wait_gone()
    assert puppet.exit_code is None


@scenario(
    "SIGKILL to the Emperor",
    uwsgi="no vassal is left, not even a stubborn one; programs that a vassal started live on",
    emperorctl="no vassal is left, nor anything that one started",
    why="what is left behind holds ports and files against the next Emperor",
)
def test_kill(court: Court) -> None:
    court.start()
    puppets = [court.subject(name) for name in ("a.ini", "b.ini")]
    for puppet in puppets:
        puppet.order(stubborn=True)
    child = puppets[0].child()
    court.signal(SIGKILL)
    assert court.wait() == -SIGKILL
    for puppet in puppets:
        puppet.wait_gone()
        assert puppet.exit_code is None
        assert puppet.bytes in ([], [-1])
    if court.real:
        assert alive(child)
        os.kill(child, SIGKILL)
    wait_for(lambda: not alive(child), what="what the vassal started is gone")


@scenario(
    "SIGKILL to the Emperor of a real site",
    uwsgi="master and workers are gone within a moment",
)
def test_kill_site(court: Court, uwsgi_python: Path, free_port: int) -> None:
    site = Site(court, free_port, processes="2")
    court.write("a.ini", site.config())
    court.start(puppets=False)
    master = psutil.Process(site.wait_reply().master)
    family = [master.pid, *(child.pid for child in master.children(recursive=True))]
    assert len(family) == 3
    court.signal(SIGKILL)
    assert court.wait() == -SIGKILL
    wait_for(lambda: not any(alive(pid) for pid in family), what="master and workers are gone")
    assert site.answers() is None


@scenario(
    "Three reloads of a real site under constant requests",
    uwsgi="no connection refused, no request lost; the master keeps its pid, the workers do not",
)
def test_reload_under_load(court: Court, uwsgi_python: Path, free_port: int) -> None:
    site = Site(court, free_port)
    court.write("a.ini", site.config())
    court.start(puppets=False)
    master = site.wait_reply().master
    seen: list[Reply] = []
    failed: list[str] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            try:
                seen.append(site.ask())
            except (OSError, http.client.HTTPException) as error:
                failed.append(repr(error))

    clients = [threading.Thread(target=keep_asking) for _ in range(2)]
    for client in clients:
        client.start()
    known: set[int] = set()
    try:
        for number in range(1, 4):
            known.add(site.ask().worker)
            court.touch("a.ini")
            court.wait_vassal("a.ini", respawns=number, accepting=1)
            court.wait_for(lambda: seen[-1].worker not in known, "another worker answers")
    finally:
        over.set()
        for client in clients:
            client.join()
    assert not failed, failed[:3]
    assert {reply.master for reply in seen} == {master}
    assert len({reply.worker for reply in seen}) == 4


@scenario(
    "The Emperor's files after its end",
    uwsgi="the vassal files are as they were; the stats socket is left behind",
    emperorctl="the vassal files are as they were; the stats socket is removed",
    why="a socket that nobody listens to misleads whoever finds it",
)
def test_files_after(court: Court) -> None:
    stamp = court.write("a.ini", "[uwsgi]\n# as it was\n")
    court.start()
    court.subject()
    begun = time.time()
    assert court.stop() == 0
    assert [path.name for path in court.vassals.iterdir()] == ["a.ini"]
    assert (court.vassals / "a.ini").read_text() == "[uwsgi]\n# as it was\n"
    assert (court.vassals / "a.ini").stat().st_mtime == stamp < begun
    assert court.address.exists() == court.real
