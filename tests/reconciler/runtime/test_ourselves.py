"""What a process asks of the kernel for itself. That orphans come to a subreaper is seen in e2e."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from emperorctl.models.errors import UserError
from emperorctl.reconciler.runtime.ourselves import NAME_MAX, hard_limits, is_subreaper, may_change_users, set_name


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


def test_who_may_change_users() -> None:
    assert may_change_users(os.getpid()) == (os.geteuid() == 0)
    assert not may_change_users(2**30)


def test_limits_by_their_names() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard_limits()["nofile"] == (None if hard == resource.RLIM_INFINITY else hard)
    assert {"core", "as", "nproc"} <= hard_limits().keys()
