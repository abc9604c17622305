"""The last descriptors are not for launches."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from emperorctl.reconciler.runtime.descriptors import Reserve


def lowest() -> int:
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd


def reserve(monkeypatch: pytest.MonkeyPatch, limit: int) -> Reserve:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    return Reserve()


def test_far_from_the_limit_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reserve(monkeypatch, 20_000).respect()
    reserve(monkeypatch, resource.RLIM_INFINITY).respect()


@pytest.mark.parametrize("left", [1, 32])
def test_near_the_limit_the_rest_is_kept(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    others = [os.dup(2) for _ in range(150)]  # so that a quarter of the limit is more than 32
    try:
        with pytest.raises(OSError) as refused:
            reserve(monkeypatch, lowest() + left).respect()
        assert refused.value.errno == errno.EMFILE
        reserve(monkeypatch, lowest() + 33).respect()
    finally:
        for fd in others:
            os.close(fd)
