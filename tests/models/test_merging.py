"""Defaults under, and settings over, what a manifest says itself; and where each value came from."""

from __future__ import annotations

import pytest

from emperorctl.models.errors import ConfigError, Problem, UserError
from emperorctl.models.magic import Place
from emperorctl.models.manifest import read_manifests
from emperorctl.models.merging import NO_LAYERS, Layers, overlay
from emperorctl.models.settings import split_vassal_set
from emperorctl.models.vassal import Vassal
from emperorctl.models.vassal_defaults import read_defaults
from emperorctl.models.vassal_set import read_settings
from emperorctl.models.yaml_syntax import YamlReader

HEAD = "apiVersion: emperor/v1\nkind: Vassal\n"
PLACE = Place("shop.yaml", "/v/shop.yaml", "/v", environment=lambda name: f"<{name}>", content=lambda name: "%secret")
DEFAULTS = """\
apiVersion: emperor/v1
kind: Vassal
metadata:
  labels: {team: web, tier: front}
spec:
  command: [run, "%(vassal.name)"]
  user: www-data
  env:
    A: "1"
    TOKEN: "@(t)"
  vars: {port: "8000"}
  reload: {signal: HUP}
  stop: {gracePeriod: 5s}
"""


def defaults(text: str = DEFAULTS) -> Layers:
    return read_defaults(text.encode(), "yaml", file="/d.yaml", place=PLACE)


def refused(text: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        defaults(text)
    assert caught.value.problem.file == "/d.yaml"
    return caught.value.problem


def read(text: str, layers: Layers) -> Vassal | Problem:
    (claim,) = read_manifests(
        (HEAD + text).encode(), "yaml", file="/v/shop.yaml", stem="shop", place=PLACE, source="s", layers=layers
    )
    found = claim.vassal or claim.problem
    assert found is not None
    return found


def good(text: str, layers: Layers) -> Vassal:
    found = read(text, layers)
    assert isinstance(found, Vassal), found
    return found


def wrong(text: str, layers: Layers) -> Problem:
    found = read(text, layers)
    assert isinstance(found, Problem)
    return found


def test_mappings_are_merged_lists_replaced_and_null_removes() -> None:
    under = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}
    over = {"a": {"c": [3], "g": 2}, "d": {"h": None, "i": 1}, "e": None, "z": None}
    assert overlay(under, over) == {"a": {"b": 1, "c": [3], "g": 2}, "d": {"i": 1}}
    assert under == {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}, "nothing is changed in place"


def test_defaults_fill_in_what_a_manifest_leaves_out() -> None:
    found = good("metadata: {labels: {tier: back}}\nspec: {env: {A: null, B: '%(port)'}, user: null}\n", defaults())
    assert found.launch.command == ("run", "shop")
    assert dict(found.launch.env) == {"TOKEN": "%secret", "B": "8000"}
    assert found.launch.user is None and found.stop.grace == 5.0
    assert found.labels == {"team": "web", "tier": "back"}
    assert good("", defaults()).launch.command == ("run", "shop")


def test_a_choice_replaces_the_one_below() -> None:
    assert good("spec: {reload: {restart: {}}}\n", defaults()).spec["reload"] == {"restart": {}}
    assert good("spec: {}\n", defaults()).spec["reload"] == {"signal": "SIGHUP"}


def test_settings_go_over_everything() -> None:
    given = read_settings(("spec.env.TZ=UTC", "spec.user=nobody", "metadata.labels.example.org/x=1"), PLACE)
    layers = Layers(given=given)
    found = good("spec: {command: [a], env: {TZ: X, B: c}, user: me}\n", layers)
    assert dict(found.launch.env) == {"TZ": "UTC", "B": "c"} and found.launch.user == "nobody"
    assert found.labels == {"example.org/x": "1"}


def test_where_each_value_comes_from() -> None:
    layers = Layers(defaults().defaults, read_settings(("spec.nice=5",), PLACE), "/d.yaml", defaults().lines)
    found = dict(good("spec:\n  env:\n    B: x\n  command: [a]\n", layers).origins)
    assert found == {
        "metadata.labels.team": "/d.yaml:4",
        "metadata.labels.tier": "/d.yaml:4",
        "spec.command": ":6",
        "spec.user": "/d.yaml:7",
        "spec.env.A": "/d.yaml:9",
        "spec.env.TOKEN": "/d.yaml:10",
        "spec.env.B": ":5",
        "spec.vars.port": "/d.yaml:11",
        "spec.reload.signal": "/d.yaml:12",
        "spec.stop.gracePeriod": "/d.yaml:13",
        "spec.nice": "--vassal-set",
        "spec.stop.signal": "default",
        "spec.loyalty": "default",
        "spec.logs": "default",
    }


def test_without_layers_only_what_is_left_out_is_named_and_shared() -> None:
    one = good("spec: {command: [a], stop: {signal: HUP}}\n", NO_LAYERS)
    assert dict(one.origins) == dict.fromkeys(
        ("spec.reload", "spec.stop.gracePeriod", "spec.loyalty", "spec.logs"), "default"
    )
    assert one.origins is good("spec: {command: [b], stop: {signal: INT}}\n", NO_LAYERS).origins


def test_an_error_is_where_the_value_is() -> None:
    layers = Layers({"spec": {"env": {"A": "%(nope)"}}}, file="/d.yaml", lines={("spec", "env", "A"): 9})
    found = wrong("spec: {command: [a]}\n", layers)
    assert (found.file, found.line, found.field) == ("/d.yaml", 9, "spec.env.A")
    found = wrong("spec:\n  command: [a]\n  nice: 99\n", defaults())
    assert (found.file, found.line) == ("/v/shop.yaml", 5)
    found = wrong("spec: {command: [a], workingDir: x}\n", Layers(given={"spec": {"workingDir": "%(vassal.name)"}}))
    assert found.sentence().startswith("--vassal-set: spec.workingDir: expected an absolute path")
    found = wrong("spec: {comand: [a]}\n", Layers(given={"spec": {"nice": 1}}))
    assert (found.file, found.line, found.field) == ("/v/shop.yaml", 3, "spec.comand")


def test_nothing_at_all_does_not_remove() -> None:
    found = wrong("spec:\n  command: [a]\n  user:\n", defaults())
    assert (found.line, found.field) == (5, "spec.user") and "write null to remove" in found.remedy
    assert "expected a value, got nothing" in wrong("spec: {command: [a], user: null}\n", NO_LAYERS).message


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("kind: Vassal\n", None, "apiVersion"),
        (HEAD + "metadata: {name: x}\n", 3, "metadata.name: can't be a default"),
        (HEAD + "spec:\n  comand: [a]\n", 4, "did you mean `command`?"),
        (HEAD + "spec: {nice: 99}\n", 3, "expected at most 19"),
        (HEAD + "spec: {user: null}\n", 3, "expected a value, got nothing"),
        (HEAD + "---\n" + HEAD, 4, "second document"),
        ("[a]\n", 1, "expected a mapping"),
        (HEAD + "spec: [\n", None, "not YAML"),
    ],
)
def test_what_is_wrong_with_defaults_is_said_at_once(text: str, line: int | None, says: str) -> None:
    found = refused(text)
    assert says in found.sentence()
    assert line is None or found.line == line


def test_what_holds_a_placeholder_is_judged_when_it_is_merged() -> None:
    layers = defaults(HEAD + 'spec: {workingDir: "%(home)/x", user: "%(who)"}\n')
    found = good("spec: {command: [a], vars: {home: /srv, who: me}}\n", layers)
    assert (found.launch.working_dir, found.launch.user) == ("/srv/x", "me")
    assert wrong("spec: {command: [a], vars: {home: srv, who: me}}\n", layers).file == "/d.yaml"


def test_settings_are_told_apart_by_their_keys() -> None:
    given = ("spec.nice=1", "master=true", "metadata.labels.a=b", "spec=1", "specx.y=1")
    assert split_vassal_set(given) == (("spec.nice=1", "metadata.labels.a=b"), ("master=true", "spec=1", "specx.y=1"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("spec.env.TZ=UTC", {"env": {"TZ": "UTC"}}),
        ("spec.env.A=1=2", {"env": {"A": "1=2"}}),
        ("spec.env.A.B=", {"env": {"A.B": ""}}),
        ("spec.env.A=null", {"env": {"A": "null"}}),
        ("spec.env={A: b}", {"env": {"A": "b"}}),
        ("spec.nice=5", {"nice": 5}),
        ("spec.suspend=true", {"suspend": True}),
        ("spec.umask=027", {"umask": "027"}),
        ("spec.command=[a, 'b c']", {"command": ["a", "b c"]}),
        ("spec.rlimits.nofile=4096", {"rlimits": {"nofile": 4096}}),
        ("spec.reload.restart={}", {"reload": {"restart": {}}}),
        ("spec.vars.a.b=$(HOME) %n", {"vars": {"a.b": "<HOME> %n"}}),
        ("spec.user=%(who)", {"user": "%(who)"}),
    ],
)
def test_values_are_strings_where_the_field_takes_one(text: str, meant: object) -> None:
    assert read_settings((text,), PLACE) == {"spec": meant}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("spec.nice", "expected KEY=VALUE"),
        ("spec.nice=much", 'expected an integer, got "much"'),
        ("spec.nice=99", "expected at most 19"),
        ("spec.comand=[a]", "did you mean `command`?"),
        ("spec.command=a b", "expected a list of strings"),
        ("spec.env={A: ", "not YAML"),
        ("spec.stop.signal.x=1", "signal"),
        ("metadata.name=x", "name of its own"),
        ("metadata.labels.-=x", "is not a label"),
    ],
)
def test_what_can_not_be_set_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_settings((text,), PLACE)
    assert f"--vassal-set {text}" in str(caught.value) and says in str(caught.value)


def test_a_file_of_many_documents_is_read_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = defaults()
    passes: list[int] = []
    documents = YamlReader.documents
    monkeypatch.setattr(YamlReader, "documents", lambda self: passes.append(1) or documents(self))
    text = "".join(f"---\n{HEAD}metadata: {{name: v{n}}}\nspec: {{command: [a]}}\n" for n in range(20))
    claims = read_manifests(text.encode(), "yaml", file="/v/m.yaml", stem="m", place=PLACE, source="s", layers=layers)
    lines = [dict(claim.vassal.origins)["spec.command"] for claim in claims if claim.vassal]
    assert lines == [f":{5 * n + 5}" for n in range(20)]
    assert len(passes) == 2, "the documents, and where everything in them stands"
