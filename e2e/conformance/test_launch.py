"""How a vassal is started: arguments, directory, environment, descriptors, and nothing besides."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario
from e2e.conformance.site import Site


@scenario(
    "What a vassal is given (no hook option given)",
    uwsgi="argv `WRAPPER --ini a.ini`, cwd the directory; descriptors 0 (/dev/null), 1, 2 (the Emperor's own) and one"
    " socket, UWSGI_EMPEROR_FD; the Emperor's whole environment, without NOTIFY_SOCKET and UWSGI_RELOADS, and"
    " UWSGI_ORIGINAL_PROC_NAME, which uWSGI sets for itself; no signal blocked, umask untouched; the Emperor's session",
    emperorctl="the same, but EMPERORCTL_INSTANCE for UWSGI_ORIGINAL_PROC_NAME, and a session of its own",
    why="a mark and a session by which everything a vassal started can be found and ended",
)
def test_given(court: Court) -> None:
    court.write("a.ini")
    env = {"OURS": "1", "NOTIFY_SOCKET": "@nobody-listens", "UWSGI_RELOADS": "3"}
    court.start(env=env)
    puppet = court.wait_puppet("a.ini")
    born, links = puppet.born, puppet.born["links"]
    assert born["argv"] == [str(court.stage.wrapper), "--ini", "a.ini"]
    assert born["cwd"] == str(court.vassals)
    assert set(links) == {"0", "1", "2", puppet.env["UWSGI_EMPEROR_FD"]}
    assert links["0"] == "/dev/null"
    assert links["1"] == links["2"] != "/dev/null"
    assert links[puppet.env["UWSGI_EMPEROR_FD"]].startswith("socket:")
    assert born["blocked"] == []
    expected = court.environment(env) | {"UWSGI_EMPEROR_FD": puppet.env["UWSGI_EMPEROR_FD"]}
    mark = "UWSGI_ORIGINAL_PROC_NAME" if court.real else "EMPERORCTL_INSTANCE"
    expected[mark] = puppet.env[mark]
    del expected["NOTIFY_SOCKET"], expected["UWSGI_RELOADS"]
    assert puppet.env == expected
    assert (born["sid"] == puppet.pid) == (not court.real)
    assert born["umask"] == psutil_umask(court.pid)


@scenario(
    "What else is run (no hook option given)",
    uwsgi="nothing: the Emperor has one child for each vassal",
    emperorctl="nothing: one child for each vassal, and its own helper, the zygote, which forks them",
    why="forking a big Python process for each vassal would cost twenty times more",
)
def test_nothing_else(court: Court) -> None:
    court.write("a.ini")
    court.write("b.ini")
    court.start()
    puppets = {court.wait_puppet(name).pid for name in ("a.ini", "b.ini")}
    family = {child.pid for child in psutil.Process(court.pid).children(recursive=True)}
    assert puppets <= family
    assert len(family - puppets) == (0 if court.real else 1)
    assert len(court.stage.puppets) == 2


@scenario(
    "UWSGI_VASSAL_FOO=bar in the Emperor's environment",
    uwsgi="the vassal gets neither it nor UWSGI_FOO, but garbage made of another variable (a slip in 2.0.31)",
    emperorctl="the vassal gets UWSGI_FOO=bar instead",
    why="that is what the manual says",
)
def test_vassal_variables(court: Court) -> None:
    court.write("a.ini")
    court.start(env={"UWSGI_VASSAL_FOO": "bar"})
    puppet = court.wait_puppet("a.ini")
    assert "UWSGI_VASSAL_FOO" not in puppet.env
    assert puppet.env.get("UWSGI_FOO") == (None if court.real else "bar")


_PASSED = (
    *("--vassals-include", "after.ini", "--vassal-set", "a=1", "--vassals-inherit", "/etc/t.ini"),
    *("--vassals-inherit-before", "first.ini", "--vassal-set", "b=2", "--vassals-include-before", "i1.ini"),
    *("--vassals-include-before", "i2.ini"),
)
_AS_PASSED = [
    *("--inherit", "first.ini", "--include", "i1.ini", "--include", "i2.ini", "--set", "a=1", "--set", "b=2"),
    *("--ini", "a.ini", "--inherit", "/etc/t.ini", "--include", "after.ini"),
]


@scenario(
    "`vassal-set`, `vassals-inherit`, `vassals-include` and their `-before` forms, in any order",
    uwsgi="argv `[--inherit F]… [--include F]… [--set K=V]… --ini a.ini [--inherit F]… [--include F]…`, each kind in"
    " the order given, paths as they were written",
)
def test_passed(court: Court) -> None:
    court.write("a.ini")
    court.start(*_PASSED)
    assert court.wait_puppet("after.ini").argv == _AS_PASSED


@scenario(
    "The same `env` in a real site's config and in what is passed to it",
    uwsgi="the later one counts: `vassal-set` and `vassals-include-before` are overruled by the config, the config by"
    " `vassals-include`, and by either kind of `vassals-inherit`, since templates are read when all else has been",
)
@pytest.mark.parametrize(
    ("option", "value", "greeting"),
    [
        ("--vassals-include-before", "../common.ini", "own"),
        ("--vassals-inherit-before", "../common.ini", "common"),
        ("--vassal-set", "env=GREETING=set", "own"),
        ("--vassals-include", "../common.ini", "common"),
        ("--vassals-inherit", "../common.ini", "common"),
    ],
)
def test_passed_to_a_site(  # noqa: PLR0917
    court: Court, uwsgi_python: Path, free_port: int, option: str, value: str, greeting: str
) -> None:
    site = Site(court, free_port)
    court.write("a.ini", site.config(greeting="own"))
    (court.root / "common.ini").write_text("[uwsgi]\nenv = GREETING=common\n")
    court.start(option, value, puppets=False)
    site.wait_reply(greeting=greeting)


@scenario(
    "The wrapper does not exist",
    uwsgi="each try counts as the death of a vassal that was not loyal: blacklisted",
)
def test_no_wrapper(court: Court) -> None:
    court.write("a.ini")
    court.start("--emperor-wrapper", "/nonexistent/wrapper", puppets=False)
    entry = court.wait_for(lambda: court.blacklisted("a.ini"), "a.ini is blacklisted")
    assert entry["throttle_level"] > 0
    court.wait_absent("a.ini")


@scenario(
    "`--ini emperor.ini`: two sources, a placeholder, `%d`, a variable of the environment, options of other kinds",
    uwsgi="as if they stood on the command line; the vassals get none of it",
    emperorctl="the same; options that concern only uWSGI's workers are named in a warning",
    why="an option that does nothing should not look as if it did",
)
def test_emperor_ini(court: Court) -> None:
    second = court.root / "second"
    second.mkdir()
    court.write("a.ini")
    court.write(second / "b.ini")
    file = court.root / "emperor.ini"
    file.write_text(
        f"[uwsgi]\nbase = {court.root}\nemperor = %(base)/vassals\nemperor = dir://%dsecond\n"
        f"emperor-wrapper = $(WRAPPER)\nbuffer-size = 8192\n"
    )
    court.start_from(file, env={"WRAPPER": str(court.stage.wrapper)})
    assert court.wait_puppet("a.ini").born["argv"] == [str(court.stage.wrapper), "--ini", "a.ini"]
    assert court.wait_puppet("b.ini").born["cwd"] == str(second)
    assert court.stats()["emperor"] == [str(court.vassals), str(second)]
    if not court.real:
        court.wait_log("buffer-size means something to uWSGI, but nothing to an Emperor")


def psutil_umask(pid: int) -> int:
    """Another process's umask."""
    with open(f"/proc/{pid}/status") as status:
        found = re.search(r"^Umask:\s*(\d+)", status.read(), re.MULTILINE)
    assert found is not None
    return int(found[1], 8)
