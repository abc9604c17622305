"""The sockets of on-demand vassals: bound, kept while processes come and go, and watched while nobody serves them.

Made by `host`, told by the controller, which calls nothing here but what the plan decided. A sleeping vassal costs one
descriptor and one reader in the event loop; a reader goes the moment it fires, so that a connection that waits can
never keep the loop busy. Nothing is ever accepted here. Not in here: how one socket is bound (`binding`), when a
vassal has to wake or sleep (the plan's part).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from emperorctl.models.errors import Problem
from emperorctl.models.names import printable
from emperorctl.models.observed import NOT_LISTENING, Listening
from emperorctl.models.sockets import Address, Family, OnDemand
from emperorctl.reconciler.clock import Clock
from emperorctl.reconciler.runtime.binding import Bound, CannotListen, Ids, bind, broken, retire, tend, waiting
from emperorctl.reconciler.runtime.connections import Census
from emperorctl.reconciler.runtime.holders import holder_of, name_of
from emperorctl.reconciler.runtime.identity import Identities, Identity, IdentityError

__all__ = ["KeptSockets"]

_LOOKUPS_MAX = 4
_SAME: Ids = (-1, -1)
_Owner = tuple[str | None, str | None]
_Key = tuple[str, str, int, str]


@dataclass(slots=True, eq=False)
class _Kept:
    """What is kept for one vassal; `turn` counts orders, so that an answer to an older one is known as such."""

    name: str
    want: OnDemand
    bound: dict[_Key, Bound] = field(default_factory=dict)
    turn: int = 0
    pending: bool = False
    problem: Problem | None = None
    failed_at: float = 0.0
    displaced: bool = False
    watching: bool = False
    connected_at: float | None = None
    open: int | None = None
    counted_at: float | None = None


class KeptSockets:
    """See `reconciler.host.Sockets`. `respect` raises OSError where descriptors run short."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        identities: Identities,
        clock: Clock,
        *,
        wake: Callable[[str], None],
        respect: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._identities = identities
        self._clock = clock
        self._wake = wake
        self._respect = respect
        self._kept: dict[str, _Kept] = {}
        self._owners: dict[_Key, str] = {}
        self._census = Census()
        self._lookups = 0

    # --- what the plan is told ---

    def listening(self, name: str) -> Listening:
        """The sockets of `name`, and whether a connection waits in one of them at this moment."""
        kept = self._kept.get(name)
        if kept is None:
            return NOT_LISTENING
        return Listening(
            on_demand=kept.want,
            demand=waiting(kept.bound.values()),
            watching=kept.watching,
            pending=kept.pending,
            problem=kept.problem,
            failed_at=kept.failed_at,
            displaced=kept.displaced,
            connected_at=kept.connected_at,
            open=kept.open,
            counted_at=kept.counted_at,
        )

    # --- what it orders ---

    def listen(self, name: str, on_demand: OnDemand) -> None:
        """Bind what is not bound yet, and once everything is there close what is not wanted any more."""
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = _Kept(name, on_demand)
        self._unwatch(kept)
        kept.want = on_demand
        kept.turn += 1
        kept.pending, kept.problem = True, None
        turn, ids = kept.turn, dict[_Owner, Ids]()
        owners = {_owner(address) for address in on_demand.addresses} - {(None, None)}
        if not owners:
            self._bind_all(kept, ids)
            return

        def answered(owner: _Owner, answer: Identity | IdentityError) -> None:
            if kept.turn != turn or kept.problem is not None:
                return
            if isinstance(answer, IdentityError):
                message = f"the owner of {on_demand} is not known: {answer.message}"
                self._fail(kept, Problem(answer.reason, printable(message), answer.remedy))
                return
            ids[owner] = (-1 if owner[0] is None else answer.uid, -1 if owner[1] is None else answer.gid)
            if len(ids) == len(owners):
                self._bind_all(kept, ids)

        for owner in owners:
            self._identities.ask(*owner, lambda answer, owner=owner: answered(owner, answer))  # type: ignore[misc]

    def hush(self, name: str) -> None:
        """Close everything that is kept for `name`, and remove the files of its Unix sockets."""
        kept = self._kept.pop(name, None)
        if kept is None:
            return
        kept.turn += 1
        self._unwatch(kept)
        for bound in kept.bound.values():
            self._retire(bound)

    def watch(self, name: str) -> None:
        """Wake `name` at the next connection, once."""
        kept = self._kept.get(name)
        if kept is None or kept.watching:
            return
        if any(map(broken, kept.bound.values())):
            # A program that got the socket has shut it down for everybody.
            self.listen(name, kept.want)
            return
        kept.watching = True
        for bound in kept.bound.values():
            self._loop.add_reader(bound.fd, self._arrived, kept)

    def count(self, name: str) -> None:
        """Count the open connections of `name`, and note when the next one arrives."""
        kept = self._kept.get(name)
        if kept is None:
            return
        kept.open = self._census.count(kept.want.addresses)
        kept.counted_at = self._clock.monotonic()
        self.watch(name)
        self._wake(name)

    # --- what the host asks ---

    def has(self, name: str, on_demand: OnDemand | None) -> bool:
        """Whether everything that a process needs to be started with is there."""
        kept = self._kept.get(name)
        return on_demand is None or (kept is not None and all(one.key in kept.bound for one in on_demand.addresses))

    def copies(self, name: str, on_demand: OnDemand | None) -> list[int]:
        """The sockets for a process that is about to be started, to be closed once it has them. Raises OSError."""
        if on_demand is None:
            return []
        kept = self._kept[name]
        self._unwatch(kept)
        kept.open = kept.counted_at = None
        fds: list[int] = []
        try:
            for address in on_demand.addresses:
                fds.append(os.dup(kept.bound[address.key].fd))
                # An earlier process may have left it otherwise: the flag belongs to the socket, not to the descriptor.
                os.set_blocking(fds[-1], True)
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def close(self) -> None:
        """Close everything."""
        for name in list(self._kept):
            self.hush(name)

    # --- within ---

    def _arrived(self, kept: _Kept) -> None:
        self._unwatch(kept)
        kept.connected_at = self._clock.monotonic()
        self._wake(kept.name)

    def _unwatch(self, kept: _Kept) -> None:
        if kept.watching:
            kept.watching = False
            for bound in kept.bound.values():
                self._loop.remove_reader(bound.fd)

    def _bind_all(self, kept: _Kept, ids: dict[_Owner, Ids]) -> None:
        wanted = {address.key for address in kept.want.addresses}
        refusals: list[tuple[Address, CannotListen]] = []
        kept.displaced = False
        for address in kept.want.addresses:
            overlapping = [
                key for key, old in kept.bound.items() if key not in wanted and address.overlaps(old.address)
            ]
            try:
                for key in overlapping:
                    self._retire(kept.bound.pop(key))
                self._bind_one(kept, address, ids.get(_owner(address), _SAME))
            except CannotListen as refusal:
                kept.displaced |= refusal.in_use and bool(overlapping)
                refusals.append((address, refusal))
        if refusals:
            self._explain(kept, *refusals[0])
            return
        for key in [key for key in kept.bound if key not in wanted]:
            self._retire(kept.bound.pop(key))
        kept.pending = False
        self._wake(kept.name)

    def _bind_one(self, kept: _Kept, address: Address, ids: Ids) -> None:
        bound = kept.bound.get(address.key)
        if bound is not None and broken(bound):
            self._retire(kept.bound.pop(address.key))
            bound = None
        if bound is not None:
            tend(bound, address, ids)
            return
        other = self._owners.get(address.key)
        if other is not None:
            message = f'{address} is the address of the vassal "{printable(other)}"'
            raise CannotListen(Problem("AddressInUse", message, "give one of them another address"))
        try:
            self._respect()
        except OSError as error:
            remedy = "raise the limit on open files (LimitNOFILE= of the Emperor's unit)"
            text = f"{address} can't be bound: {error.strerror}"
            raise CannotListen(Problem("CannotBind", text, remedy)) from None
        kept.bound[address.key] = bind(address, ids)
        self._owners[address.key] = kept.name

    def _retire(self, bound: Bound) -> None:
        self._owners.pop(bound.address.key, None)
        retire(bound)

    def _explain(self, kept: _Kept, address: Address, refusal: CannotListen) -> None:
        if not refusal.in_use or refusal.pid:
            self._fail(kept, _held_by(refusal.problem, refusal.pid))
            return
        if not address.port or self._lookups >= _LOOKUPS_MAX:
            self._fail(kept, refusal.problem)
            return
        turn = kept.turn

        def found(answer: asyncio.Future[int]) -> None:
            self._lookups -= 1
            if kept.turn == turn:
                pid = 0 if answer.cancelled() or answer.exception() is not None else answer.result()
                self._fail(kept, _held_by(refusal.problem, pid))

        self._lookups += 1
        self._loop.run_in_executor(None, holder_of, address).add_done_callback(found)

    def _fail(self, kept: _Kept, problem: Problem) -> None:
        kept.pending, kept.problem = False, problem
        kept.failed_at = self._clock.monotonic()
        self._wake(kept.name)


def _owner(address: Address) -> _Owner:
    return (address.owner, address.group) if address.family is Family.UNIX else (None, None)


def _held_by(problem: Problem, pid: int) -> Problem:
    if not pid:
        return problem
    who = "this Emperor itself" if pid == os.getpid() else f"process {pid}"
    name = name_of(pid)
    return replace(problem, message=f"{problem.message} by {who}" + (f" ({name})" if name else ""))
