"""What a byte from a vassal changes, and whether anybody needs to know."""

from __future__ import annotations

from emperorctl.models.observed import Signs
from emperorctl.reconciler.runtime.protocol import heard


def test_what_is_said_for_the_first_time_matters() -> None:
    signs, matters = heard(Signs(), bytes([1, 5, 17]), 10.0)
    assert signs == Signs(spawned=10.0, spawns=1, accepting=10.0, loyal=10.0)
    assert matters


def test_what_is_said_again_does_not() -> None:
    before = Signs(spawned=10.0, spawns=1, accepting=11.0)
    signs, matters = heard(before, bytes([5]), 20.0)
    assert signs.accepting == 20.0
    assert not matters


def test_after_a_reload_it_matters_again_though_uwsgi_does_not_repeat_byte_1() -> None:
    before = Signs(spawned=10.0, spawns=1, accepting=11.0)
    signs, matters = heard(before, bytes([5]), 20.0, told=15.0)
    assert matters
    assert not heard(signs, bytes([5]), 21.0, told=15.0)[1]


def test_after_byte_1_it_matters_again() -> None:
    before = Signs(spawned=20.0, spawns=2, accepting=11.0)
    assert heard(before, bytes([5]), 21.0)[1]


def test_garbage_is_counted_and_its_first_byte_is_told() -> None:
    signs, matters = heard(Signs(), b"hello", 10.0)
    assert signs.garbage == 5
    assert matters
    signs, matters = heard(signs, b"hello", 11.0)
    assert signs.garbage == 10
    assert not matters


def test_each_call_for_reinforcements_counts() -> None:
    signs, matters = heard(Signs(reinforcements=1), bytes([30, 30]), 10.0)
    assert signs.reinforcements == 3
    assert matters
