"""Which program a vassal becomes, and what it is given to read."""

from __future__ import annotations

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
