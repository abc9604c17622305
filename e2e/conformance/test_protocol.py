"""What a vassal may say to its Emperor, or fail to say: will, curse, heartbeats, garbage."""

from __future__ import annotations

from pathlib import Path

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.conformance.site import Site


@scenario(
    "A loyal vassal says 22 (I want to go)",
    uwsgi="told 0; once gone it is started again by the next scan, since its file is still there",
)
def test_will(court: Court) -> None:
    court.start()
    puppet = court.subject(loyal=True)
    puppet.say(22)
    puppet.wait_gone()
    assert puppet.bytes == [0]
    assert puppet.exit_code == 0
    court.wait_puppet("a.ini", 2)
    assert not court.blacklisted("a.ini")


@scenario(
    "A vassal says 22 before it is loyal",
    uwsgi="the same, and blacklisted",
)
def test_disloyal_will(court: Court) -> None:
    court.start()
    puppet = court.subject()
    puppet.say(22)
    puppet.wait_gone()
    assert puppet.bytes == [0]
    court.wait_puppet("a.ini", 2)
    assert court.blacklisted("a.ini")


@scenario(
    "A real site with die-on-idle, idle = 1, not on demand",
    uwsgi="after a moment without requests it asks to go, is stopped, and comes back",
)
def test_die_on_idle(court: Court, uwsgi_python: Path, free_port: int) -> None:
    site = Site(court, free_port, idle="1", die_on_idle="true")
    court.write("a.ini", site.config())
    court.start(puppets=False)
    first = court.wait_vassal("a.ini", accepting=1)
    site.ask()
    court.wait_for(lambda: (now := court.vassal("a.ini")) and now["pid"] != first["pid"], "another one takes its place")
    court.wait_vassal("a.ini", accepting=1)
    assert site.ask().master != first["pid"]


@scenario(
    "A vassal closes its protocol socket and lives on (--emperor-curse-tolerance 2)",
    uwsgi="cursed is the time of it; SIGKILL after the tolerance, then started again",
)
def test_curse(court: Court) -> None:
    court.start("--emperor-curse-tolerance", "2")
    puppet = court.subject(loyal=True)
    puppet.order(close=True, stubborn=True)
    cursed = court.wait_for(lambda: (now := court.vassal("a.ini")) and now["cursed"], "it is cursed")
    vassal = court.wait_vassal("a.ini", pid=puppet.pid)
    assert vassal["cursed"] == cursed >= vassal["first_run"]
    puppet.wait_gone()
    assert puppet.exit_code is None
    assert not puppet.signals
    court.wait_puppet("a.ini", 2)
    assert court.wait_vassal("a.ini")["cursed"] == 0
    assert not court.blacklisted("a.ini")


@scenario(
    "One that is cursed ends by itself before the tolerance is over",
    uwsgi="an ordinary death: started again",
)
def test_curse_ends(court: Court) -> None:
    court.start()
    puppet = court.subject(loyal=True)
    puppet.order(close=True)
    court.wait_for(lambda: (now := court.vassal("a.ini")) and now["cursed"], "it is cursed")
    puppet.order(exit=0)
    court.wait_puppet("a.ini", 2)


@scenario(
    "One that is cursed is touched",
    uwsgi="nothing, until the tolerance (30 s) is over",
    emperorctl="it can't hear of it: killed at once, and started again",
    why="an order to reload is carried out, whatever the vassal has done to its socket",
)
def test_curse_touched(court: Court) -> None:
    court.start()
    puppet = court.subject(loyal=True)
    puppet.order(close=True, stubborn=True)
    court.wait_for(lambda: (now := court.vassal("a.ini")) and now["cursed"], "it is cursed")
    court.touch("a.ini")
    court.wait_look()
    if not court.real:
        court.wait_puppet("a.ini", 2)
    assert puppet.gone == (not court.real)


@scenario(
    "A vassal takes no notice of byte 0 (its file is gone; --emperor-curse-tolerance 2)",
    uwsgi="SIGKILL after the tolerance; until then, cursed is the time of the order to stop",
    emperorctl="SIGKILL after the tolerance; cursed is 0",
    why="it still keeps its protocol socket, which is what cursed is about",
)
def test_stubborn(court: Court) -> None:
    court.start("--emperor-curse-tolerance", "2")
    puppet = court.subject(loyal=True)
    puppet.order(stubborn=True)
    court.remove("a.ini")
    puppet.wait_bytes(0)
    assert bool(court.wait_vassal("a.ini", pid=puppet.pid)["cursed"]) == court.real
    puppet.wait_gone()
    assert puppet.bytes == [0]
    assert puppet.exit_code is None
    assert not puppet.signals
    court.wait_for(lambda: not court.stats()["vassals"], "it is forgotten")


@scenario(
    "A real site with heartbeat = 1 (--emperor-required-heartbeat 3)",
    uwsgi="last_heartbeat moves on, also over a reload; it is left alone",
)
def test_heartbeat(court: Court, uwsgi_python: Path, free_port: int) -> None:
    site = Site(court, free_port, heartbeat="1")
    court.write("a.ini", site.config())
    court.start("--emperor-required-heartbeat", "3", puppets=False)
    first = court.wait_vassal("a.ini", accepting=1)
    beat = court.wait_for(lambda: (now := court.vassal("a.ini")) and now["last_heartbeat"], "a first heartbeat")
    court.touch("a.ini")
    court.wait_vassal("a.ini", respawns=1, accepting=1)
    court.wait_for(
        lambda: (now := court.vassal("a.ini")) and now["last_heartbeat"] >= beat + 4, "heartbeats for four seconds"
    )
    assert court.wait_vassal("a.ini")["pid"] == first["pid"]


@scenario(
    "A vassal's heartbeats cease (--emperor-required-heartbeat 2 --emperor-curse-tolerance 2)",
    uwsgi="SIGKILL without a word, started again; who never sent one is left alone (last_heartbeat 0)",
    emperorctl="told 1 first (reload), SIGKILL when it stays silent for the tolerance; started again; who never sent"
    " one is left alone",
    why="the manual promises a graceful reload",
)
def test_heartbeat_lost(court: Court) -> None:
    court.start("--emperor-required-heartbeat", "2", "--emperor-curse-tolerance", "2")
    quiet = court.subject("quiet.ini", loyal=True)
    puppet = court.subject(loyal=True)
    puppet.order(stubborn=True)
    puppet.say(26)
    court.wait_for(lambda: (now := court.vassal("a.ini")) and now["last_heartbeat"], "its heartbeat is seen")
    puppet.wait_gone()
    assert puppet.bytes == ([] if court.real else [1])
    assert puppet.exit_code is None
    court.wait_puppet("a.ini", 2)
    assert not court.blacklisted("a.ini")
    assert not quiet.gone
    assert court.wait_vassal("quiet.ini")["last_heartbeat"] == 0


@scenario(
    "A vassal's heartbeats cease, and come back with the reload",
    uwsgi="killed before that",
    emperorctl="told 1, and left alone from then on",
    why="the manual promises a graceful reload",
)
def test_heartbeat_back(court: Court) -> None:
    court.start("--emperor-required-heartbeat", "2")
    puppet = court.subject(loyal=True)
    puppet.say(26)
    if court.real:
        puppet.wait_gone()
        return
    puppet.wait_bytes(1)
    puppet.say(26)
    puppet.wait_bytes(1, 1)  # silent again: told again, and not killed
    puppet.say(26)
    assert court.wait_vassal("a.ini")["pid"] == puppet.pid


@scenario("A vassal says bytes without a meaning", uwsgi="ignored")
def test_garbage(court: Court) -> None:
    court.start()
    puppet = court.subject()
    puppet.say(*range(100, 140), 0, 255)
    puppet.say(17)
    assert court.wait_vassal("a.ini", loyal=1)["pid"] == puppet.pid
    assert puppet.bytes == []
