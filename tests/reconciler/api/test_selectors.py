from __future__ import annotations

import pytest

from emperorctl.models.errors import UserError
from emperorctl.reconciler.api.selectors import parse_selector

LABELS = {"team": "web", "tier": "front", "emperor.io/zone": "a"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "team=web",
        "team==web",
        " team = web , tier != back ",
        "team in (web,api)",
        "team in ( api , web )",
        "team notin (api)",
        "missing notin (x)",
        "missing!=x",
        "team",
        "!missing",
        "emperor.io/zone=a",
        "team in (web),!missing,tier",
    ],
)
def test_holds(text: str) -> None:
    assert parse_selector(text).matches(LABELS)


@pytest.mark.parametrize(
    "text",
    [
        "team=api",
        "team!=web",
        "team in (api)",
        "team notin (web,x)",
        "missing",
        "!team",
        "missing in (x)",
        "team=web,tier=x",
    ],
)
def test_does_not_hold(text: str) -> None:
    assert not parse_selector(text).matches(LABELS)


@pytest.mark.parametrize(
    "text",
    [
        "=x",
        "team=web;tier=x",
        "team in web",
        "team in (we b)",
        "a b",
        "team=web tier=x",
        "(",
        "team>3",
        "x" * 5000,
        "-a",
    ],
)
def test_nonsense_is_named(text: str) -> None:
    with pytest.raises(UserError):
        parse_selector(text)
