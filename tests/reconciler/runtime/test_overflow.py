from __future__ import annotations

import pytest

from emperorctl.reconciler.runtime.overflow import whole


@pytest.mark.parametrize(
    ("text", "everything"),
    [
        ("         0          0 4294967295\n", True),
        ("0 100000 65536\n65536 0 4294901759\n", True),
        ("65536 0 4294901759\n0 100000 65536\n", True),
        ("0 0 1\n", False),
        ("0 100000 65536\n", False),
        ("1 1 4294967294\n", False),
        ("0 0 10\n11 11 4294967284\n", False),
        ("", False),
        ("rubbish\n", False),
    ],
)
def test_whether_a_map_maps_everything(text: str, everything: bool) -> None:
    assert whole(text) is everything
