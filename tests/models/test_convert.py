"""Which format a file is in, and what holds for every format: valid manifests, nothing lost, bounded cost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperorctl.cli.formats import manifest_text
from emperorctl.models.convert.draft import Conversion, Given, Note, dns_name
from emperorctl.models.convert.formats import convert
from emperorctl.models.convert.source_format import SourceFormat
from emperorctl.models.documents import parse
from emperorctl.models.errors import ConfigError
from emperorctl.models.names import manifest_name
from tests.models.converting import conversion

PATCH = "[uwsgi] privileged-binary-patch"


@pytest.mark.parametrize(
    ("file", "text", "origin"),
    [
        ("a.conf", "[program:x]\ncommand = y\n", "[program:x]"),
        ("a.ini", "; c\n[supervisord]\n[program:x]\ncommand = y\n", "[program:x]"),
        ("a.ini", "[watcher:x]\ncmd = y\n", "[watcher:x]"),
        ("a.ini", "[uwsgi]\nprivileged-binary-patch = y\n", PATCH),
        ("a.xml", "<uwsgi><privileged-binary-patch>y</privileged-binary-patch></uwsgi>", PATCH),
        ("x.service", "[Service]\nExecStart=y\n", "[Service] of x.service"),
        ("unit", "[Service]\nExecStart=y\n", "[Service] of unit.service"),
        ("Procfile", "x: y\n", "x:"),
        ("Procfile.dev", "x: y\n", "x:"),
        ("procs", "x: y\nz: w\n", "x:"),
    ],
)
def test_formats_are_recognised(file: str, text: str, origin: str) -> None:
    assert conversion(text, file).converted[0].origin == origin


def test_a_format_can_be_forced() -> None:
    assert conversion("x: y\n", "a.yml", SourceFormat.PROCFILE).converted[0].name == "x"


@pytest.mark.parametrize(
    ("file", "text"),
    [("a.txt", "hello there\n"), ("a.yml", "x: y\n"), ("a.json", "{}"), ("a.ini", "[other]\na = b\n"), ("a", "#\n")],
)
def test_what_is_not_recognised_asks_for_the_format(file: str, text: str) -> None:
    with pytest.raises(ConfigError, match="--from supervisord, circus, procfile, systemd, uwsgi"):
        conversion(text, file)


@given(st.text())
def test_every_name_becomes_one(text: str) -> None:
    assert manifest_name(dns_name(text))


def test_names_stay_apart_over_several_files() -> None:
    taken: set[str] = set()
    long = "n" * 63
    for expected in (long, "n" * 61 + "-2", "n" * 61 + "-3"):
        result = convert(Given(f"{long}: x\n".encode(), "Procfile"), format=None, taken=taken)
        assert [one.name for one in result.converted] == [expected]


def test_notes_are_harmless_and_short() -> None:
    note = Note("a\x1b[2J", "line\nline\x07" + "x" * 500, "why\x1b")
    assert note.sentence().isprintable()
    assert len(note.sentence()) < 400


SCALARS = st.one_of(
    st.text(),
    st.sampled_from(
        [
            *("no", "yes", "~", "", "null", "1", "0o17", "0x1f", "1e3", ".5", "1_000", "1:30", "2024-01-01", "<<", "="),
            *("- a", "a: b", "a #b", "%n", "*a", "&a", "!x", "|", "\n", " a ", "a\n\nb\n", "\x85", "\u2028", "\ufeff"),
            *("é", "\x1b[2J"),
        ]
    ),
)


@given(st.lists(SCALARS), st.dictionaries(SCALARS, SCALARS))
def test_what_is_written_is_what_is_read(words: list[str], env: dict[str, str]) -> None:
    document = {"words": words, "env": env}
    text = manifest_text(document)
    assert "\x1b" not in text
    (found,) = parse(text.encode(), "yaml", "")
    assert found.data == document


VALUES = st.one_of(
    SCALARS,
    st.text(alphabet="%$(){}'\"\\ ;#=,:@-+!|&<>abnhiswdPORT_0123456789.", max_size=40),
    st.sampled_from(["true", "false", "10", "SIGTERM", "/srv", "022", "infinity", "5min", "notify", "~"]),
)
KEYS = {
    SourceFormat.SUPERVISORD: [
        *("command", "environment", "directory", "user", "umask", "stopsignal", "startsecs", "stopwaitsecs"),
        *("priority", "process_name", "stdout_logfile_maxbytes", "autostart", "odd key"),
    ],
    SourceFormat.CIRCUS: [
        *("cmd", "args", "shell", "uid", "working_dir", "send_hup", "rlimit_nofile", "graceful_timeout", "hooks.x"),
    ],
    SourceFormat.SYSTEMD: [
        *("ExecStart", "ExecReload", "Environment", "EnvironmentFile", "User", "WorkingDirectory", "UMask", "Type"),
        *("LimitNOFILE", "LimitCPU", "TimeoutStopSec", "Restart", "KillMode", "NotifyAccess", "Odd"),
    ],
    SourceFormat.UWSGI: [
        *("privileged-binary-patch-arg", "unprivileged-binary-patch", "env", "uid", "umask", "chdir", "a", "b"),
    ],
}
HEADS = {
    SourceFormat.SUPERVISORD: "[program:x]",
    SourceFormat.CIRCUS: "[watcher:x]",
    SourceFormat.SYSTEMD: "[Service]",
    SourceFormat.UWSGI: "[uwsgi]",
}


@st.composite
def configurations(draw: st.DrawFn) -> tuple[SourceFormat, str]:
    """A file of one format, near enough to the truth to get somewhere."""
    format = draw(st.sampled_from(list(SourceFormat)))
    if format is SourceFormat.PROCFILE:
        lines = draw(st.lists(st.tuples(st.sampled_from(["web", "a_b", "release"]), VALUES), max_size=4))
        return format, "".join(f"{name}: {value}\n" for name, value in lines)
    keys = KEYS[format]
    lines = [(keys[0], draw(st.one_of(st.just("/bin/x a"), VALUES)))]
    lines += draw(st.lists(st.tuples(st.sampled_from(keys), VALUES), max_size=8))
    return format, HEADS[format] + "\n" + "".join(f"{key} = {value}\n" for key, value in lines)


@settings(max_examples=300, deadline=None)
@given(configurations())
def test_any_file_comes_to_valid_manifests_or_to_an_error_with_a_remedy(made: tuple[SourceFormat, str]) -> None:
    format, text = made
    try:
        result = conversion(text.encode(errors="replace"), "x.ini", format)
    except ConfigError as error:
        assert error.problem.message and error.problem.remedy and error.problem.file
        return
    assert result.converted or result.problems
    for problem in result.problems:
        assert problem.message and problem.remedy and problem.line
    for one in result.converted:
        assert all(note.setting and note.why for note in one.notes)


@given(st.binary(max_size=400), st.sampled_from(list(SourceFormat)))
def test_any_bytes_come_to_an_answer(data: bytes, format: SourceFormat) -> None:
    try:
        found = conversion(data, "x.ini", format)
    except ConfigError as error:
        assert error.problem.remedy
    else:
        assert isinstance(found, Conversion)


@given(st.dictionaries(st.from_regex(r"[a-z_]{3,12}", fullmatch=True), st.from_regex(r"[a-z]{1,8}", fullmatch=True)))
def test_every_setting_is_carried_named_or_the_same(extra: dict[str, str]) -> None:
    lines = "".join(f"{key} = {value}\n" for key, value in extra.items() if key not in ("command", "process_name"))
    try:
        result = conversion(f"[program:x]\n{lines}command = y\n", "a.conf")
    except ConfigError:
        return
    for one in result.converted:
        named = {note.setting.split()[0] for note in one.notes}
        known = {"user", "directory", "numprocs"}
        assert set(extra) - {"command", "process_name"} <= named | known
