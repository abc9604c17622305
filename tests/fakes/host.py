"""A machine made of values: records what it is told to do, and lets a test decide what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from emperorctl.models.errors import Problem
from emperorctl.models.limits import Limits
from emperorctl.models.observed import (
    NEVER_LAUNCHED,
    NOT_LISTENING,
    Exit,
    LaunchFailure,
    LaunchState,
    Listening,
    Observed,
    Process,
    Signs,
)
from emperorctl.models.sockets import OnDemand
from emperorctl.models.vassal import Stop, StopMethod, Vassal

__all__ = ["FakeHost", "FakeSockets"]


@dataclass
class FakeSockets:
    """Keeps the contract of `reconciler.host.Sockets`; every address can be had unless it is in `taken`."""

    wake: Callable[[str], None] = lambda name: None
    calls: list[tuple[object, ...]] = field(default_factory=list)
    kept: dict[str, Listening] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    open: dict[str, int | None] = field(default_factory=dict)
    now: Callable[[], float] = lambda: 0.0

    def listening(self, name: str) -> Listening:
        return self.kept.get(name, NOT_LISTENING)

    def listen(self, name: str, on_demand: OnDemand) -> None:
        self.calls.append(("listen", name, str(on_demand)))
        before, problem = self.listening(name), None
        if any(str(address) in self.taken for address in on_demand.addresses):
            problem = Problem("AddressInUse", f"{on_demand} is in use by process 42 (other)")
        demand = before.demand and problem is None
        self.kept[name] = Listening(on_demand, demand=demand, problem=problem, failed_at=self.now())
        self.wake(name)

    def hush(self, name: str) -> None:
        self.calls.append(("hush", name))
        self.kept.pop(name, None)

    def watch(self, name: str) -> None:
        self.calls.append(("watch", name))
        seen = self.kept[name]
        if seen.demand:
            self.kept[name] = replace(seen, connected_at=self.now())
            self.wake(name)
        else:
            self.kept[name] = replace(seen, watching=True)

    def count(self, name: str) -> None:
        self.calls.append(("count", name))
        self.kept[name] = replace(self.kept[name], open=self.open.get(name, 0), counted_at=self.now(), watching=True)
        self.wake(name)

    # What a test makes happen.

    def connect(self, name: str) -> None:
        """Somebody connects."""
        seen = self.kept[name]
        self.kept[name] = replace(
            seen, demand=True, watching=False, connected_at=self.now() if seen.watching else seen.connected_at
        )
        if seen.watching:
            self.wake(name)

    def accept(self, name: str) -> None:
        """The vassal takes every connection that waits."""
        self.kept[name] = replace(self.kept[name], demand=False)


@dataclass
class FakeHost:
    """Keeps the contract of `reconciler.host.Host`; `calls` is everything it was told, in order."""

    wake: Callable[[str], None] = lambda name: None
    calls: list[tuple[object, ...]] = field(default_factory=list)
    observed: dict[str, Observed] = field(default_factory=dict)
    vassals: dict[tuple[str, int], Vassal] = field(default_factory=dict)
    indexes: dict[str, int] = field(default_factory=dict)
    next_pid: int = 1000
    sockets: FakeSockets = field(default_factory=FakeSockets)

    def observe(self, name: str) -> Observed:
        return self.observed.get(name, NEVER_LAUNCHED)

    def launch(self, vassal: Vassal, number: int, generation: int, *, index: int = 0, urgent: bool = False) -> None:
        before = self.observe(vassal.name)
        assert before.state not in {LaunchState.LAUNCHING, LaunchState.ALIVE}, "two processes for one vassal"
        assert not before.hook, "launched in the middle of a hook"
        assert number > before.number, "a launch number used twice"
        self.calls.append(("launch", vassal.name, number))
        self.vassals[vassal.name, number] = vassal
        self.indexes[vassal.name] = index
        if vassal.on_demand is not None:
            kept = self.sockets.listening(vassal.name)
            assert kept.ready and kept.on_demand == vassal.on_demand, "started without its sockets"
            self.sockets.kept[vassal.name] = replace(kept, watching=False, open=None, counted_at=None)
        self.observed[vassal.name] = Observed(number, LaunchState.LAUNCHING)

    def stop(self, name: str, number: int, how: Stop) -> None:
        if how.method is StopMethod.SIGNAL:
            self.signal(name, number, how.signal)
        else:
            self.tell(name, number, how.byte)

    def signal(self, name: str, number: int, signum: int) -> None:
        self.calls.append(("signal", name, number, signum))

    def tell(self, name: str, number: int, byte: int) -> bool:
        self.calls.append(("tell", name, number, int(byte)))
        return True

    def configure(self, name: str, number: int, config: bytes) -> None:
        self.calls.append(("configure", name, number, config))

    def limit(self, name: str, number: int, limits: Limits) -> None:
        self.calls.append(("limit", name, number, limits.sentence()))

    def end(self, name: str, number: int) -> None:
        self.calls.append(("end", name, number))

    def forget(self, name: str) -> None:
        state = self.observe(name).state
        assert not self.observe(name).hook, "forgotten in the middle of a hook"
        assert state not in {LaunchState.LAUNCHING, LaunchState.ALIVE}, "forgotten while it runs"
        assert name not in self.sockets.kept, "forgotten with its sockets"
        self.calls.append(("forget", name))
        self.observed.pop(name, None)

    # What a test makes happen.

    def confirm(self, name: str, now: float) -> None:
        """The ordered process is there."""
        self.next_pid += 1
        process = Process(self.next_pid, self.next_pid, 0, 0, now)
        self._set(name, replace(self.observe(name), state=LaunchState.ALIVE, process=process, hook=""))

    def fail(self, name: str, now: float, *, transient: bool = False) -> None:
        """The launch never became the program."""
        failure = LaunchFailure(now, "execve", 2, "NoSuchProgram", "no such program", "install it", transient)
        self._set(name, replace(self.observe(name), state=LaunchState.FAILED, failure=failure, hook=""))

    def exit(
        self, name: str, now: float, *, code: int | None = None, signal: int | None = None, hook: str = ""
    ) -> None:
        """The process is gone, and this hook is now run."""
        end = Exit(now, code if signal is None else None, signal)
        self._set(name, replace(self.observe(name), state=LaunchState.EXITED, exit=end, hook=hook))

    def hook(self, name: str, hook: str) -> None:
        """A hook is now run for its latest launch, or ("") no more."""
        self._set(name, replace(self.observe(name), hook=hook))

    def sign(self, name: str, signs: Signs) -> None:
        """The vassal said something."""
        self._set(name, replace(self.observe(name), signs=signs))

    def alive(self) -> list[str]:
        """Names with a process, or one on its way."""
        return [
            name for name, seen in self.observed.items() if seen.state in {LaunchState.LAUNCHING, LaunchState.ALIVE}
        ]

    def _set(self, name: str, observed: Observed) -> None:
        self.observed[name] = observed
        self.wake(name)
