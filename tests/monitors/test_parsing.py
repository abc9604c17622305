"""One file's bytes into claims, and how orders and results travel."""

from __future__ import annotations

import json

import pytest

from emperorctl.models.errors import Problem
from emperorctl.models.source import Claim
from emperorctl.models.uwsgi import UwsgiRun
from emperorctl.monitors.parsing import Facts, Order, Parsed, Setting, parse, refused_name, unparsed
from emperorctl.monitors.wire import decode_job, decode_result, encode_job, encode_result
from tests.monitors.recorder import INI, MANIFEST

SETTING = Setting(
    "dir:///v", "/v", "/v", UwsgiRun("uwsgi", None, False, attributes=("team",)), Facts(hostname="h", uid="7")
)


def order(name: str, data: str | bytes) -> Order:
    raw = data.encode() if isinstance(data, str) else data
    return Order(f"/v/{name}", f"/v/{name}", name, 42, raw)


def test_the_extension_and_the_content_decide_the_kind() -> None:
    assert parse(order("a.ini", INI), SETTING).claims[0].name == "a.ini"
    assert parse(order("a.yaml", MANIFEST.format(1)), SETTING).claims[0].name == "a"
    assert parse(order("a.yaml", "uwsgi:\n  master: 1\n"), SETTING).claims[0].name == "a.yaml"
    assert parse(order("a.json", '{"a": 1}'), SETTING).problem is not None


def test_magic_variables_know_the_machine() -> None:
    [claim] = parse(order("a.yaml", MANIFEST.format("%h %u %i %o %v")), SETTING).claims
    assert claim.vassal and claim.vassal.launch.command[1] == "h 7 42 a.yaml /v"


def test_a_wrapper_may_read_what_uwsgi_would_not() -> None:
    wrapped = Setting("dir:///v", "/v", "/v", UwsgiRun("uwsgi", "/bin/wrap", False), Facts())
    assert parse(order("a.ini", "[other]\na = b\n"), SETTING).problem
    assert parse(order("a.ini", "[other]\na = b\n"), wrapped).claims
    assert parse(order("a.yaml", "a: b\n"), wrapped).claims


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.ini", ""),
        ("a.ini", "\0"),
        ("a.ini", b"\xff\xfe[uwsgi]"),
        ("a.ini", b"\x7fELF\x02\x01\x01" + bytes(range(256))),
        ("a.xml", "<uwsgi>"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><uwsgi>&b;</uwsgi>'),
        ("a.json", "{"),
        ("a.json", "[" * 100_000),
        ("a.yaml", "[" * 100_000),
        ("a.yaml", "kind: Vassal\nkind: Vassal\n"),
        ("a.yaml", "kind: Vassal\na: &a [*a]\n"),
        ("a.yaml", "kind: !!python/object/apply:os.system [true]\n"),
        ("a.toml", "a = ["),
        ("a.toml", ""),
        ("a.yml", "---\n---\n"),
    ],
)
def test_bad_files_are_problems_that_name_them(name: str, data: str | bytes) -> None:
    parsed = parse(order(name, data), SETTING)
    assert parsed.claims == () and parsed.problem is not None and parsed.problem.file == f"/v/{name}"
    assert parsed.fallback_name in ("a", name)


def test_hostile_names() -> None:
    assert refused_name(order("a.ini", INI)) is None
    for name in ("-a.ini", "a\nb.ini", "\udcff.ini", "n" * 255):
        refused = refused_name(order(name, INI))
        assert refused and refused.problem and refused.problem.reason == "InvalidName"
        assert refused.fallback_name.isprintable()
    odd = Order("/\\xff/a.ini", "/\udcff/a.ini", "a.ini", 1, b"")
    refused = refused_name(odd)
    assert refused and refused.problem and "directory" in refused.problem.message


def test_jobs_come_back_as_they_were() -> None:
    orders = [order("a.ini", INI), order("b.yaml", b"\xff\n\n"), order("c.ini", "")]
    assert decode_job(encode_job(orders, SETTING)) == (orders, SETTING)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.ini", INI),
        ("a.yaml", MANIFEST.format(1) + "  env: {A: b}\n"),
        ("a.yaml", "kind: Vassal\nspec: 1\n"),
        ("a.ini", ""),
    ],
)
def test_results_come_back_as_they_were(name: str, data: str) -> None:
    parsed = parse(order(name, data), SETTING)
    line = encode_result(parsed)
    assert line.count(b"\n") == 1
    assert decode_result(line[:-1], order(name, data), SETTING) == parsed


def test_a_result_that_speaks_for_another_file_is_refused() -> None:
    mine, other = order("a.ini", INI), order("b.ini", INI)
    line = encode_result(parse(other, SETTING))
    with pytest.raises(ValueError, match="another's name"):
        decode_result(line, mine, SETTING)
    renamed = json.loads(line)
    renamed["claims"][0]["name"] = "c.ini"
    with pytest.raises(ValueError, match="another's name"):
        decode_result(json.dumps(renamed).encode(), other, SETTING)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"claims": 1}', b'{"claims":[{"name":"a"}]}', b"{}", b"\xff"])
def test_what_is_no_result_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode_result(line, order("a.ini", INI), SETTING)


def test_claims_and_a_problem_at_once_are_refused() -> None:
    problem = Problem("A", "b")
    both = Parsed((Claim("a", None, problem),), problem, "a")
    with pytest.raises(ValueError, match="both"):
        decode_result(encode_result(both), order("a.ini", INI), SETTING)


def test_the_name_of_a_file_that_was_not_read() -> None:
    assert unparsed(order("a.toml", b""), Problem("A", "b")).fallback_name == "a"
    assert unparsed(order("a.ini", b""), Problem("A", "b")).fallback_name == "a.ini"
    assert unparsed(order("a.yaml", b""), Problem("A", "b")).fallback_name == "a.yaml"
