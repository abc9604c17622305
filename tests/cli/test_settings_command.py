"""The command line of `run` and `config view`, which is made from the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from emperorctl.cli.app import app
from emperorctl.models.settings import OPTIONS


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def view(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["config", "view", *arguments], env=env)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def rows(out: str) -> dict[str, list[str]]:
    found = [line.split("   ") for line in out.splitlines()[1:]]
    return {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in found}


@pytest.mark.parametrize("command", [["run"], ["config", "view"]])
def test_help_has_every_option_in_its_group(command: list[str]) -> None:
    out = CliRunner().invoke(app, [*command, "--help"]).output
    for option in OPTIONS.values():
        assert f"--{option.name}" in out.replace(",", " ").split(), option.name
    assert out.index("Sources:") < out.index("Budgets and patience:") < out.index("Logs:") < out.index("--help")


def test_it_shows_what_differs_and_who_said_so() -> None:
    Path("e.ini").write_text("[uwsgi]\nemperor=/v\nreload-mercy=1\n")
    out, err = view("e.ini", "--emperor-throttle=5", env={"EMPERORCTL_BINARY_PATH": "/u"})
    assert rows(out) == {
        "emperor": ["/v", "e.ini:2"],
        "binary-path": ["/u", "EMPERORCTL_BINARY_PATH"],
        "emperor-throttle": ["5", "command line"],
        "reload-mercy": ["1", "e.ini:3"],
    }
    assert err == ""


def test_nothing_set_is_said_and_all_shows_everything() -> None:
    assert view() == ("", "Nothing is set: all defaults (see them with --all)\n")
    assert rows(view("--all")[0]).keys() == OPTIONS.keys() - OPTIONS.keys() | {o.name for o in OPTIONS.values()}


def test_yaml_is_a_file_that_says_the_same() -> None:
    Path("e.ini").write_text("[uwsgi]\nemperor=/v\nreload-mercy=1.5\nemperor-throttle=70\nemperor-nofollow=1\n")
    out, _ = view("--ini", "e.ini", "-o", "yaml")
    Path("e.yaml").write_text(out)
    again, _ = view("e.yaml", "-o", "yaml")
    assert yaml.safe_load(again)["spec"] == yaml.safe_load(out)["spec"] != {}
    assert yaml.safe_load(again)["spec"]["emperorThrottle"] == "70ms"
    assert yaml.safe_load(out)["status"]["origins"]["reloadMercy"] == "e.ini:3"


@pytest.mark.parametrize(
    ("arguments", "emperor", "ignored"),
    [
        (["--master", "/v"], "/v", ["--master"]),
        (["--all", "--master", "--emperor-nofollow", "--processes=3", "/v"], "/v", ["--master", "--processes"]),
        (["-M", "-p", "4", "/v"], "/v", ["--master", "--processes"]),
        (["-p4", "/v"], "/v", ["--processes"]),
        (["--processes", "--x", "/v"], "/v", ["--processes"]),
        (["--wsgi-file=x.py", "--emperor", "/v", "--die-on-term"], "/v", ["--wsgi-file", "--die-on-term"]),
        (["--emperor", "--master"], "--master", []),
        (["--emperor=/v"], "/v", []),
        (["--", "/v", "--master"], "/v, --master", []),
    ],
)
def test_uwsgis_own_options_are_taken_off_with_their_values(
    arguments: list[str], emperor: str, ignored: list[str]
) -> None:
    out, err = view(*arguments)
    assert rows(out)["emperor"] == [emperor, "command line"]
    assert [line.split()[1] for line in err.splitlines()] == ignored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--emperor-throtle", "3"], "unknown option --emperor-throtle (did you mean emperor-throttle?)"),
        (["-Z"], "unknown option -Z"),
        (["--emperor-throttle"], "Option '--emperor-throttle' requires an argument"),
        (["--hook-as-vassal", "x"], "--hook-as-vassal is not supported yet"),
        (["--emperor-nofollow=perhaps"], '--emperor-nofollow: expected true or false, got "perhaps"'),
        (["--watch", "x"], '--watch: expected auto, inotify or poll, got "x"'),
        (["--emperor", ""], '--emperor: expected a text that is not empty, got ""'),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    out, err = view(*arguments, code=1)
    assert out == "" and err.startswith(f"error: {message}")


def test_a_flag_can_be_turned_off_and_dashes_may_be_underscores() -> None:
    out, _ = view("--emperor_no_blacklist=false", "--reload_mercy", "3", env={"EMPERORCTL_EMPEROR_NO_BLACKLIST": "1"})
    assert rows(out) == {"emperor-no-blacklist": ["false", "command line"], "reload-mercy": ["3", "command line"]}


def test_the_socket_may_be_named_before_the_command() -> None:
    result = CliRunner().invoke(app, ["--socket", "/a", "config", "view"])
    assert rows(result.stdout) == {"socket": ["/a", "command line"]}
    result = CliRunner().invoke(app, ["--socket", "/a", "config", "view", "-s", "/b"])
    assert rows(result.stdout) == {"socket": ["/b", "command line"]}
