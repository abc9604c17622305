"""Placeholders in manifests: what each comes to, what is refused, and where the error is said to be."""

from __future__ import annotations

import json

import pytest

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.expansion import CHAIN_MAX, EXPANSION_MAX, FILES_MAX, prepared, shielded
from emperorctl.models.late import LATE, settled, table
from emperorctl.models.magic import Place
from emperorctl.models.manifest import read_manifests
from emperorctl.models.vassal import Vassal

HEAD = "apiVersion: emperor/v1\nkind: Vassal\nspec:\n  command: [a]\n"
ENVIRON = {"HOME": "/root", "ODD": "%n $(HOME) @(f) %(x)", "EMPTY": ""}
FILES = {"f": "content", "/etc/shop/f": "there", "big": "x" * 65536}


def _get(known: dict[str, str], name: str) -> str:
    try:
        return known[name]
    except KeyError:
        raise ConfigError(Problem("UnknownVariable", f"{name} is not there")) from None


PLACE = Place(
    "shop.yaml",
    "/etc/vassals/shop.yaml",
    "/etc/vassals",
    environment=lambda name: _get(ENVIRON, name),
    content=lambda name: _get(FILES, name),
)


def read(spec: str, place: Place = PLACE) -> Vassal | Problem:
    (claim,) = read_manifests(
        (HEAD + spec).encode(), "yaml", file="shop.yaml", stem="shop", place=place, source="dir:///etc/vassals"
    )
    found = claim.vassal or claim.problem
    assert found is not None
    return found


def good(spec: str, place: Place = PLACE) -> Vassal:
    found = read(spec, place)
    assert isinstance(found, Vassal), found
    return found


def wrong(spec: str, place: Place = PLACE) -> Problem:
    found = read(spec, place)
    assert isinstance(found, Problem)
    assert found.file == "shop.yaml"
    return found


def env(text: str, variables: str = "{}") -> str:
    found = good(f"  vars: {variables}\n  env: {{A: {json.dumps(text)}}}\n")
    return dict(found.launch.env)["A"]


@pytest.mark.parametrize(
    ("text", "comes_to"),
    [
        ("%n%%%n 100%%", "shop%shop 100%"),
        ("$(HOME)/x$(EMPTY)y", "/root/xy"),
        ("@(f)", "content"),
        ("@(/etc/%n/f)", "there"),
        ("$$(HOME) @@(f) $$$(HOME) $ @ $$ @@", "$(HOME) @(f) $$(HOME) $ @ $$ @@"),
        ("$(id -u) $((1+2)) $(a.b) $HOME ${HOME} a@b", "$(id -u) $((1+2)) $(a.b) $HOME ${HOME} a@b"),
        ("%(vassal.name) %(vassal.monitor) %(vassal.file)", "shop dir:///etc/vassals shop.yaml"),
        # What was put in is not looked at again.
        ("$(ODD)", "%n $(HOME) @(f) %(x)"),
        ("(%s)", "(shop.yaml)"),
    ],
)
def test_what_they_come_to(text: str, comes_to: str) -> None:
    assert env(text) == comes_to


def test_variables_are_made_of_others() -> None:
    variables = '{root: "/srv/%n", data: "%(root)/data", key: "@(f)", my.own-1: $(HOME)}'
    assert env("%(data):%(root):%(key):%(my.own-1)", variables) == "/srv/shop/data:/srv/shop:content:/root"
    assert good(f"  vars: {variables}\n").spec["vars"]["data"] == "/srv/shop/data"
    assert good('  vars: {p: "%(q)", q: "1"}\n  nice: 5\n').spec["vars"] == {"p": "1", "q": "1"}


def test_they_work_in_every_string() -> None:
    found = good(
        '  vars: {who: web}\n  user: "%(who)"\n  workingDir: "/srv/%(who)"\n  stop: {signal: "%(sig)"}\n'
        "  hooks: {preStart: {command: [x, '%(vassal.name)']}}\n".replace("{who: web}", "{who: web, sig: INT}")
    )
    assert (found.launch.user, found.launch.working_dir, found.stop.signal) == ("web", "/srv/web", 2)
    assert found.hooks.pre_start[0].command == ("x", "shop")


@pytest.mark.parametrize(
    ("spec", "line", "field", "says"),
    [
        ('  env: {A: "%(x)"}', 5, "spec.env.A", "%(x) is not known (define it in spec.vars"),
        ('  vars: {port: "1"}\n  env: {A: "%(prot)"}', 6, "spec.env.A", "did you mean `%(port)`?"),
        ('  env: {A: "%(vassal.nmae)"}', 5, "spec.env.A", "did you mean `%(vassal.name)`?"),
        ('  env: {A: "%(x"}', 5, "spec.env.A", "%( without its end"),
        ("  env: {A: '%Q'}", 5, "spec.env.A", "%Q is not known"),
        ("  env: {A: $(NOPE)}", 5, "spec.env.A", "NOPE is not there"),
        ("  env: {A: '@(nope)'}", 5, "spec.env.A", "nope is not there"),
        ("  env: {A: '@(f'}", 5, "spec.env.A", "@( has to name a file"),
        ("  env: {A: '@()'}", 5, "spec.env.A", "@( has to name a file"),
        ("  env: {A: '%(b)'}\n  vars:\n    b: '%(c)'\n    c: '$(NOPE)'", 8, "spec.vars.c", "NOPE"),
        ("  vars: {a: 8000}\n  env: {A: '%(a)'}", 5, "spec.vars.a", 'write "8000" in quotes'),
        ("  vars: {1a: x}", 5, "spec.vars.1a", "is not a name for a variable"),
        ("  vars: {vassal.name: x}", 5, "spec.vars.vassal.name", "is a reserved name"),
        ("  vars: [a]", 5, "spec.vars", "expected a mapping"),
        ("  env: {A: '@(%(vassal.index))'}", 5, "spec.env.A", "read before the vassal is started"),
        ("  user: '%(vassal.uid)'", 5, "spec.user", "known only when it is started"),
    ],
)
def test_errors_name_line_and_field(spec: str, line: int, field: str, says: str) -> None:
    found = wrong(spec + "\n")
    assert (found.line, found.field) == (line, field)
    assert says in found.sentence()


@pytest.mark.parametrize(
    ("variables", "circle"),
    [
        ("a: '%(a)'", "%(a) → %(a)"),
        ("a: 'x%(b)'\n    b: '%(c)'\n    c: '%(b)'", "%(b) → %(c) → %(b)"),
    ],
)
def test_a_variable_made_of_itself_names_the_circle(variables: str, circle: str) -> None:
    found = wrong(f"  vars:\n    {variables}\n")
    assert found.reason == "CyclicVariable"
    assert circle in found.message


def test_a_long_chain_is_refused_and_not_followed() -> None:
    chain = "".join(f"    v{n}: '%(v{n + 1})'\n" for n in range(2000))
    assert wrong(f"  vars:\n{chain}    v2000: x\n").reason == "TooComplex"
    short = "".join(f"    v{n}: '%(v{n + 1})'\n" for n in range(CHAIN_MAX - 1))
    assert good(f"  vars:\n{short}    v{CHAIN_MAX - 1}: x\n").spec["vars"]["v0"] == "x"


def test_what_grows_to_a_mebibyte_is_refused_at_once() -> None:
    laughs = "".join(f"    v{n}: '{f'%(v{n + 1})' * 10}'\n" for n in range(30))
    found = wrong(f"  vars:\n{laughs}    v30: haha\n")
    assert found.reason == "ExpansionTooLarge" and (found.field or "").startswith("spec.vars.v")
    assert len(env("@(big)")) == 65536
    many = ", ".join(f"A{n}: '@(big)'" for n in range(EXPANSION_MAX // 65536))
    assert wrong(f"  env: {{{many}}}\n").reason == "ExpansionTooLarge"


def test_files_are_read_once_each_and_not_too_many() -> None:
    read_ones: list[str] = []

    def content(name: str) -> str:
        read_ones.append(name)
        return ""

    place = Place("s", "/v/s", "/v", content=content)
    good("  env: {A: '@(x)@(x)', B: '@(x)'}\n", place)
    assert read_ones == ["x"]
    many = ", ".join(f"A{n}: '@(f{n})'" for n in range(FILES_MAX + 1))
    assert wrong(f"  env: {{{many}}}\n", place).reason == "TooComplex"


def test_without_readers_nothing_outside_is_read() -> None:
    place = Place("s", "/v/s", "/v")
    assert wrong("  env: {A: $(HOME)}\n", place).reason == "VariableRefused"
    assert wrong("  env: {A: '@(f)'}\n", place).reason == "FileRefused"


def test_what_is_known_at_the_start_alone_is_filled_in_then() -> None:
    found = good(
        '  vars: {port: "80%(vassal.index)"}\n  env: {PORT: "%(port)", U: "%(vassal.uid):%(vassal.gid)"}\n'
        '  workingDir: "/srv/%(vassal.index)"\n'
        '  hooks: {postStop: {command: [clean, "%(port)"]}}\n'
    )
    assert found.late and any(mark in found.launch.env[0][1] for mark in LATE.values())
    ready = settled(found, table(3, 33, 44))
    assert dict(ready.launch.env) == {"PORT": "803", "U": "33:44"}
    assert ready.launch.working_dir == "/srv/3" and ready.hooks.post_stop[0].command == ("clean", "803")
    assert not good("  env: {A: x}\n").late


@pytest.mark.parametrize("text", ["$(A)", "$$(A)", "@(f)", "@@(f)", "$(id -u)", "$$(id -u)", "a$@(", "$", "$$$(A)@@@("])
def test_shielded_text_comes_out_as_it_is(text: str) -> None:
    assert env(shielded(text)) == text


def test_what_many_vassals_take_is_read_once_with_the_authority_of_its_own_file() -> None:
    ready = prepared({"env": {"A": "$(ODD)", "B": "%n @(f) $$(HOME)", "C": "@(%n.txt)"}}, PLACE)
    assert ready["env"]["C"] == "@(%n.txt)"
    stranger = Place("s.yaml", "/v/s.yaml", "/v", content=lambda name: name)
    found = good("  env: " + json.dumps(ready["env"]) + "\n", stranger)
    assert dict(found.launch.env) == {"A": ENVIRON["ODD"], "B": "s content $(HOME)", "C": "s.txt"}
