"""Fixtures of the end-to-end tests: real Emperors, real uWSGI, and what the machine allows."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.harness import Emperor, Household, become_subreaper, command_path
from e2e.real_uwsgi import RealEmperor

_NOBODY = 65534


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers, and take in the orphans of everything that the tests start."""
    config.addinivalue_line("markers", "as_root: needs root; skipped otherwise")
    config.addinivalue_line("markers", "as_user: the Emperor runs as an ordinary user, also when root runs the tests")
    become_subreaper()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this user or this machine can't do, saying why."""
    if item.get_closest_marker("as_root") and os.geteuid() != 0:
        pytest.skip("needs root")
    if item.get_closest_marker("as_user") and os.geteuid() == 0 and not usable_by_nobody():
        pytest.skip("run by root from a place that an ordinary user can't read")


@pytest.fixture
def household() -> Iterator[Household]:
    """The processes of this test; all are ended with it, and none may be left over."""
    home = Household()
    yield home
    leftovers = home.close()
    assert not leftovers, f"left behind: {leftovers}"


@pytest.fixture
def emperor(household: Household, request: pytest.FixtureRequest) -> Iterator[Callable[..., Emperor]]:
    """A factory: `emperor(*options, sources=…, env=…).start()`.

    The test fails when an Emperor leaves a process behind, prints a traceback, or does not end with exit code 0.
    """
    made: list[Emperor] = []
    as_user = request.node.get_closest_marker("as_user") is not None and os.geteuid() == 0

    def make(
        *options: str,
        sources: list[str | Path] | None = None,
        env: dict[str, str] | None = None,
    ) -> Emperor:
        user = _NOBODY if as_user else None
        made.append(Emperor(household, *options, sources=sources, env=env, user=user))
        return made[-1]

    yield make
    complaints = [complaint for one in made for complaint in one.close()]
    for one in made:
        one.remove()
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="session")
def uwsgi_bin() -> Path:
    """The real uwsgi of the environment under test."""
    path = command_path("uwsgi")
    if not path.exists():
        pytest.skip("uwsgi is not installed in the environment under test")
    return path


@pytest.fixture(scope="session")
def uwsgi_formats(uwsgi_bin: Path) -> frozenset[str]:
    """The config formats that this uwsgi was built with: of ini, xml, yaml and json."""
    done = subprocess.run([uwsgi_bin, "--help"], capture_output=True, text=True, check=False)
    return frozenset(re.findall(r"--(ini|xml|yaml|json)\s", done.stdout + done.stderr))


@pytest.fixture(scope="session")
def uwsgi_python(uwsgi_bin: Path) -> Path:
    """The real uwsgi, where it was built with its Python plugin."""
    done = subprocess.run([uwsgi_bin, "--plugins-list"], capture_output=True, text=True, check=False)
    if not re.search(r"^\d+: python$", done.stdout + done.stderr, re.MULTILINE):
        pytest.skip("this uwsgi was built without its Python plugin (Python's headers were missing)")
    return uwsgi_bin


@pytest.fixture
def real_emperor(household: Household, uwsgi_bin: Path) -> Iterator[Callable[..., RealEmperor]]:
    """A factory: `real_emperor(*options, vassals=DIR)` is a running `uwsgi --emperor DIR`."""
    made: list[RealEmperor] = []

    def make(*options: str, vassals: Path | None = None) -> RealEmperor:
        made.append(RealEmperor(household, uwsgi_bin, *options, vassals=vassals))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def usable_by_nobody() -> bool:
    """Whether the environment under test can be run by a user without any rights."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import emperorctl.cli.app"],
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
