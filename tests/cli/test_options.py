from __future__ import annotations

import pytest

from emperorctl.cli.main import _subcommand
from emperorctl.cli.options import bare_name, target_names
from emperorctl.models.errors import UserError


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["vassals"], []),
        (["v"], []),
        (["Vassal", "shop", "blog.ini"], ["shop", "blog.ini"]),
        (["vassal", "/etc/x/a.ini"], ["/etc/x/a.ini"]),
        (["vassal/shop", "v/blog"], ["shop", "blog"]),
        (["vassal.emperor/shop"], ["shop"]),
        (["vassal//etc/x/a.ini"], ["/etc/x/a.ini"]),
    ],
)
def test_types_and_names(words: list[str], names: list[str]) -> None:
    assert target_names(words) == names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required resource not specified"),
        (None, "required resource not specified"),
        (["pods"], 'the server doesn\'t have a resource type "pods"'),
        (["pods/x"], 'the server doesn\'t have a resource type "pods"'),
        (["vassal/shop", "blog"], 'expected TYPE/NAME like the others, got "blog"'),
        (["vassal/"], 'expected TYPE/NAME like the others, got "vassal/"'),
        (["vassal", ""], "a name is empty"),
    ],
)
def test_wrong_types_and_names(words: list[str] | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        target_names(words)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop", "shop"),
        ("vassal/shop", "shop"),
        ("vassal.emperor/shop", "shop"),
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
