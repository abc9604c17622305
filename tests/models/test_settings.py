"""One list of options, and its documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from emperorctl.cli.options_table import document
from emperorctl.models.settings import BY_NAME, OPTIONS, REFUSED, Kind, Settings
from emperorctl.models.uwsgi_options import SHORT, argument_of

# What its manual and `uwsgi --help` name for the Emperor; a name that is lost here is lost for its users.
_UWSGI = """
emperor emperor-freq emperor-required-heartbeat emperor-curse-tolerance emperor-throttle emperor-max-throttle
reload-mercy emperor-nofollow emperor-tyrant emperor-tyrant-nofollow emperor-tyrant-initgroups emperor-stats
emperor-stats-server emperor-pidfile emperor-procname emperor-wrapper emperor-wrapper-override emperor-wrapper-fallback
emperor-extra-extension emperor-extra-ext emperor-no-blacklist emperor-use-clone emperor-cap vassal-cap vassals-cap
emperor-on-demand-extension emperor-on-demand-ext emperor-on-demand-directory emperor-on-demand-dir
emperor-on-demand-exec emperor-broodlord emperor-magic-exec emperor-graceful-shutdown emperor-subreaper
emperor-collect-attribute emperor-chdir-attr emperor-wrapper-attr emperor-command-socket emperor-wait-for-command
vassal-set vassals-set vassals-include vassals-include-before vassals-inherit vassals-inherit-before
vassals-start-hook vassals-stop-hook binary-path imperial-monitor-list imperial-monitors-list
emperor-force-config-pipe
"""
UWSGI = set(_UWSGI.split())
TYPES = {
    Kind.FLAG: bool,
    Kind.NUMBER: int,
    Kind.MILLISECONDS: int,
    Kind.SECONDS: float,
    Kind.TEXT: str,
    Kind.CHOICE: str,
    Kind.LIST: tuple,
}


def test_every_option_of_uwsgis_emperor_has_a_setting() -> None:
    assert BY_NAME.keys() >= UWSGI


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_a_default_fits_its_kind(option) -> None:
    default = getattr(Settings(), option.field)
    assert default == option.default
    assert default is None or isinstance(default, TYPES[option.kind])
    assert (option.kind is Kind.CHOICE) == bool(option.choices)


def test_names_variables_and_native_fields_are_unique() -> None:
    for names in (
        [name for option in OPTIONS.values() for name in (option.name, *option.aliases)],
        [name for option in OPTIONS.values() for name in option.variables],
        [option.native for option in OPTIONS.values()],
    ):
        assert len(names) == len(set(names))


def test_what_is_refused_is_no_option() -> None:
    assert not REFUSED & BY_NAME.keys()


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS.values() if option.own], ids=lambda option: option.name
)
def test_a_name_of_ours_that_uwsgi_has_is_marked(option) -> None:
    assert option.clash == (argument_of(option.name) is not None)
    assert not option.clash or any(argument_of(alias) is None for alias in option.aliases)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("master", "none"),
        ("processes", "required"),
        ("wsgi-file", "required"),
        ("chmod_socket", "optional"),
        ("x-y", None),
    ],
)
def test_uwsgis_own_options_are_known(name: str, argument: str | None) -> None:
    assert argument_of(name) == argument


def test_one_letter_options_have_long_names() -> None:
    assert all(argument_of(long) for long in SHORT.values())


def test_the_documented_table_is_up_to_date() -> None:
    found = (Path(__file__).parents[2] / "docs" / "options.md").read_text(encoding="utf-8")
    assert found == document(), "make docs writes it anew"
