"""Which program is a vassal's way out, what it is told, and what its failures are called."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path
from typing import Any

import pytest

from emperorctl.models.isolation import NET, USER, Isolation, Network, Port
from emperorctl.models.vassal import Kind, Launch
from emperorctl.reconciler.runtime import failures
from emperorctl.reconciler.runtime.identity import Identity
from emperorctl.reconciler.runtime.outlets import DNS, NoOutlet, _said, explain, write_outlet
from emperorctl.reconciler.runtime.zygote import orders
from tests.fakes.vassals import native

WEB = Identity(33, 34, (), "web", "/", "/bin/sh", switch=True)
ROOT = Identity(0, 0, (), "root", "/root", "/bin/sh", switch=False)
PORTS = (Port(80, 8080), Port(81, 81, "tcp", "127.0.0.1"), Port(53, 5353, "udp", "::1"))


def isolation(*ports: Port) -> Isolation:
    return Isolation(NET | USER, network=Network.USER, ports=ports)


def host(directory: Path, *programs: str) -> str:
    """A search path with these programs."""
    for name in programs:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return str(directory)


def test_pasta_goes_before_the_other(tmp_path: Path) -> None:
    found = write_outlet(isolation(), WEB, host(tmp_path, "slirp4netns", "pasta"))
    assert found["before"][0] == f"{tmp_path}/pasta"
    assert (found["before"][-1], found["after"], found["ports"]) == ("--netns", [], [])


def test_nothing_of_the_hosts_loopback_is_reached_unless_it_is_published(tmp_path: Path) -> None:
    words = write_outlet(isolation(), WEB, host(tmp_path, "pasta"))["before"]
    pairs = list(itertools.pairwise(words))
    for option in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        assert (option, "none") in pairs
    assert "--no-map-gw" in words
    assert ("--dns-forward", DNS) in pairs


def test_ports_as_the_program_and_the_minder_are_told_them(tmp_path: Path) -> None:
    found = write_outlet(isolation(*PORTS), WEB, host(tmp_path, "pasta"))
    words = found["before"]
    told = [word for word in itertools.pairwise(words) if word[0] in ("--tcp-ports", "--udp-ports")]
    assert told == [("--tcp-ports", "8080:80"), ("--tcp-ports", "127.0.0.1/81:81"), ("--udp-ports", "::1/5353:53")]
    assert found["ports"] == [
        ["tcp", "", 8080, "8080/TCP"],
        ["tcp", "127.0.0.1", 81, "127.0.0.1:81/TCP"],
        ["udp", "::1", 5353, "[::1]:5353/UDP"],
    ]


def test_the_other_one_publishes_nothing(tmp_path: Path) -> None:
    path = host(tmp_path, "slirp4netns")
    found = write_outlet(isolation(), WEB, path)
    assert (found["before"][0], found["after"]) == (f"{tmp_path}/slirp4netns", ["tap0"])
    assert "--disable-host-loopback" in found["before"]
    with pytest.raises(NoOutlet, match="ports are published with pasta"):
        write_outlet(isolation(*PORTS), WEB, path)


def test_without_either_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(NoOutlet, match="neither pasta nor slirp4netns") as refusal:
        write_outlet(isolation(), WEB, str(tmp_path))
    assert "apt install passt" in refusal.value.remedy


def test_roots_vassals_have_none(tmp_path: Path) -> None:
    with pytest.raises(NoOutlet, match="not for vassals that run as root"):
        write_outlet(isolation(), ROOT, host(tmp_path, "pasta"))


@pytest.mark.parametrize(
    ("report", "reason", "said"),
    [
        ({"port": "80/TCP", "errno": errno.EADDRINUSE}, "PortTaken", "port 80/TCP of the host is taken"),
        ({"port": "80/TCP", "errno": errno.EACCES}, "PortForbidden", "may not listen on port 80/TCP"),
        ({"port": "1.2.3.4:80/TCP", "errno": errno.EADDRNOTAVAIL}, "PortForbidden", "has no such address"),
        ({"port": "80/TCP", "errno": errno.ENOBUFS}, "PortForbidden", "can't be listened on: No buffer space"),
        ({"device": "/dev/net/tun", "errno": errno.EACCES}, "NoUserNetwork", "can't open /dev/net/tun"),
        ({"device": "/dev/net/tun", "errno": errno.ENOENT}, "NoUserNetwork", "can't open /dev/net/tun"),
        ({"ended": 3, "output": b"a\n\x1b[1m\nb\n"}, "UserNetworkFailed", "exited with code 3; its output: a | "),
        ({"ended": -9, "output": b""}, "UserNetworkFailed", "killed by SIGKILL; it printed nothing"),
        ({"late": True, "output": b"x"}, "UserNetworkFailed", "was not up in time; its output: x"),
        ({"late": True}, "UserNetworkFailed", "was not up in time"),
        ({"gone": True}, "UserNetworkFailed", "was ended"),
        ({"errno": errno.EPERM}, "UserNetworkFailed", "can't be set up: Operation not permitted"),
    ],
)
def test_what_failures_are_called(report: dict[str, Any], reason: str, said: str) -> None:
    found, message, _ = explain(isolation(), report, report.get("errno", 0))
    assert found == reason
    assert said in message
    assert "\x1b" not in message


def test_they_are_told_as_any_failure_of_a_launch() -> None:
    vassal = native(launch=Launch(("a",), isolation=isolation()))
    assert vassal.kind is Kind.NATIVE
    report = {"step": "network", "port": "80/TCP", "errno": errno.EADDRINUSE}
    failure = failures.explain(vassal, report, 1.0)
    assert (failure.step, failure.reason) == ("network", "PortTaken")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (orders.report({"ended": 1, "output": b"why\n"}), "its network program exited with code 1; its output: why"),
        (b"", "the process that minds its network was ended"),
        (b"\xff", "the process that minds its network was ended"),
        (b"[" * 5000, "the process that minds its network was ended"),
        (b"(1, 2)", "the process that minds its network was ended"),
        (b"{'ended': 'x'}", "its network program exited with code 255; it printed nothing"),
    ],
)
def test_the_minders_last_words_are_not_believed_blindly(data: bytes, said: str) -> None:
    assert _said(data) == said
