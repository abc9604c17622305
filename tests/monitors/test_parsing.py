"""One file's bytes into claims, and how orders and results travel."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emperorctl.models.errors import Problem
from emperorctl.models.merging import Layers
from emperorctl.models.source import Claim
from emperorctl.models.uwsgi_run import UwsgiRun
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
    layers = Layers({"spec": {"env": {"A": "b"}}}, {"spec": {"nice": 1}}, "/d.yaml", {("spec", "env", "A"): 3})
    merged = replace(SETTING, layers=layers, facts=Facts(environ={"TZ": "UTC"}))
    assert decode_job(encode_job(orders, merged)) == (orders, merged)


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


def test_a_merged_manifest_comes_back_with_its_origins() -> None:
    merged = replace(SETTING, layers=Layers({"spec": {"nice": 3}}, file="/d.yaml", lines={("spec", "nice"): 3}))
    asked = order("a.yaml", MANIFEST.format("%(vassal.index)"))
    parsed = parse(asked, merged)
    back = decode_result(encode_result(parsed)[:-1], asked, merged)
    assert back == parsed and back.claims[0].vassal and parsed.claims[0].vassal
    assert back.claims[0].vassal.origins == parsed.claims[0].vassal.origins
    assert back.claims[0].vassal.late and back.claims[0].vassal.launch.nice == 3


def test_only_files_of_ones_own_know_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s")
    text = MANIFEST.format(1) + "  env: {A: $(SECRET)}\n"
    assert parse(order("a.yaml", text), SETTING, own=True).claims[0].vassal
    problem = parse(order("a.yaml", text), SETTING).claims[0].problem
    assert problem is not None and problem.reason == "VariableRefused" and problem.line == 5


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


def test_a_further_extension_and_an_executable_config_are_not_looked_into() -> None:
    run = UwsgiRun(extra_extensions=(".site", "-x.yaml"), magic_exec=True)
    setting = Setting("dir:///v", "/v", "/v", run, Facts())
    for name, executable, words in (
        ("a.site", False, ("--config", "a.site")),
        ("a-x.yaml", False, ("--config", "a-x.yaml")),
        ("a.ini", True, ("--ini", "exec://./a.ini")),
        ("a b.ini", True, ("--ini", "exec://'./a b.ini'")),
        ("a.site", True, ("--config", "exec://./a.site")),
    ):
        one = replace(order(name, b"\xff no config"), executable=executable)
        (claim,) = parse(one, setting).claims
        assert claim.vassal is not None
        assert claim.vassal.launch.command == ("uwsgi", *words)
        assert parse(replace(one, data=b"a\0b"), setting).problem is not None
    (claim,) = parse(order("a.ini", INI), setting).claims
    assert claim.vassal is not None
    assert claim.vassal.launch.command == ("uwsgi", "--ini", "a.ini")


def test_a_manifest_stays_one_whatever_its_extension_is_said_to_be() -> None:
    setting = replace(SETTING, run=UwsgiRun(extra_extensions=(".yaml",)))
    data = b"apiVersion: emperor/v1\nkind: Vassal\nspec: {command: [a]}\n"
    (claim,) = parse(order("a.yaml", data), setting).claims
    assert claim.vassal is not None
    assert claim.vassal.launch.command == ("a",)


def test_a_config_travels_with_its_vassal_but_not_through_the_parser() -> None:
    setting = replace(SETTING, run=UwsgiRun(config_pipe=True))
    one = order("a.ini", INI)
    parsed = parse(one, setting)
    vassal = parsed.claims[0].vassal
    assert vassal is not None
    assert vassal.launch.command == ("uwsgi", "--ini", "emperor://a.ini")
    assert vassal.config == INI.encode()
    line = encode_result(parsed)
    assert decode_result(line, one, setting) == parsed
    assert decode_result(line, replace(one, data=b"[uwsgi]\nthe real one"), setting) != parsed
    forged = json.loads(line)
    forged["claims"][0]["vassal"]["config"] = "forged"
    with pytest.raises(ValueError, match="not the file's"):
        decode_result(json.dumps(forged).encode(), one, setting)
    long = parse(replace(one, data=INI.encode() + b"#" * 65536), setting)
    assert long.problem is not None
    assert long.problem.reason == "TooLarge"


def test_a_patch_travels_through_the_parser() -> None:
    one = order("a.ini", b"[uwsgi]\nuid = www\ncap = chown\nunprivileged-binary-patch-arg = serve %n\n")
    parsed = parse(one, SETTING)
    vassal = parsed.claims[0].vassal
    assert vassal is not None
    assert vassal.launch.patch is not None
    assert vassal.launch.patch.program == "serve a"
    assert decode_result(encode_result(parsed), one, SETTING) == parsed
    wrapped = parse(one, replace(SETTING, run=UwsgiRun(wrapper="/bin/wrap"))).claims[0].vassal
    assert wrapped is not None
    assert wrapped.launch.patch is None
