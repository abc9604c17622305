from __future__ import annotations

import pytest

from emperorctl.cli.term import harmless, style_of


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain text\n\ttab \xc3\xa9 \xff\r\n", b"plain text\n\ttab \xc3\xa9 \xff\r\n"),
        (b"\x1b[31mred\x1b[0m \x1b[1;38:5:9mx", b"\x1b[31mred\x1b[0m \x1b[1;38:5:9mx"),
        (b"\x1b[2J", b"\\x1b[2J"),
        (b"\x1b]0;title\x07", b"\\x1b]0;title\\x07"),
        (b"\x1bc", b"\\x1bc"),
        (b"\xc2\x9b31m", b"\\xc2\\x9b31m"),
        (b"a\x08\x00\x7f", b"a\\x08\\x00\\x7f"),
        (b"\x1b", b"\\x1b"),
    ],
)
def test_only_colours_pass_to_a_terminal(data: bytes, shown: bytes) -> None:
    assert harmless(data) == shown


@pytest.mark.parametrize(
    ("word", "style"), [("Running", "green"), ("Signal:9", "red"), ("ExitCode:0", "red"), ("whatever", "")]
)
def test_status_words_have_styles(word: str, style: str) -> None:
    assert style_of(word) == style
