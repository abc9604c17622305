"""Which monitor serves which address."""

from __future__ import annotations

from pathlib import Path

import pytest

from emperorctl.models.errors import UserError
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.base import MonitorContext
from emperorctl.monitors.registry import ABOUT, SCHEMES, open_source, split_source

CONTEXT = MonitorContext(publish=lambda report: None, uwsgi=UwsgiRun(), warn=lambda source, note: None)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("/etc/vassals", "dir:///etc/vassals"),
        ("/etc/vassals/", "dir:///etc/vassals"),
        ("dir:///etc/vassals", "dir:///etc/vassals"),
        ("DIR:///etc/vassals", "dir:///etc/vassals"),
        ("/etc/*/vassal.ini", "glob:///etc/*/vassal.ini"),
        ("glob:///etc/*/vassal.ini", "glob:///etc/*/vassal.ini"),
        ("glob:///etc/vassal.ini", "glob:///etc/vassal.ini"),
        ("dir:///etc/odd[1]", "dir:///etc/odd[1]"),
    ],
)
def test_addresses(text: str, source: str) -> None:
    assert open_source(text, CONTEXT).source == source


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_source("vassals", CONTEXT).source == f"dir://{tmp_path}/vassals"
    assert open_source("dir://.", CONTEXT).source == f"dir://{tmp_path}"
    assert open_source("*/a.ini", CONTEXT).source == f"glob://{tmp_path}/*/a.ini"


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r'known are dir://, glob://; did you mean "glob:///x/\*\.ini"'):
        split_source("golb:///x/*.ini")
    with pytest.raises(UserError, match="known are") as error:
        split_source("pg://host/db")
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize("text", ["", "dir://", "glob://", "a\0b", "\udcff"])
def test_no_path_at_all(text: str) -> None:
    with pytest.raises(UserError):
        split_source(text)


def test_every_scheme_is_explained_in_a_line() -> None:
    assert ABOUT.keys() == SCHEMES.keys()
    for scheme, text in ABOUT.items():
        assert text.startswith(f"{scheme}://")
        assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("glob,cwd=/srv:///srv/*/v.ini", ("glob", "/srv/*/v.ini", "/srv")),
        ("glob,cwd=/srv/../x://srv/*/v.ini", ("glob", "srv/*/v.ini", "/x")),
        ("DIR,cwd=/a b:///v", ("dir", "/v", "/a b")),
        ("glob:///srv/a,cwd=b://*.ini", ("glob", "/srv/a,cwd=b://*.ini", None)),
        ("/srv/?cwd=x/*.ini", ("glob", "/srv/?cwd=x/*.ini", None)),
    ],
)
def test_a_source_says_where_its_vassals_are_run(text: str, found: tuple[str, str, str | None]) -> None:
    assert split_source(text) == found


def test_a_relative_one_starts_from_the_emperors_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monitor = open_source("glob,cwd=run://*/v.ini", CONTEXT)
    assert (monitor.source, monitor.working_dir) == (f"glob://{tmp_path}/*/v.ini", f"{tmp_path}/run")
    assert open_source("*/v.ini", CONTEXT).working_dir is None
    assert open_source("v", CONTEXT).working_dir == f"{tmp_path}/v"


@pytest.mark.parametrize("settings", [",cwd=", ",cwd", ",CWD=/x", ",pwd=/x", ",cwd=/x,cwd=/y", ","])
def test_a_setting_that_is_none(settings: str) -> None:
    with pytest.raises(UserError, match="cwd=DIRECTORY"):
        split_source(f"glob{settings}:///srv/*/v.ini")
