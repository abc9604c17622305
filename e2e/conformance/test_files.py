"""What lies in the directory: formats, files that come, change and go, several sources."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.conformance.site import FORMATS, Site
from e2e.conformance.stage import Puppet


@scenario(
    "Every config format serves: .ini .xml .yaml .yml .json .js",
    uwsgi="argv `uwsgi --ini a.ini` (`--xml`, `--yaml`, `--json` by extension), cwd the directory",
)
@pytest.mark.parametrize("file", FORMATS)
def test_formats(court: Court, uwsgi_python: Path, uwsgi_formats: frozenset[str], free_port: int, file: str) -> None:
    option = FORMATS[file]
    if option not in uwsgi_formats:
        library = {"json": "libjansson", "xml": "libxml2 or expat"}.get(option, option)
        pytest.skip(f"this uwsgi was built without {option} support ({library} was missing)")
    site = Site(court, free_port)
    court.write(file, site.config(option))
    court.start(puppets=False)
    reply = site.wait_reply(greeting="hello")
    vassal = court.wait_vassal(file, ready=1, accepting=1)
    assert vassal["pid"] == reply.master
    process = psutil.Process(reply.master)
    assert process.cmdline()[1:] == [f"--{option}", file]
    assert process.cwd() == str(court.vassals)


@scenario(
    "A file comes",
    uwsgi="a vassal with the file's name as its id; born and last_mod are the file's time, first_run and last_run now",
    emperorctl="the same, but born is now",
    why="born is when it came into being; that the file was written long before is what last_mod says",
)
def test_add(court: Court) -> None:
    court.start()
    assert court.stats()["vassals"] == []
    stamp = court.write("a.ini")
    puppet = court.wait_puppet("a.ini")
    vassal = court.wait_vassal("a.ini")
    assert vassal["pid"] == puppet.pid
    assert vassal["last_mod"] == stamp
    assert vassal["born"] == stamp if court.real else vassal["born"] > stamp
    assert vassal["first_run"] == vassal["last_run"] > stamp
    assert vassal["respawns"] == vassal["loyal"] == vassal["ready"] == vassal["accepting"] == 0


@scenario(
    "A file is touched",
    uwsgi="byte 1 to the same process; respawns + 1, last_mod the new time, last_run now; first_run, born and loyal"
    " stay; ready and accepting are 0 until it says 1 and 5 again",
    emperorctl="the same, but ready returns with byte 5 alone",
    why="uWSGI sends byte 1 at its first start only: after its first reload the real document says not ready for ever",
)
def test_touch(court: Court) -> None:
    court.start()
    puppet = court.subject(loyal=True)
    before = court.wait_vassal("a.ini")
    puppet.order(stubborn=True)
    stamp = court.touch("a.ini")
    puppet.wait_bytes(1)
    after = court.wait_vassal("a.ini", respawns=1, ready=0, accepting=0)
    assert after["last_mod"] == stamp
    assert after["last_run"] >= before["last_run"]
    kept = ("pid", "born", "first_run", "loyal", "last_loyal", "last_ready", "last_accepting")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    puppet.say(5)
    assert court.wait_vassal("a.ini", accepting=1)["ready"] == int(not court.real)
    puppet.say(1)
    court.wait_vassal("a.ini", ready=1, accepting=1)
    assert not puppet.gone
    assert puppet.bytes == [1]
    assert not puppet.signals


@scenario(
    "A file's content changes",
    uwsgi="byte 1, as for a touch: the master keeps its pid, new workers answer by the new config; accepting 1 again,"
    " ready never more",
    emperorctl="the same, but ready, too, is 1 again",
    why="see the touch",
)
def test_edit(court: Court, uwsgi_python: Path, free_port: int) -> None:
    site = Site(court, free_port)
    court.write("a.ini", site.config())
    court.start(puppets=False)
    before = site.wait_reply(greeting="hello")
    court.write("a.ini", site.config(greeting="goodbye"))
    after = site.wait_reply(greeting="goodbye")
    assert after.master == before.master
    assert after.worker != before.worker
    vassal = court.wait_vassal("a.ini", respawns=1, accepting=1)
    assert vassal["pid"] == before.master
    assert vassal["ready"] == int(not court.real)


@scenario(
    "A file gets an older time (rsync -t, a rollback)",
    uwsgi="unnoticed: only a newer time, in whole seconds, is a change",
    emperorctl="byte 1: any other time is a change",
    why="a rollback has to reach the site",
)
def test_older(court: Court) -> None:
    court.start()
    puppet = court.subject()
    court.touch("a.ini", seconds=-1000)
    court.wait_look()
    if not court.real:
        puppet.wait_bytes(1)
    assert puppet.bytes == ([] if court.real else [1])


@scenario(
    "A running site's file is broken by an edit",
    uwsgi="the master reloads into it and dies; the site is down and blacklisted until the file is mended",
    emperorctl="the file is refused, the site goes on serving by the last good version",
    why="a typo must never take a site down",
)
def test_broken(court: Court, uwsgi_python: Path, free_port: int) -> None:
    site = Site(court, free_port)
    court.write("a.ini", site.config())
    court.start(puppets=False)
    before = site.wait_reply(greeting="hello")
    court.write("a.ini", "[uwsg]\nmaster = true\n")
    if court.real:
        court.wait_for(lambda: court.blacklisted("a.ini"), "the broken one is blacklisted")
        assert site.answers() is None
    else:
        court.wait_log("NoUwsgiSection")
        assert site.ask() == before
        assert court.wait_vassal("a.ini")["respawns"] == 0
    court.write("a.ini", site.config(greeting="mended"))
    site.wait_reply(greeting="mended")


@scenario(
    "A file goes",
    uwsgi="byte 0, no signal; once the process has gone, the vassal is in no list (one that was not loyal stays in the"
    " blacklist)",
    emperorctl="the same, and nothing of it stays in the blacklist",
    why="an order to stop is not a failure, and what no longer exists needs no budget",
)
def test_remove(court: Court) -> None:
    court.start()
    puppet = court.subject()
    other = court.subject("b.ini", loyal=True)
    court.remove("a.ini")
    puppet.wait_gone()
    assert puppet.bytes == [0]
    assert puppet.exit_code == 0
    assert not puppet.signals
    court.wait_for(lambda: not court.all_of("a.ini"), "a.ini is forgotten")
    assert bool(court.blacklisted("a.ini")) == court.real
    court.remove("b.ini")
    other.wait_gone()
    court.wait_for(lambda: not court.stats()["vassals"], "b.ini is forgotten")
    assert not court.blacklisted("b.ini")


@scenario(
    "Other things lie in the directory: a.txt, a directory d.ini, a dangling link, A.INI",
    uwsgi="ignored",
)
def test_strangers(court: Court) -> None:
    court.write("a.txt")
    court.write("A.INI")
    (court.vassals / "d.ini").mkdir()
    (court.vassals / "dead.ini").symlink_to("/nonexistent")
    court.write("a.ini")
    court.start()
    court.wait_puppet("a.ini")
    court.wait_look()
    names = {puppet.id for puppet in court.stage.puppets}
    assert {name for name in names if not name.startswith("look-")} == {"a.ini"}


@scenario("A link to a config", uwsgi="a vassal of its own, under the link's name")
def test_link(court: Court) -> None:
    court.write("a.ini")
    (court.vassals / "link.ini").symlink_to(court.vassals / "a.ini")
    court.start()
    assert court.wait_puppet("a.ini").argv == ["--ini", "a.ini"]
    assert court.wait_puppet("link.ini").argv == ["--ini", "link.ini"]


@scenario(
    "Hidden and working files: .a.ini, #a.ini",
    uwsgi="vassals like any other",
    emperorctl="ignored",
    why="editors and copying tools leave such files for a moment, and sometimes for good",
)
def test_hidden(court: Court) -> None:
    court.write(".a.ini")
    court.write("#a.ini")
    court.start()
    court.wait_look()
    names = {puppet.id for puppet in court.stage.puppets if not puppet.id.startswith("look-")}
    assert names == ({".a.ini", "#a.ini"} if court.real else set())


@scenario(
    "Two directories (a second --emperor), both with a.ini",
    uwsgi="a name is one vassal: the first directory's; when its file goes, the second directory's is started, in its"
    " own directory",
)
def test_two_directories(court: Court) -> None:
    second = court.root / "second"
    second.mkdir()
    court.write("a.ini")
    court.write(second / "a.ini")
    court.write(second / "b.ini")
    court.start("--emperor", str(second))
    first = court.subject(loyal=True)
    other = court.wait_puppet("b.ini")
    assert first.born["cwd"] == str(court.vassals)
    assert other.born["cwd"] == str(second)
    assert court.wait_vassal("a.ini")["monitor"] == str(court.vassals)
    assert court.wait_vassal("b.ini")["monitor"] == str(second)
    assert court.stats()["emperor"] == [str(court.vassals), str(second)]
    assert len(court.stage.puppets) == 2
    court.remove("a.ini")
    heir = court.wait_puppet("a.ini", 2)
    assert first.gone
    assert heir.born["cwd"] == str(second)
    assert court.wait_vassal("a.ini")["monitor"] == str(second)


@scenario(
    "A pattern, glob://…/*/u.ini or …/*/u.ini",
    uwsgi="id and argument are the whole path, cwd is the Emperor's own; monitor is the pattern",
)
@pytest.mark.parametrize("scheme", ["glob://", ""])
def test_glob(court: Court, scheme: str) -> None:
    sites = court.root / "sites"
    (sites / "one").mkdir(parents=True)
    path = sites / "one" / "u.ini"
    court.write(path)
    court.start("--emperor", f"{scheme}{sites}/*/u.ini")
    puppet = court.wait_puppet(str(path))
    assert puppet.argv == ["--ini", str(path)]
    assert puppet.born["cwd"] == str(court.root)
    assert court.wait_vassal(str(path))["monitor"] == f"{sites}/*/u.ini"
    (sites / "two").mkdir()
    later = sites / "two" / "u.ini"
    court.write(later)
    court.wait_puppet(str(later))
    os.unlink(path)
    puppet.wait_gone()
    assert puppet.bytes == [0]


def _skeleton(court: Court, *options: str) -> tuple[Puppet, Puppet]:
    """A skeleton and two links to it, as the manual has them, all written long ago."""
    court.write("app.skel")
    for name in ("app1.ini", "app2.ini"):
        (court.vassals / name).symlink_to("app.skel")
        _touch_link(court, name, -100_000)
    court.start(*options)
    return court.wait_puppet("app1.ini"), court.wait_puppet("app2.ini")


def _touch_link(court: Court, name: str, seconds: int = 0) -> None:
    """`touch --no-dereference`, so many seconds from now."""
    stamp = int(time.time()) + seconds
    os.utime(court.vassals / name, (stamp, stamp), follow_symlinks=False)


@scenario(
    "A skeleton, `app1.ini` and `app2.ini` linked to `app.skel`; the skeleton is touched",
    uwsgi="it is no vassal itself; byte 1 to both",
)
def test_skeleton(court: Court) -> None:
    first, second = _skeleton(court)
    assert len(court.stage.puppets) == 2
    court.touch("app.skel")
    for puppet in (first, second):
        court.wait_for(lambda puppet=puppet: puppet.bytes == [1], "byte 1")  # type: ignore[misc]


@scenario(
    "The same with `emperor-nofollow`; the skeleton is edited, then `touch --no-dereference app1.ini`",
    uwsgi="the edit reaches nobody; then byte 1 to app1.ini alone",
)
def test_skeleton_nofollow(court: Court) -> None:
    first, second = _skeleton(court, "--emperor-nofollow")
    court.write("app.skel", "[uwsgi]\nmaster = true\n")
    court.wait_look()
    assert first.bytes == second.bytes == []
    _touch_link(court, "app1.ini")
    court.wait_for(lambda: first.bytes == [1], "byte 1")
    court.wait_look()
    assert second.bytes == []


@scenario(
    "`emperor-nofollow` and a link to a config that lies elsewhere",
    uwsgi="the link's own time counts: touching what it leads to is unnoticed, `touch --no-dereference` is byte 1",
)
def test_nofollow(court: Court) -> None:
    target = _linked(court)
    court.start("--emperor-nofollow")
    puppet = court.subject("link.ini")
    stamp = int(os.lstat(court.vassals / "link.ini").st_mtime)
    os.utime(target, (stamp + 10, stamp + 10))
    court.wait_look()
    assert puppet.bytes == []
    os.utime(court.vassals / "link.ini", (stamp + 20, stamp + 20), follow_symlinks=False)
    puppet.wait_bytes(1)
    assert court.wait_vassal("link.ini", respawns=1)["last_mod"] == stamp + 20


@scenario(
    "The same without `emperor-nofollow`",
    uwsgi="the time of what the link leads to counts: byte 1 when that is touched, nothing when the link is",
    emperorctl="byte 1 when either is touched",
    why="a link that was made anew leads to another place, as often as not",
)
def test_follow(court: Court) -> None:
    target = _linked(court)
    court.start()
    puppet = court.subject("link.ini")
    stamp = int(target.stat().st_mtime)
    os.utime(target, (stamp + 10, stamp + 10))
    puppet.wait_bytes(1)
    court.wait_vassal("link.ini", respawns=1, last_mod=stamp + 10)
    os.utime(court.vassals / "link.ini", (stamp + 20, stamp + 20), follow_symlinks=False)
    if court.real:
        court.wait_look()
        assert puppet.bytes == [1]
    else:
        puppet.wait_bytes(1, 1)


def _linked(court: Court) -> Path:
    """A config beside the directory, and link.ini in it that leads there; what it leads to."""
    court.write(court.root / "real.ini")
    stamp = int((court.root / "real.ini").stat().st_mtime)
    (court.vassals / "link.ini").symlink_to(court.root / "real.ini")
    os.utime(court.vassals / "link.ini", (stamp, stamp), follow_symlinks=False)
    return court.root / "real.ini"
