"""A stateful test: whatever files, people, processes and the kernel do, the realm's promises hold, and it converges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emperorctl.models.errors import Problem
from emperorctl.models.observed import LaunchState
from emperorctl.models.plan import State
from emperorctl.models.sockets import OnDemand, parse_address
from emperorctl.models.source import FileReport
from emperorctl.models.vassal import Reload, ReloadMethod, Stop, Vassal
from emperorctl.reconciler.plan import Rules
from tests.fakes.vassals import native, report, uwsgi
from tests.reconciler.test_controller import Realm

FIRST_WAIT = 3.0
NAMES = st.sampled_from(["a", "b", "c.ini", "d"])


def _vassal(name: str, version: int, method: ReloadMethod) -> Vassal:
    if name.endswith(".ini"):
        return uwsgi(name, content=str(version))
    if name == "d":
        sockets = OnDemand((parse_address(f"@{version}"),), idle=20.0)
        return native(name, reload=Reload(method, 1), stop=Stop(grace=5.0), on_demand=sockets)
    return native(name, command=("sleep", str(version)), reload=Reload(method, 1), stop=Stop(grace=5.0))


class Kingdom(RuleBasedStateMachine):
    """Files come, change and go; processes live and die; the launcher succeeds or fails; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.realm = Realm(Rules(heartbeat=30.0, curse=20.0, broodlord=2))
        self.wanted: dict[str, Vassal] = {}
        self.mtime = 0
        self.earliest: dict[str, float] = {}

    def _report(self, vassal: Vassal) -> None:
        self.mtime += 1
        self.realm.apply(report(vassal, file=vassal.file, digest=str(hash(vassal.launch)), touch=self.mtime))
        self.earliest.pop(vassal.name, None)

    @rule(name=NAMES, version=st.integers(1, 3), method=st.sampled_from(ReloadMethod))
    def write(self, name: str, version: int, method: ReloadMethod) -> None:
        self.wanted[name] = _vassal(name, version, method)
        self._report(self.wanted[name])

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if name in self.wanted:
            self._report(self.wanted[name])

    @rule(name=NAMES)
    def break_file(self, name: str) -> None:
        if name in self.wanted:
            file = self.wanted[name].file
            self.realm.apply(FileReport(file, problem=Problem("Invalid", "broken"), fallback_name=name))

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        vassal = self.wanted.pop(name, None)
        if vassal is not None:
            self.realm.apply(FileReport(vassal.file))

    @rule(name=NAMES, suspended=st.booleans())
    def suspend(self, name: str, suspended: bool) -> None:
        self.realm.store.suspend(name, suspended)
        self.realm.time.settle()
        self.earliest.pop(name, None)

    @rule(name=NAMES, works=st.booleans(), transient=st.booleans())
    def launcher_answers(self, name: str, works: bool, transient: bool) -> None:
        if self.realm.host.observe(name).state is LaunchState.LAUNCHING:
            now = self.realm.time.now
            if works:
                self.realm.host.confirm(name, now)
            else:
                self._hold(name, 0.5 if transient else FIRST_WAIT)
                self.realm.host.fail(name, now, transient=transient)
            self.realm.time.settle()

    @rule(name=NAMES)
    def a_start_has_a_hook(self, name: str) -> None:
        if self.realm.host.observe(name).state is LaunchState.LAUNCHING:
            self.realm.host.hook(name, "preStart")
            self.realm.time.settle()

    @rule(name=NAMES)
    def a_hook_is_done(self, name: str) -> None:
        if self.realm.host.observe(name).hook:
            self.realm.host.hook(name, "")
            self.realm.time.settle()

    @rule(name=NAMES, code=st.sampled_from([0, 1, 26]), hook=st.sampled_from(["", "postStop"]))
    def process_exits(self, name: str, code: int, hook: str) -> None:
        seen = self.realm.host.observe(name)
        if seen.state is LaunchState.ALIVE and seen.process is not None:
            speaks = name.endswith(".ini") and seen.signs.spawned is not None
            survived = self.realm.time.now - seen.process.since >= 10.0
            loyal = seen.signs.loyal is not None or (survived and not speaks)
            accepted = name == "d" and not self.realm.host.sockets.listening(name).demand
            if code == 26:
                self._hold(name, float("inf"))
            elif not loyal and not (code == 0 and accepted):
                self._hold(name, FIRST_WAIT)
            self.realm.host.exit(name, self.realm.time.now, code=code, hook=hook)
            self.realm.time.settle()

    @rule(name=NAMES)
    def serves_its_first_request(self, name: str) -> None:
        if self.realm.host.observe(name).state is LaunchState.ALIVE:
            self._says(name, spawned=self.realm.time.now, loyal=self.realm.time.now)

    @rule()
    def somebody_connects(self) -> None:
        if self.realm.host.sockets.listening("d").ready:
            self.realm.host.sockets.connect("d")
            self.realm.time.settle()

    @rule()
    def connections_are_accepted(self) -> None:
        if self.realm.host.observe("d").state is LaunchState.ALIVE and self.realm.host.sockets.listening("d").ready:
            self.realm.host.sockets.accept("d")

    @rule(version=st.integers(1, 3), taken=st.booleans())
    def a_stranger_takes_an_address(self, version: int, taken: bool) -> None:
        (self.realm.host.sockets.taken.add if taken else self.realm.host.sockets.taken.discard)(f"@{version}")

    @rule(name=NAMES)
    def sends_a_heartbeat(self, name: str) -> None:
        self._says(name, heartbeat=self.realm.time.now)

    @rule(name=NAMES)
    def closes_its_protocol_socket(self, name: str) -> None:
        self._says(name, closed=self.realm.time.now)

    @rule(name=NAMES)
    def wants_to_go(self, name: str) -> None:
        self._says(name, will=self.realm.time.now)

    @rule(name=NAMES)
    def calls_for_reinforcements(self, name: str) -> None:
        self._says(name, reinforcements=self.realm.host.observe(name).signs.reinforcements + 1)

    @rule(code=st.sampled_from([0, 1]))
    def a_zerg_exits(self, code: int) -> None:
        for name in self.realm.host.alive():
            if ":zerg" in name and self.realm.host.observe(name).state is LaunchState.ALIVE:
                self.realm.host.exit(name, self.realm.time.now, code=code)
                self.realm.time.settle()
                assert name not in self.realm.host.alive(), "a zerg is not started again"
                return

    def _says(self, name: str, **said: Any) -> None:
        seen = self.realm.host.observe(name)
        if seen.state is LaunchState.ALIVE:
            self.realm.host.sign(name, replace(seen.signs, **said))
            self.realm.time.settle()

    @rule(seconds=st.sampled_from([0.01, 0.6, 3.0, 11.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.realm.time.advance(seconds)

    @precondition(lambda self: self.wanted)
    @rule()
    def an_event_is_lost(self) -> None:
        self.realm.controller.resync()
        self.realm.time.settle()

    def _hold(self, name: str, seconds: float) -> None:
        """What now ends by itself may not be started again before so many seconds, unless a person says so."""
        record = self.realm.controller.records.get(name)
        if record is not None and record.memory.state in {State.STARTING, State.RUNNING}:
            self.earliest[name] = self.realm.time.now + seconds

    @invariant()
    def no_restart_before_its_time(self) -> None:
        for name in self.realm.host.alive():
            assert self.earliest.pop(name, 0.0) <= self.realm.time.now + 0.001

    @invariant()
    def no_more_zergs_than_the_broodlord_may_have(self) -> None:
        zergs = [name for name in self.realm.store.names() if ":zerg" in name]
        assert len(zergs) == self.realm.store.zergs <= 2
        assert {name.partition(":")[0] for name in zergs} <= set(self.wanted)

    @invariant()
    def no_process_without_an_owner(self) -> None:
        for name in self.realm.host.alive():
            assert name in self.realm.controller.records

    def teardown(self) -> None:
        """Once the world is kind, everything wanted runs and nothing else does."""
        realm = self.realm
        for name in ("a", "b", "c.ini", "d"):
            realm.store.suspend(name, False)
        realm.host.sockets.taken.clear()
        for zerg in [name for name in realm.store.names() if ":zerg" in name]:
            realm.store.dismiss(zerg)
        for vassal in self.wanted.values():
            self._report(vassal)
        for _ in range(20):
            realm.time.advance(200.0)
            for name, seen in list(realm.host.observed.items()):
                told = [call for call in realm.host.calls if call[1:3] == (name, seen.number)]
                if seen.state is LaunchState.LAUNCHING:
                    realm.host.confirm(name, realm.time.now)
                elif seen.state is LaunchState.ALIVE and any(
                    call[0] == "end" or call[-1] == 15 or (call[0] == "tell" and call[-1] == 0) for call in told
                ):
                    realm.host.exit(name, realm.time.now, signal=9)
                elif seen.hook and seen.state is not LaunchState.ALIVE:
                    realm.host.hook(name, "")
            if realm.host.sockets.listening("d").ready:
                realm.host.sockets.connect("d")
            realm.time.settle()
        # The last of the twenty may have been put to sleep, with a connection waiting: its process is on its way.
        if realm.host.observe("d").state is LaunchState.LAUNCHING:
            realm.host.confirm("d", realm.time.now)
            realm.time.settle()
        assert sorted(realm.host.alive()) == sorted(self.wanted)
        for name, vassal in self.wanted.items():
            memory = realm.controller.records[name].memory
            assert memory.state is State.RUNNING and memory.vassal == vassal
            assert realm.host.vassals[name, memory.number].launch == vassal.launch
        assert set(realm.controller.records) == set(self.wanted)


TestKingdom = Kingdom.TestCase
TestKingdom.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
