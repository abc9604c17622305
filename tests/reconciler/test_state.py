"""The state file: kept whole or put aside, never half believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emperorctl.reconciler.state import StateFile


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = StateFile(str(tmp_path / "state.json"))
    assert state.load() == (frozenset(), "")
    state.save({"b.ini", "a"})
    assert state.load() == (frozenset({"a", "b.ini"}), "")
    assert os.stat(state.path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["state.json"]


def test_cut_short_anywhere_it_is_put_aside(tmp_path: Path) -> None:
    state = StateFile(str(tmp_path / "state.json"))
    state.save({"shop"})
    whole = Path(state.path).read_bytes()
    for length in range(len(whole)):
        Path(state.path).write_bytes(whole[:length])
        names, complaint = state.load()
        assert names == frozenset() and "put aside" in complaint
        assert not os.path.exists(state.path)


@pytest.mark.parametrize(
    "content", ['{"version": 2, "suspended": []}', "[]", '{"version": 1, "suspended": [1]}', '{"version": 1}', "\0"]
)
def test_what_is_not_ours_is_put_aside(tmp_path: Path, content: str) -> None:
    state = StateFile(str(tmp_path / "state.json"))
    Path(state.path).write_text(content)
    names, complaint = state.load()
    assert names == frozenset() and state.path in complaint


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"version": 1, "suspended": ["x"]}')
    (tmp_path / "state.json").symlink_to(tmp_path / "elsewhere")
    names, complaint = StateFile(str(tmp_path / "state.json")).load()
    assert names == frozenset() and complaint


def test_a_failed_save_leaves_the_old_one(tmp_path: Path) -> None:
    state = StateFile(str(tmp_path / "state.json"))
    state.save({"a"})
    (tmp_path / "state.json.new").mkdir()
    with pytest.raises(OSError):
        state.save({"b"})
    assert state.load() == (frozenset({"a"}), "")
