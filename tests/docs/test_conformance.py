"""docs/conformance.md says what the scenarios of e2e/conformance declare."""

from __future__ import annotations

import importlib

import pytest

from e2e.conformance.declarations import DECLARED, scenario
from e2e.conformance.table import CHAPTERS, PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: make conformance"


def test_every_scenario_has_a_row_and_every_chapter_one() -> None:
    text = page()
    assert all(text.count(f"\n| {one.title} | {one.uwsgi} | ") == 1 for one in DECLARED.values())
    modules = {name: importlib.import_module(f"e2e.conformance.{name}") for name in CHAPTERS}
    written = {f"{name}.{one}" for name, module in modules.items() for one in vars(module) if one.startswith("test_")}
    assert written == set(DECLARED)
    assert {one.module for one in DECLARED.values()} == set(CHAPTERS)
    assert len({one.title for one in DECLARED.values()}) == len(DECLARED)


@pytest.mark.parametrize(
    ("difference", "why"), [("otherwise", ""), ("", "because"), ("a | b", "because"), ("two\nlines", "because")]
)
def test_half_a_declaration_is_refused(difference: str, why: str) -> None:
    with pytest.raises(ValueError, match="A title"):
        scenario("A title", uwsgi="this", emperorctl=difference, why=why)
