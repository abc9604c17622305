"""The queue, on virtual time."""

from __future__ import annotations

from emperorctl.reconciler.queue import WorkQueue
from tests.fakes.time import VirtualTime


def _queue() -> tuple[WorkQueue, VirtualTime, list[str]]:
    time, calls = VirtualTime(), []
    return WorkQueue(time, lambda: calls.append("ready")), time, calls


def _drain(queue: WorkQueue) -> list[str]:
    names = []
    while (name := queue.take()) is not None:
        names.append(name)
        queue.done(name)
    return names


def test_a_name_waits_once_however_often_it_is_added() -> None:
    queue, _, calls = _queue()
    for name in ("a", "b", "a", "a"):
        queue.add(name)
    assert _drain(queue) == ["a", "b"] and calls == ["ready"]


def test_added_while_worked_on_means_once_more_after() -> None:
    queue, _, _ = _queue()
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    queue.add("a")
    assert queue.take() is None
    queue.done("a")
    assert _drain(queue) == ["a"]


def test_the_earliest_of_two_delays_wins() -> None:
    queue, time, _ = _queue()
    queue.add_after("a", 5.0)
    queue.add_after("a", 2.0)
    queue.add_after("a", 9.0)
    time.advance(1.9)
    assert len(queue) == 0
    time.advance(0.2)
    assert _drain(queue) == ["a"]
    time.advance(60.0)
    assert len(queue) == 0


def test_a_look_drops_the_later_times_it_was_promised() -> None:
    queue, time, _ = _queue()
    queue.add_after("a", 5.0)
    queue.add("a")
    assert _drain(queue) == ["a"]
    time.advance(60.0)
    assert len(queue) == 0 and queue.waiting == 0


def test_no_timer_is_left_when_nothing_waits() -> None:
    queue, time, _ = _queue()
    queue.add_after("a", 5.0)
    assert time.next_timer() is not None
    time.advance(5.0)
    _drain(queue)
    assert time.next_timer() is None


def test_many_delays_of_few_names_stay_small() -> None:
    queue, time, _ = _queue()
    for count in range(5000):
        queue.add_after("a", 5000.0 - count)
    assert len(queue._heap) < 200
    queue.close()
    time.advance(9999.0)
    assert len(queue) == 0


def test_names_come_in_the_order_of_their_times() -> None:
    queue, time, _ = _queue()
    queue.add_after("late", 3.0)
    queue.add_after("soon", 1.0)
    time.advance(5.0)
    assert _drain(queue) == ["soon", "late"]
