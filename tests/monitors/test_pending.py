"""When something is looked at: complete changes at once, changes in progress after a quiet moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from emperorctl.monitors.pending import Pending
from emperorctl.monitors.watch.base import Hint


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still until it is told otherwise."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def due_after(*story: tuple[float, Hint]) -> float:
    """Milliseconds from the first hint to the time at which the key is due."""
    loop = Loop()

    async def main() -> float:
        pending: Pending[str] = Pending(lambda: None)
        for wait, hint in story:
            loop.now += wait / 1000
            pending.add("x", hint)
        due = pending._due["x"][1]
        pending.clear()
        return due

    try:
        return round((loop.run_until_complete(main()) - 1000.0) * 1000, 3)
    finally:
        loop.close()


def test_a_complete_change_is_due_at_once() -> None:
    assert due_after((0, Hint.NOW)) == 2


def test_a_second_complete_change_does_not_put_it_off() -> None:
    assert due_after((0, Hint.NOW), (1, Hint.NOW)) == 2


def test_a_change_in_progress_waits_for_quiet() -> None:
    assert due_after((0, Hint.SOON), (8, Hint.SOON)) == 18


def test_but_not_for_ever() -> None:
    assert due_after((0, Hint.SOON), *[(9, Hint.SOON)] * 200) == 1000


def test_the_close_ends_the_quiet() -> None:
    assert due_after((0, Hint.SOON), (1, Hint.NOW)) == 3


def test_what_is_gone_has_a_moment_to_come_back() -> None:
    assert due_after((0, Hint.GONE)) == 15
    assert due_after((0, Hint.NOW), (1, Hint.GONE)) == 16
    assert due_after((0, Hint.GONE), (1, Hint.SOON), (1, Hint.NOW)) == 4


def run(story: Callable[[Pending[str], list[str], Loop], None]) -> None:
    loop = Loop()
    rung: list[str] = []

    async def main() -> None:
        pending: Pending[str] = Pending(lambda: rung.append("ring"))
        story(pending, rung, loop)
        pending.clear()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_only_what_is_due_is_taken() -> None:
    def story(pending: Pending[str], rung: list[str], loop: Loop) -> None:
        pending.add("a", Hint.NOW)
        pending.add("b", Hint.GONE)
        assert pending.take() == []
        loop.now += 0.005
        assert pending.take() == ["a"] and len(pending) == 1
        loop.now += 0.02
        assert pending.take() == ["b"] and len(pending) == 0
        assert pending._timer is None

    run(story)


def test_a_later_look_gives_way_to_a_hint() -> None:
    def story(pending: Pending[str], rung: list[str], loop: Loop) -> None:
        pending.add("a", Hint.NOW)
        pending.add_after("a", 5)
        loop.now += 0.005
        assert pending.take() == ["a"]
        pending.add_after("a", 5)
        pending.add("a", Hint.NOW)
        loop.now += 0.005
        assert pending.take() == ["a"]

    run(story)


def test_what_changes_without_end_is_looked_at_a_bounded_number_of_times() -> None:
    def story(pending: Pending[str], rung: list[str], loop: Loop) -> None:
        taken = []
        for _ in range(10_000):  # ten seconds
            loop.now += 0.001
            pending.add("a", Hint.NOW)
            if pending.take():
                taken.append(loop.now)
        assert 55 <= len(taken) <= 62
        assert taken[19] - taken[0] < 0.1
        assert taken[-1] > loop.now - 0.3
        pending.add("a", Hint.NOW)
        pending.add("b", Hint.NOW)
        loop.now += 0.003
        assert pending.take() == ["b"]
        loop.now += 0.26
        assert pending.take() == ["a"]
        loop.now += 10
        pending.add("a", Hint.NOW)
        loop.now += 0.003
        assert pending.take() == ["a"]

    run(story)


def test_budgets_that_are_full_again_are_forgotten() -> None:
    def story(pending: Pending[str], rung: list[str], loop: Loop) -> None:
        for number in range(10_000):
            pending.add(str(number), Hint.NOW)
            loop.now += 0.01
            assert pending.take() == [str(number)]
        assert len(pending._spent) < 600

    run(story)
