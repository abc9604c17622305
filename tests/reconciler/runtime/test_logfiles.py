"""Names of log files, rotation, and reading the end back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperorctl.models.errors import UserError
from emperorctl.reconciler.runtime import logfiles
from emperorctl.reconciler.runtime.logfiles import LogFile, log_file_name


@pytest.mark.parametrize("name", ["shop", "shop.ini", "A_b-9.yaml", "x" * 160])
def test_ordinary_names_are_kept(name: str) -> None:
    assert log_file_name(name) == f"{name}.log"


@pytest.mark.parametrize(
    "name", ["/srv/a/b.ini", "../x", ".", "..", ".hidden", "a b", "a\nb", "é", "\udcff", "%41", "x" * 254, "", "🦆"]
)
def test_others_are_escaped_and_bounded(name: str) -> None:
    found = log_file_name(name)
    assert found.endswith(".log")
    assert found.isascii()
    assert found.isprintable()
    assert "%" in found
    assert "/" not in found
    assert not found.startswith((".", "-"))
    assert len(found) <= 200


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_two_names_share_a_file(one: str, other: str) -> None:
    assert (log_file_name(one) == log_file_name(other)) == (one == other)


def write(file: LogFile, data: bytes) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, data)
    while len(data) > 0:
        data = data[file.take(reading, 1 << 20) :]
    with pytest.raises(BlockingIOError):
        file.take(reading, 10)
    os.close(writing)
    assert file.take(reading, 10) == 0
    os.close(reading)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_rotation_shifts_and_drops_the_oldest(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "a.log"), 4, 2)
    for part in (b"one\n", b"two\n", b"three\n", b"four\n"):
        write(file, part)
    assert contents(tmp_path) == {"a.log": b"\n", "a.log.1": b"e\nfour", "a.log.2": b"thre"}
    file.close()


def test_a_full_file_is_not_rotated_for_nothing(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "a.log"), 4, 1)
    write(file, b"four")
    assert contents(tmp_path) == {"a.log": b"four"}
    file.close()


def test_no_older_files_wanted(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "a.log"), 4, 0)
    write(file, b"one\n")
    write(file, b"two\n")
    assert contents(tmp_path) == {"a.log": b"two\n"}
    file.close()


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"before\n")
    file = LogFile(str(tmp_path / "a.log"), 1000, 2)
    write(file, b"after\n")
    file.close()
    write(file, b"later\n")
    file.close()
    assert contents(tmp_path) == {"a.log": b"before\nafter\nlater\n"}


def test_only_a_regular_file_is_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.log")
    with pytest.raises(OSError, match=r"."):
        LogFile(str(tmp_path / "a.log"), 10, 1).open()


def test_a_directory_that_others_may_write_in_is_refused(tmp_path: Path) -> None:
    logfiles.open_directory(str(tmp_path / "new" / "logs"))
    assert (tmp_path / "new" / "logs").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UserError, match="others may write"):
        logfiles.open_directory(str(tmp_path / "open"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="not a directory"):
        logfiles.open_directory(str(tmp_path / "file"))


def test_silence_leaves_no_file(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "a.log"), 1000, 1)
    reading, writing = os.pipe()
    os.close(writing)
    assert file.take(reading, 1000) == 0
    os.close(reading)
    assert not (tmp_path / "a.log").exists()


def test_an_empty_pipe_that_somebody_may_write_to_has_not_ended(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "a.log"), 1000, 1)
    reading, writing = os.pipe()
    with pytest.raises(BlockingIOError):
        file.take(reading, 1000)
    os.write(writing, b"late")
    os.close(writing)
    assert (file.take(reading, 1000), file.take(reading, 1000)) == (4, 0)
    os.close(reading)
    file.close()
    assert (tmp_path / "a.log").read_bytes() == b"late"


def test_each_owner_has_a_file_that_no_other_name_has() -> None:
    names = [log_file_name("a.ini", owner) for owner in (None, 1, 2)] + [
        log_file_name("a.ini@1"),
        log_file_name("a.ini", 11),
    ]
    assert names[:3] == ["a.ini.log", "a.ini@1.log", "a.ini@2.log"]
    assert len(set(names)) == len(names)
