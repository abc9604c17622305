"""Binary patches: what a config asks for, and when the Emperor can do it without uWSGI."""

from __future__ import annotations

import pytest

from emperorctl.models.capabilities import CAPABILITIES
from emperorctl.models.magic import Place
from emperorctl.models.patches import Patch, patch_of

PLACE = Place(name="a.ini", path="/srv/vassals/a.ini", vassals_dir="/srv/vassals")
ARG = ("unprivileged-binary-patch-arg", "serve --port 80")


def test_most_configs_have_none() -> None:
    assert patch_of([("master", "true"), ("uid", "www")], PLACE) is None
    assert patch_of([], PLACE) is None


def test_the_program_with_all_that_may_stand_beside_it() -> None:
    options = [
        ("uid", "1000"),
        ("gid", "www"),
        ("chdir", "/srv"),
        ("env", "A=1"),
        ("env", "B=x=y"),
        ("umask", "022"),
        ("unshare", "net,pid"),
        ("unshare", "fs"),
        ("cap", "net_bind_service,0"),
        ("exec-as-root", "one"),
        ("exec-as-root", "two"),
        ("exec-as-user", "three"),
        ("unprivileged-binary-patch", "/usr/bin/server"),
    ]
    assert patch_of(options, PLACE) == Patch(
        program="/usr/bin/server",
        working_dir="/srv",
        env=(("A", "1"), ("B", "x=y")),
        umask=0o022,
        user="1000",
        group="www",
        unshare=0x4000_0000 | 0x2000_0000 | 0x0002_0000,
        capabilities=(CAPABILITIES["chown"], CAPABILITIES["net_bind_service"]),
        as_root=("one", "two"),
        as_user=("three",),
    )


def test_before_privileges_are_dropped_nothing_that_drops_them_counts() -> None:
    options = [("uid", "www"), ("exec-as-root", "x"), ("unshare", "net"), ("privileged-binary-patch-arg", "nginx")]
    assert patch_of(options, PLACE) == Patch("nginx", shell=True, privileged=True)


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ([("unprivileged-binary-patch", "serve")], ["serve", "--ini", "a.ini"]),
        ([ARG], ["/bin/sh", "-c", "serve --port 80"]),
        ([ARG, ("privileged-binary-patch", "first")], ["first", "--ini", "a.ini"]),
        ([ARG, ("unprivileged-binary-patch", "second")], ["second", "--ini", "a.ini"]),
        ([ARG, (ARG[0], "the last one")], ["/bin/sh", "-c", "the last one"]),
    ],
)
def test_the_arguments(options: list[tuple[str, str]], argv: list[str]) -> None:
    patch = patch_of(options, PLACE)
    assert isinstance(patch, Patch)
    assert patch.argv(("uwsgi", "--ini", "a.ini")) == argv


def test_magic_variables_and_placeholders() -> None:
    options = [("set-placeholder", "port=80"), ("set-ph", "who=%n"), (ARG[0], "serve %n %(port) %(who) 100%% %d")]
    patch = patch_of(options, PLACE)
    assert isinstance(patch, Patch)
    assert patch.program == "serve a 80 %n 100% /srv/vassals/"


@pytest.mark.parametrize(
    ("option", "what"),
    [
        (("master", "true"), "the option master"),
        (("http-socket", ":80"), "the option http-socket"),
        (("unshare", "net,user"), "unshare = user"),
        (("unshare", "everything"), "unshare = everything"),
        (("cap", "fly"), "cap = fly"),
        (("cap", "99999"), "cap = 99999"),
        (("umask", "9"), "umask = 9"),
        (("umask", "07777"), "umask = 07777"),
        (("env", "LONELY"), "env = LONELY"),
        (("uid", ""), "uid has no value"),
        (("chdir", "%(where)"), "the placeholder %(where)"),
        (("chdir", "@(/etc/where)"), "reads files"),
        (("chdir", "%q"), "%q"),
        (("exec-as-user", "a\0b"), "NUL"),
        (("exec-as-user", "\ud800"), "half of a character"),
    ],
)
def test_what_takes_uwsgi(option: tuple[str, str], what: str) -> None:
    found = patch_of([option, ARG], PLACE)
    assert isinstance(found, str)
    assert what in found


def test_many_unknown_options_are_not_all_listed() -> None:
    found = patch_of([ARG, *((f"option{number}", "1") for number in range(1000))], PLACE)
    assert isinstance(found, str)
    assert len(found) < 300


def test_capabilities_have_the_numbers_of_the_kernel() -> None:
    assert (CAPABILITIES["chown"], CAPABILITIES["setpcap"], CAPABILITIES["sys_admin"]) == (0, 8, 21)
    assert (CAPABILITIES["syslog"], CAPABILITIES["checkpoint_restore"]) == (34, 40)
