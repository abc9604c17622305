"""Every scenario twice: under the real Emperor, and under ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conformance.court import Court, OurCourt, RealCourt
from e2e.harness import Household


@pytest.fixture(params=["uwsgi", "emperorctl"])
def court(request: pytest.FixtureRequest, household: Household, uwsgi_bin: Path) -> Iterator[Court]:
    """An Emperor that is not yet started, and its directory. The test fails when it can't be ended in good order."""
    made: Court = RealCourt(household, uwsgi_bin) if request.param == "uwsgi" else OurCourt(household)
    yield made
    complaints = made.close()
    assert not complaints, "\n".join(complaints)
