"""The wire to the zygote: objects of any size, descriptors in order, and what happens when some are lost."""

from __future__ import annotations

import ast
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from emperorctl.reconciler.runtime.zygote import orders

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


@pytest.mark.parametrize("size", [0, 1000, orders.INLINE_MAX - 100, orders.INLINE_MAX + 1, 3_000_000])
def test_objects_of_any_size_arrive_whole_with_their_descriptors(pair: Pair, size: int) -> None:
    message = {"launch": {"text": "é\udcff\n" * 3, "big": "x" * size}}
    reading, writing = os.pipe()
    orders.send(pair[0], orders.encode(message), [writing, reading])
    received, fds = orders.receive(pair[1])
    assert received == message
    assert len(fds) == 2
    assert not any(os.get_inheritable(fd) for fd in fds)
    os.write(fds[0], b"through")
    assert os.read(fds[1], 100) == b"through"
    for fd in (reading, writing, *fds):
        os.close(fd)


def test_packets_keep_their_borders(pair: Pair) -> None:
    for number in range(3):
        orders.send(pair[0], orders.encode({"drop": [number]}))
    assert [orders.receive(pair[1])[0]["drop"] for _ in range(3)] == [[0], [1], [2]]
    with pytest.raises(BlockingIOError):
        orders.receive(pair[1])


def test_the_end_is_not_an_object(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(orders.Closed):
        orders.receive(pair[1])


def test_lost_descriptors_are_noticed_and_the_rest_closed(pair: Pair) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    orders.send(pair[0], orders.encode({"launch": {"id": 7}}), [null] * 10)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    free = [fd for fd in range(highest + 4) if not os.path.exists(f"/proc/self/fd/{fd}")]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[2], limits[1]))
    try:
        with pytest.raises(orders.DescriptorsLost) as lost:
            orders.receive(pair[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert lost.value.message == {"launch": {"id": 7}}
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(null)


@pytest.mark.parametrize("data", [b"\0", b"{", b"[\0\0\0\0", b"i\1\0\0\0"])
def test_what_is_no_object_is_refused(pair: Pair, data: bytes) -> None:
    pair[0].send(data)
    with pytest.raises(ValueError):
        orders.receive(pair[1])


def test_a_report_is_a_literal_in_ascii() -> None:
    facts = {"step": "execve", "errno": 2, "detail": "", "path": "/srv/\udcff é\n", "patched": True}
    assert ast.literal_eval(orders.report(facts).decode("ascii")) == facts
