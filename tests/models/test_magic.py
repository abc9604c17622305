"""Magic variables, as uWSGI 2.0.31 expands them."""

from __future__ import annotations

import pytest

from emperorctl.models.errors import ConfigError
from emperorctl.models.magic import VARIABLES, Place, expand

PLACE = Place(
    name="x.tar.ini",
    path="/tmp/parse/a/b/vassals/x.tar.ini",
    vassals_dir="/tmp/parse/a/b/vassals",
    hostname=lambda: "host",
    version="1.2",
    inode="7",
    cores="2",
    uid="0",
    user="root",
    gid="5",
    group="tty",
    time=1795491009.5,
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("%o %O", "x.tar.ini x.tar.ini"),
        ("%p", "/tmp/parse/a/b/vassals/x.tar.ini"),
        ("%s", "x.tar.ini"),
        ("%d", "/tmp/parse/a/b/vassals/"),
        ("%e %n %c", "ini x.tar vassals"),
        ("%0 %1 %4 [%9]", "tmp parse vassals []"),
        ("%v", "/tmp/parse/a/b/vassals"),
        ("%h %V %i %k", "host 1.2 7 2"),
        ("%u %U %g %G", "0 root 5 tty"),
        ("%t %T", "1795491009 1795491009500000"),
        ("%j %J", "C21A08D8 C21A08D8"),
        ("[%x]", "[]"),
        ("%%n %%%n 100%%", "%n %x.tar 100%"),
        ("$(HOME) @(file)", "$(HOME) @(file)"),
    ],
)
def test_variables(text: str, expanded: str) -> None:
    assert expand(text, PLACE) == expanded


def test_a_file_without_extension() -> None:
    place = Place("noext", "/noext", "/")
    assert expand("[%e] %n %d [%c] [%0]", place) == "[] noext / [] []"


def test_what_is_put_in_is_not_expanded_again() -> None:
    assert expand("%s", Place("%n", "/v/%n.ini", "/v")) == "%n.ini"


@pytest.mark.parametrize(
    ("text", "says"), [("%q", "%q is not known"), ("a%", "a lone %"), ("%(x)", "not known here"), ("%\n", "%\\x0a")]
)
def test_errors(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match="%%") as caught:
        expand(text, PLACE)
    assert says in caught.value.problem.sentence()


def test_every_listed_variable_is_known() -> None:
    for name in VARIABLES:
        expand(f"%{name}", PLACE)
