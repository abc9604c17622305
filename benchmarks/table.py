"""The rows of the comparison, the numbers that must hold, and how they are shown: a Markdown table, or JSON.

Called by `__main__`; measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.measure import Spread

__all__ = ["ROWS", "Row", "Unit", "as_json", "budget_table", "comparison", "growth", "isolation_table"]

_LARGE = 2000


class Unit(StrEnum):
    """What a number is."""

    SECONDS = "s"
    SHARE = "%"
    BYTES = "B"
    COUNT = "n"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: `must` and `must_large` are the greatest values allowed up to 1,000 and at 5,000 vassals."""

    key: str
    title: str
    unit: Unit
    must: float | None = None
    must_large: float | None = None

    def limit(self, vassals: int) -> float | None:
        """The greatest value allowed with so many vassals."""
        return self.must_large if vassals > _LARGE else self.must


_MIB = 1024 * 1024
ROWS = (
    Row("start", "all started", Unit.SECONDS, 1.8, 9.0),
    Row("touch", "touch → vassal told", Unit.SECONDS, 0.030, 0.060),
    Row("kill", "killed → running again", Unit.SECONDS, 0.010, 0.015),
    Row("remove", "file removed → stopped", Unit.SECONDS, 0.030, 0.060),
    Row("add", "file added → started", Unit.SECONDS, 0.030, 0.060),
    Row("idle-cpu", "idle CPU of one core", Unit.SHARE, 0.002, 0.005),
    Row("idle-calls", "system calls in 10 s idle", Unit.COUNT),
    Row("memory", "memory (PSS) of the manager", Unit.BYTES, 60 * _MIB, 110 * _MIB),
    Row("status", "status table", Unit.SECONDS, 0.4, 1.0),
    Row("help", "help", Unit.SECONDS, 0.25, 0.25),
    Row("touch-cpu", "CPU time of one touch", Unit.SECONDS),
)

BUDGET_ROWS = (
    Row("crash-cpu", "CPU of one core with all in a crash loop, each tried every 180 s", Unit.SHARE, 0.05),
    Row("crash-try", "CPU time of one failed try", Unit.SECONDS),
    Row("crash-get", "status table meanwhile", Unit.SECONDS, 0.5),
    Row("crash-kill", "a healthy one killed → running again meanwhile", Unit.SECONDS, 0.050),
    Row("mass-back", "all killed at once → all running again", Unit.SECONDS),
    Row("mass-due", "the same by the throttle's arithmetic", Unit.SECONDS),
    Row("mass-twice", "of them started twice", Unit.COUNT, 0),
    Row("beat-cpu", "CPU of one core with a heartbeat a second from each", Unit.SHARE, 0.10),
)

Results = Mapping[str, Mapping[str, Spread]]
"""Column title → row key → what was measured."""


def comparison(results: Results, vassals: int, subject: str, rival: str) -> str:
    """All columns; then how many times less `subject` takes than `rival`, and whether what must hold for it does."""
    titles = list(results)
    ours = results.get(subject, {})
    compared = subject in results and rival in results
    head = [f"{vassals:,} vassals", *titles, *([f"{rival} ÷ {subject}"] if compared else []), "must", ""]
    lines = [head]
    for row in ROWS:
        cells = [row.title, *(_cell(row.unit, results[title].get(row.key)) for title in titles)]
        mine = ours.get(row.key)
        if compared:
            cells.append(_ratio(mine, results[rival].get(row.key)))
        limit = row.limit(vassals)
        cells.append("" if limit is None else f"≤ {_number(row.unit, limit)}")
        cells.append("" if limit is None or mine is None else "pass" if mine.median <= limit else "FAIL")
        lines.append(cells)
    return _markdown(lines)


def budget_table(rows: Mapping[str, Spread], vassals: int) -> str:
    """What the budgets must hold, and what was measured with so many vassals."""
    lines = [[f"{vassals:,} vassals", "emperorctl", "must", ""]]
    for row in BUDGET_ROWS:
        found = rows.get(row.key)
        if found is not None:
            limit = "" if row.must is None else f"≤ {_number(row.unit, row.must)}"
            verdict = "" if row.must is None else "pass" if found.median <= row.must else "FAIL"
            lines.append([row.title, _cell(row.unit, found), limit, verdict])
    return _markdown(lines)


def isolation_table(rows: Mapping[str, Spread], kinds: Mapping[str, str], must: float) -> str:
    """Seconds for one launch of each kind, by title; `must` holds for all but the first row, launched in a row."""
    lines = [["one launch", "in a row", "must", "", "alone"]]
    for number, (key, title) in enumerate(kinds.items()):
        limit = f"≤ {_number(Unit.SECONDS, must)}" if number else ""
        verdict = ("pass" if rows[key].median <= must else "FAIL") if number else ""
        cells = (_cell(Unit.SECONDS, rows[name]) for name in (key, f"{key}-alone"))
        together, alone = cells
        lines.append([title, together, limit, verdict, alone])
    return _markdown(lines)


def growth(results: Mapping[int, Mapping[str, Spread]]) -> str:
    """One column for each number of vassals, then how many times the last is the first."""
    counts = list(results)
    lines = [["vassals", *(f"{count:,}" for count in counts), f"{counts[-1]:,} ÷ {counts[0]:,}"]]
    for row in ROWS:
        found = [results[count].get(row.key) for count in counts]
        if any(found):
            cells = [row.title, *(_cell(row.unit, spread) for spread in found)]
            lines.append([*cells, _ratio(found[0], found[-1])])
    return _markdown(lines)


def as_json(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """The same numbers in seconds, bytes, shares and counts."""
    return {
        title: {
            key: {"median": spread.median, "low": spread.low, "high": spread.high, "count": spread.count}
            for key, spread in rows.items()
        }
        for title, rows in results.items()
    }


def _ratio(ours: Spread | None, theirs: Spread | None) -> str:
    if ours is None or theirs is None or not ours.median:
        return "–"
    ratio = theirs.median / ours.median
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"


def _cell(unit: Unit, spread: Spread | None) -> str:
    if spread is None:
        return "–"
    text = _number(unit, spread.median)
    if spread.count > 1:
        text += f" ({_number(unit, spread.low)} … {_number(unit, spread.high)})"
    return text


def _number(unit: Unit, value: float) -> str:
    match unit:
        case Unit.SECONDS if value >= 1:
            return f"{value:.1f} s"
        case Unit.SECONDS if value >= 0.0995:
            return f"{value:.2f} s"
        case Unit.SECONDS if value >= 0.00995:
            return f"{value * 1000:.0f} ms"
        case Unit.SECONDS:
            return f"{value * 1000:.2g} ms"
        case Unit.SHARE:
            return f"{value * 100:.2g} %"
        case Unit.BYTES:
            return f"{value / _MIB:.0f} MiB"
        case Unit.COUNT:
            return f"{value:.0f}"


def _markdown(lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def draw(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "| " + " | ".join("-" * max(3, width) for width in widths) + " |"
    return "\n".join([draw(lines[0]), rule, *map(draw, lines[1:])])
