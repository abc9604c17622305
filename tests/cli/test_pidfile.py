"""The pid file: what it replaces, what it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emperorctl.cli.pidfile import PidFile
from emperorctl.models.errors import UserError


def test_it_holds_the_pid_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(str(path))
    file.write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["pid"]
    file.remove()
    assert os.listdir(tmp_path) == []
    file.remove()


@pytest.mark.parametrize("before", ["", "4711", "4711\n", " 1 \n"])
def test_an_old_pid_file_is_replaced(tmp_path: Path, before: str) -> None:
    path = tmp_path / "pid"
    path.write_text(before)
    PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"


def test_another_emperors_file_is_left_alone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(str(path))
    file.write()
    other = tmp_path / "other"
    other.write_text("4711\n")
    other.rename(path)
    file.remove()
    assert path.read_text() == "4711\n"


def test_nothing_else_is_ever_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("root:x:0:0\n")
    with pytest.raises(UserError, match="holds something else than a pid"):
        PidFile(str(precious)).write()
    assert precious.read_text() == "root:x:0:0\n"

    link = tmp_path / "link"
    link.symlink_to(precious)
    with pytest.raises(UserError, match="is a link"):
        PidFile(str(link)).write()
    assert link.is_symlink()

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(UserError, match="is not a regular file"):
            PidFile(str(path)).write()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_strangers_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1\n")
    os.chown(path, 65534, 65534)
    with pytest.raises(UserError, match=r"belongs to another user \(uid 65534\)"):
        PidFile(str(path)).write()


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"can't write .*/none/pid: No such file or directory"):
        PidFile(str(tmp_path / "none" / "pid")).write()
