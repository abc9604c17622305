"""Binary patches of uWSGI as manifests, and what is said about every other config of uWSGI."""

from __future__ import annotations

import pytest

from emperorctl.models.errors import ConfigError
from tests.models.converting import conversion, notes, only, read_back, spec

PATCH = "unprivileged-binary-patch-arg"


def test_everything_that_has_a_field() -> None:
    text = f"""
[uwsgi]
program = /srv/app/bin/serve
{PATCH} = %(program) --name %n --in %d --rate 5%% 'two words'
uid = www-data
gid = 33
umask = 027
env = GREETING=hello=world
env = FILE=%s
"""
    one = only(text, "shop.ini")
    assert one.manifest["spec"] == {
        "command": ["/srv/app/bin/serve", "--name", "shop", "--in", "%d", "--rate", "5%%", "two words"],
        "env": {"GREETING": "hello=world", "FILE": "shop.ini"},
        "workingDir": "%d",
        "user": "www-data",
        "group": "33",
        "umask": "027",
    }
    assert not one.notes
    launch = read_back(one.manifest).launch
    assert (launch.working_dir, launch.command[4]) == ("/vassals/", "/vassals/")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.ini", "[uwsgi]\n{key} = {value}\n"),
        ("a.xml", "<uwsgi><{key}>{value}</{key}></uwsgi>"),
        ("a.yml", "uwsgi:\n  {key}: {value}\n"),
        ("a.yaml", "uwsgi:\n  {key}: {value}\n"),
        ("a.json", '{{"uwsgi": {{"{key}": "{value}"}}}}'),
        ("a.js", '{{"uwsgi": {{"{key}": "{value}"}}}}'),
    ],
)
def test_every_format_and_every_kind(file: str, text: str) -> None:
    for key in ("privileged-binary-patch-arg", PATCH, "unprivileged_binary_patch_arg"):
        assert spec(text.format(key=key, value="/bin/x a b"), file)["command"] == ["/bin/x", "a", "b"]
    for key in ("privileged-binary-patch", "unprivileged-binary-patch"):
        one = only(text.format(key=key, value="/bin/x y"), file)
        assert one.manifest["spec"]["command"] == ["/bin/x y"]
        assert "its own arguments" in notes(one)[key]


def test_a_shell_where_one_is_needed() -> None:
    assert spec(f"[uwsgi]\n{PATCH} = x $HOME\n", "a.ini")["command"] == ["sh", "-c", "exec x $HOME"]
    assert spec(f"[uwsgi]\n{PATCH} = exec x 'a b'\n", "a.ini")["command"] == ["x", "a b"]
    assert spec(f"[uwsgi]\n{PATCH} = cd /\n", "a.ini")["command"] == ["sh", "-c", "cd /"]
    assert spec(f"[uwsgi]\n{PATCH} = a && b\n", "a.ini")["command"] == ["sh", "-c", "a && b"]
    assert spec(f"[uwsgi]\n{PATCH} = A=1 b\n", "a.ini")["command"] == ["sh", "-c", "A=1 b"]


def test_what_counts_for_uwsgi_alone_is_named() -> None:
    text = f"privileged-binary-patch-arg = x\nuid = 1\nchdir = /srv\nsocket = :1\nmaster = true\nenv = X\n{PATCH} = y"
    one = only(f"[uwsgi]\n{text}", "a.ini")
    assert one.manifest["spec"]["command"] == ["x"], "uWSGI comes to it first"
    assert set(notes(one)) == {PATCH, "uid", "chdir", "socket", "master", "env"}


def test_a_privileged_patch_runs_as_the_emperor() -> None:
    one = only("[uwsgi]\nprivileged-binary-patch-arg = x\nuid = www-data\n", "a.ini")
    assert "user" not in one.manifest["spec"]
    assert "before it counts" in notes(one)["uid"]


def test_references() -> None:
    text = f"[uwsgi]\nset-placeholder = a=1\n{PATCH} = x %(a) %(b) $(C) @(/f) %i %p\n"
    one = only(text, "a.ini")
    said = [note.why for note in one.notes]
    assert [why.split()[0] for why in said] == ["%(b)", "$(C)", "@(/f)", "%i", "%p"]
    assert read_back(one.manifest).launch.command[-1] == "x 1 %(b) $(C) @(/f) %i %p"


def test_every_other_config_is_left_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        conversion("[uwsgi]\nsocket = :1\n", "a.ini")
    assert "runs under emperorctl unchanged" in caught.value.problem.message
    assert "vassal directory" in caught.value.problem.remedy


def test_placeholders_that_lead_in_circles_or_explode() -> None:
    with pytest.raises(ConfigError, match=r"leads back to itself: a → b → a"):
        conversion(f"[uwsgi]\na = %(b)\nb = %(a)\n{PATCH} = x %(a)\n", "a.ini")
    levels = "".join(f"a{n + 1} = {f'%(a{n})' * 10}\n" for n in range(12))
    with pytest.raises(ConfigError, match=r"placeholders|longer than"):
        conversion(f"[uwsgi]\na0 =\n{levels}{PATCH} = x %(a12)\n", "a.ini")
    with pytest.raises(ConfigError, match="longer than"):
        conversion(f"[uwsgi]\na0 = {'y' * 9000}\n{levels}{PATCH} = x %(a2)\n", "a.ini")
