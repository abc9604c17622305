"""The config's own socket: one packet for each question, and never more than one waiting."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from emperorctl.models.protocol import CONFIG_MAX, config_packet
from emperorctl.reconciler.runtime.configpipe import ConfigPipe


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def run_once(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop see what the kernel has to say."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def drain(loop: asyncio.AbstractEventLoop, end: socket.socket) -> list[bytes]:
    """Every config that arrives."""
    end.setblocking(False)
    data = b""
    while True:
        try:
            part = end.recv(1 << 20)
        except BlockingIOError:
            run_once(loop)
            try:
                part = end.recv(1 << 20)
            except BlockingIOError:
                break
        if not part:
            break
        data += part
    configs = []
    while data:
        modifier, size, zero = struct.unpack("<BHB", data[:4])
        assert (modifier, zero) == (115, 0)
        assert len(data) >= 4 + size
        configs.append(data[4 : 4 + size])
        data = data[4 + size :]
    return configs


def test_a_packet_has_the_length_in_little_endian() -> None:
    assert config_packet(b"ab") == b"\x73\x02\x00\x00ab"
    assert config_packet(b"x" * CONFIG_MAX)[:4] == b"\x73\xff\xff\x00"


def test_it_is_sent_at_the_start_and_once_for_each_question(loop: asyncio.AbstractEventLoop) -> None:
    pipe = ConfigPipe(loop, b"one")
    with socket.socket(fileno=pipe.open()) as end:
        assert drain(loop, end) == [b"one"]
        pipe.config = b"two"
        assert drain(loop, end) == []
        pipe.push()
        assert drain(loop, end) == [b"two"]
        pipe.close()
        pipe.push()
        assert drain(loop, end) == []


def test_one_that_reads_nothing_costs_a_packet_and_gets_the_newest_in_the_end(loop: asyncio.AbstractEventLoop) -> None:
    big = b"x" * CONFIG_MAX
    pipe = ConfigPipe(loop, big)
    with socket.socket(fileno=pipe.open()) as end:
        for _ in range(1000):
            pipe.push()
        pipe.config = b"new"
        found = drain(loop, end)
        assert 1 < len(found) < 20
        assert found[-1] == b"new"
        assert set(found[:-1]) == {big}
        pipe.push()
        assert drain(loop, end) == [b"new"]
    pipe.close()


def test_one_that_has_gone_is_left_alone(loop: asyncio.AbstractEventLoop) -> None:
    pipe = ConfigPipe(loop, b"one")
    socket.socket(fileno=pipe.open()).close()
    pipe.push()
    pipe.push()
    pipe.close()
    pipe.close()
