"""`validate`: the monitors' own look at files, once, plus what only a look at all of them can find."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emperorctl.models.errors import UserError
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.validate import Verdict, validate
from tests.monitors.recorder import MANIFEST, write


def look(*paths: object) -> list[Verdict]:
    return validate([str(path) for path in paths], UwsgiRun())


def reasons(verdicts: list[Verdict]) -> list[str]:
    return [problem.reason for verdict in verdicts for problem in verdict.problems]


def test_good_files(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    write(tmp_path / "b.yaml", MANIFEST.format(1))
    write(tmp_path / "notes.txt", "")
    verdicts = look(tmp_path)
    assert [(os.path.basename(v.file), v.names, v.accepted) for v in verdicts] == [
        ("a.ini", ("a.ini",), True),
        ("b.yaml", ("b",), True),
    ]
    assert look(tmp_path / "b.yaml") == verdicts[1:]
    assert look(f"{tmp_path}/*.yaml") == verdicts[1:]


def test_a_bad_file_is_named_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "apiVersion: emperor/v1\nkind: Vassal\nspec:\n  comand: [a]\n")
    write(tmp_path / "b.ini", "")
    verdicts = look(tmp_path)
    assert [v.accepted for v in verdicts] == [False, False]
    first = verdicts[0].problems[0]
    assert first.file == str(tmp_path / "a.yaml") and first.line == 4


def test_two_files_that_claim_one_name(tmp_path: Path) -> None:
    for name in ("a.yaml", "a.toml"):
        (tmp_path / name).touch()
    write(tmp_path / "a.yaml", MANIFEST.format(1))
    write(tmp_path / "a.toml", 'apiVersion="emperor/v1"\nkind="Vassal"\n[spec]\ncommand=["sleep"]\n')
    assert reasons(look(tmp_path)) == ["Conflict"]
    assert reasons(look(tmp_path / "a.yaml", tmp_path / "a.toml")) == ["Conflict"]


def test_the_same_file_twice_is_no_conflict(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    assert [v.accepted for v in look(tmp_path / "a.ini", tmp_path, tmp_path / "a.ini")] == [True]


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    assert reasons(look(tmp_path / "nowhere")) == ["NotFound"]
    assert reasons(look(tmp_path / "nowhere.ini")) == ["NotFound"]
    assert reasons(look(f"{tmp_path}/*.ini")) == ["NotFound"]
    assert look(tmp_path) == []
    write(tmp_path / "a.conf")
    assert reasons(look(tmp_path / "a.conf")) == ["Ignored"]
    os.symlink("nowhere", tmp_path / "d.ini")
    assert reasons(look(tmp_path / "d.ini")) == ["DanglingLink"]
    with pytest.raises(UserError):
        look("pg://x")


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yaml")
    assert reasons(look(tmp_path)) == ["NotRegular"]
    assert reasons(look(tmp_path / "x.yaml")) == ["NotRegular"]


def test_what_is_a_config_because_somebody_said_so(tmp_path: Path) -> None:
    write(tmp_path / "a.site", "anything")
    script = tmp_path / "b.ini"
    write(script, "#!/bin/sh\n")
    script.chmod(0o755)
    assert reasons(look(tmp_path / "a.site", script)) == ["Ignored", "Empty"]
    run = UwsgiRun(extra_extensions=(".site",), magic_exec=True)
    for path in (tmp_path / "a.site", script, f"{tmp_path}/*"):
        assert not reasons(validate([str(path)], run))
    assert {name for verdict in validate([str(tmp_path)], run) for name in verdict.names} == {"a.site", "b.ini"}
