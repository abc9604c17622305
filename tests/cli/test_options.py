from __future__ import annotations

import pytest

from emperorctl.cli.main import _subcommand
from emperorctl.cli.options import bare_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop", "shop"),
        ("vassal/shop", "shop"),
        ("vassal.emperor/shop", "shop"),
        ("blacklistentry.emperor/shop", "shop"),
        ("vassals/shop.ini", "vassals/shop.ini"),
        ("/etc/x/a.ini", "/etc/x/a.ini"),
        ("vassal/", "vassal/"),
    ],
)
def test_what_get_prints_as_a_name_is_understood(text: str, name: str) -> None:
    assert bare_name(text) == name


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run", "x"], "run"),
        (["-s", "run", "get"], "get"),
        (["--socket", "/x", "run"], "run"),
        (["--socket=/x", "run"], "run"),
        (["logs", "run"], "logs"),
        (["--help"], ""),
        ([], ""),
        (["-s"], ""),
    ],
)
def test_the_daemon_is_known_before_anything_is_loaded(arguments: list[str], command: str) -> None:
    assert _subcommand(arguments) == command
