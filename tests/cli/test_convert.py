"""`emperorctl convert`: what is printed, what is written, and what is refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from emperorctl.cli.app import app

CONF = """[supervisord]
logfile = /x
[program:web_1]
command = serve 100%%
autostart = false
[program:job]
command = work
"""


def run(*arguments: str, stdin: str = "") -> Any:
    result = CliRunner().invoke(app, ["convert", *arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "supervisord.conf"
    path.write_text(CONF)
    path.chmod(0o640)
    return path


def test_documents_with_their_notes(conf: Path) -> None:
    result = run(str(conf))
    assert result.exit_code == 0
    first, second = result.stdout.split("---\n")
    assert first.splitlines()[:4] == [
        f"# from {conf}: [program:web_1]",
        "# not carried over: [supervisord] logfile = /x (a setting of supervisord itself)",
        "# changed: name = web_1 (a name is a-z 0-9 . - and at most 63 characters: it is web-1 here)",
        "# not carried over: autostart = false (a vassal runs as soon as its file is there;"
        " emperorctl stop NAME holds it down, also later)",
    ]
    assert second.splitlines()[0] == f"# from {conf}: [program:job]"
    documents = list(yaml.safe_load_all(result.stdout))
    assert [document["metadata"]["name"] for document in documents] == ["web-1", "job"]
    assert documents[0]["spec"]["command"] == ["serve", "100%%"]


def test_notes_are_warnings_with_their_lines(conf: Path) -> None:
    lines = run(str(conf)).stderr.splitlines()
    assert lines[0].startswith(f"warning: {conf}:3: web-1: changed: name = web_1 (")
    assert lines[1].startswith(f"warning: {conf}:5: web-1: not carried over: autostart = false (")
    assert (
        lines[2] == f"warning: {conf}:2: not carried over: [supervisord] logfile = /x (a setting of supervisord itself)"
    )
    assert len(lines) == 3


def test_json(conf: Path, tmp_path: Path) -> None:
    found = json.loads(run(str(conf), "-o", "json").stdout)
    assert found["kind"] == "List"
    assert [item["metadata"]["name"] for item in found["items"]] == ["web-1", "job"]
    procfile = tmp_path / "Procfile"
    procfile.write_text("web: x\n")
    assert json.loads(run(str(procfile), "-o", "json").stdout)["kind"] == "Vassal"


def test_a_file_for_each_vassal_and_none_overwritten(conf: Path, tmp_path: Path) -> None:
    out = tmp_path / "vassals"
    out.mkdir()
    (out / "job.yaml").write_text("mine\n")
    result = run(str(conf), "--output-dir", str(out))
    assert result.exit_code == 1
    assert result.stdout == f"{out}/web-1.yaml\n"
    assert f"error: {out}/job.yaml: is there already and was left alone" in result.stderr
    assert (out / "job.yaml").read_text() == "mine\n"
    web = out / "web-1.yaml"
    assert web.read_text().startswith("# from ")
    assert yaml.safe_load(web.read_text())["metadata"]["name"] == "web-1"
    assert stat.S_IMODE(web.stat().st_mode) & 0o137 == 0, "no more rights than the original's"


def test_a_link_is_not_followed(conf: Path, tmp_path: Path) -> None:
    out = tmp_path / "vassals"
    out.mkdir()
    target = tmp_path / "target"
    (out / "job.yaml").symlink_to(target)
    assert run(str(conf), "--output-dir", str(out)).exit_code == 1
    assert not target.exists()


def test_json_files_are_manifests(conf: Path, tmp_path: Path) -> None:
    out = tmp_path / "vassals"
    out.mkdir()
    assert run(str(conf), "-o", "json", "--output-dir", str(out)).exit_code == 0
    assert json.loads((out / "job.json").read_text())["kind"] == "Vassal"
    assert CliRunner().invoke(app, ["validate", str(out)]).exit_code == 0


def test_standard_input() -> None:
    result = run("-", "--from", "procfile", stdin="web: serve $PORT\n")
    assert result.exit_code == 0
    assert result.stdout.startswith("# from <stdin>: web:\n")
    assert "workingDir" not in result.stdout
    result = run("-", stdin="web: x\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "add --from" in result.stderr


def test_one_bad_file_does_not_take_the_others_along(conf: Path, tmp_path: Path) -> None:
    result = run(str(tmp_path / "missing"), str(conf), str(tmp_path))
    assert result.exit_code == 1
    assert "name: web-1" in result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert ["No such file" in errors[0], "directory" in errors[1].lower()] == [True, True]


def test_one_bad_program_fails_but_the_others_are_printed(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("[program:a]\ncommand = 'open\n[program:b]\ncommand = x\n")
    result = run(str(path))
    assert result.exit_code == 1
    assert "name: b" in result.stdout
    assert f"error: {path}:2: command: the quotes do not pair up" in result.stderr
    assert "[NotConvertible]" in result.stderr


def test_a_config_of_uwsgi_that_is_no_patch(tmp_path: Path) -> None:
    path = tmp_path / "a.ini"
    path.write_text("[uwsgi]\nsocket = :1\n")
    result = run(str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "runs under emperorctl unchanged (put it into the vassal directory as it is)" in result.stderr


def test_pipes_large_files_and_hostile_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in run(str(tmp_path / "pipe")).stderr
    large = tmp_path / "Procfile"
    large.write_text("web: x\n" * 100_000)
    assert "larger than 256 KiB" in run(str(large)).stderr
    large.write_text("web: x '\x1b[2J\x07'\nb\x1bd\n")
    result = run(str(large))
    assert not any(char in result.stdout + result.stderr for char in "\x1b\x07")


def test_a_directory_that_is_not_there(conf: Path, tmp_path: Path) -> None:
    result = run(str(conf), "--output-dir", str(tmp_path / "no"))
    assert result.exit_code == 1
    assert "expected a directory that is there" in result.stderr


def test_nothing_given() -> None:
    assert "expected at least one file" in run().stderr
