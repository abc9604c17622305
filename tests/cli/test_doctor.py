"""What the doctor says, of findings as they come and of settings as they are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emperorctl.cli import doctor
from emperorctl.cli.app import app
from emperorctl.cli.loading import Loaded
from emperorctl.models.settings import Settings
from emperorctl.reconciler.runtime import checks
from emperorctl.reconciler.runtime.checks import Finding, Needs, Verdict

FINE = Finding("kernel", Verdict.OK, "6.1 has all that is used")
ODD = Finding("limit cpu", Verdict.WARNING, "is refused", "Delegate=yes")
BAD = Finding("installation", Verdict.ERROR, "/opt\x1b[2J can be written by everybody", "chmod go-w")


def run(monkeypatch: pytest.MonkeyPatch, findings: list[Finding], *words: str) -> tuple[int, str]:
    monkeypatch.setattr(checks, "examine", lambda needs: iter(findings))
    result = CliRunner().invoke(app, ["doctor", *words])
    return result.exit_code, result.stdout


def test_a_line_for_each_finding_one_for_what_to_do_and_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, [FINE, ODD])
    assert code == 0
    assert text.splitlines() == [
        "ok       kernel: 6.1 has all that is used",
        "warning  limit cpu: is refused",
        "         Delegate=yes",
        "0 errors, 1 warnings, 1 ok",
    ]


def test_an_error_is_exit_code_1_and_no_terminal_obeys_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run(monkeypatch, [FINE, BAD])
    assert code == 1 and "\x1b" not in text and "1 errors" in text


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_for_machines(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    code, text = run(monkeypatch, [ODD, BAD], "-o", form)
    assert code == 1
    import yaml

    document = json.loads(text) if form == "json" else yaml.safe_load(text)
    assert document["kind"] == "Diagnosis"
    assert document["items"][0] == {
        "check": "limit cpu",
        "status": "warning",
        "message": "is refused",
        "remedy": "Delegate=yes",
    }


def test_what_settings_need(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[uwsgi]\n")
    (tmp_path / "b.yaml").write_text("apiVersion: emperor/v1\nkind: Vassal\n")
    (tmp_path / "c.yml").write_text("uwsgi:\n  master: true\n")
    (tmp_path / "notes.txt").write_text("")
    told = Settings(
        emperor=(f"dir://{tmp_path}",), socket="/run/x/s.sock", state_dir="/var/lib/x", binary_path="/opt/uwsgi"
    )
    needs = doctor._needs(Loaded(told, {}, ()), [])
    assert needs == Needs(
        directories={"socket": "/run/x", "state": "/var/lib/x", "log": "/var/lib/x/logs"},
        files=(str(tmp_path),),
        vassals=3,
        uwsgi=2,
        binary="/opt/uwsgi",
    )


def test_a_source_with_settings_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[uwsgi]\n")
    told = Settings(emperor=(f"glob,cwd=/srv://{tmp_path}/*.ini", f"dir,cwd=/srv://{tmp_path}"), state_dir="/var/lib/x")
    needs = doctor._needs(Loaded(told, {}, ()), [])
    assert (needs.files, needs.vassals, needs.uwsgi) == ((str(tmp_path),), 2, 2)
