"""One file's bytes into claims, and how orders and results travel."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emperorctl.models.errors import Problem
from emperorctl.models.merging import Layers
from emperorctl.models.patches import Patch
from emperorctl.models.source import Claim
from emperorctl.models.uwsgi_run import UwsgiRun, zerg_vassal
from emperorctl.monitors.parsing import Facts, Order, Parsed, Setting, administered, parse, refused_name, unparsed
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


def names(parsed: Parsed) -> list[str]:
    return [claim.name for claim in parsed.claims]


SEVERAL = "[uwsgi]\nteam = all\n[common]\nx = 1\n[uwsgi:blog]\nteam = web\nini = :common\n[uwsgi:shop]\n"


def test_several_vassals_in_one_config() -> None:
    parsed = parse(order("a.ini", SEVERAL), SETTING)
    assert names(parsed) == ["a.ini", "a.ini:blog", "a.ini:shop"]
    plain, blog, shop = (claim.vassal for claim in parsed.claims)
    assert plain and blog and shop
    assert plain.launch.command == ("uwsgi", "--ini", "a.ini")
    assert blog.launch.command == ("uwsgi", "--ini", "emperor://a.ini:blog")
    assert (plain.launch.config_pipe, blog.launch.config_pipe) == (False, True)
    assert (plain.section, blog.section, shop.section) == ("", "blog", "shop")
    assert blog.config == b"[blog]\nteam = web\nini = /v/a.ini:common\n"
    assert (plain.labels, blog.labels, shop.labels) == ({"team": "all"}, {"team": "web"}, {})
    assert {vassal.launch.working_dir for vassal in (plain, blog, shop)} == {"/v"}
    assert blog.spec["section"] == "uwsgi:blog"


@pytest.mark.parametrize("ext", [".yaml", ".yml", ".json", ".js"])
def test_sections_alone_are_a_uwsgi_config(ext: str) -> None:
    parsed = parse(order(f"a{ext}", '{"uwsgi:b": {"x": 1}}' if "j" in ext else "uwsgi:b:\n  x: 1\n"), SETTING)
    assert names(parsed) == [f"a{ext}:b"]


def test_only_the_plain_vassal_is_started_on_demand() -> None:
    parsed = parse(replace(order("a.ini", SEVERAL), on_demand="/run/a.sock"), SETTING)
    assert [bool(claim.vassal and claim.vassal.on_demand) for claim in parsed.claims] == [True, False, False]


def test_what_is_wrong_with_one_section_is_no_concern_of_the_others() -> None:
    text = f"[uwsgi]\nx = 1\n[uwsgi:big]\nx = {'y' * 66_000}\n[uwsgi:{'n' * 63}]\n[uwsgi:zerg]\n"
    parsed = parse(order(f"{'a' * 200}.ini", text), SETTING)
    reasons = [claim.problem.reason if claim.problem else "" for claim in parsed.claims]
    assert reasons == ["", "TooLarge", "InvalidName", "ReservedName"]
    for claim in parsed.claims:
        assert claim.problem is None or claim.problem.file == f"/v/{'a' * 200}.ini"


def test_each_section_has_its_own_patch() -> None:
    text = "[uwsgi:a]\nunprivileged-binary-patch = /bin/a\n[uwsgi:b]\nprivileged-binary-patch-arg = b\n[uwsgi:c]\n"
    patches = [claim.vassal.launch.patch for claim in parse(order("a.ini", text), SETTING).claims if claim.vassal]
    assert [patch.program if patch else None for patch in patches] == ["/bin/a", "b", None]


def test_sections_travel_back_from_the_parser() -> None:
    one = order("a.ini", SEVERAL)
    parsed = parse(one, SETTING)
    assert decode_result(encode_result(parsed), one, SETTING) == parsed
    piped = replace(SETTING, run=replace(SETTING.run, config_pipe=True))
    parsed = parse(one, piped)
    assert parsed.claims[0].vassal
    assert parsed.claims[0].vassal.config == one.data
    assert decode_result(encode_result(parsed), one, piped) == parsed


@pytest.mark.parametrize("old", ['"section":"blog"', '"name":"a.ini:blog"'])
def test_a_section_of_another_file_is_no_result(old: str) -> None:
    one = order("a.ini", SEVERAL)
    line = encode_result(parse(one, SETTING)).decode()
    assert old in line
    with pytest.raises(ValueError, match=r"section|name"):
        decode_result(line.replace(old, old.replace("blog", "shop")).encode(), one, SETTING)


PASSING = replace(
    SETTING.run,
    set=("a=1", "b=2"),
    inherit_before=("t1",),
    include_before=("i1",),
    inherit=("t2",),
    include=("i2",),
)


def test_what_is_passed_to_all_stands_in_uwsgis_order() -> None:
    parsed = parse(order("a.ini", SEVERAL), replace(SETTING, run=PASSING))
    for claim, config in zip(parsed.claims, ("a.ini", "emperor://a.ini:blog", "emperor://a.ini:shop"), strict=True):
        assert claim.vassal
        assert " ".join(claim.vassal.launch.command) == (
            f"uwsgi --inherit t1 --include i1 --set a=1 --set b=2 --ini {config} --inherit t2 --include i2"
        )


def test_a_zerg_is_passed_the_same() -> None:
    [claim] = parse(order("a.ini", INI), replace(SETTING, run=PASSING)).claims
    assert claim.vassal
    command = zerg_vassal(claim.vassal, "a.ini:zerg", 1).launch.command
    assert command[command.index("--ini") + 1] == "a.ini:zerg"
    assert command[-1] == "i2"


def test_what_is_passed_concerns_a_patch() -> None:
    text = "[uwsgi]\nunprivileged-binary-patch = /bin/a\n"

    def patch(**passed: tuple[str, ...]) -> Patch | None:
        [claim] = parse(order("a.ini", text), replace(SETTING, run=UwsgiRun(**passed))).claims  # type: ignore[arg-type]
        assert claim.vassal
        return claim.vassal.launch.patch

    plain, with_user = patch(), patch(set=("uid=33", "umask=027"))
    assert plain and with_user
    assert (with_user.user, with_user.umask, with_user.program) == ("33", 0o027, "/bin/a")
    assert patch(set=("processes=4",)) is None
    assert patch(include=("/etc/common.ini",)) is None


@pytest.mark.parametrize(
    "text",
    [
        "[uwsgi]\nini = a.ini\n",
        "[uwsgi]\ninclude = %p\n",
        "[uwsgi]\ninherit = ../v/a.ini\n",
        "[uwsgi]\nini = :common\n[common]\nini = %d%s:more\n[more]\nini = :common\n",
    ],
)
def test_a_config_that_reads_itself_is_refused(text: str) -> None:
    parsed = parse(order("a.ini", text), SETTING)
    assert parsed.problem
    assert parsed.problem.reason == "IncludeCycle"
    assert "a.ini" in parsed.problem.message


@pytest.mark.parametrize(
    "text",
    [
        "[uwsgi]\nini = b.ini\n",
        "[uwsgi]\nini = :common\n[common]\nx = 1\n",
        "[uwsgi]\nini = :common\nini = :common\n[common]\nx = 1\n",
        "[uwsgi]\nx = 1\n[common]\nini = :common\n",
        "[uwsgi]\nif-env = A\nini = a.ini\nendif =\n",
        "[uwsgi:blog]\nini = %p\n[uwsgi]\nx = 1\n",
    ],
)
def test_other_includes_are_uwsgis_business(text: str) -> None:
    assert not parse(order("a.ini", text), SETTING).problem


def test_a_given_working_directory_is_that_of_all_who_give_none() -> None:
    there = replace(SETTING, working_dir="/srv", moved=True)
    [claim] = parse(order("a.ini", INI), there).claims
    assert claim.vassal
    assert (claim.vassal.launch.command[-1], claim.vassal.launch.working_dir) == ("/v/a.ini", "/srv")
    [claim] = parse(order("a.yaml", MANIFEST.format(1)), there).claims
    assert claim.vassal
    assert (claim.vassal.launch.working_dir, claim.vassal.spec["workingDir"]) == ("/srv", "/srv")
    [claim] = parse(order("a.yaml", MANIFEST.format(1) + "  workingDir: /own\n"), there).claims
    assert claim.vassal
    assert claim.vassal.launch.working_dir == "/own"
    assert decode_job(encode_job([], there))[1] == there


def test_what_the_administrator_gives_to_a_manifest_that_says_nothing() -> None:
    asked = {"spec": {"nice": -5, "isolation": {"hostname": "%(vassal.name)", "chroot": "/srv/%(vassal.name)"}}}
    given = replace(SETTING, layers=Layers(given=asked), run=replace(SETTING.run, capabilities=(10,)))
    found = administered(replace(order("a.yaml", ""), owner=1001), given, "shop")
    assert found and found.launch.nice == -5 and found.launch.isolation
    isolation = found.launch.isolation
    assert (isolation.hostname, isolation.chroot, isolation.bound) == ("shop.1001", "/srv/shop.1001", (10,))
    # It is the same word that the file itself is merged with.
    asks = replace(order("a.yaml", MANIFEST.format("%(vassal.name)")), owner=1001)
    [claim] = parse(asks, given).claims
    assert claim.name == "a" and claim.vassal and claim.vassal.launch.command[1] == "a.1001"
    assert decode_job(encode_job([asks], given))[0] == [asks]
    assert administered(order("a.yaml", ""), SETTING, "shop") is None


@pytest.mark.parametrize("value", ["/srv/%(root)", "$(HOME)/x", "@(/etc/hostname)"])
def test_what_the_file_or_its_owner_decides_is_not_the_administrators(value: str) -> None:
    given = replace(SETTING, layers=Layers(given={"spec": {"isolation": {"chroot": value}}}))
    assert administered(order("a.yaml", ""), given, "shop") is None


def test_a_path_of_the_file_is_not_the_administrators() -> None:
    given = replace(SETTING, layers=Layers(given={"spec": {"isolation": {"chroot": "/jails%d"}}}))
    [claim] = parse(order("a.yaml", MANIFEST.format(1)), given).claims
    found = administered(order("a.yaml", ""), given, "a")
    assert claim.vassal and claim.vassal.launch.isolation
    assert found is None or found.launch.isolation != claim.vassal.launch.isolation
