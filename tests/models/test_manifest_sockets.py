"""`spec.onDemand`: what it may say, and how its mistakes are told."""

from __future__ import annotations

import pytest

from emperorctl.models.sockets import Address, Family, OnDemand, Passing
from tests.models.test_manifest import SPEC, vassal, wrong


def on_demand(text: str) -> str:
    return f"{SPEC}  onDemand: {text}\n"


def test_all_of_it() -> None:
    found = vassal(
        on_demand(
            '{addresses: ["127.0.0.1:80", {address: /run/%n.sock, mode: "660", owner: www, group: 33, name: web}],'
            " backlog: 7, idleTimeout: 5m}"
        )
    )
    assert found.on_demand == OnDemand(
        (
            Address(Family.INET, "127.0.0.1", 80, backlog=7),
            Address(Family.UNIX, path="/run/shop.sock", mode=0o660, owner="www", group="33", backlog=7, name="web"),
        ),
        Passing.LISTEN_FDS,
        300.0,
    )
    assert found.spec["onDemand"] == {
        "addresses": [
            "127.0.0.1:80",
            {"address": "/run/shop.sock", "mode": "660", "owner": "www", "group": "33", "name": "web"},
        ],
        "passing": "listenFds",
        "backlog": 7,
        "idleTimeout": "5m",
    }
    assert found.launch == vassal(SPEC).launch, "a changed socket is no changed launch"


def test_by_default_it_always_runs() -> None:
    assert vassal(SPEC).on_demand is None


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ('{addresses: ["example.org:80"]}', "addresses", "no IP address"),
        ('{addresses: ["127.0.0.1:0"]}', "addresses", "port from 1 to 65535"),
        ("{addresses: [x.sock]}", "addresses", "absolute path"),
        ("{addresses: [/" + "x" * 107 + "]}", "addresses", "108 bytes; the kernel takes 107"),
        ("{addresses: [8000]}", "addresses", "expected"),
        ('{addresses: ":80"}', "addresses", "list"),
        ("{addresses: []}", "addresses", ""),
        ("{}", "addresses", "missing"),
        ('{addresses: [":80", "*:80"]}', "addresses", "given twice"),
        ('{addresses: [":80", ":81"], passing: stdin}', "passing", "exactly one address"),
        ('{addresses: [":80"], passing: fd0}', "passing", ""),
        ('{addresses: [{address: ":80", mode: "600"}]}', "mode", "only for a Unix socket"),
        ('{addresses: [{address: "@x", owner: www}]}', "owner", "only for a Unix socket"),
        ("{addresses: [{address: /run/x, mode: 600}]}", "mode", "octal number in quotes"),
        ('{addresses: [{address: ":80", name: "a:b"}]}', "name", "without a colon"),
        ('{addresses: [":80"], idleTimeout: 100ms}', "idleTimeout", "at least 1s"),
        ('{addresses: [":80"], idleTimeout: 30}', "idleTimeout", "duration"),
        ('{addresses: [":80"], backlog: 0}', "backlog", ""),
        ('{addresses: [":80"], idleTimout: 5s}', "idleTimout", "idleTimeout"),
    ],
)
def test_mistakes(text: str, field: str, words: str) -> None:
    problem = wrong(on_demand(text))
    assert field in problem.field
    assert words in problem.message + problem.remedy
    assert problem.line is not None


@pytest.mark.parametrize("name", ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"])
def test_the_variables_of_the_sockets_are_the_emperors(name: str) -> None:
    assert "set by the Emperor" in wrong(on_demand('{addresses: [":80"]}') + f"  env: {{{name}: x}}\n").message
    assert vassal(f"{SPEC}  env: {{{name}: x}}\n").launch.env == ((name, "x"),)
