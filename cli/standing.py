"""What an Emperor has to be before it reigns: its directories, its user, its rights.

Called by `reign`, once, while it may still do what only root can. What is said here is said before anything runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from emperorctl.models.capabilities import CAPABILITIES
from emperorctl.models.errors import UserError
from emperorctl.models.status import Note, NoteType
from emperorctl.reconciler.runtime.lock import instance_of
from emperorctl.reconciler.runtime.ourselves import may_change_users
from emperorctl.reconciler.runtime.spawn import ZygoteHandle, spawn_zygote

if TYPE_CHECKING:
    from emperorctl.cli.reign import Orders
    from emperorctl.reconciler.runtime.paranoia import Renunciation

__all__ = ["become_tyrant", "make_private", "renounce"]


def renounce(orders: Orders, wanted: Renunciation, zygote: ZygoteHandle) -> list[Note]:
    """Go on as another user: all that only root can do is done first. Raises UserError."""
    from emperorctl.reconciler.runtime.paranoia import divide, give, require_readable, shortcomings
    from emperorctl.reconciler.runtime.paranoia import renounce as give_up

    require_readable(wanted)
    give(os.path.dirname(orders.socket), wanted, option="--socket", ours=(os.path.basename(orders.socket),))
    give(orders.log_dir, wanted, option="--log-dir", ours=(".",))
    give(orders.state_dir, wanted, option="--state-dir", ours=("state.json", os.path.basename(orders.log_dir)))
    zygote.nursery = nursery = spawn_zygote(zygote.nofile)
    ended = divide(instance_of(orders.socket), wanted, frozenset({os.getpid(), zygote.pid, nursery.pid}))
    give_up(wanted, (zygote, nursery))
    notes = [one.note() for one in ended]
    if CAPABILITIES["setuid"] in wanted.kept and CAPABILITIES["kill"] not in wanted.kept:
        text = "without the capability kill, vassals of other users get no signals: they are killed, not asked to stop"
        notes.append(Note(NoteType.WARNING, "NoKill", f"{text} (--cap …,kill)"))
    return [*notes, *shortcomings(tyrant=orders.settings.emperor_tyrant)]


def become_tyrant(zygote: ZygoteHandle) -> None:
    """See that tyrant mode is possible. Raises UserError."""
    if not may_change_users(zygote.pid):
        raise UserError(
            "--emperor-tyrant needs the right to change users: start the Emperor as root, or with the capabilities"
            " setuid and setgid"
        )
    if os.geteuid() == 0:
        # Rights that are lent for a moment would come on top of what these groups may.
        os.setgroups([])


def make_private(directory: str, owners: set[int]) -> None:
    """Create a directory for this user alone; one that is there has to belong to one of `owners`. Raises UserError."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.lstat(directory)
    except OSError as error:
        raise UserError(f"can't make {directory}: {error.strerror} (choose another place with --state-dir)") from None
    if found.st_uid not in owners or found.st_mode & 0o022:
        raise UserError(f"{directory} can be written by others: chown it to the Emperor's user and chmod it 700")
