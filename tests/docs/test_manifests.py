"""The page about manifests shows what is accepted, and names every variable."""

from __future__ import annotations

import re
from pathlib import Path

from emperorctl.models.expansion import NAMES
from emperorctl.models.magic import VARIABLES, Place
from emperorctl.models.manifest import read_manifests
from emperorctl.models.merging import Layers
from emperorctl.models.vassal import Vassal
from emperorctl.models.vassal_defaults import read_defaults
from emperorctl.models.vassal_set import read_settings
from emperorctl.monitors.placeholders import SHARED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/manifests.md").read_text(encoding="utf-8")
PLACE = Place(
    "shop.yaml", "/etc/vassals/shop.yaml", "/etc/vassals", hostname="box", user="root", environment=lambda name: "C"
)
MANIFEST, DEFAULTS = re.findall(r"(?s)```yaml\n(.*?)```", PAGE)


def _read(text: str, layers: Layers) -> Vassal:
    (claim,) = read_manifests(
        text.encode(), "yaml", file="shop.yaml", stem="shop", place=PLACE, source="dir:///etc/vassals", layers=layers
    )
    assert claim.vassal is not None, claim.problem
    return claim.vassal


def test_its_manifest_is_accepted() -> None:
    found = _read(MANIFEST, Layers())
    assert found.late and found.launch.working_dir == "/srv/shop"
    env = dict(found.launch.env)
    assert env == {"LANG": "C", "STARTED": "on box by root", "PROGRESS": "100%"}
    assert "$(id -un)" in found.hooks.pre_start[0].command[2]


def test_its_defaults_are_accepted_and_come_from_the_lines_it_shows() -> None:
    settings = re.findall(r"`--vassal-set '?((?:spec|metadata)\.[^`']*)'?`", PAGE)
    assert len(settings) == 4
    defaults = read_defaults(DEFAULTS.encode(), "yaml", file="/etc/emperor/defaults.yaml", place=PLACE)
    layers = Layers(defaults.defaults, read_settings(settings, PLACE), defaults.file, defaults.lines)
    found = _read("apiVersion: emperor/v1\nkind: Vassal\nspec:\n  command: [a]\n", layers)
    origins = dict(found.origins)
    shown = dict(re.findall(r"(?m)^  (spec\.\S+): +(\S+)$", PAGE))
    assert shown.pop("spec.command") == "/etc/vassals/shop.yaml" + origins["spec.command"]
    assert shown and shown.items() <= origins.items()


def test_it_names_every_variable() -> None:
    named = set(re.findall(r"`%([A-Za-z0-9])`", PAGE)) | {str(number) for number in range(10)}
    assert named >= set(VARIABLES) - {"%"}
    assert set(re.findall(r"%\((vassal\.[a-z]+)\)", PAGE)) == set(NAMES)
    assert all(f"`$({name})`" in PAGE for name in SHARED)
