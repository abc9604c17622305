"""Tyrant mode: who vassals run as."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.harness import alive

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_ONE, _OTHER = 731_011, 731_012

# The puppets' interpreter may lie where only root can read: these only live, until they are told otherwise.
_PROGRAM = """#!/bin/sh
printf '\\001\\005' >&$UWSGI_EMPEROR_FD
while byte=$(head -c1 <&$UWSGI_EMPEROR_FD | od -An -tu1) && [ -n "$byte" ]; do
    case $byte in *1) ;; *) exit 0;; esac
done
"""


def start(court: Court, *options: str, ours: tuple[str, ...] = ()) -> None:
    """Start it in tyrant mode, with `ours` for emperorctl alone; every vassal is a small program."""
    program = court.root / "program"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    court.vassals.chmod(0o755)
    more = () if court.real else ours
    court.start("--emperor-tyrant", "--emperor-wrapper", str(program), *options, *more, puppets=False,
                env={"SECRET": "of the Emperor"})  # fmt: skip


def give(court: Court, file: str, uid: int, gid: int | None = None) -> None:
    """Have a vassal file of this owner's."""
    draft = f".{file}.draft"
    court.write(draft)
    (court.vassals / draft).chmod(0o644)
    os.chown(court.vassals / draft, uid, uid if gid is None else gid)
    (court.vassals / draft).rename(court.vassals / file)


def identity(pid: int) -> tuple[list[int], list[int], list[int]]:
    """Uids, gids and supplementary groups of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = [re.search(rf"^{key}:(.*)$", text, re.MULTILINE) for key in ("Uid", "Gid", "Groups")]
    uids, gids, groups = ([int(word) for word in match[1].split()] if match else [] for match in found)
    return uids, gids, groups


@scenario(
    "`--emperor-tyrant`: a vassal's user and group",
    uwsgi="uid and gid of its file, and no supplementary group; uid and gid in the statistics are those",
)
def test_owner(court: Court) -> None:
    give(court, "a.ini", _ONE, _OTHER)
    start(court)
    vassal = court.wait_vassal("a.ini", uid=_ONE, gid=_OTHER)
    assert identity(vassal["pid"]) == ([_ONE] * 4, [_OTHER] * 4, [])
    assert court.stats()["emperor_tyrant"] == 1


@scenario(
    "`--emperor-tyrant`: a file of root's, or of root's group",
    uwsgi="no vassal; it prints `[emperor-tyrant] invalid permissions for vassal a.ini` at every scan",
    emperorctl="no vassal; the condition says that it is owned by root, and the chown that mends it",
    why="uWSGI's users could not tell from the message what was wrong",
)
@pytest.mark.parametrize(("uid", "gid"), [(0, _ONE), (_ONE, 0)])
def test_root(court: Court, uid: int, gid: int) -> None:
    give(court, "a.ini", uid, gid)
    give(court, "b.ini", _ONE)
    start(court)
    court.wait_vassal("b.ini")
    court.wait_log("invalid permissions for vassal a.ini" if court.real else "OwnedByRoot")
    assert court.all_of("a.ini") == []


@scenario(
    "`--emperor-tyrant`: a file changes hands",
    uwsgi="the vassal is told to stop; once it has gone, one of the new owner is started",
    emperorctl="the same; blacklist, statistics and log begin anew; where the new owner has nothing right nothing runs",
    why="the next owner gets nothing of the former one",
)
def test_chown(court: Court) -> None:
    give(court, "a.ini", _ONE)
    start(court)
    pid = court.wait_vassal("a.ini", uid=_ONE)["pid"]
    os.chown(court.vassals / "a.ini", _OTHER, _OTHER)
    vassal = court.wait_vassal("a.ini", uid=_OTHER)
    assert not alive(pid) and identity(vassal["pid"])[0] == [_OTHER] * 4


@scenario(
    "`--emperor-tyrant`: a link to a file of another owner's",
    uwsgi="runs as the owner of the file that it leads to",
    emperorctl="refused (LinkOwner); with `--tyrant-follow` the same",
    why="otherwise whoever may make a link starts the files of others",
)
@pytest.mark.parametrize("follow", [False, True])
def test_link(court: Court, follow: bool) -> None:
    give(court, ".target", _OTHER)
    link = court.vassals / "a.ini"
    link.symlink_to(court.vassals / ".target")
    os.lchown(link, _ONE, _ONE)
    start(court, ours=("--tyrant-follow",) if follow else ())
    if court.real or follow:
        assert identity(court.wait_vassal("a.ini", uid=_OTHER)["pid"])[0] == [_OTHER] * 4
    else:
        court.wait_log("LinkOwner")
        assert court.vassal("a.ini") is None


@scenario(
    "`--emperor-tyrant-nofollow`: a link to a file of root's",
    uwsgi="runs as the owner of the link",
)
def test_nofollow(court: Court) -> None:
    give(court, ".target", 0)
    link = court.vassals / "a.ini"
    link.symlink_to(court.vassals / ".target")
    os.lchown(link, _ONE, _OTHER)
    start(court, "--emperor-tyrant-nofollow")
    vassal = court.wait_vassal("a.ini", uid=_ONE, gid=_OTHER)
    assert identity(vassal["pid"]) == ([_ONE] * 4, [_OTHER] * 4, [])


@scenario(
    "`--emperor-tyrant-initgroups`: supplementary groups",
    uwsgi="it does not know the option",
    emperorctl="those that initgroups(3) gives the user of the file with the file's group",
    why="it is uWSGI 2.1's",
)
def test_initgroups(court: Court, uwsgi_bin: Path) -> None:
    if court.real:
        known = subprocess.run([uwsgi_bin, "--help"], capture_output=True, text=True, check=False).stdout
        assert "--emperor-tyrant-nofollow" in known and "--emperor-tyrant-initgroups" not in known
        return
    user = max((one for one in pwd.getpwall() if one.pw_uid), key=lambda one: len(os.getgrouplist(one.pw_name, 7)))
    give(court, "a.ini", user.pw_uid, _ONE)
    start(court, "--emperor-tyrant-initgroups")
    vassal = court.wait_vassal("a.ini", uid=user.pw_uid)
    assert identity(vassal["pid"])[2] == sorted(os.getgrouplist(user.pw_name, _ONE))


def running(court: Court, name: str, **fields: object) -> int:
    """Wait until a vassal has become its program; its pid."""
    pid: int = court.wait_vassal(name, **fields)["pid"]
    court.wait_for(lambda: not os.readlink(f"/proc/{pid}/exe").endswith("uwsgi"), f"{name} is its program")
    return pid


@scenario(
    "`--emperor-tyrant`: a vassal's environment",
    uwsgi="the Emperor's, as always",
    emperorctl="PATH, LANG, LC_*, TZ, HOME, USER, LOGNAME, SHELL, and what the Emperor's has under UWSGI_VASSAL_*",
    why="the Emperor's environment may hold what is no tenant's business",
)
def test_environment(court: Court) -> None:
    give(court, "a.ini", _ONE)
    start(court)
    pid = running(court, "a.ini", uid=_ONE)
    names = {one.partition(b"=")[0] for one in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
    assert (b"SECRET" in names) is court.real
    assert b"PATH" in names and b"UWSGI_EMPEROR_FD" in names


@scenario(
    "`--emperor-tyrant`: a vassal's standard output and error",
    uwsgi="the Emperor's own",
    emperorctl="its log file, whatever `--uwsgi-logs` says",
    why="the Emperor's standard error may be a terminal, or a log that others believe",
)
def test_output(court: Court) -> None:
    give(court, "a.ini", _ONE)
    start(court)
    pid = running(court, "a.ini", uid=_ONE)
    same = os.readlink(f"/proc/{pid}/fd/2") == os.readlink(f"/proc/{court.pid}/fd/2")
    assert same is court.real
