from __future__ import annotations

import io

import pytest

from emperorctl.cli.table import Table, aligned


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_padded_by_three_and_the_last_is_open() -> None:
    out = io.StringIO()
    Table(("NAME", "READY", "STATUS", "LOYAL", "RESTARTS", "AGE"), stream=out).write(
        [
            ("shop.ini", "1/1", "Running", "True", "5 (3m ago)", "2d"),
            ("a", "0/1", "Blacklisted", "False", "0", "90s"),
        ]
    )
    assert out.getvalue() == (
        "NAME       READY   STATUS        LOYAL   RESTARTS     AGE\n"
        "shop.ini   1/1     Running       True    5 (3m ago)   2d\n"
        "a          0/1     Blacklisted   False   0            90s\n"
    )


def test_no_column_is_narrower_than_six() -> None:
    out = io.StringIO()
    Table(("A", "B"), stream=out).write([("x", "y")])
    assert out.getvalue() == "A     B\nx     y\n"


def test_no_rows_no_header() -> None:
    out = io.StringIO()
    table = Table(("NAME", "AGE"), stream=out)
    table.write([])
    assert out.getvalue() == ""
    table.write([("shop", "1s")])
    assert out.getvalue() == "NAME   AGE\nshop   1s\n"


def test_without_a_header_it_takes_no_room() -> None:
    out = io.StringIO()
    Table(("A LONG HEADER", "B"), header=False, stream=out).write([("shop", "y")])
    assert out.getvalue() == "shop   y\n"


def test_later_rows_keep_the_widths_and_print_no_header_again() -> None:
    out = io.StringIO()
    table = Table(("NAME", "AGE"), stream=out)
    table.write([("a-long-name", "1s")])
    table.write([("b", "2s")])
    table.write([("a-longer-name", "3s")])
    table.write([("b", "4s")])
    assert out.getvalue() == (
        "NAME          AGE\na-long-name   1s\nb             2s\na-longer-name   3s\nb               4s\n"
    )


def test_a_cell_is_one_harmless_line() -> None:
    out = io.StringIO()
    Table(("NAME", "MESSAGE"), header=False, stream=out).write(
        [("\x1b[2Jevil\u202e", "first\nsecond"), ("a\rb", "\x07"), ("caf\udce9", "é")]
    )
    assert out.getvalue().splitlines() == [
        "\\x1b[2Jevil\\u202e   first",
        "a                   \\x07",
        "caf\\xe9             é",
    ]


def test_colour_does_not_move_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    Table(("NAME", "STATUS", "AGE"), coloured=("STATUS",), stream=out).write(
        [("Running", "Running", "1s"), ("b", "Odd", "2s"), ("c", "ExitCode:3", "3s")]
    )
    assert out.getvalue() == (
        "NAME      STATUS       AGE\n"
        "Running   \x1b[32mRunning\x1b[0m      1s\n"
        "b         Odd          2s\n"
        "c         \x1b[31mExitCode:3\x1b[0m   3s\n"
    )


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_may_be_declined(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    out = Terminal()
    Table(("STATUS", "AGE"), coloured=("STATUS",), stream=out).write([("Running", "1s")])
    assert "\x1b" not in out.getvalue()


def test_aligned_blocks() -> None:
    assert aligned([("Type", "Status"), ("Ready", "")], indent="  ") == ["  Type   Status", "  Ready"]
    assert aligned([]) == []
