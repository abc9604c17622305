"""`emperorctl doctor` as it is installed, on this very host."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from e2e.harness import Emperor


def items(court: Emperor, *words: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = court.cli("doctor", "-o", "json", *words)
    assert not done.stderr, done.stderr
    return done.returncode, {item["check"]: item for item in json.loads(done.stdout)["items"]}


def test_it_needs_no_emperor_and_leaves_nothing(emperor: Callable[..., Emperor], uwsgi_bin: Path) -> None:
    court = emperor()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    code, found = items(court, "--binary-path", str(uwsgi_bin), *court.command()[2:])
    assert code == int(any(item["status"] == "error" for item in found.values()))
    assert all(item["remedy"] for item in found.values() if item["status"] != "ok")
    assert found["uwsgi"]["status"] == "ok" and "version 2" in found["uwsgi"]["message"]
    assert {"limit memory", "limit cpu", "limit pids", "limit ioWeight", "descriptors", "inotify"} <= set(found)
    assert found["state directory"]["message"].startswith(str(court.state))
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before
    assert not court.state.exists() and not court.logs.exists()


def test_the_settings_decide_what_is_an_error(emperor: Callable[..., Emperor]) -> None:
    court = emperor()
    court.write("a.ini", "[uwsgi]\n")
    court.vassals.chmod(0o777)
    code, found = items(court, "--binary-path", "/nowhere/uwsgi", *court.command()[2:])
    assert code == 1
    assert found["uwsgi"]["status"] == "error" and "1 files" in found["uwsgi"]["message"]
    source = found[str(court.vassals)]
    assert source["status"] == ("error" if os.geteuid() == 0 else "warning")
    assert "can be written by everybody" in source["message"]


@pytest.mark.as_root
def test_a_root_emperor_warns_of_a_configuration_that_others_can_change(emperor: Callable[..., Emperor]) -> None:
    court = emperor(sources=[])
    file = court.root / "emperor.ini"
    file.write_text(f"[uwsgi]\nemperor = {court.vassals}\n")
    file.chmod(0o666)
    court.sources = [str(file)]
    court.start()
    court.wait_log(f"{file} can be written by everybody: whoever can change what runs as root is root")
