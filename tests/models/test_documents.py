"""Every bad text is refused with its place, every good one comes out alike in the three formats."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperorctl.models.documents import Format, parse
from emperorctl.models.errors import ConfigError, Problem

KIB = 1024
LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 20)
)
MERGES = b"a0: &a0 {k: 1}\n" + b"".join(
    b"a%d: &a%d {<<: [%s]}\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 8)) for level in range(1, 12)
)


def problem(data: bytes, format: Format) -> Problem:
    with pytest.raises(ConfigError) as caught:
        parse(data, format, f"x.{format}")
    assert caught.value.problem.file == f"x.{format}"
    assert len(caught.value.problem.sentence()) < 400
    return caught.value.problem


@pytest.mark.parametrize("format", ["yaml", "json", "toml"])
@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_nothing_is_empty(data: bytes, format: Format) -> None:
    assert problem(data, format).reason == "Empty"


@pytest.mark.parametrize(
    ("data", "format"), [(b"# x\n", "yaml"), (b"---\n---\n", "yaml"), (b"~", "yaml"), (b"# x\n", "toml")]
)
def test_only_comments_is_empty(data: bytes, format: Format) -> None:
    assert problem(data, format).reason == "Empty"


@pytest.mark.parametrize("format", ["yaml", "json", "toml"])
@pytest.mark.parametrize(
    ("data", "reason", "line"),
    [
        (b"\x7fELF\x02\x01\x01\x00\x00", "Binary", 1),
        (b"a\n\0", "Binary", 2),
        (b"a: 1\nb: \xff\n", "NotUtf8", 2),
        (b"# " + b"x" * (256 * KIB), "TooLarge", None),
        (b"\xef\xbb\xbf\xef\xbb\xbfa", "InvalidSyntax", 1),
    ],
)
def test_what_is_not_text(data: bytes, format: Format, reason: str, line: int | None) -> None:
    found = problem(data, format)
    assert (found.reason, found.line) == (reason, line)


def test_the_message_for_bytes_that_are_not_utf8_gives_the_offset() -> None:
    assert "byte 8 (0xff)" in problem(b"a: 1\nb: \xff", "yaml").message


@pytest.mark.parametrize(
    ("data", "reason", "place"),
    [
        (b"a: [1\n", "InvalidSyntax", (2, 1)),
        (b"a: b: c\n", "InvalidSyntax", (1, 5)),
        (b"\ta: 1", "InvalidSyntax", (1, 1)),
        (b"a: \x07", "InvalidSyntax", (1, 4)),
        (b'a: "\\ud800"', "InvalidSyntax", (1, 7)),
        (b"[a]: 1", "InvalidSyntax", (1, 1)),
        (b"a: *b", "InvalidSyntax", (1, 4)),
        (b"<<: 1", "InvalidSyntax", (1, 5)),
        (b"&a [*a]", "RecursiveAlias", (1, 5)),
        (b"a: &a {b: *a}", "RecursiveAlias", (1, 11)),
        (b"a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "DuplicateKey", (5, 3)),
        (b"a: !!python/object/apply:os.system [ls]", "UnknownTag", (1, 4)),
        (b"a: !!python/name:os.system", "UnknownTag", (1, 4)),
        (b"a: !!binary aGk=", "UnknownTag", (1, 4)),
        (b"!mine {a: 1}", "UnknownTag", (1, 1)),
        (b"a: !!int x", "InvalidSyntax", (1, 4)),
        (b"a: .inf", "InvalidNumber", (1, 4)),
        (b"a: .nan", "InvalidNumber", (1, 4)),
        (b"a: 1e999", "InvalidNumber", (1, 4)),
        (b"a: " + b"9" * 5000, "InvalidNumber", (1, 4)),
        (b"- " * 5000, "TooComplex", (1, 65)),
        (b"[" * 900, "TooComplex", (1, 33)),
        (b"{a: " * 60_000, "TooComplex", (1, 129)),
        (b"- x\n" * 10_001, "TooComplex", (10_000, 3)),
        (b"---\n" * 20_000, "TooComplex", (10_002, 1)),
        (LAUGHS, "TooComplex", (5, 25)),
        (MERGES, "TooComplex", (5, 50)),
    ],
)
def test_bad_yaml(data: bytes, reason: str, place: tuple[int, int]) -> None:
    found = problem(data, "yaml")
    assert (found.reason, (found.line, found.column)) == (reason, place)


def test_nesting_beyond_libyamls_own_limit_is_too_complex_too() -> None:
    found = problem(b"[" * 100_000, "yaml")
    assert found.reason == "TooComplex" and "nest" in found.message and found.line == 1


@pytest.mark.parametrize(
    ("data", "reason", "place"),
    [
        (b'{"a": 1,\n "b" 2}', "InvalidSyntax", (2, 6)),
        (b'{"a": 1} {"b": 2}', "InvalidSyntax", (1, 10)),
        (b"{'a': 1}", "InvalidSyntax", (1, 2)),
        (b'{"a": 1,\n"b": {"a": 1, "c": [{"a": 1}],\n "a": 2}}', "DuplicateKey", (3, 2)),
        (b'{"a":\n NaN}', "InvalidNumber", (2, 2)),
        (b"[-Infinity]", "InvalidNumber", (1, 2)),
        (b"[1e999]", "InvalidNumber", (1, 2)),
        (b"[" + b"9" * 5000 + b"]", "InvalidNumber", (1, 2)),
        (b'{"a": "\\ud83d\\ude00",\n "b": "\\ud800"}', "NotUtf8", (2, 8)),
        (b"[" * 100_000, "TooComplex", (None, None)),
        (b"[" * 40 + b"]" * 40, "TooComplex", (None, None)),
        (b"[" + b"1," * 20_000 + b"1]", "TooComplex", (None, None)),
    ],
)
def test_bad_json(data: bytes, reason: str, place: tuple[int, int]) -> None:
    found = problem(data, "json")
    assert (found.reason, (found.line, found.column)) == (reason, place)


@pytest.mark.parametrize(
    ("data", "reason", "line"),
    [
        (b"a = 1\na = 2", "InvalidSyntax", 2),
        (b"a = [1\n", "InvalidSyntax", 2),
        (b"a = 1\nb = 2020-01-01", "InvalidValue", 2),
        (b"a = inf", "InvalidNumber", 1),
        (b"a = 1e999", "InvalidNumber", 1),
        (b"[t]\na = 0x" + b"f" * 5000, "InvalidNumber", 2),
        (b"a = " + b"9" * 5000, "InvalidNumber", None),
        (b"a" + b".a" * 20_000 + b" = 1", "TooComplex", 1),
        (b"a" + b" . a" * 20_000 + b" = 1", "TooComplex", 1),
        (b'"a"' + b'."a"' * 20_000 + b" = 1", "TooComplex", 1),
        (b"x = 1\n[" + b"a." * 31 + b"a]\n" + b"k = 1\n" * 9000, "TooComplex", 2),
        (b"a = {" + b"a." * 20_000 + b"a = 1}", "TooComplex", 1),
        (b"a = " + b"[" * 100_000, "TooComplex", None),
        (b"a = " + b"[" * 40 + b"]" * 40, "TooComplex", None),
        (b"a = " + b"{a=" * 60_000, "TooComplex", None),
        (b"[[a]]\n" * 40_000, "TooComplex", None),
        (b"a=1\n" * 60_000, "TooComplex", None),
    ],
)
def test_bad_toml(data: bytes, reason: str, line: int | None) -> None:
    found = problem(data, "toml")
    assert (found.reason, found.line) == (reason, line)


def test_a_dot_in_a_string_is_not_a_key() -> None:
    data = b'a = "' + b"x." * 500 + b'"\nb = """' + b"y.\n" * 500 + b'"""\n# ' + b"z." * 500
    assert set(parse(data, "toml", "x.toml")[0].data) == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("0755", "0755"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!int '1'", 1),
        ("True", True),
        ("false", False),
        ("-12", -12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("~", None),
        ("", None),
    ],
)
def test_yaml_scalars_follow_the_core_schema_of_1_2(text: str, value: object) -> None:
    found = parse(f"a: {text}\nb: 1\n".encode(), "yaml", "x.yaml")[0].data["a"]
    assert (found, type(found)) == (value, type(value))


def test_aliases_and_merge_keys() -> None:
    text = b"base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none: *b\ntwo: {<<: [*b, *m], x: 9}\n"
    data = parse(text, "yaml", "x.yaml")[0].data
    assert data["one"] == {"x": 1, "y": 2}
    assert data["two"] == {"x": 9, "y": 2, "z": 4}


def test_keys_are_strings_as_written() -> None:
    assert parse(b"1: a\nno: b\n", "yaml", "x.yaml")[0].data == {"1": "a", "no": "b"}


def test_the_three_formats_agree() -> None:
    yaml = parse(b"\xef\xbb\xbfa: {b: [x, 1, true, 1.5]}\n", "yaml", "x")[0].data
    json = parse(b'\xef\xbb\xbf{"a": {"b": ["x", 1, true, 1.5]}}', "json", "x")[0].data
    toml = parse(b'\xef\xbb\xbf[a]\nb = ["x", 1, true, 1.5]\n', "toml", "x")[0].data
    assert yaml == json == toml


def test_several_documents_know_their_lines() -> None:
    documents = parse(b"# first\na: 1\n---\n---\nb:\n  c: 2\n", "yaml", "x.yaml")
    assert [(document.data, document.line) for document in documents] == [({"a": 1}, 2), ({"b": {"c": 2}}, 5)]
    assert documents[1].line_of(("b", "c")) == (6, 3)


@pytest.mark.parametrize(
    ("format", "data", "places"),
    [
        (
            "yaml",
            b"a: 1\nb:\n  c: [x, 0o17]\n",
            {("a",): (1, 1), ("b", "c"): (3, 3), ("b", "c", 1): (3, 10), ("b", "q", 3): (2, 1), ("z",): (1, 1)},
        ),
        (
            "json",
            b'{"a": 1,\n "b": {"c":\n ["x", 2, {"d": 3}]}}',
            {("a",): (1, 2), ("b", "c"): (2, 8), ("b", "c", 1): (3, 8), ("b", "c", 2, "d"): (3, 12)},
        ),
        (
            "toml",
            b'a = 1\n[b]\nc.d = 2\n[[e]]\nf = 1\n[[e]]\nf = "x"\n',
            {("a",): (1, 1), ("b", "c"): (3, 1), ("b", "c", "d"): (3, 1), ("e", 1, "f"): (7, 1), ("b", "x"): (2, 1)},
        ),
    ],
)
def test_places(format: Format, data: bytes, places: dict[tuple[str | int, ...], tuple[int, int]]) -> None:
    document = parse(data, format, "x")[0]
    assert {path: document.line_of(path) for path in places} == places


@pytest.mark.parametrize(
    ("format", "data"), [("yaml", b"a: 0x1F"), ("json", b'{"a": 1.50}'), ("toml", b"a = 1_000 # x")]
)
def test_a_scalar_is_quoted_as_written(format: Format, data: bytes) -> None:
    assert parse(data, format, "x")[0].source_of(("a",)) in {"0x1F", "1.50", "1_000"}


_PIECES = [
    *(
        b"a",
        b": ",
        b"- ",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b'"',
        b"'",
        b"\n",
        b"  ",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!int ",
        b"%",
    ),
    *(
        b"---\n",
        b"=",
        b".",
        b"[[",
        b"]]",
        b"1",
        b"1e9",
        b"null",
        b"\\u",
        b"\\ud800",
        b"#",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\0",
    ),
    *(b'"""', b"'''", b"2020-01-01", b"|\n", b"? ", b"!", b"\t", b"\r\n", b"kind", b"NaN"),
]


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(_PIECES), max_size=60).map(b"".join)))
@pytest.mark.parametrize("format", ["yaml", "json", "toml"])
def test_nothing_but_a_config_error_comes_out(format: Format, data: bytes) -> None:
    try:
        documents = parse(data, format, "x")
    except ConfigError as error:
        assert error.problem.reason
        return
    for document in documents:
        document.line_of(("a", 0, "b"))
        document.source_of(("a",))


def test_the_worst_files_known_are_reported(record_property: Callable[[str, object], None]) -> None:
    """The time is reported, not asserted: `make bench` and people look at it."""
    for name, data in {"keys": b"a.b.c.d.e.f.g.h.k%d=1\n", "tables": b"[a.b.c.d.e.f.g.h.k%d]\n"}.items():
        text = b"".join(data % number for number in range(9_000))[: 256 * KIB]
        started = time.process_time()
        parse(text[: text.rfind(b"\n")], "toml", "x")
        record_property(f"toml {name}", round(time.process_time() - started, 3))


@pytest.mark.parametrize(
    ("format", "data"),
    [("yaml", b"a: ["), ("json", b"{"), ("toml", b"a = "), ("yaml", b"a: " + b"[" * 99), ("json", b'["\\ud800"]')],
)
def test_every_refusal_says_what_to_do(format: Format, data: bytes) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(data, format, "f")
    assert refused.value.problem.remedy


SEVERAL = b"""\
apiVersion = "emperor/v1"
kind = "Vassal"

[[vassal]]
metadata.name = "a"
[vassal.spec]
command = ["sleep", "1"]

[[vassal]]
kind = "Other"
[vassal.metadata]
name = "b"
[vassal.spec]
nice = 5
"""


def test_toml_tables_are_documents_that_share_the_top() -> None:
    first, second = parse(SEVERAL, "toml", "x.toml")
    top = {"apiVersion": "emperor/v1", "kind": "Vassal"}
    assert first.data == {**top, "metadata": {"name": "a"}, "spec": {"command": ["sleep", "1"]}}
    assert second.data == {**top, "kind": "Other", "metadata": {"name": "b"}, "spec": {"nice": 5}}
    assert (first.line, second.line) == (4, 9)
    assert first.line_of(("spec", "command")) == (7, 1)
    assert second.line_of(("kind",)) == (10, 1)
    assert second.line_of(("spec", "nice")) == (14, 1)
    assert second.source_of(("spec", "nice")) == "5"
    assert second.line_of(("apiVersion",)) == (1, 1)
    assert second.line_of(("spec", "command")) == (13, 1)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b'kind = "Vassal"\n[spec]\nnice = 1\n[[vassal]]\n', 2),
        (b"labels = {}\n[[vassal]]\n", 1),
        (b"kind = 'Vassal'\nvassal = [1, 2]\n", 2),
    ],
)
def test_nothing_else_stands_beside_them(data: bytes, line: int) -> None:
    found = problem(data, "toml")
    assert (found.reason, found.line) == ("InvalidValue", line)


def test_a_table_of_that_name_is_a_field_like_any_other() -> None:
    [document] = parse(b"[vassal]\na = 1\n", "toml", "x.toml")
    assert document.data == {"vassal": {"a": 1}}


def test_places_in_tables_below_tables() -> None:
    text = b"[[vassal]]\n[[vassal.x]]\na = 1\n[[vassal.x]]\na = 2\n"
    text += b"[[vassal]]\n[[vassal.x]]\na = 3\n[vassal.x.y]\nb = 4\n"
    first, second = parse(text, "toml", "x.toml")
    assert [first.line_of(("x", index, "a"))[0] for index in (0, 1)] == [3, 5]
    assert second.line_of(("x", 0, "a")) == (8, 1)
    assert second.line_of(("x", 0, "y", "b")) == (10, 1)
