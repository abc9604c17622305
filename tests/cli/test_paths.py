from __future__ import annotations

import os
from pathlib import Path

import pytest

from emperorctl.cli import paths
from emperorctl.cli.paths import client_socket, default_socket


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An ordinary user, whose runtime directory this is; root's socket would be beside it."""
    monkeypatch.delenv("EMPERORCTL_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "own"))
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    monkeypatch.setattr(paths, "_ROOTS", str(tmp_path / "root.sock"))
    return tmp_path


def test_a_user_without_an_emperor_asks_roots(user: Path) -> None:
    own, roots = str(user / "own/emperorctl/emperor.sock"), str(user / "root.sock")
    assert client_socket() == own
    Path(roots).touch()
    assert client_socket() == roots
    assert default_socket() == own
    Path(own).parent.mkdir(parents=True)
    Path(own).touch()
    assert client_socket() == own


def test_what_is_given_counts(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user / "root.sock").touch()
    monkeypatch.setenv("EMPERORCTL_SOCKET", "/run/other.sock")
    assert client_socket() == "/run/other.sock"
