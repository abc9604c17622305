"""What a manifest may read by `$(ENV)` and `@(file)`: real files, none of which may do harm."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.monitors.placeholders import CONTENT_MAX, Reach

ENVIRON = {"HOME": "/root", "SECRET": "s3cret", "BYTES": "\udcff"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
STRANGER = 12345


def own(directory: Path) -> Reach:
    return Reach(str(directory), ENVIRON, own=True)


def strangers(directory: Path) -> Reach:
    return Reach(str(directory), ENVIRON, own=False)


def refused(reach: Reach, name: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        reach.content(name)
    return caught.value.problem


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of this user's own, with nothing in it."""
    made = tmp_path / "made"
    made.mkdir(mode=0o755)
    return made


def test_variables_are_the_emperors_for_its_own_files_and_few_for_strangers(tmp_path: Path) -> None:
    assert own(tmp_path).variable("SECRET") == "s3cret"
    assert strangers(tmp_path).variable("HOME") == "/root"
    for name, reason in (("SECRET", "VariableRefused"), ("NOPE", "VariableRefused"), ("TZ", "UnknownVariable")):
        with pytest.raises(ConfigError) as caught:
            strangers(tmp_path).variable(name)
        assert caught.value.problem.reason == reason
        assert "s3cret" not in str(caught.value)
    for name, reason in (("NOPE", "UnknownVariable"), ("BYTES", "NotUtf8")):
        with pytest.raises(ConfigError) as caught:
            own(tmp_path).variable(name)
        assert caught.value.problem.reason == reason


@pytest.mark.parametrize(
    ("content", "read"),
    [("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("a", "a"), ("", ""), ("ä b\n", "ä b"), ("x" * CONTENT_MAX, None)],
)
def test_a_files_content_without_its_last_lines_end(place: Path, content: str, read: str | None) -> None:
    (place / "f").write_bytes(content.encode())
    assert own(place).content("f") == (content if read is None else read)
    assert own(Path("/")).content(f"{place}/../made/./f") == (content if read is None else read)


def test_what_is_no_file_to_read_is_refused_without_waiting(place: Path) -> None:
    os.mkfifo(place / "fifo")
    (place / "dir").mkdir()
    (place / "big").write_bytes(b"x" * (CONTENT_MAX + 1))
    (place / "binary").write_bytes(b"\xff")
    (place / "nul").write_bytes(b"a\0b")
    (place / "loop").symlink_to("loop")
    (place / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place / "socket"))
    for name, reason in {
        "fifo": "NotRegular",
        "dir": "NotRegular",
        "socket": "NotRegular",
        "/dev/zero": "NotRegular",
        "/": "NotRegular",
        "big": "TooLarge",
        "/proc/kallsyms": "TooLarge",
        "binary": "NotUtf8",
        "nul": "Binary",
        "loop": "LinkLoop",
        "dangling": "NotFound",
        "missing": "NotFound",
        "big/x": "NotFound",
        "n" * 300: "Unreadable",
        "n/" * 3000: "InvalidName",
        "a\0b": "InvalidName",
    }.items():
        if name == "/proc/kallsyms" and not os.access(name, os.R_OK):
            continue
        assert refused(own(place), name).reason == reason, name


def test_links_count_where_nobody_else_could_have_put_them(place: Path) -> None:
    (place / "real").mkdir()
    (place / "real" / "f").write_text("linked")
    (place / "file").symlink_to("real/f")
    (place / "folder").symlink_to(place / "real")
    assert own(place).content("file") == "linked"
    assert own(place).content("folder/f") == "linked"
    assert own(place).content("folder/../file") == "linked"
    place.chmod(0o777)
    for name in ("file", "folder/f"):
        found = refused(own(place), name)
        assert found.reason == "LinkRefused" and "others may have made" in found.message
    assert own(place).content("real/f") == "linked"


@needs_root
def test_a_strangers_directory_leads_nowhere_else(place: Path) -> None:
    secret = place / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    theirs = place / "theirs"
    theirs.mkdir()
    (theirs / "link").symlink_to(secret)
    os.link(secret, theirs / "hard")
    (theirs / "plain").write_text("plain")
    os.chown(theirs, STRANGER, STRANGER)
    assert refused(own(theirs), "link").reason == "LinkRefused"
    assert refused(own(theirs), "hard").reason == "LinkRefused"
    assert own(theirs).content("plain") == "plain"


def test_a_strangers_manifest_reads_what_everybody_may(place: Path) -> None:
    (place / "f").write_text("x")
    (place / "f").chmod(0o640)
    assert refused(strangers(place), "f").reason == "PermissionDenied"
    (place / "f").chmod(0o644)
    assert strangers(place).content("f") == "x"
