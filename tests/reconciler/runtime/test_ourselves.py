"""What a process asks of the kernel for itself. That orphans come to a subreaper is seen in e2e."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from emperorctl.models.errors import UserError
from emperorctl.reconciler.runtime.ourselves import NAME_MAX, is_subreaper, set_name


def name() -> str:
    """What this thread, the main one, is called."""
    return Path(f"/proc/self/task/{os.getpid()}/comm").read_text().removesuffix("\n")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = name()
    yield
    set_name(before)


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ("emperor", "emperor"),
        ("a b", "a b"),
        ("x" * 40, "x" * NAME_MAX),
        ("ä" * 10, "ä" * 7),
    ],
)
def test_a_name_is_cut_where_the_kernel_cuts_and_never_within_a_letter(wanted: str, got: str) -> None:
    set_name(wanted)
    assert name() == got


@pytest.mark.parametrize("wanted", ["", "a\nb", "a\0b", "\x1b[31m"])
def test_a_name_that_can_not_be_shown(wanted: str) -> None:
    before = name()
    with pytest.raises(UserError, match="--emperor-procname"):
        set_name(wanted)
    assert name() == before


def test_nobody_adopts_orphans_unasked() -> None:
    assert not is_subreaper()
