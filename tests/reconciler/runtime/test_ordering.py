"""A launch written down."""

from __future__ import annotations

import marshal
from dataclasses import replace

import pytest

from emperorctl.models.patches import Patch
from emperorctl.models.vassal import Kind, Launch, Rlimit, Vassal
from emperorctl.reconciler.runtime.identity import Identity
from emperorctl.reconciler.runtime.ordering import ORDER_MAX, Unusable, Where, write_order

OWN = Identity(0, 0, (), "root", "/root", "/bin/sh", switch=False)
WEB = Identity(33, 34, (34, 35), "web", "/", "/bin/sh", switch=True)
HERE = Where(7, ("out", "err"), "/cg/7", "/logs/a.log")


def vassal(*command: str, **more: object) -> Vassal:
    return Vassal("a", Kind.NATIVE, "s", "f", Launch(command, **more))  # type: ignore[arg-type]


def test_everything_is_in_it() -> None:
    launch = vassal("a", "b", working_dir="/w", umask=0o22, nice=3, rlimits=(Rlimit("nofile", 5, None),))
    order = marshal.loads(write_order(launch, {"X": "1"}, WEB, HERE))["launch"]
    assert (order["id"], order["argv"], order["env"], order["fds"]) == (7, ["a", "b"], {"X": "1"}, ["out", "err"])
    assert (order["cgroup"], order["log"], order["cwd"]) == ("/cg/7", "/logs/a.log", "/w")
    assert (order["umask"], order["nice"], order["ids"]) == (0o22, 3, [33, 34, [34, 35]])
    assert [(name, soft, hard) for name, _, soft, hard in order["rlimits"]] == [("nofile", 5, -1)]


def test_the_emperors_own_identity_is_no_switch() -> None:
    assert "ids" not in marshal.loads(write_order(vassal("a"), {}, OWN, HERE))["launch"]


@pytest.mark.parametrize(
    ("launch", "env", "reason"),
    [
        (vassal("a\0"), {}, "NulCharacter"),
        (vassal("a"), {"X": "\0"}, "NulCharacter"),
        (vassal("a", "x" * ORDER_MAX), {}, "TooLong"),
        (vassal("a", rlimits=(Rlimit("none", 1, 1),)), {}, "UnknownLimit"),
    ],
)
def test_what_no_process_can_be_made_from(launch: Vassal, env: dict[str, str], reason: str) -> None:
    with pytest.raises(Unusable) as unusable:
        write_order(launch, env, OWN, HERE)
    assert unusable.value.reason == reason


def test_a_backslash_is_no_nul() -> None:
    assert write_order(vassal("a", "\\u0000"), {}, OWN, HERE)


def test_programs_in_turn_and_a_patch() -> None:
    plain = marshal.loads(write_order(vassal("uwsgi", "--ini", "a.ini"), {}, OWN, HERE))["launch"]
    assert not {"override", "fallback", "patch"} & set(plain)
    patch = Patch(
        "serve $(HOME) $(PORT) $(id -u)",
        shell=True,
        env=(("PORT", "80"), ("X", "$(HOME)/x")),
        working_dir="$(HOME)",
        as_user=("echo $(PORT)",),
        capabilities=(10,),
    )
    launch = vassal("uwsgi", "--ini", "a.ini", override=("/w/one",), fallback=("two",), patch=patch)
    order = marshal.loads(write_order(launch, {"HOME": "/h"}, OWN, replace(HERE, patched=WEB)))["launch"]
    assert (order["argv"], order["override"], order["fallback"]) == (["uwsgi", "--ini", "a.ini"], ["/w/one"], ["two"])
    assert "ids" not in order
    assert order["patch"] == {
        "argv": ["/bin/sh", "-c", "serve /h 80 $(id -u)"],
        "env": {"PORT": "80", "X": "/h/x"},
        "cwd": "/h",
        "umask": None,
        "unshare": 0,
        "capabilities": (10,),
        "ids": [33, 34, [34, 35]],
        "as_root": [],
        "as_user": ["echo 80"],
    }
