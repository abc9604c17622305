"""What the reconciler needs of the machine, as one protocol.

Real: `reconciler.runtime.host.LocalHost`. Fake: `tests.fakes.host.FakeHost`. Every call returns at once and
none of them waits for its effect; what comes of it is recorded as a fact, and the name is woken.
"""

from __future__ import annotations

from typing import Protocol

from emperorctl.models.limits import Limits
from emperorctl.models.observed import Listening, Observed
from emperorctl.models.sockets import OnDemand
from emperorctl.models.vassal import Stop, Vassal

__all__ = ["Host", "Sockets"]


class Sockets(Protocol):
    """The sockets that are kept for on-demand vassals. Real: `runtime.sockets.KeptSockets`."""

    def listening(self, name: str) -> Listening:
        """The sockets of `name`, and whether a connection waits; `NOT_LISTENING` where there are none."""
        ...

    def listen(self, name: str, on_demand: OnDemand) -> None:
        """Bind these. Sockets that are bound already stay; once all are, those that are not wanted any more are
        closed."""
        ...

    def hush(self, name: str) -> None:
        """Close all of them, and remove their files."""
        ...

    def watch(self, name: str) -> None:
        """Wake `name` when the next connection arrives, once."""
        ...

    def count(self, name: str) -> None:
        """Count the open connections of `name`; the answer wakes it."""
        ...


class Host(Protocol):
    """The processes of all vassals on this machine, and in `sockets` what those started on demand are reached by."""

    @property
    def sockets(self) -> Sockets:
        """See there."""
        ...

    def observe(self, name: str) -> Observed:
        """The latest launch of `name`; `NEVER_LAUNCHED` where there was none."""
        ...

    def launch(self, vassal: Vassal, number: int, generation: int, *, index: int = 0, urgent: bool = False) -> None:
        """Order launch `number`, `urgent` ahead of all that wait; the process is told its `index`. From now on
        `observe` says Launching, later Alive or Failed."""
        ...

    def stop(self, name: str, number: int, how: Stop) -> None:
        """Ask that launch to stop, once its preStop hook (if it has one) is done or its grace period is over."""
        ...

    def signal(self, name: str, number: int, signum: int) -> None:
        """Send a signal to the main process of that launch (SIGCONT follows a signal that ends), if it still lives."""
        ...

    def tell(self, name: str, number: int, byte: int) -> bool:
        """Send one byte of the emperor protocol; False when the vassal has closed its end or reads nothing."""
        ...

    def configure(self, name: str, number: int, config: bytes) -> None:
        """Whenever the process of that launch asks for its config from now on, it is given this one."""
        ...

    def limit(self, name: str, number: int, limits: Limits) -> None:
        """Hold that launch to other limits from now on; `observe` says which of them can't be enforced."""
        ...

    def end(self, name: str, number: int) -> None:
        """SIGKILL for the main process of that launch and everything it started."""
        ...

    def forget(self, name: str) -> None:
        """Drop what is known of a name whose process is gone; its logs stay."""
        ...
