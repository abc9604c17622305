"""uWSGI's packets: a header of four bytes, then names and values, each with its length in front.

Called for what comes in over the command socket. The header is modifier1, the size of what follows (16 bits, little
endian) and modifier2; lengths are 16 bits, little endian, too. Not in here: what the names mean.
"""

from __future__ import annotations

import struct

__all__ = ["BadPacket", "read_packet", "write_packet"]

_HEADER = struct.Struct("<BHB")
_LENGTH = struct.Struct("<H")
_MOST = 0xFFFF


class BadPacket(ValueError):
    """These bytes are no packet; the message says why."""


def read_packet(data: bytes) -> dict[bytes, bytes]:
    """The names and values of exactly one packet, of several of one name the last. Raises BadPacket."""
    if len(data) < _HEADER.size:
        raise BadPacket(f"{len(data)} bytes are less than a header of {_HEADER.size}")
    size = _HEADER.unpack_from(data)[1]
    rest = len(data) - _HEADER.size
    if size != rest:
        raise BadPacket(f"its header says that {size} bytes follow, and {rest} do")
    words = _words(data)
    if len(words) % 2:
        raise BadPacket("the last name has no value")
    return dict(zip(words[::2], words[1::2], strict=True))


def _words(data: bytes) -> list[bytes]:
    words, at = [], _HEADER.size
    while at < len(data):
        start = at + _LENGTH.size
        if start > len(data):
            raise BadPacket(f"a single byte is left at {at}, where a length of {_LENGTH.size} was expected")
        end = start + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            raise BadPacket(f"the length at {at} says {end - start} bytes, and only {len(data) - start} are left")
        words.append(data[start:end])
        at = end
    return words


def write_packet(pairs: dict[bytes, bytes]) -> bytes:
    """The packet of these names and values. Raises BadPacket where they do not fit into one."""
    words = [word for pair in pairs.items() for word in pair]
    size = sum(map(len, words)) + len(words) * _LENGTH.size
    if size > _MOST:
        raise BadPacket(f"{size} bytes do not fit: a packet holds {_MOST}")
    return b"".join([_HEADER.pack(0, size, 0), *(_LENGTH.pack(len(word)) + word for word in words)])
