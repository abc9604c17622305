"""The README, and the page about moving here, promise nothing that the command line does not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emperorctl.cli.app import app
from emperorctl.models.magic import Place
from emperorctl.models.manifest import read_manifests

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOVING = (ROOT / "docs" / "coming-from-uwsgi.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"(?:`|\$ )emperorctl ([a-z]+)", README + MOVING)))


def _help(command: str) -> str:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0, f"README names `emperorctl {command}`"
    return result.output


def test_it_shows_the_main_commands() -> None:
    assert {"run", "get", "describe", "logs", "reload", "stop", "validate"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_it_names_is_there(command: str) -> None:
    assert "Usage:" in _help(command)


def _known() -> set[str]:
    """Every option of every command that is named."""
    subcommands = ["blacklist list", "blacklist clear", "config view"]
    known: set[str] = set()
    for command in [*COMMANDS, *subcommands]:
        result = CliRunner().invoke(app, [*command.split(), "--help"])
        known |= set(re.findall(r"--[a-z][a-z-]+", result.output))
    return known


def test_every_option_that_is_given_to_it_on_the_way_is_some_commands() -> None:
    lines = re.findall(r"^\$ (emperorctl .*)|`(emperorctl [^`]*|--[^`]*)`", MOVING, re.MULTILINE)
    named = {option for line in lines for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(line))}
    assert len(named) > 5
    assert named <= _known() | {"--emperor-trottle"}, "one of them is wrong on purpose"


def test_every_option_it_names_is_some_commands() -> None:
    known = _known()
    emperors_own = re.sub(r"(?s)```console\n\$ curl.*?```", "", README).replace("uwsgi --emperor", "")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", emperors_own)) - {"--now", "--bind"}
    assert named <= known, f"not there: {sorted(named - known)}"


def test_its_manifest_is_a_manifest() -> None:
    shown = re.search(r"(?s)## A manifest.*?```yaml\n(.*?)```", README)
    assert shown is not None
    place = Place(
        name="shop.yaml",
        path="/vassals/shop.yaml",
        vassals_dir="/vassals",
        hostname="h",
        version="1",
        inode="1",
        cores="1",
        uid="0",
        user="root",
        gid="0",
        group="root",
        time=0.0,
    )
    (claim,) = read_manifests(
        shown[1].encode(), "yaml", file="README.md", stem="shop", place=place, source="dir:///vassals"
    )
    assert claim.problem is None and claim.vassal is not None
    assert claim.vassal.launch.working_dir == "/srv/shop"
