"""Which program a vassal becomes, and what it is given to read."""

from __future__ import annotations

import os
import shlex

import pytest

from e2e.conformance.court import Court
from e2e.conformance.declarations import scenario


@scenario(
    "`emperor-wrapper-override`: one that does not exist, then one that does",
    uwsgi="each is tried in turn, before the wrapper or the binary, with the same arguments",
)
def test_override(court: Court) -> None:
    court.write("a.ini")
    wrapper = str(court.stage.wrapper)
    options = ["--emperor-wrapper-override", "/nowhere/wrapper", "--emperor-wrapper-override", wrapper]
    court.start(*options, "--emperor-wrapper", "/bin/false", puppets=False)
    assert court.wait_puppet("a.ini").born["argv"] == [wrapper, "--ini", "a.ini"]


@scenario(
    "`emperor-wrapper-fallback`, and the wrapper does not exist",
    uwsgi="fallbacks are tried in turn, with the same arguments",
)
def test_fallback(court: Court) -> None:
    court.write("a.ini")
    wrapper = str(court.stage.wrapper)
    options = ["--emperor-wrapper-fallback", "/nowhere/other", "--emperor-wrapper-fallback", wrapper]
    court.start(*options, "--emperor-wrapper", "/nowhere/wrapper", puppets=False)
    assert court.wait_puppet("a.ini").born["argv"] == [wrapper, "--ini", "a.ini"]


@scenario(
    "`emperor-extra-extension .site`",
    uwsgi="files that end so are vassals, with `--config NAME`; a known extension may be given too",
)
def test_extra_extension(court: Court) -> None:
    court.write("a.site", "whatever")
    court.write("b-known.ini")
    court.write("c.other")
    court.start("--emperor-extra-extension", ".site", "--emperor-extra-extension", "-known.ini")
    assert court.wait_puppet("a.site").argv == ["--config", "a.site"]
    assert court.wait_puppet("b-known.ini").argv == ["--config", "b-known.ini"]
    assert len(court.stage.puppets) == 2


@scenario(
    "`emperor-magic-exec` and a config in a directory that is executable",
    uwsgi="passed as `exec://NAME`, which a shell then looks for in PATH and does not find",
    emperorctl="passed as `exec://./NAME`, quoted where NAME needs it",
    why="so it works, as the manual says",
)
def test_magic_exec(court: Court) -> None:
    court.write("a.ini", "#!/bin/sh\necho '[uwsgi]'\n")
    (court.vassals / "a.ini").chmod(0o755)
    court.start("--emperor-magic-exec")
    court.wait_for(lambda: bool(court.stage.puppets), "a puppet is born")
    assert court.stage.puppets[0].argv == ["--ini", "exec://a.ini" if court.real else "exec://./a.ini"]


@scenario(
    "`binary-path`",
    uwsgi="run in place of the uwsgi that is in PATH, with the same arguments",
)
def test_binary_path(court: Court) -> None:
    court.write("a.ini")
    court.start("--binary-path", str(court.stage.wrapper), puppets=False)
    assert court.wait_puppet("a.ini").argv == ["--ini", "a.ini"]


@scenario(
    "`emperor-wrapper` without a slash",
    uwsgi="looked for in PATH",
)
def test_wrapper_in_path(court: Court) -> None:
    court.write("a.ini")
    path = f"{court.root}:{court.environment({})['PATH']}"
    wrapper = court.stage.wrapper.name
    court.start("--emperor-wrapper", wrapper, env={"PATH": path}, puppets=False)
    assert court.wait_puppet("a.ini").argv == ["--ini", "a.ini"]


_PATCHES = {
    "privileged-binary-patch": [],
    "privileged-binary-patch-arg": ["one", "two words", "a.ini"],
    "unprivileged-binary-patch": [],
    "unprivileged-binary-patch-arg": ["one", "two words", "a.ini"],
}


@pytest.mark.parametrize("option", _PATCHES)
@scenario(
    "`privileged-binary-patch` and `unprivileged-binary-patch`, and both with `-arg`; env and umask beside them",
    uwsgi="the program runs in uWSGI's place and hears the Emperor; without -arg it gets the vassal's arguments, with"
    " it a shell reads them. env and umask hold, the directory is the vassals'",
    emperorctl="the same, and without any uWSGI",
    why="a machine on which no vassal needs uWSGI need not have one",
)
def test_patches(court: Court, option: str) -> None:
    if court.real and os.geteuid() != 0 and option.startswith("unprivileged"):
        pytest.skip("an ordinary user's uWSGI ignores it")
    words = _PATCHES[option]
    command = " ".join([f"exec {court.stage.wrapper}", *map(shlex.quote, words)]) if words else court.stage.wrapper
    court.write("a.ini", f"[uwsgi]\numask = 027\nenv = GREETING=hello\n{option} = {command}\n")
    court.start(*([] if court.real else ["--binary-path", "/nowhere/uwsgi"]), puppets=False)
    puppet = court.subject()
    assert puppet.argv == (words or ["--ini", "a.ini"])
    assert puppet.born["cwd"] == str(court.vassals)
    assert puppet.born["umask"] == 0o027
    assert puppet.env["GREETING"] == "hello"
    court.remove("a.ini")
    puppet.wait_gone()
    assert puppet.bytes == [0]
