"""Controllers of cgroup v2 handed down from a control group in which processes sit: real groups, real moves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emperorctl.reconciler.runtime import cgroups

pytestmark = pytest.mark.as_root

SCENE = """
import os, sys
directory, controller, mark, stranger = sys.argv[1:]
open(f"{directory}/cgroup.procs", "w").write("0")
if mark:
    os.setxattr(directory, "user.delegate", b"1")
from emperorctl.reconciler.runtime import cgroups, controllers
reading, writing = os.pipe()
if (child := os.fork()) == 0:
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
os.close(reading)
root = f"{directory}/emperorctl-x-1"
os.mkdir(root)
ours = frozenset() if stranger else frozenset({os.getpid()})
try:
    controllers.enable(directory, root, frozenset({controller}), ours)
    print("enabled")
except controllers.Unavailable as error:
    print(f"unavailable: {error.message} ({error.remedy})")
os.mkdir(f"{root}/1")
print("below:", open(f"{root}/1/cgroup.controllers").read().split())
print("inside:", open(f"{directory}/cgroup.procs").read().split())
print("place:", cgroups.find_place().directory == directory)
os.close(writing)
os.waitpid(child, 0)
"""


@pytest.fixture
def division() -> Iterator[tuple[Path, str]]:
    """A fresh control group of cgroup v2, and a controller that it has."""
    place = cgroups.find_place()
    if place is None:
        pytest.skip("no writable cgroup v2 here")
    top = Path(place.directory)
    able = (top / "cgroup.controllers").read_text().split()
    handed = (top / "cgroup.subtree_control").read_text().split()
    directory = top / f"e2e-{os.getpid()}"
    directory.mkdir()
    try:
        if not able:
            pytest.skip("no controller on cgroup v2 here")
        controller = next(iter(handed), able[0])
        try:
            if not handed:
                (top / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            pytest.skip("the control group of these tests is not theirs to divide")
        yield directory, controller
    finally:
        assert cgroups.remove(str(directory))
        if not handed and able:
            (top / "cgroup.subtree_control").write_text(f"-{able[0]}")


def scene(division: tuple[Path, str], *, mark: bool, stranger: bool = False) -> list[str]:
    directory, controller = division
    words = ["x" if given else "" for given in (mark, stranger)]
    done = subprocess.run(
        [sys.executable, "-c", SCENE, directory, controller, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_emperor_makes_room_where_the_group_is_its_own(division: tuple[Path, str]) -> None:
    said, below, inside, place = scene(division, mark=True)
    assert said == "enabled"
    assert division[1] in below
    assert inside == "inside: []"
    assert place == "place: True"


def test_it_divides_no_group_that_is_not_its_own(division: tuple[Path, str]) -> None:
    said, below, inside, _ = scene(division, mark=False)
    assert said.startswith("unavailable: the Emperor's control group is not its own") and "Delegate=yes" in said
    assert below == "below: []"
    assert inside != "inside: []"


def test_it_moves_no_stranger(division: tuple[Path, str]) -> None:
    said, below, inside, _ = scene(division, mark=True, stranger=True)
    assert said.startswith("unavailable: process ") and "is in the Emperor's control group" in said
    assert below == "below: []"
    assert inside != "inside: []"
