"""Reading: nothing but regular files, never more than the limit, never a wait."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from emperorctl.monitors.reading import UWSGI_LIMIT, Busy, Content, Entry, Gone, Unusable, look, read
from tests.monitors.recorder import write


def unusable(path: Path, limit: int = UWSGI_LIMIT) -> str:
    found = read(Entry(None, str(path), str(path)), limit)
    assert isinstance(found, Unusable)
    assert found.problem.remedy and found.problem.file == str(path)
    return found.problem.reason


def test_a_file_comes_with_the_facts_of_its_descriptor(tmp_path: Path) -> None:
    write(tmp_path / "a.ini", b"x")
    os.utime(tmp_path / "a.ini", ns=(1, 2))
    found = read(Entry(None, str(tmp_path / "a.ini"), "a.ini"), 10)
    assert isinstance(found, Content)
    assert (found.data, found.touch, found.uid) == (b"x", (2, 2), os.geteuid())
    assert look(None, str(tmp_path / "a.ini")) == (found.fingerprint, False)


def test_a_link_has_two_times_and_its_targets_owner(tmp_path: Path) -> None:
    write(tmp_path / "real", b"x")
    os.symlink("real", tmp_path / "a.ini")
    os.utime(tmp_path / "real", ns=(1, 2))
    os.utime(tmp_path / "a.ini", ns=(1, 3), follow_symlinks=False)
    found = read(Entry(None, str(tmp_path / "a.ini"), "a.ini"), 10)
    assert isinstance(found, Content) and found.touch == (3, 2)
    assert look(None, str(tmp_path / "a.ini")) == (found.fingerprint, True)


def test_relative_to_a_directory_descriptor(tmp_path: Path) -> None:
    write(tmp_path / "a.ini", b"x")
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert isinstance(read(Entry(fd, "a.ini", "a.ini"), 10), Content)
        assert isinstance(read(Entry(fd, "b.ini", "b.ini"), 10), Gone)
        assert look(fd, "b.ini") is None
    finally:
        os.close(fd)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "x.ini").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.ini"))
        assert unusable(tmp_path / "s.ini") == "NotRegular"
    os.symlink("/dev/zero", tmp_path / "zero.ini")
    os.symlink("fifo.yaml", tmp_path / "link.ini")
    for name in ("fifo.yaml", "x.ini", "zero.ini", "link.ini"):
        assert unusable(tmp_path / name) == "NotRegular"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")
def test_a_device_node(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "zero.yaml", 0o020666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this root may not make device nodes")
    assert unusable(tmp_path / "zero.yaml") == "NotRegular"


def test_too_large_is_refused_by_its_size(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.ini", "wb") as file:
        file.truncate(1 << 40)
    assert unusable(tmp_path / "sparse.ini") == "TooLarge"
    write(tmp_path / "a.ini", b"x" * 11)
    assert unusable(tmp_path / "a.ini", 10) == "TooLarge"
    write(tmp_path / "a.ini", b"x" * 10)
    assert isinstance(read(Entry(None, str(tmp_path / "a.ini"), ""), 10), Content)


def test_a_file_that_lies_about_its_size_is_bounded() -> None:
    found = read(Entry(None, "/proc/self/environ", "/proc/self/environ"), 0)
    assert isinstance(found, Unusable) and found.problem.reason == "TooLarge"


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "a.ini")
    os.symlink("b.ini", tmp_path / "b.ini")
    write(tmp_path / "plain", b"")
    os.symlink("plain/x", tmp_path / "c.ini")
    assert unusable(tmp_path / "a.ini") == "DanglingLink"
    assert unusable(tmp_path / "b.ini") == "LinkLoop"
    assert unusable(tmp_path / "c.ini") == "DanglingLink"


def test_the_shown_target_is_printable(tmp_path: Path) -> None:
    os.symlink("a\nb", tmp_path / "a.ini")
    found = read(Entry(None, str(tmp_path / "a.ini"), "a.ini"), 10)
    assert isinstance(found, Unusable) and found.problem.message.isprintable()


def test_a_file_open_for_writing_is_busy_where_a_lease_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.ini", b"x")
    entry, device = Entry(None, str(tmp_path / "a.ini"), "a.ini"), os.stat(tmp_path).st_dev
    with open(tmp_path / "a.ini", "ab"):
        assert isinstance(read(entry, 10, lease_on=device), Busy)
        assert isinstance(read(entry, 10), Content)
        assert isinstance(read(entry, 10, lease_on=device + 1), Content)
    assert isinstance(read(entry, 10, lease_on=device), Content)
    with open(tmp_path / "a.ini", "ab"):  # no lease was left behind
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_permission_denied(tmp_path: Path) -> None:
    write(tmp_path / "a.ini", b"x")
    os.chmod(tmp_path / "a.ini", 0)
    assert unusable(tmp_path / "a.ini") == "PermissionDenied"
    os.symlink("a.ini", tmp_path / "b.ini")
    assert unusable(tmp_path / "b.ini") == "PermissionDenied"
    (tmp_path / "closed").mkdir(mode=0)
    assert unusable(tmp_path / "closed" / "a.ini") == "PermissionDenied"
