"""Addresses as people write them."""

from __future__ import annotations

import pytest

from emperorctl.models.errors import ConfigError
from emperorctl.models.sockets import Address, Family, OnDemand, Passing, parse_address


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:8000", Address(Family.INET, "127.0.0.1", 8000), "127.0.0.1:8000"),
        (":8000", Address(Family.INET, "0.0.0.0", 8000), ":8000"),
        ("*:8000", Address(Family.INET, "0.0.0.0", 8000), ":8000"),
        ("localhost:80", Address(Family.INET, "127.0.0.1", 80), "127.0.0.1:80"),
        ("[::1]:8000", Address(Family.INET6, "::1", 8000), "[::1]:8000"),
        ("[0:0::0:1]:8000", Address(Family.INET6, "::1", 8000), "[::1]:8000"),
        ("[::]:1", Address(Family.INET6, "::", 1), "[::]:1"),
        ("/run/x.sock", Address(Family.UNIX, path="/run/x.sock"), "/run/x.sock"),
        ("unix:/run/x.sock", Address(Family.UNIX, path="/run/x.sock"), "/run/x.sock"),
        ("unix:///run/./x.sock", Address(Family.UNIX, path="/run/x.sock"), "/run/x.sock"),
        ("/run/a:1.sock", Address(Family.UNIX, path="/run/a:1.sock"), "/run/a:1.sock"),
        ("@name", Address(Family.ABSTRACT, path="name"), "@name"),
    ],
)
def test_forms(text: str, address: Address, shown: str) -> None:
    assert parse_address(text) == address
    assert str(address) == shown
    assert parse_address(shown) == address


def test_a_relative_path_needs_a_directory() -> None:
    assert parse_address("x.sock", "/srv/v").path == "/srv/v/x.sock"
    with pytest.raises(ConfigError, match="neither HOST:PORT nor an absolute path"):
        parse_address("x.sock")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("@", "no name"),
        ("127.0.0.1", "neither HOST:PORT nor an absolute path"),
        ("127.0.0.1:", "port from 1 to 65535"),
        ("127.0.0.1:0", "port from 1 to 65535"),
        ("127.0.0.1:65536", "port from 1 to 65535"),
        ("127.0.0.1:٣", "port from 1 to 65535"),
        ("127.0.0.1:-1", "port from 1 to 65535"),
        ("127.1:80", "no IP address"),
        ("example.org:80", "no IP address"),
        ("::1:80", "in brackets"),
        ("[::1]80", "port from 1 to 65535"),
        ("[fe80::1%eth0]:80", "scope"),
        ("/run/\0x", "NUL"),
        ("/run/\ud800", "UTF-8"),
        ("/" + "x" * 107, "108 bytes; the kernel takes 107"),
        ("/" + "é" * 60, "121 bytes"),
        ("@" + "x" * 108, "more than 107 bytes"),
    ],
)
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")) as caught:
        parse_address(text)
    assert caught.value.problem.remedy


def test_the_longest_path_is_accepted() -> None:
    assert len(parse_address("/" + "x" * 106).path) == 107


def test_a_process_serves_as_long_as_its_sockets_are_the_same() -> None:
    web = Address(Family.INET, "127.0.0.1", 80)
    given = OnDemand((web,), Passing.LISTEN_FDS, idle=5.0)
    assert OnDemand((Address(Family.INET, "127.0.0.1", 80, backlog=7),), Passing.LISTEN_FDS).serves_as(given)
    assert not OnDemand((web,), Passing.STDIN).serves_as(given)
    assert not OnDemand((web, parse_address("@x")), Passing.LISTEN_FDS).serves_as(given)
    assert not OnDemand((parse_address(":80"),), Passing.LISTEN_FDS).serves_as(given)
    assert not given.serves_as(None)


def test_one_port_on_two_hosts_may_overlap() -> None:
    assert parse_address(":80").overlaps(parse_address("127.0.0.1:80"))
    assert not parse_address(":80").overlaps(parse_address(":80"))
    assert not parse_address("@a").overlaps(parse_address("@b"))
