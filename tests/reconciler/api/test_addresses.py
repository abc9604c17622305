"""Addresses as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from emperorctl.models.errors import UserError
from emperorctl.reconciler.api.addresses import Exposure, TcpAddress, UnixAddress, parse_address

PRIVATE = Exposure("--emperor-stats", "--stats-public")
PUBLIC = Exposure("--emperor-stats", "--stats-public", public=True)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9191", TcpAddress("127.0.0.1", 9191)),
        ("127.8.8.8:1", TcpAddress("127.8.8.8", 1)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("localhost:9191", TcpAddress("127.0.0.1", 9191)),
        ("/run/stats.sock", UnixAddress("/run/stats.sock")),
        ("/run/a:1/../stats.sock", UnixAddress("/run/stats.sock")),
        ("stats.sock", UnixAddress(str(Path.cwd() / "stats.sock"))),
        ("./a:9", UnixAddress(str(Path.cwd() / "a:9"))),
    ],
)
def test_these_are_private(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_address(text, PRIVATE) == address


@pytest.mark.parametrize(
    ("text", "host"), [(":9191", "0.0.0.0"), ("*:9191", "0.0.0.0"), ("0.0.0.0:9191", "0.0.0.0"), ("[::]:9191", "::")]
)
def test_what_others_can_reach_has_to_be_allowed(text: str, host: str) -> None:
    with pytest.raises(UserError, match=r"write 127\.0\.0\.1:9191.*--stats-public"):
        parse_address(text, PRIVATE)
    assert parse_address(text, PUBLIC) == TcpAddress(host, 9191)


@pytest.mark.parametrize("text", ["192.0.2.1:9191", "[2001:db8::1]:9191", "[::ffff:192.0.2.1]:9191"])
def test_addresses_of_the_network_are_public(text: str) -> None:
    with pytest.raises(UserError, match="other machines may reach"):
        parse_address(text, PRIVATE)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("9191", "write 127.0.0.1:9191"),
        ("@stats", "abstract"),
        ("127.0.0.1:", "not a port"),
        ("127.0.0.1:0", "not a port"),
        ("127.0.0.1:65536", "not a port"),
        ("127.0.0.1:0000019999999", "not a port"),
        ("127.0.0.1:http", "not a port"),
        ("127.0.0.1:-1", "not a port"),
        ("127.0.0.1:٣", "not a port"),
        ("300.0.0.1.:1", "can't find the address"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refused:
        parse_address(text, PUBLIC)
    assert str(refused.value).startswith("--emperor-stats: ")


def test_addresses_read_back_as_they_are_written() -> None:
    assert [str(one) for one in (TcpAddress("::1", 5), TcpAddress("127.0.0.1", 5), UnixAddress("/s"))] == [
        "[::1]:5",
        "127.0.0.1:5",
        "/s",
    ]
