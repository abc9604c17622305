"""What the host keeps of one launch: the run, and the order that made its process.

Used by `host` alone. Not in here: anything that decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emperorctl.models.limits import NO_LIMITS, Limits
from emperorctl.models.observed import NEVER_LAUNCHED, Signs
from emperorctl.models.vassal import Vassal
from emperorctl.reconciler.runtime.configpipe import ConfigPipe
from emperorctl.reconciler.runtime.environment import Numbers
from emperorctl.reconciler.runtime.identity import Identity, Key
from emperorctl.reconciler.runtime.logs import LogPipe
from emperorctl.reconciler.runtime.notify import NotifySocket
from emperorctl.reconciler.runtime.outlets import Outlet
from emperorctl.reconciler.runtime.protocol import Channel

if TYPE_CHECKING:
    from emperorctl.reconciler.runtime.hooks import Running

__all__ = ["Order", "Run", "identities"]


@dataclass(slots=True, eq=False)
class Order:
    """What one order made, until nothing of it is left: its processes (by containment) and its log pipe.

    `retired`: there is no main process any more. `cleared`: nor any other. `then` waits for that. `limits` are those
    that it is held to, `groups` its cgroups besides the one that contains it, `unlimited` why it is not held to all.
    """

    id: int
    name: str
    log: LogPipe | None = None
    pid: int = 0
    pidfd: int = -1
    retired: bool = False
    cleared: bool = False
    looks: int = 0
    then: Callable[[], None] | None = None
    limits: Limits = NO_LIMITS
    groups: tuple[str, ...] = ()
    unlimited: str = ""


@dataclass(slots=True, eq=False)
class Run:
    """One launch of a vassal. It has an order once its turn has come, and another if a zygote lost the first.

    `signs` is what its process has said, over the channel and the notification socket alike. `hook` is the hook that is
    being run for it, `next` what comes after that. `begun`: something of it was started, and has to be tidied up after.
    `over`: its process is gone, or never came. `unhooked`: no more hooks. `patched`: whom a binary patch
    changes to. `outlet` tells of its way out of a network of its own, `offline` is why it has lost that.
    """

    name: str
    number: int
    generation: int
    vassal: Vassal
    urgent: bool = False
    identity: Identity | None = None
    order: Order | None = None
    pid: int = 0
    pidfd: int = -1
    signs: Signs = NEVER_LAUNCHED.signs
    patched: Identity | None = None
    channel: Channel | None = None
    notify: NotifySocket | None = None
    config: ConfigPipe | None = None
    condemned: bool = False
    hook: Running | None = None
    next: Callable[[], None] | None = None
    begun: bool = False
    over: bool = False
    unhooked: bool = False
    index: int = 0
    outlet: Outlet | None = None
    offline: str = ""

    @property
    def numbers(self) -> Numbers:
        """What its processes are told of it."""
        return Numbers(self.generation, self.index)

    def asked(self) -> None:
        """See `protocol.Speaker`."""
        if self.config is not None:
            self.config.push()

    def hang_up(self) -> None:
        """Close all ways of talking with its process, last words heard."""
        for way in (self.channel, self.notify, self.config, self.outlet):
            if way is not None:
                way.close()
        self.channel = self.notify = self.config = self.outlet = None


def identities(vassal: Vassal) -> tuple[Key, ...]:
    """The users and groups that a launch has to know: its own, and those that a binary patch changes to."""
    launch = vassal.launch
    own: Key = (launch.user, launch.group, True) if launch.init_groups else (launch.user, launch.group)
    patch = launch.patch
    return (own,) if patch is None or (patch.user is None and patch.group is None) else (own, (patch.user, patch.group))
