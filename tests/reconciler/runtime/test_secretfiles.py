from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from emperorctl.reconciler.runtime import failures
from emperorctl.reconciler.runtime.zygote.execute import Refused, Steps
from emperorctl.reconciler.runtime.zygote.secretfiles import SECRET_MAX, read_secrets
from tests.fakes.vassals import native


def read(path: Path | str) -> str:
    order = {"env": {"A": "b"}, "secrets": [["KEY", str(path)]]}
    steps = Steps()
    try:
        read_secrets(order, steps)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert steps.facts == {}
    assert order["env"].pop("A") == "b"  # type: ignore[attr-defined]
    return order["env"]["KEY"]  # type: ignore[index,no-any-return]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"two\nlines\n\n", "two\nlines\n"),
        (b"", ""),
        (b"\xff\xe9\n", "\udcff\udce9"),
        (b"x" * SECRET_MAX + b"\n", "x" * SECRET_MAX),
    ],
)
def test_the_value_is_the_content_without_its_last_newline(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path / "key")
    assert read(tmp_path / "key") == value
    assert read(tmp_path / "link") == value


@pytest.mark.parametrize(
    ("content", "says"), [(b"x" * (SECRET_MAX + 1), "longer than 65536 bytes"), (b"a\0b", "NUL character")]
)
def test_what_no_variable_can_hold_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(Refused, match=says):
        read(tmp_path / "key")


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "fifo", tmp_path / "directory", "/dev/zero"):
        with pytest.raises(Refused, match="not a regular file"):
            read(path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match=r"No such device"):
            read(tmp_path / "socket")


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "key").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Refused, match="longer than"):
        read(tmp_path / "key")


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ({"errno": 2, "detail": ""}, "the value of KEY can't be taken from /run/key: No such file or directory"),
        ({"errno": 0, "detail": "it is not a regular file"}, "from /run/key: it is not a regular file"),
    ],
)
def test_the_failure_names_variable_and_file(report: dict[str, object], says: str) -> None:
    whole = {"step": "secrets", "variable": "KEY", "path": "/run/key", **report}
    failure = failures.explain(native(), whole, 0.0)
    assert failure.reason == "SecretUnreadable"
    assert says in failure.sentence()
    assert not failure.transient
