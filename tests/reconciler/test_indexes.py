"""Numbers for vassals: small, never doubled, and used again."""

from __future__ import annotations

from emperorctl.reconciler.indexes import Indexes


def test_the_smallest_free_number_is_the_next() -> None:
    indexes = Indexes()
    assert [indexes.take() for _ in range(4)] == [0, 1, 2, 3]
    indexes.give_back(2)
    indexes.give_back(0)
    assert [indexes.take() for _ in range(3)] == [0, 2, 4]
