"""Procfiles as manifests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.converting import conversion, notes, only

FILE = "Procfile"


def command(text: str) -> Any:
    return only(f"web: {text}\n", FILE).manifest["spec"]["command"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gunicorn shop.wsgi -b :8000", ["gunicorn", "shop.wsgi", "-b", ":8000"]),
        ("worker --queue 'a b' --rate 5%", ["worker", "--queue", "a b", "--rate", "5%%"]),
        ("puma -p $PORT", ["sh", "-c", "exec puma -p $PORT"]),
        ("puma > log 2>&1", ["sh", "-c", "puma > log 2>&1"]),
        ("puma > log", ["sh", "-c", "exec puma > log"]),
        ("A=1 puma -p $PORT", ["sh", "-c", "exec env A=1 puma -p $PORT"]),
        ("cd x && puma", ["sh", "-c", "cd x && puma"]),
        ("exec puma -p $PORT", ["sh", "-c", "exec puma -p $PORT"]),
        ("exec puma 'a b'", ["puma", "a b"]),
        ("exec -a web puma", ["sh", "-c", "exec -a web puma"]),
        ("ulimit -n 50", ["sh", "-c", "ulimit -n 50"]),
        ("date +%s; puma", ["sh", "-c", "date +%%s; puma"]),
    ],
)
def test_commands(text: str, words: list[str]) -> None:
    assert command(text) == words


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("cd x && puma", True),
        ("cd x && exec puma -p $PORT", False),
        ("cd x; exec puma; date", True),
        ("exec puma > $LOG", False),
        ("exec puma | tee log", True),
    ],
)
def test_a_shell_that_stays_is_named(text: str, stays: bool) -> None:
    told = notes(only(f"web: {text}\n", FILE)).get("web", "")
    assert ("the shell stays the main process" in told) == stays


def test_process_types() -> None:
    text = "# comment\nweb: A=1 B='x y' puma -p 80\n\nwork_er: rake jobs\nrelease: rake db:migrate\n"
    web, worker, release = conversion(text, FILE).converted
    assert web.manifest["spec"] == {
        "command": ["puma", "-p", "80"],
        "env": {"A": "1", "B": "x y", "PORT": "5000"},
        "workingDir": "/etc/app",
    }
    assert (worker.name, worker.manifest["spec"]["env"]) == ("work-er", {"PORT": "5100"})
    assert "runs once" in notes(release)["release"]
    assert set(notes(web)) == {"PORT"}


def test_variables_that_nobody_sets_are_named() -> None:
    assert set(notes(only("web: serve $DATABASE_URL ${PORT} $HOME ${OTHER:-x}\n", FILE))) == {
        "PORT",
        "$DATABASE_URL",
        "$OTHER",
    }


def test_a_port_of_its_own_is_kept() -> None:
    one = only("web: PORT=80 puma\n", FILE)
    assert one.manifest["spec"]["env"] == {"PORT": "80"}
    assert not one.notes


@pytest.mark.parametrize("line", ["web puma", "web:", "we b: puma", "web: 'open", ": x"])
def test_a_line_that_is_wrong_does_not_take_the_others_along(line: str) -> None:
    result = conversion(f"{line}\ngood: y\n", FILE)
    assert [one.name for one in result.converted] == ["good"]
    (problem,) = result.problems
    assert problem.line == 1 and problem.remedy


def test_too_many_are_refused_by_line() -> None:
    result = conversion("".join(f"p{number}: x\n" for number in range(300)), FILE)
    assert len(result.converted) == 256
    assert result.problems[0].line == 257
