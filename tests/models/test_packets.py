"""uWSGI's packets, right and wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperorctl.models.packets import BadPacket, read_packet, write_packet

SPAWN = b"\x00\x1c\x00\x00\x03\x00cmd\x05\x00spawn\x06\x00vassal\x06\x00a.ini\n"


def test_a_packet_as_uwsgi_writes_it() -> None:
    assert read_packet(SPAWN) == {b"cmd": b"spawn", b"vassal": b"a.ini\n"}
    assert write_packet({b"cmd": b"spawn", b"vassal": b"a.ini\n"}) == SPAWN


def test_the_modifiers_mean_nothing_and_the_last_of_a_name_counts() -> None:
    assert read_packet(b"\x09\x0c\x00\x07\x01\x00a\x01\x00b\x01\x00a\x01\x00c") == {b"a": b"c"}
    assert read_packet(b"\0\0\0\0") == {}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes are less than a header of 4"),
        (b"\0\0\0", "3 bytes are less than a header of 4"),
        (b"\0\xff\xff\0", "its header says that 65535 bytes follow, and 0 do"),
        (SPAWN[:-1], "its header says that 28 bytes follow, and 27 do"),
        (SPAWN + b"x", "its header says that 28 bytes follow, and 29 do"),
        (b"\0\x01\0\0x", "a single byte is left at 4"),
        (b"\0\x02\0\0\x01\0", "the length at 4 says 1 bytes, and only 0 are left"),
        (b"\0\x05\0\0\xff\xffcmd", "the length at 4 says 65535 bytes, and only 3 are left"),
        (b"\0\x05\0\0\x03\0cmd", "the last name has no value"),
        (b"\0\x07\0\0\x03\0cmd\x05\0", "the length at 9 says 5 bytes, and only 0 are left"),
    ],
)
def test_a_packet_that_lies_is_refused_with_where(data: bytes, says: str) -> None:
    with pytest.raises(BadPacket, match=says):
        read_packet(data)


def test_more_than_a_packet_holds_is_not_written() -> None:
    with pytest.raises(BadPacket, match="65537 bytes do not fit"):
        write_packet({b"a": b"x" * 65532})


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=200), max_size=20))
def test_what_is_written_is_read(pairs: dict[bytes, bytes]) -> None:
    assert read_packet(write_packet(pairs)) == pairs


@given(st.binary(max_size=300))
def test_nothing_but_a_bad_packet_comes_out(data: bytes) -> None:
    for whole in (data, b"\0" + len(data).to_bytes(2, "little") + b"\0" + data):
        try:
            read_packet(whole)
        except BadPacket as error:
            assert str(error)
