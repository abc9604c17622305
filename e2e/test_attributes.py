"""Attributes of uWSGI configs: shown, selected by, and followed, with real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from e2e.harness import API, Emperor

Make = Callable[..., Emperor]

STAND_IN = """#!/bin/sh
# Stands in for uwsgi: says where and how it was run, and lives until it is told to stop.
echo "$0 $* in $(pwd)" >> {out}
exec sleep 1000
"""


def stand_in(e: Emperor, name: str) -> tuple[Path, Path]:
    """A program to run in uwsgi's place, and the file it writes to."""
    program, out = e.root / name, e.root / f"{name}.out"
    program.write_text(STAND_IN.format(out=out))
    program.chmod(0o755)
    return program, out


def metadata(e: Emperor, name: str) -> dict[str, Any]:
    """Labels and annotations."""
    found = e.get(name)
    assert found is not None
    kept: dict[str, Any] = found["metadata"]
    return kept


def test_attributes_are_labels_or_annotations_and_in_the_statistics(emperor: Make) -> None:
    e = emperor("--emperor-collect-attribute=team", "--emperor-collect-attr=home")
    program, _ = stand_in(e, "usual")
    e.options.append(f"--emperor-wrapper={program}")
    e.write("shop.ini", "[uwsgi]\nteam = front\nmaster = true\n[emperor]\nteam = web\nhome = /srv/shop\n")
    e.write("blog.ini", "[uwsgi]\nmaster = true\n")
    e.start()
    e.wait_for(lambda: e.main_pid("shop.ini") and e.main_pid("blog.ini"), what="both run")
    assert metadata(e, "shop.ini")["labels"] == {"team": "web"}
    assert metadata(e, "shop.ini")["annotations"] == {"home": "/srv/shop"}
    assert e.cli("get", "vassals", "-l", "team=web", "-o", "name").stdout == "vassal.emperor/shop.ini\n"
    listed = {one["id"]: one for one in e.api("GET", f"{API}/stats").body["vassals"]}
    assert listed["shop.ini"]["attrs"] == {"team": "web", "home": "/srv/shop"}
    assert "attrs" not in listed["blog.ini"]


def test_a_config_says_where_and_through_what_it_is_run(emperor: Make) -> None:
    e = emperor("--emperor-chdir-attr=runs-in", "--emperor-wrapper-attr=through")
    usual, usual_out = stand_in(e, "usual")
    special, special_out = stand_in(e, "special")
    e.options.append(f"--emperor-wrapper={usual}")
    home = e.root / "home"
    home.mkdir()
    e.write("a.ini", f"[uwsgi]\n[emperor]\nruns-in = {home}\nthrough = {special}\n")
    e.write("b.ini", "[uwsgi]\n")
    e.start()
    e.wait_for(lambda: special_out.exists() and usual_out.exists(), what="both run")
    e.wait_for(lambda: special_out.read_text() and usual_out.read_text(), what="both say how")
    assert special_out.read_text() == f"{special} --ini {e.vassals}/a.ini in {home}\n"
    assert usual_out.read_text() == f"{usual} --ini b.ini in {e.vassals}\n"


def test_a_real_uwsgi_runs_in_the_directory_of_its_attribute(emperor: Make, uwsgi_bin: Path) -> None:
    e = emperor("--emperor-chdir-attr=runs-in", f"--binary-path={uwsgi_bin}")
    home = e.root / "home"
    home.mkdir()
    e.write("a.ini", f"[uwsgi]\nmaster = true\nsocket = {e.root}/a.sock\n[emperor]\nruns-in = {home}\n")
    e.start()
    pid = e.wait_running("a.ini")
    e.wait_condition("a.ini", "Ready", "True", "Accepting")
    assert psutil.Process(pid).cwd() == str(home)
    assert json.loads(json.dumps(e.get("a.ini")))["spec"]["workingDir"] == str(home)
