"""The table of docs/conformance.md, made from the scenarios' declarations. Run as `python -m e2e.conformance`."""

from __future__ import annotations

import importlib
from pathlib import Path

from e2e.conformance.declarations import DECLARED, Scenario

__all__ = ["CHAPTERS", "PAGE", "page"]

CHAPTERS = {
    "test_files": "What lies in the directory",
    "test_launch": "How a vassal is started",
    "test_binaries": "Which program it becomes, and what that reads",
    "test_life": "Loyalty, death and the blacklist",
    "test_protocol": "What a vassal may say",
    "test_on_demand": "On demand",
    "test_orders": "Signals and the end of an Emperor",
    "test_broodlord": "Broodlord mode",
    "test_hooks": "The hooks of the whole Emperor",
    "test_tyrant": "Tyrant mode",
    "test_isolation": "Namespaces and capabilities",
    "test_stats": "The statistics document",
}
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"

_HEAD = """# Like uWSGI's own Emperor, scenario by scenario

Each row is a test that runs twice: under the real `uwsgi --emperor` of uWSGI 2.0.31, and under `emperorctl run` with
the same options. Both are looked at from outside: statistics document, HTTP answers, processes, what a vassal hears and
is given, files, the order of events. The rows are what the tests in `e2e/conformance/` declare, and
`make conformance` (or `python -m e2e.conformance`) writes this page anew.

Where uWSGI's manual and its binary differ, emperorctl follows the manual. Two things hold everywhere and are in no row:
emperorctl sees a change at once and not at the next scan, and it does throttle spawns, which 2.0.31 does not (the tests
give it room with `--throttle-burst 100`).
"""


def page() -> str:
    """The whole page. Raises LookupError when a file of scenarios belongs to no chapter."""
    strays = {path.stem for path in Path(__file__).parent.glob("test_*.py")} ^ set(CHAPTERS)
    if strays:
        raise LookupError(f"files of scenarios and the chapters of the table differ in {', '.join(sorted(strays))}")
    for module in CHAPTERS:
        importlib.import_module(f"e2e.conformance.{module}")
    return _HEAD + "".join(_chapter(module, title) for module, title in CHAPTERS.items())


def _chapter(module: str, title: str) -> str:
    rows = [_row(scenario) for scenario in DECLARED.values() if scenario.module == module]
    return f"\n## {title}\n| scenario | uWSGI 2.0.31 | emperorctl | why |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _row(scenario: Scenario) -> str:
    return f"| {scenario.title} | {scenario.uwsgi} | {scenario.emperorctl or 'the same'} | {scenario.why} |\n"
