"""Findings from what the host is like, and who could change a path."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from emperorctl.reconciler.runtime import checks, probes
from emperorctl.reconciler.runtime.checks import Needs, Verdict
from emperorctl.reconciler.runtime.trust import installation, weak_spots
from emperorctl.reconciler.runtime.zygote import procfs


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of ours; whatever lies above it is as it is on this host."""
    directory = tmp_path / "place"
    directory.mkdir(mode=0o755)
    return directory


def spots(path: Path) -> list[str]:
    above = weak_spots(str(path.parent)) if path.parent.exists() else []
    return [spot for spot in weak_spots(str(path)) if spot not in above]


def test_what_is_ours_alone_has_no_weak_spot(place: Path) -> None:
    (place / "f").write_text("")
    (place / "f").chmod(0o644)
    assert spots(place / "f") == [] and spots(place / "missing" / "too") == []


@pytest.mark.parametrize(("mode", "who"), [(0o777, "everybody"), (0o757, "everybody")])
def test_a_directory_that_others_may_write_to_is_one(place: Path, mode: int, who: str) -> None:
    place.chmod(mode)
    assert f"{place} can be written by {who}" in weak_spots(str(place / "f"))


def test_the_sticky_bit_closes_a_directory(place: Path) -> None:
    place.chmod(0o1777)
    assert spots(place) == []


def test_a_link_is_followed_into_what_it_leads_to(place: Path, tmp_path: Path) -> None:
    open_ = tmp_path / "open"
    open_.mkdir()
    open_.chmod(0o777)
    (place / "link").symlink_to("../open/target")
    assert f"{open_} can be written by everybody" in weak_spots(str(place / "link"))


def test_links_in_a_ring_end(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    assert spots(place / "a") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a file away")
def test_another_owner_is_one_unless_trusted(place: Path) -> None:
    os.chown(place, 12345, -1)
    assert f"{place} belongs to uid 12345" in weak_spots(str(place))
    assert f"{place} belongs to uid 12345" not in weak_spots(str(place), also=frozenset({12345}))


def with_limit(monkeypatch: pytest.MonkeyPatch, hard: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (hard, hard))


@pytest.mark.parametrize(
    ("hard", "vassals", "verdict"),
    [(65536, 1000, Verdict.OK), (1024, 10, Verdict.WARNING), (1024, 1000, Verdict.ERROR), (-1, 9999, Verdict.OK)],
)
def test_descriptors(monkeypatch: pytest.MonkeyPatch, hard: int, vassals: int, verdict: Verdict) -> None:
    with_limit(monkeypatch, hard)
    found = checks._descriptors(Needs({}, vassals=vassals))
    assert found.verdict is verdict and bool(found.remedy) == (verdict is not Verdict.OK)


@pytest.mark.parametrize(("uwsgi", "verdict"), [(0, Verdict.WARNING), (3, Verdict.ERROR)])
def test_a_missing_uwsgi_is_an_error_where_it_is_needed(uwsgi: int, verdict: Verdict) -> None:
    found = checks._uwsgi(Needs({}, uwsgi=uwsgi, binary="/nowhere/uwsgi"))
    assert found.verdict is verdict and "pip install uwsgi" in found.remedy


@pytest.mark.parametrize(("wanted", "verdict"), [(set(), Verdict.WARNING), ({"net"}, Verdict.ERROR)])
def test_a_namespace_that_can_not_be_made(monkeypatch: pytest.MonkeyPatch, wanted: set[str], verdict: Verdict) -> None:
    monkeypatch.setattr(probes, "namespaces", lambda: {"fs": None, "net": "Operation not permitted"})
    made, not_made = checks._namespaces(Needs({}, namespaces=frozenset(wanted)))
    assert made.verdict is Verdict.OK and made.message.endswith("fs")
    assert not_made.verdict is verdict and "Operation not permitted" in not_made.message


def test_every_capability_that_is_missing_says_what_can_not_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(procfs, "capabilities", lambda pid: 0)
    found = {one.check: one for one in checks._rights()}
    assert found["capability setuid"].verdict is Verdict.ERROR
    assert found["capability net_admin"].verdict is Verdict.WARNING
    monkeypatch.setattr(procfs, "capabilities", lambda pid: (1 << 41) - 1)
    assert {one.verdict for one in checks._rights()} == {Verdict.OK}


def test_a_kernel_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "has_syscall", lambda name: name != "clone3")
    (found,) = checks._kernel()
    assert found.verdict is Verdict.WARNING and "5.7" in found.remedy
    monkeypatch.setattr(probes, "has_syscall", lambda name: name != "pidfd_open")
    (found,) = checks._kernel()
    assert found.verdict is Verdict.ERROR


def test_directories(place: Path) -> None:
    state = place / "state"
    assert checks._place("state", str(state)).message == f"{state}, to be made in {place}" or weak_spots(str(place))
    state.mkdir()
    state.chmod(0o755)
    if not weak_spots(str(state)):
        assert checks._place("state", str(state)).verdict is Verdict.WARNING
        state.chmod(0o700)
        assert checks._place("state", str(state)).verdict is Verdict.OK
    state.chmod(0o777)
    assert checks._place("state", str(state)).verdict is Verdict.ERROR
    (place / "file").write_text("")
    assert "is no directory" in checks._place("log", str(place / "file" / "logs")).message


def test_system_calls_that_are_there_are_found() -> None:
    assert probes.has_syscall("pidfd_open")


@pytest.mark.parametrize(("uid", "cap"), [("no-such-user", None), ("60301", "flying"), (None, "kill")])
def test_a_user_that_the_emperor_can_not_become(
    monkeypatch: pytest.MonkeyPatch, uid: str | None, cap: str | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (found,) = checks._paranoia(Needs({}, renounced=(uid, None, cap)))
    assert found.verdict is Verdict.ERROR and "--" in found.message
    assert not list(checks._paranoia(Needs({})))


def test_whoever_can_change_the_program_is_reported(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is whoever can put modules where they are looked for."""
    place.chmod(0o777)
    monkeypatch.syspath_prepend(str(place))
    spot = f"{place} can be written by everybody"
    assert spot in installation()
    (found,) = checks._installation()
    assert found.verdict is (Verdict.ERROR if os.geteuid() == 0 else Verdict.WARNING)
    assert "whoever can change the program" in found.message
