from __future__ import annotations

from emperorctl.reconciler.api.rations import Allowance, Rations


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def made(allowance: Allowance) -> tuple[Rations, Time]:
    time = Time()
    return Rations(allowance, time), time


def test_requests_come_in_bursts_and_at_a_rate() -> None:
    rations, time = made(Allowance(burst=3.0, rate=2.0))
    assert [rations.request(7) for _ in range(4)] == [True, True, True, False]
    assert rations.request(8)
    time.now += 1.0
    assert [rations.request(7) for _ in range(3)] == [True, True, False]
    time.now += 1000.0
    assert [rations.request(7) for _ in range(4)] == [True, True, True, False]


def test_what_costs_more_counts_as_more() -> None:
    rations, time = made(Allowance(burst=10.0, rate=2.0))
    assert [rations.request(7, 5.0) for _ in range(3)] == [True, True, False]
    time.now += 1.0
    assert not rations.request(7, 5.0)
    assert rations.request(7)


def test_connections_and_watches_are_counted_for_each() -> None:
    rations, _ = made(Allowance(connections=1, watches=1))
    assert rations.connect(7)
    assert not rations.connect(7)
    assert rations.connect(8)
    rations.disconnect(7)
    assert rations.connect(7)
    ration = rations.of(7)
    assert ration.take()
    assert not rations.of(7).take()
    assert rations.of(8).take()
    ration.give_back()
    assert rations.of(7).take()
    assert all(rations.of(None).take() for _ in range(100))


def test_one_complaint_a_minute_that_counts_the_others() -> None:
    rations, time = made(Allowance())
    assert [rations.complaint(7), rations.complaint(7), rations.complaint(7)] == [0, None, None]
    assert rations.complaint(8) == 0
    time.now += 60.0
    assert rations.complaint(7) == 2


def test_those_at_rest_are_forgotten_and_no_others() -> None:
    rations, time = made(Allowance(burst=1.0, rate=1.0))
    rations.connect(1)
    rations.of(2).take()
    for uid in range(3, 5000):
        rations.request(uid)
        time.now += 0.5
    assert len(rations._accounts) <= 1024
    assert {1, 2} <= rations._accounts.keys()
