"""Broodlord mode: byte 30, its zergs, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from signal import SIGHUP, SIGUSR1

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.conformance.stage import Puppet

_TWO = ("--emperor-broodlord", "2")


def _brood(court: Court, zergs: int = 2, *options: str) -> tuple[Puppet, list[Puppet]]:
    """A broodlord a.ini, which is loyal, and so many zergs that it called for one by one."""
    court.start(*_TWO, *options)
    lord = court.subject(loyal=True)
    found = []
    for number in range(1, zergs + 1):
        lord.say(30)
        found.append(court.wait_puppet("a.ini:zerg", number))
    _wait_zergs(court, zergs)
    return lord, found


def _wait_zergs(court: Court, count: int) -> None:
    court.wait_for(lambda: len(_zergs(court)) == count, f"{count} zergs in the statistics")


def _zergs(court: Court) -> list[dict[str, object]]:
    return [vassal for vassal in court.stats()["vassals"] if vassal["zerg"]]


@scenario(
    "A vassal says 30 twice (--emperor-broodlord 2)",
    uwsgi="a zerg for each: argv `--ini a.ini:zerg`, same directory, UWSGI_BROODLORD_NUM 1 and 2 (a counter over"
    " all); in the statistics zerg 1, born and last_mod now, and both have the id a.ini:zerg",
    emperorctl="the same, but the second one's id is a.ini:zerg2, and last_mod is the file's time",
    why="an id names one vassal, for `logs`, `stop` and everything else",
)
def test_zergs(court: Court) -> None:
    lord, (first, second) = _brood(court)
    assert first.argv == second.argv == ["--ini", "a.ini:zerg"]
    assert first.born["cwd"] == second.born["cwd"] == str(court.vassals)
    assert [zerg.env["UWSGI_BROODLORD_NUM"] for zerg in (first, second)] == ["1", "2"]
    assert "UWSGI_BROODLORD_NUM" not in lord.env
    found = _zergs(court)
    assert {vassal["pid"] for vassal in found} == {first.pid, second.pid}
    assert sorted(str(vassal["id"]) for vassal in found) == [
        "a.ini:zerg",
        "a.ini:zerg" if court.real else "a.ini:zerg2",
    ]
    broodlord = court.wait_vassal("a.ini")
    assert broodlord["zerg"] == 0
    assert all((vassal["last_mod"] == broodlord["last_mod"]) == (not court.real) for vassal in found)
    assert {vassal["monitor"] for vassal in found} == {broodlord["monitor"]}


@scenario(
    "More calls than the limit, from two vassals",
    uwsgi="the limit counts the zergs of all vassals together; further calls are dropped",
)
def test_limit(court: Court) -> None:
    lord, (first, _) = _brood(court)
    other = court.subject("b.ini", loyal=True)
    lord.say(30)
    other.say(30)
    court.wait_look()
    assert len(_zergs(court)) == 2
    first.order(exit=0)
    _wait_zergs(court, 1)
    other.say(30)
    zerg = court.wait_puppet("b.ini:zerg")
    assert zerg.env["UWSGI_BROODLORD_NUM"] == "3"
    assert len(court.stage.named("a.ini:zerg")) == 2


@scenario(
    "A loyal zerg dies",
    uwsgi="not started again, and not blacklisted; the next call brings another",
)
def test_zerg_dies(court: Court) -> None:
    lord, (zerg,) = _brood(court, 1)
    zerg.say(17)
    court.wait_for(lambda: _zergs(court)[0]["loyal"], "a loyal zerg")
    zerg.order(exit=1)
    _wait_zergs(court, 0)
    court.wait_look()
    assert len(court.stage.named("a.ini:zerg")) == 1
    assert not court.stats()["blacklist"]
    lord.say(30)
    court.wait_puppet("a.ini:zerg", 2)


@scenario(
    "Zergs die before they are loyal (--emperor-throttle 60000)",
    uwsgi="not started again, but blacklisted under their id; a call while that entry waits is dropped",
    emperorctl="not started again, and not blacklisted; the next call brings another",
    why="it is a call that starts a zerg, and no file: there is nothing to keep from being tried again",
)
def test_disloyal_zergs_die(court: Court) -> None:
    lord, zergs = _brood(court, 2, "--emperor-throttle", "60000")
    for number, zerg in enumerate(zergs, 1):
        zerg.order(exit=1)
        _wait_zergs(court, 2 - number)
    assert [entry["id"] for entry in court.stats()["blacklist"]] == (["a.ini:zerg"] if court.real else [])
    lord.say(30)
    court.wait_look()
    if not court.real:
        court.wait_puppet("a.ini:zerg", 3)
    assert len(court.stage.named("a.ini:zerg")) == (2 if court.real else 3)


@scenario("A zerg says 22", uwsgi="told 0, gone, and not started again")
def test_zerg_will(court: Court) -> None:
    _, (zerg,) = _brood(court, 1)
    zerg.say(17)
    zerg.say(22)
    zerg.wait_gone()
    assert zerg.bytes == [0]
    _wait_zergs(court, 0)
    court.wait_look()
    assert len(court.stage.named("a.ini:zerg")) == 1


@scenario(
    "The broodlord dies",
    uwsgi="started again; its zergs live on, and are told nothing",
)
def test_broodlord_dies(court: Court) -> None:
    lord, zergs = _brood(court)
    lord.order(exit=1)
    court.wait_puppet("a.ini", 2)
    court.wait_look()
    assert [zerg.bytes for zerg in zergs] == [[], []]
    assert {vassal["pid"] for vassal in _zergs(court)} == {zerg.pid for zerg in zergs}


@scenario(
    "The broodlord's file is removed",
    uwsgi="byte 0 to it and to its zergs; all are gone",
)
def test_broodlord_removed(court: Court) -> None:
    lord, zergs = _brood(court)
    court.remove("a.ini")
    for puppet in (lord, *zergs):
        puppet.wait_gone()
        assert puppet.bytes == [0]
    court.wait_for(lambda: not court.stats()["vassals"], "nothing is left")
    court.wait_look()
    assert len(court.stage.puppets) == 4


@scenario(
    "The broodlord's file is touched",
    uwsgi="byte 1 to the broodlord alone",
    emperorctl="byte 1 to the broodlord and its zergs",
    why="they run the same file: half of a site on the old config is a fault",
)
def test_broodlord_touched(court: Court) -> None:
    lord, zergs = _brood(court)
    court.touch("a.ini")
    lord.wait_bytes(1)
    court.wait_look()
    if not court.real:
        for zerg in zergs:
            zerg.wait_bytes(1)
    assert [zerg.bytes for zerg in zergs] == ([[], []] if court.real else [[1], [1]])


@scenario("SIGHUP with zergs", uwsgi="byte 1 to everybody, zergs included")
def test_hup_zergs(court: Court) -> None:
    lord, zergs = _brood(court)
    court.signal(SIGHUP)
    for puppet in (lord, *zergs):
        puppet.wait_bytes(1)


@scenario(
    "SIGUSR1 with a zerg",
    uwsgi="the zerg has a line of its own",
    emperorctl="the zerg has a row of its own",
    why="see SIGUSR1",
)
def test_usr1_zerg(court: Court) -> None:
    _brood(court, 1)
    court.signal(SIGUSR1)
    court.wait_log("a.ini:zerg")
    if court.real:
        court.wait_log("status 0 loyal 0 zerg 1\n")


@scenario("A vassal says 30 without --emperor-broodlord", uwsgi="ignored")
def test_no_broodlord(court: Court) -> None:
    court.start()
    court.subject().say(30)
    court.wait_look()
    assert not _zergs(court)
    assert not court.stage.named("a.ini:zerg")


@scenario(
    "Real zerg mode: a site with zerg-server calls for help (B in its master-fifo)",
    uwsgi="`uwsgi --ini a.ini:zerg` reads the section [zerg], attaches to the site's sockets and is ready; its idle"
    " time over, it asks to go (22) and is not started again",
)
def test_real_zerg(court: Court, uwsgi_python: Path) -> None:
    root = court.root
    common = f"master = true\nprocesses = 1\nwsgi-file = {root}/app.py\nneed-app = true\n"
    (root / "app.py").write_text(
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return []\n"
    )
    lord = f"socket = {root}/site\nzerg-server = {root}/zerg\nmaster-fifo = {root}/fifo\n"
    zerg = f"zerg = {root}/zerg\nidle = 1\ndie-on-idle = true\n"
    court.write("a.ini", f"[uwsgi]\n{lord}{common}[zerg]\n{zerg}{common}")
    court.start(*_TWO, puppets=False)
    court.wait_vassal("a.ini", accepting=1)
    court.wait_for((root / "zerg").exists, "the zerg server")
    with open(root / "fifo", "w") as fifo:
        fifo.write("B")
    vassal = court.wait_vassal("a.ini:zerg", ready=1, accepting=1)
    assert vassal["zerg"] == 1
    court.wait_log("zerg sockets attached")
    court.wait_for(lambda: not court.all_of("a.ini:zerg"), "it is gone, once idle")
    court.wait_vassal("a.ini", accepting=1)
