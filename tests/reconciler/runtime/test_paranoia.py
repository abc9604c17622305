"""Whom an Emperor is to become, and what it gives away for that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emperorctl.models.capabilities import CAPABILITIES
from emperorctl.models.errors import UserError
from emperorctl.reconciler.runtime.paranoia import EMPERORS_OWN, Renunciation, give, renunciation, who

WANTED = Renunciation(60301, 60302, (60302,), (), "emperor")


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getegid", lambda: 0)


def test_nothing_asked_is_nothing_changed() -> None:
    assert renunciation(None, None, None) is None
    assert renunciation("root", None, None) is None


def test_a_number_that_nobody_has_gets_a_group_of_its_own() -> None:
    found = renunciation("60301", None, "setuid, CAP_KILL,kill")
    assert found == Renunciation(60301, 60301, (60301,), (CAPABILITIES["kill"], CAPABILITIES["setuid"]), "60301")
    other = renunciation("60301", "60302", None)
    assert other is not None and (other.gid, other.groups, other.kept) == (60302, (60302,), ())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no-such-user", None, None), '--uid: there is no user "no-such-user"'),
        (("4294967295", None, None), "is no user's id"),
        (("60301", "no-such-group", None), '--gid: there is no group "no-such-group"'),
        (("60301", None, "setuid,flying"), '"flying" is no capability'),
        ((None, None, "kill"), "--cap: it is what --uid keeps"),
        ((None, "60301", None), "root with another group is still root"),
    ],
)
def test_every_mistake_is_told(arguments: tuple[str | None, str | None, str | None], words: str) -> None:
    with pytest.raises(UserError, match="--") as refused:
        renunciation(*arguments)
    assert words in str(refused.value)


def test_only_root_can_become_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="not started as root"):
        renunciation("60301", None, None)


def test_what_makes_other_users_processes_is_not_the_emperors_own() -> None:
    assert CAPABILITIES.keys() >= EMPERORS_OWN
    assert not EMPERORS_OWN & {"setuid", "setgid", "setpcap", "sys_admin", "sys_chroot", "net_admin", "sys_module"}


@pytest.mark.skipif(not os.access("/root", os.W_OK), reason="needs root: gives directories away")
def test_only_what_is_empty_or_ours_is_given_away(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir(mode=0o755)
    (place / "s.lock").write_text("")
    (place / "link").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"chown -R emperor .*run, or choose another place with --socket"):
        give(str(place), WANTED, option="--socket", ours=("s",))
    assert place.stat().st_uid == 0
    (place / "link").unlink()
    give(str(place), WANTED, option="--socket", ours=("s",))
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (place, place / "s.lock")} == {(60301, 60302)}
    (place / "whatever").write_text("")
    give(str(place), WANTED, option="--socket")
    assert (place / "whatever").stat().st_uid == 0
    with pytest.raises(UserError, match="does not belong to emperor"):
        give("/etc", WANTED, option="--state-dir")


def test_who_it_is() -> None:
    told = who(os.getpid())
    assert told["uid"] == 0 and told["zygote"]["capabilities"] == told["capabilities"]
