"""uWSGI's three ways to an on-demand socket, on real files."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.uwsgi_run import UwsgiRun
from tests.monitors.recorder import MANIFEST, Recorder, replace, watching, write

EXTENSION = UwsgiRun(on_demand_extension=".socket")


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test as one that pytest can call."""

    @functools.wraps(test)
    def called(*given: Any, **named: Any) -> None:
        asyncio.run(test(*given, **named))

    return called


def socket_of(recorder: Recorder, name: str = "a.ini") -> Any:
    report = recorder.get(name)
    vassal = report.claims[0].vassal if report and report.claims else None
    return str(vassal.on_demand) if vassal and vassal.on_demand else ""


@in_a_loop
async def test_a_file_beside_the_config(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    write(tmp_path / "b.ini")
    write(tmp_path / "n.yaml", MANIFEST.format(1))
    write(tmp_path / "a.ini.socket", "127.0.0.1:80\nanything else")
    write(tmp_path / "n.yaml.socket", ":81")
    async with watching(tmp_path, keep=True, uwsgi=EXTENSION) as recorder:
        assert [socket_of(recorder, name) for name in ("a.ini", "b.ini", "n.yaml")] == ["127.0.0.1:80", "", ""]
        assert not recorder.get("a.ini.socket"), "it is no vassal"


@pytest.mark.parametrize("watch", ["inotify", "poll"])
@in_a_loop
async def test_its_changes_are_changes_of_the_config(tmp_path: Path, watch: str) -> None:
    write(tmp_path / "a.ini")
    async with watching(tmp_path, keep=True, uwsgi=EXTENSION, watch=watch, poll_interval=0.02) as recorder:
        assert socket_of(recorder) == ""
        replace(tmp_path / "a.ini.socket", ":80")
        await recorder.until(lambda: socket_of(recorder) == ":80")
        write(tmp_path / "a.ini.socket", "x.sock")
        await recorder.until(lambda: socket_of(recorder) == str(tmp_path / "x.sock"))
        write(tmp_path / "a.ini.socket", "example.org:80")
        await recorder.until(lambda: recorder.reason("a.ini") == "InvalidAddress")
        os.unlink(tmp_path / "a.ini.socket")
        await recorder.until(lambda: not recorder.reason("a.ini") and socket_of(recorder) == "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff:80", "InvalidAddress"),
        (b"x" * 5000, "TooLarge"),
        (b"/" + b"x" * 107, "PathTooLong"),
        (None, "NotRegular"),
    ],
)
@in_a_loop
async def test_what_is_wrong_with_it_is_told(tmp_path: Path, content: bytes | None, reason: str) -> None:
    write(tmp_path / "a.ini")
    if content is None:
        (tmp_path / "a.ini.socket").mkdir()
    else:
        write(tmp_path / "a.ini.socket", content)
    async with watching(tmp_path, keep=True, uwsgi=EXTENSION) as recorder:
        assert recorder.reason("a.ini") == reason


@in_a_loop
async def test_a_directory_of_sockets(tmp_path: Path) -> None:
    write(tmp_path / "a.b.ini")
    write(tmp_path / "n.yaml", MANIFEST.format(1))
    async with watching(tmp_path, keep=True, uwsgi=UwsgiRun(on_demand_directory="/run/d")) as recorder:
        assert socket_of(recorder, "a.b.ini") == "/run/d/a.b.socket"
        assert socket_of(recorder, "n.yaml") == ""


@in_a_loop
async def test_the_extension_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    run = UwsgiRun(on_demand_extension=".socket", on_demand_directory="/run/d", on_demand_exec="echo :80")
    async with watching(tmp_path, keep=True, uwsgi=run) as recorder:
        assert socket_of(recorder) == ""
