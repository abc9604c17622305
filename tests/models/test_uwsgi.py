"""uWSGI configs: what counts as one, and what becomes of it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperorctl.models.errors import ConfigError
from emperorctl.models.uwsgi import EXTENSIONS, read_uwsgi
from emperorctl.models.uwsgi_run import UwsgiRun, uwsgi_vassal, zerg_vassal
from emperorctl.models.vassal import Kind, Launch, Reload, ReloadMethod, Stop, StopMethod


@pytest.mark.parametrize(
    ("ext", "data", "pairs"),
    [
        (".ini", b"[uwsgi]\nmaster = true\n", (("master", "true"),)),
        (
            ".ini",
            b"; c\n# d\n[uwsgi]  \r\n a=b \r\nplugin = x\nplugin = y\nbare\n",
            (("a", "b"), ("plugin", "x"), ("plugin", "y"), ("bare", "")),
        ),
        (".ini", b"[uwsgi]\na:b = 1 ; not a comment\n", (("a:b", "1 ; not a comment"),)),
        (".ini", b"[uwsgi]", ()),
        (".ini", b"[uwsgi]\na = 100% %(x)s\n", (("a", "100% %(x)s"),)),
        (".xml", b"<uwsgi><processes> 4 </processes><master/></uwsgi>", (("processes", "4"), ("master", "1"))),
        (
            ".xml",
            b"<c><other/><uwsgi id='x'><a>1</a><!-- c --><b><![CDATA[2]]></b></uwsgi></c>",
            (("a", "1"), ("b", "2")),
        ),
        (".xml", b'<?xml version="1.0" encoding="ISO-8859-1"?><uwsgi><a>\xe9</a></uwsgi>', (("a", "\u00e9"),)),
        (
            ".yml",
            b"uwsgi:\n  plugin: a\n  plugin: b\n  env:\n  - A=0755\n  - no\n",
            (("plugin", "a"), ("plugin", "b"), ("env", "A=0755"), ("env", "no")),
        ),
        (
            ".yaml",
            b"---\nuwsgi:\n  chdir: %d\n  http: *:8080\n  x: @(file)\n  p: %%\n",
            (("chdir", "%d"), ("http", "*:8080"), ("x", "@(file)"), ("p", "%%")),
        ),
        (".yml", b"uwsgi:\n", ()),
        (".json", b'{"uwsgi": {"a": [1, true, "x"], "b": null}}', (("a", "1"), ("a", "1"), ("a", "x"), ("b", "0"))),
        (".js", b'{"uwsgi": {"a": "100%", "processes": %k}}', (("a", "100%"), ("processes", "10"))),
    ],
)
def test_good_configs(ext: str, data: bytes, pairs: tuple[tuple[str, str], ...]) -> None:
    config = read_uwsgi(data, ext, f"x{ext}")
    assert config.attributes["uwsgi"] == pairs
    assert "uwsgi" in config.sections


@pytest.mark.parametrize("ext", sorted(EXTENSIONS))
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Empty"),
        (b"\n \t\n", "Empty"),
        (b"\xef\xbb\xbf", "Empty"),
        (b"\x7fELF\0\0", "Binary"),
        (b"[uwsgi]\na = \xff", "NotUtf8"),
        (b"[uwsgi]\n" + b"a = b\n" * 1_800_000, "TooLarge"),
    ],
)
def test_what_is_not_text(ext: str, data: bytes, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_uwsgi(data, ext, f"x{ext}")
    assert (caught.value.problem.reason, caught.value.problem.file) == (reason, f"x{ext}")


@pytest.mark.parametrize(
    ("ext", "data", "reason", "line"),
    [
        (".ini", b"; only\n# comments\n", "Empty", None),
        (".ini", b"hello\n", "NoUwsgiSection", None),
        (".ini", b"[other]\na = b\n", "NoUwsgiSection", None),
        (".ini", b"[uwsgi ]\na = b\n", "NoUwsgiSection", None),
        (".ini", b"\xef\xbb\xbf[uwsgi]\na = b\n", "ByteOrderMark", 1),
        (".xml", b"<uwsgi>\n<a>", "InvalidSyntax", 2),
        (".xml", b"<uwsgi/><uwsgi/>", "InvalidSyntax", 1),
        (".xml", b"\n<a>\n", "InvalidSyntax", 3),
        (".xml", b"<other/>", "NoUwsgiSection", None),
        (".xml", b"<a><b><uwsgi/></b></a>", "NoUwsgiSection", None),
        (".xml", b'<?xml version="1.0" encoding="none"?><uwsgi/>', "InvalidSyntax", None),
        (".xml", b"<!DOCTYPE x>\n<uwsgi/>", "ForbiddenXml", 1),
        (".xml", b'<!DOCTYPE x [\n<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><uwsgi>&b;</uwsgi>', "ForbiddenXml", 1),
        (".xml", b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><uwsgi>&a;</uwsgi>', "ForbiddenXml", 1),
        (".xml", b"<uwsgi>\n&a;</uwsgi>", "InvalidSyntax", 2),
        (".xml", b"<a>" * 200_000, "TooComplex", 1),
        (".json", b'{"uwsgi":\n {', "InvalidSyntax", 2),
        (".json", b"[" * 100_000, "TooComplex", None),
        (".json", b"[1]", "NoUwsgiSection", 1),
        (".json", b'{"uwsgi": 3}', "InvalidSyntax", None),
        (".json", b'{"a": {}}', "NoUwsgiSection", None),
        (".yml", b"uwsgi: [x\n", "InvalidSyntax", 2),
        (".yml", b"uwsgi: x\n", "InvalidSyntax", None),
        (".yml", b"# x\n", "Empty", None),
        (".yml", b"a:\n  b: c\n", "NoUwsgiSection", None),
        (".yml", b"- " * 100_000, "TooComplex", 1),
    ],
)
def test_bad_configs(ext: str, data: bytes, reason: str, line: int | None) -> None:
    with pytest.raises(ConfigError) as caught:
        read_uwsgi(data, ext, f"x{ext}")
    assert (caught.value.problem.reason, caught.value.problem.line) == (reason, line)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(ConfigError, match=r"only uWSGI \(rename uWSGI to uwsgi\)"):
        read_uwsgi(b"[uWSGI]\na = b\n", ".ini", "x.ini")


def test_a_wrapper_may_read_another_section() -> None:
    assert read_uwsgi(b"[app]\na = b\n", ".ini", "x.ini", lenient=True).sections == ("app",)
    with pytest.raises(ConfigError):
        read_uwsgi(b"", ".ini", "x.ini", lenient=True)


@pytest.mark.parametrize(
    ("run", "binary"),
    [(UwsgiRun(), "uwsgi"), (UwsgiRun("/opt/uwsgi"), "/opt/uwsgi"), (UwsgiRun("u", wrapper="/w"), "/w")],
)
def test_the_vassal(run: UwsgiRun, binary: str) -> None:
    data = b"uwsgi:\n  a: b\n"
    found = uwsgi_vassal(
        name="shop.yml",
        file="/v/shop.yml",
        ext=".yml",
        working_dir="/v",
        source="dir:///v",
        data=data,
        config=read_uwsgi(data, ".yml", "/v/shop.yml"),
        run=run,
    )
    command = (binary, "--yaml", "shop.yml")
    assert (found.name, found.kind, found.source, found.file) == ("shop.yml", Kind.UWSGI, "dir:///v", "/v/shop.yml")
    assert found.launch == Launch(command, inherit_env=True, working_dir="/v", protocol=True, capture=False)
    assert (found.reload, found.stop) == (Reload(ReloadMethod.PROTOCOL), Stop(StopMethod.PROTOCOL, grace=30.0))
    assert found.content == hashlib.sha256(data).hexdigest()
    assert found.spec == {"command": list(command), "config": "/v/shop.yml", "sections": ["uwsgi"], "workingDir": "/v"}


_PIECES = [
    *(
        b"uwsgi",
        b"[uwsgi]\n",
        b"<uwsgi>",
        b"</uwsgi>",
        b"<a>",
        b"</a>",
        b"<b/>",
        b"<![CDATA[",
        b"]]>",
        b"&x;",
        b"<!DOCTYPE a>",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b":",
        b": ",
        b",",
        b"\n",
        b"  ",
        b"- ",
        b"%n",
        b"*:",
        b"@(",
        b"&a ",
        b"*a",
        b"=",
        b";",
        b"1",
    ),
    *(b"<?xml version='1.0' encoding='utf-16'?>", b"\xff", b"\xef\xbb\xbf", b"\0", b'{"uwsgi":', b"uwsgi:\n"),
]


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(_PIECES), max_size=40).map(b"".join)), st.booleans())
@pytest.mark.parametrize("ext", [".ini", ".xml", ".yml", ".json"])
def test_nothing_but_a_config_error_comes_out(ext: str, data: bytes, lenient: bool) -> None:
    try:
        read_uwsgi(data, ext, "x", lenient=lenient)
    except ConfigError as error:
        assert error.problem.reason


@pytest.mark.parametrize(
    ("run", "executable", "word"),
    [
        (UwsgiRun(), False, "a.ini:zerg"),
        (UwsgiRun(config_pipe=True), False, "emperor://a.ini:zerg"),
        (UwsgiRun(magic_exec=True), True, "exec://./a.ini:zerg"),
        (UwsgiRun(binary="a.ini"), False, "a.ini:zerg"),
    ],
)
def test_a_zerg_reads_another_section_however_its_config_travels(run: UwsgiRun, executable: bool, word: str) -> None:
    broodlord = uwsgi_vassal(
        name="a.ini",
        file="/v/a.ini",
        ext=".ini",
        working_dir="/v",
        source="dir:///v",
        data=b"[uwsgi]\n",
        config=None,
        run=run,
        executable=executable,
    )
    zerg = zerg_vassal(broodlord, "a.ini:zerg", 1)
    assert zerg.launch.command == (run.binary, "--ini", word)
    assert zerg.config == broodlord.config
