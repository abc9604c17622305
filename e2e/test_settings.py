"""`emperorctl run` as uWSGI's users know it: options from files and variables, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.harness import Emperor

MANIFEST = "apiVersion: emperor/v1\nkind: Vassal\nspec: {command: [sleep, infinity]}\n"

Make = Callable[..., Emperor]


def _settle(e: Emperor, name: str, text: str) -> Path:
    path = e.root / name
    path.write_text(text)
    (e.vassals / "shop.yaml").write_text(MANIFEST)
    return path


@pytest.mark.parametrize("way", ["positional", "option", "native", "environment"])
def test_the_emperor_is_run_from_a_file_or_the_environment(emperor: Make, way: str) -> None:
    e = emperor("--log-format", "json")
    stats = e.root / "stats.sock"
    file = _settle(
        e,
        "emperor.ini",
        "[uwsgi]\nemperor = %dvassals\nemperor-stats = %dstats.sock\nreload-mercy = 3\nmaster = true\n",
    )
    native = e.root / "emperor.yaml"
    native.write_text(
        "apiVersion: emperor/v1\nkind: Emperor\n"
        f"spec: {{emperor: {e.vassals}, emperorStats: {stats}, reloadMercy: 3s}}\n"
    )
    e.sources = {"positional": [str(file)], "option": ["--ini", str(file)], "native": [str(native)], "environment": []}[
        way
    ]
    if way == "environment":
        e.env |= {"EMPERORCTL_EMPEROR": str(e.vassals), "EMPERORCTL_EMPEROR_STATS": str(stats)}
    e.start()
    e.wait_running("shop")
    assert stats.is_socket()
    lines = [json.loads(line) for line in e.log_file.read_text().splitlines()]
    warned = [line for line in lines if line.get("reason") == "OptionIgnored"]
    assert len(warned) == (1 if way in ("positional", "option") else 0)
    assert e.stop() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "emperor = %dvassals\nemperor-throttle = soon\n",
            "emperor.ini:3: emperor-throttle: expected a whole",
        ),
        ("emperor = %dvassals\nemperor-freqq = 1\n", "emperor.ini:3: unknown option emperor-freqq (did you mean"),
        ("master = true\n", "emperor.ini: no source: there is no option emperor in it"),
        ("ini = %p\n", "the files include each other: "),
    ],
)
def test_a_mistake_starts_nothing_and_says_where(emperor: Make, text: str, message: str) -> None:
    e = emperor()
    file = _settle(e, "emperor.ini", f"[uwsgi]\n{text}")
    e.sources = [str(file)]
    e.start(ready=False)
    assert e.process is not None and e.process.wait(60) == 1
    said = e.log_file.read_text()
    assert said.startswith("error: ") and message in said and len(said.splitlines()) == 1
    assert not e.state.exists()


def test_config_view_shows_what_run_would_have(emperor: Make) -> None:
    e = emperor()
    file = _settle(e, "emperor.ini", "[uwsgi]\nemperor = %dvassals\nreload-mercy = 3\n")
    shown = e.cli("config", "view", str(file), "--emperor-throttle", "5", "-o", "json")
    assert shown.returncode == 0
    document = json.loads(shown.stdout)
    assert document["spec"]["emperor"] == [str(e.vassals)] and document["spec"]["emperorThrottle"] == "5ms"
    assert document["status"]["origins"]["reloadMercy"] == f"{file}:3"
    assert document["status"]["origins"]["socket"] == "EMPERORCTL_SOCKET"
    assert not e.state.exists() and not e.socket.exists()
