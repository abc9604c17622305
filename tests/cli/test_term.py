from __future__ import annotations

import pytest

from emperorctl.cli.term import Harmless, harmless, style_of


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
        (b"paid\rfree\r\n", b"paid\\x0dfree\r\n"),
        ("a\u202eb\u2066c\u200f".encode(), b"a\\xe2\\x80\\xaeb\\xe2\\x81\\xa6c\\xe2\\x80\\x8f"),
        ("€ “ü” ⁄".encode(), "€ “ü” ⁄".encode()),
    ],
)
def test_only_colours_pass_to_a_terminal(data: bytes, shown: bytes) -> None:
    assert harmless(data) == shown


@pytest.mark.parametrize(
    ("word", "style"), [("Running", "green"), ("Signal:9", "red"), ("ExitCode:0", "red"), ("whatever", "")]
)
def test_status_words_have_styles(word: str, style: str) -> None:
    assert style_of(word) == style


WHOLE = (
    b"one\r\ntwo \x1b[1;31mred\x1b[0m \x1b[2J \xc2\x9b31m \xe2\x80\xae \xe2\x81\xa6 \xe2\x82\xac \xc3\xa9 \rover"
    b" \x1b]0;t\x07 \x1b[12"
)


def test_nothing_slips_through_where_the_output_is_torn() -> None:
    whole = harmless(WHOLE) + b"\x1b[0m"
    for at in range(len(WHOLE) + 1):
        shown = Harmless()
        assert shown.feed(WHOLE[:at]) + shown.feed(WHOLE[at:]) + shown.end() == whole, at
    shown = Harmless()
    assert b"".join(shown.feed(bytes([byte])) for byte in WHOLE) + shown.end() == whole


def test_a_long_row_of_numbers_is_not_held_back_for_ever() -> None:
    shown = Harmless()
    assert shown.feed(b"\x1b[" + b"1" * 1000) == b"\\x1b[" + b"1" * 1000
    assert shown.end() == b""
