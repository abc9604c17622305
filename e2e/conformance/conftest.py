"""Every scenario twice: under the real Emperor, and under ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from e2e.conformance.court import Court, OurCourt, RealCourt
from e2e.harness import Household

_REAL = "uwsgi"


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Give the real Emperor a second chance: now and then it misses an event. Ours gets none."""
    spec = getattr(item, "callspec", None)
    if spec is None or spec.params.get("court") != _REAL:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports):
        item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.fixture(params=[_REAL, "emperorctl"])
def court(request: pytest.FixtureRequest, household: Household, uwsgi_bin: Path) -> Iterator[Court]:
    """An Emperor that is not yet started, and its directory. The test fails when it can't be ended in good order."""
    made: Court = RealCourt(household, uwsgi_bin) if request.param == _REAL else OurCourt(household)
    yield made
    complaints = made.close()
    assert not complaints, "\n".join(complaints)
