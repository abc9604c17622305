"""Every order of one Emperor, until nothing is left of what it made: processes ended, cgroup gone, log drained.

Used by `host` for launches and by `hooks` for hooks. Not in here: what an order says (`ordering`), how it reaches the
zygote (`launcher`), how processes are found (`containment`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable

from emperorctl.models.status import Note, NoteType
from emperorctl.reconciler.runtime.containment import Contained, Containment
from emperorctl.reconciler.runtime.limiting import cleared as groups_cleared
from emperorctl.reconciler.runtime.runs import Order

__all__ = ["OrderBook"]

_RETRIES = (0.005, 0.02, 0.1, 0.5, 2.0)
"""Seconds between looks at what has been killed but is not gone yet."""


class OrderBook:
    """`orders` holds all that are not finished. `contained_by` is set before the first is entered."""

    contained_by: Containment

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        instance: str,
        *,
        finished: Callable[[Order], None],
        note: Callable[[str, Note], None],
    ) -> None:
        self.orders: dict[int, Order] = {}
        self.mark = f"{instance}.{secrets.token_hex(4)}."
        self._loop = loop
        self._finished = finished
        self._note = note
        self._next = 1
        self._living = 0
        self._retired: list[Order] = []
        self._uncleared: set[Order] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Event | None = None

    def new(self, name: str) -> Order:
        """An order for a process of `name`; it counts once it is entered."""
        order_id, self._next = self._next, self._next + 1
        return Order(order_id, name)

    def enter(self, order: Order) -> None:
        """It is on its way: from now on there may be something to end."""
        self.orders[order.id] = order
        self._living += 1

    def cookie(self, order_id: int) -> str:
        """The mark that all processes of this order carry in their environment."""
        return f"{self.mark}{order_id}"

    def contained(self, order: Order) -> Contained:
        """The same order, as containment knows it."""
        return Contained(order.id, order.pid, self.cookie(order.id).encode(), order.retired)

    def kill(self, order: Order) -> None:
        """SIGKILL for everything of it that can be found at once."""
        self.contained_by.kill(self.contained(order))

    def retire(self, order: Order) -> None:
        """It has no main process (any more): end the rest."""
        order.retired = True
        order.pidfd = -1
        if not self._retired:
            # Soon, and for all at once: the listing of orphans may be long.
            self._loop.call_soon(self._clear_retired)
        self._retired.append(order)

    def when_cleared(self, order: Order, then: Callable[[], None]) -> None:
        """Call `then` once nothing is left of a retired order, or what is left has to be given up on."""
        if order.cleared:
            then()
        else:
            order.then = then

    def finish(self, order: Order) -> None:
        """Forget the order once nothing of it is left, its last words included."""
        logged = order.log is None or order.log.fd < 0
        if not (order.retired and order.cleared and logged) or order.id not in self.orders:
            return
        del self.orders[order.id]
        self._finished(order)

    async def all_gone(self, patience: float) -> None:
        """Wait until every process is gone, `patience` seconds at most; then look no more."""
        # Their logs are not waited for: what is in the pipes is taken later, as far as the disk is willing.
        self._all_gone = asyncio.Event()
        if self._living:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), patience)
        if self._looking is not None:
            self._looking.cancel()

    def _clear_retired(self) -> None:
        retired, self._retired = self._retired, []
        self._clear(retired)

    def _clear(self, orders: list[Order]) -> None:
        cleared = self.contained_by.clear([self.contained(order) for order in orders])
        for order in orders:
            if order.id in cleared and groups_cleared(order.groups):
                order.cleared = True
                self._living -= 1
                self._uncleared.discard(order)
                self.finish(order)
                _go_on(order)
                continue
            order.looks += 1
            if order.looks == len(_RETRIES) + 2:
                message = "processes that it left behind do not die of SIGKILL"
                self._note(order.name, Note(NoteType.WARNING, "Unkillable", message))
                _go_on(order)
            self._uncleared.add(order)
        if self._all_gone is not None and not self._living:
            self._all_gone.set()
        if self._uncleared and self._looking is None:
            pause = min(_RETRIES[min(order.looks, len(_RETRIES)) - 1] for order in self._uncleared)
            self._looking = self._loop.call_later(pause, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self._clear(list(self._uncleared))


def _go_on(order: Order) -> None:
    then, order.then = order.then, None
    if then is not None:
        then()
