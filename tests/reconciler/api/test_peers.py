from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from emperorctl.models.errors import UserError
from emperorctl.reconciler.api import peers
from emperorctl.reconciler.api.listener import Listener, control_place
from emperorctl.reconciler.api.peers import EVERYTHING, Admission, Peer, Reach, peer_of
from emperorctl.reconciler.runtime.overflow import Overflow

MASTERS = frozenset({0, 500})


@pytest.mark.parametrize(
    ("gate", "peer", "reach"),
    [
        (Admission(masters=MASTERS), Peer(1, 0, 0), EVERYTHING),
        (Admission(masters=MASTERS), Peer(1, 500, 7), EVERYTHING),
        (Admission(masters=MASTERS), Peer(1, 1001, 0, frozenset({0})), None),
        (Admission(masters=MASTERS), None, None),
        (Admission(group=70, masters=MASTERS), Peer(1, 1001, 70), EVERYTHING),
        (Admission(group=70, masters=MASTERS), Peer(1, 1001, 1001, frozenset({4, 70})), EVERYTHING),
        (Admission(group=70, masters=MASTERS), Peer(1, 70, 71, frozenset({7})), None),
        (Admission(group=0, masters=MASTERS), Peer(1, 1001, 1001), None),
        (Admission(tyrant=True, masters=MASTERS), Peer(1, 1001, 0), Reach(1001)),
        (Admission(tyrant=True, masters=MASTERS), Peer(1, 500, 0), EVERYTHING),
        (Admission(tyrant=True, masters=MASTERS), None, None),
        (Admission(tyrant=True, group=70, masters=MASTERS), Peer(1, 1001, 70), EVERYTHING),
        (Admission(tyrant=True, group=70, masters=MASTERS), Peer(1, 1002, 72), Reach(1002)),
        # In a user namespace that maps not everybody, the one id that all others look like is nobody's.
        (Admission(tyrant=True, masters=MASTERS, overflow=Overflow(65534, 65533)), Peer(1, 65534, 7), None),
        (Admission(tyrant=True, masters=MASTERS, overflow=Overflow(65534, 65533)), Peer(1, 65533, 7), Reach(65533)),
        (Admission(masters=frozenset({0, 65534}), overflow=Overflow(65534, 65534)), Peer(1, 65534, 0), None),
        (Admission(group=70, masters=MASTERS, overflow=Overflow(65534, 70)), Peer(1, 7, 70, frozenset({70})), None),
        (Admission(group=71, masters=MASTERS, overflow=Overflow(65534, 70)), Peer(1, 7, 71), EVERYTHING),
        (Admission(tyrant=True, masters=MASTERS, overflow=Overflow()), Peer(1, 65534, 7), Reach(65534)),
    ],
)
def test_how_far_somebody_reaches(gate: Admission, peer: Peer | None, reach: Reach | None) -> None:
    assert gate.reach(peer) == reach


def test_the_masters_are_root_and_our_own_user() -> None:
    assert Admission().masters == {0, os.geteuid()}


def test_the_supplementary_groups_of_a_peer_are_known() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert peer is not None
    assert peer.groups == frozenset(os.getgroups())
    assert str(peer) == f"uid {os.geteuid()} (pid {os.getpid()})"


def test_who_has_more_groups_than_can_be_told_has_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_GROUPS_ROOM", 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    ("gate", "mode"),
    [
        (Admission(), 0o600),
        (Admission(group=os.getegid()), 0o660),
        (Admission(tyrant=True), 0o666),
        (Admission(tyrant=True, group=os.getegid()), 0o666),
    ],
)
def test_the_sockets_mode(tmp_path: Path, gate: Admission, mode: int) -> None:
    path = tmp_path / "e.sock"
    listener = Listener(control_place(str(path), gate), lambda connection: connection.close())
    before = os.umask(0)
    try:
        listener.open()
        found = path.lstat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (mode, os.getegid())
    finally:
        os.umask(before)
        listener.close()


def test_a_group_that_can_not_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    listener = Listener(control_place(str(tmp_path / "e.sock"), Admission(group=12345)), lambda connection: None)
    with pytest.raises(UserError, match=r"may not give .* to group 12345: its user is no member \(--socket-group\)"):
        listener.open()


def test_what_was_put_in_the_sockets_place_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, victim = tmp_path / "e.sock", tmp_path / "victim"
    victim.write_text("")
    victim.chmod(0o600)
    umask, calls = os.umask, []

    def exchange(mask: int) -> int:
        calls.append(mask)
        if len(calls) == 2:  # it is bound, and not opened up yet
            path.unlink()
            os.link(victim, path)
        return umask(mask)

    monkeypatch.setattr(os, "umask", exchange)
    listener = Listener(control_place(str(path), Admission(tyrant=True)), lambda connection: None)
    with pytest.raises(UserError, match="was replaced by somebody else"):
        listener.open()
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
