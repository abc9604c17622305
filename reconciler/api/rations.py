"""How much of the control socket one user gets, so that nobody is kept waiting by another.

Kept by `server` for callers who don't reach everything: root, the Emperor's own user and the members of its group are
not counted. Times are the event loop's. Not in here: what is said to those who get no more (`app`, `server`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Allowance", "Ration", "Rations"]

_QUIET = 60.0
_KNOWN_MAX = 1024


@dataclass(frozen=True, slots=True)
class Allowance:
    """For one uid: open `connections`, `watches` among them (logs that are followed, too), and requests: `burst` at
    once, `rate` a second for longer."""

    connections: int = 32
    watches: int = 16
    burst: float = 100.0
    rate: float = 50.0


@dataclass(slots=True)
class _Account:
    connections: int = 0
    watches: int = 0
    tokens: float = 0.0
    counted: float = 0.0
    complained: float = float("-inf")
    kept_back: int = 0


class Ration:
    """The watches of one user."""

    __slots__ = ("_account", "_most")

    def __init__(self, account: _Account | None, most: int) -> None:
        self._account = account
        self._most = most

    def take(self) -> bool:
        """One more, if there may be."""
        if self._account is None:
            return True
        if self._account.watches >= self._most:
            return False
        self._account.watches += 1
        return True

    def give_back(self) -> None:
        """One less."""
        if self._account is not None:
            self._account.watches -= 1


class Rations:
    """All accounts, by uid; those that are at rest are forgotten when there are many."""

    def __init__(self, allowance: Allowance, time: Callable[[], float]) -> None:
        self._allowance = allowance
        self._time = time
        self._accounts: dict[int, _Account] = {}

    def connect(self, uid: int) -> bool:
        """One more connection, if there may be; then `disconnect` follows."""
        account = self._account(uid)
        if account.connections >= self._allowance.connections:
            return False
        account.connections += 1
        return True

    def disconnect(self, uid: int) -> None:
        """One less."""
        self._account(uid).connections -= 1

    def request(self, uid: int, cost: float = 1.0) -> bool:
        """One more request, if it may be; one of such a `cost` counts as so many."""
        account, now = self._account(uid), self._time()
        account.tokens = min(self._allowance.burst, account.tokens + (now - account.counted) * self._allowance.rate)
        account.counted = now
        if account.tokens < cost:
            return False
        account.tokens -= cost
        return True

    def of(self, uid: int | None) -> Ration:
        """The watches of this user; None has as many as he likes."""
        return Ration(None if uid is None else self._account(uid), self._allowance.watches)

    def complaint(self, uid: int) -> int | None:
        """Whether a line about this user may go into the log: how many were kept back since the last; None if not."""
        account, now = self._account(uid), self._time()
        if now - account.complained < _QUIET:
            account.kept_back += 1
            return None
        account.complained = now
        kept_back, account.kept_back = account.kept_back, 0
        return kept_back

    def _account(self, uid: int) -> _Account:
        account = self._accounts.get(uid)
        if account is None:
            if len(self._accounts) >= _KNOWN_MAX:
                self._forget()
            account = self._accounts[uid] = _Account(tokens=self._allowance.burst, counted=self._time())
        return account

    def _forget(self) -> None:
        now = self._time()
        for uid, one in list(self._accounts.items()):
            rested = one.tokens + (now - one.counted) * self._allowance.rate >= self._allowance.burst
            if not one.connections and not one.watches and rested and now - one.complained >= _QUIET:
                del self._accounts[uid]
