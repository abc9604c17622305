"""Files that change hands, in tyrant mode: what the store wants then, and what the plan does."""

from __future__ import annotations

from dataclasses import replace

from emperorctl.models.errors import Problem
from emperorctl.models.observed import NEVER_LAUNCHED, LaunchState, Observed, Process
from emperorctl.models.plan import Forget, Kill, Look, Memory, Spawn, State, TellStop, Throttles
from emperorctl.models.source import FileReport
from emperorctl.models.status import Note, Truth
from emperorctl.models.vassal import Desired, Owner, Stop, Vassal
from emperorctl.reconciler.desired import DesiredStore
from emperorctl.reconciler.plan import OWNER_GRACE, Rules, plan
from tests.fakes.vassals import SOURCE, change, desired, native, report, uwsgi

ALICE, BOB = Owner(1001, 1001), Owner(1002, 1002)
BROKEN = Problem("InvalidIni", "no")


def owned(vassal: Vassal, owner: Owner) -> Vassal:
    launch = replace(vassal.launch, user=str(owner.uid), group=str(owner.gid))
    return replace(vassal, owner=owner, launch=launch)


class Told:
    """A store, and what it said."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []
        self.store = DesiredStore(lambda name: None, self._note)

    def _note(self, name: str, note: Note) -> None:
        self.notes.append((name, note.reason))

    def file(self, owner: Owner | None, *vassals: Vassal, problem: Problem | None = None, digest: str = "1") -> None:
        said = report(*vassals, digest=digest)
        if problem is not None:
            said = FileReport(said.file, (), problem, "shop.ini", digest=digest)
        self.store.apply(change(replace(said, owner=owner)))

    def get(self, name: str = "shop.ini") -> Desired | None:
        return self.store.get(name)


def test_the_next_owner_begins_with_generation_one() -> None:
    told = Told()
    for digest in ("1", "2", "3"):
        told.file(ALICE, owned(uwsgi(content=digest), ALICE), digest=digest)
    first = told.get()
    assert first and first.generation == 3 and first.owner == ALICE
    told.file(BOB, owned(uwsgi(content="3"), BOB), digest="3")
    second = told.get()
    assert second and (second.generation, second.orders, second.pardons, second.owner) == (1, 0, 0, BOB)
    assert ("shop.ini", "OwnerChanged") in told.notes


def test_what_the_former_owner_had_is_not_kept_for_the_next() -> None:
    told = Told()
    told.file(ALICE, owned(uwsgi(), ALICE))
    told.file(ALICE, problem=BROKEN, digest="2")
    kept = told.get()
    assert kept and kept.vassal and kept.vassal.owner == ALICE  # a bad config takes nothing down …
    told.file(BOB, problem=BROKEN, digest="2")
    gone = told.get()
    assert gone and gone.vassal is None and gone.owner == BOB and gone.problem  # … but another owner does
    told.file(None, problem=BROKEN, digest="3")
    assert told.get() and told.get().owner == BOB  # type: ignore[union-attr]


def test_an_owner_that_nobody_knows_changes_nothing() -> None:
    told = Told()
    told.file(ALICE, owned(uwsgi(), ALICE))
    told.file(None, problem=BROKEN)
    kept = told.get()
    assert kept and kept.vassal and kept.owner == ALICE
    told.file(ALICE, owned(uwsgi(), ALICE), digest="2")
    assert ("shop.ini", "OwnerChanged") not in told.notes


def test_names_that_only_the_former_owner_had_are_released() -> None:
    told = Told()
    told.file(ALICE, owned(native("shop.1001"), ALICE))
    told.file(BOB, owned(native("shop.1002"), BOB))
    assert told.get("shop.1001") is None and told.get("shop.1002")
    assert ("shop.1001", "OwnerChanged") in told.notes
    told.file(Owner(0, 0), problem=BROKEN, digest="2")
    assert told.get("shop.1002") is None


def test_another_file_of_the_name_with_another_owner() -> None:
    """The holder of a name goes, and the next claimant is somebody else."""
    told = Told()
    for owner, file in ((ALICE, "/vassals/a"), (BOB, "/vassals/b")):
        said = replace(report(owned(uwsgi(), owner), file=file), owner=owner)
        told.store.apply(change(said))
    assert told.get() and told.get().owner == ALICE  # type: ignore[union-attr]
    told.store.apply(change(FileReport("/vassals/a"), source=SOURCE))
    second = told.get()
    assert second and second.owner == BOB and second.generation == 1


def test_zergs_go_with_their_broodlord() -> None:
    told = Told()
    told.file(ALICE, owned(uwsgi(), ALICE))
    told.store.reinforce("shop.ini")
    assert told.get("shop.ini:zerg")
    told.file(BOB, owned(uwsgi(), BOB))
    assert told.get("shop.ini:zerg") is None


# The plan

RUNS = Observed(3, LaunchState.ALIVE, Process(7, 1, 1001, 1001, 5.0))
STOP = Stop(signal=15, grace=3600.0)


def memory(state: State = State.RUNNING, stop: Stop = STOP) -> Memory:
    vassal = owned(native(stop=stop), ALICE)
    return Memory(state=state, number=3, vassal=vassal, generation=9, pardons=4, since=5.0, deadline=9999.0)


def look(wanted: Desired, remembered: Memory, observed: Observed = RUNS, now: float = 50.0) -> Look:
    return Look(wanted, observed, remembered, Throttles(), now)


WANTED = desired(owned(native(), BOB), owner=BOB)


def test_what_runs_for_another_is_stopped_at_once_in_its_own_way() -> None:
    theirs = Stop(signal=15, grace=3.0)
    wanted = desired(owned(native(stop=Stop(signal=9, grace=0.0)), BOB), owner=BOB)
    done = plan(look(wanted, memory(stop=theirs)), Rules())
    (action,) = done.actions
    assert isinstance(action, TellStop) and action.reason == "OwnerChanged" and action.vassal.stop == theirs
    ready = next(one for one in done.conditions if one.type == "Ready")
    assert (ready.status, ready.reason) == (Truth.FALSE, "OwnerChanged")
    assert "1001" in ready.message and "1002" in ready.message


def test_it_does_not_keep_the_next_one_waiting_for_an_hour() -> None:
    done = plan(look(WANTED, memory()), Rules())
    assert done.memory.deadline == 50.0 + OWNER_GRACE
    late = plan(look(WANTED, memory(State.STOPPING), now=5.0 + OWNER_GRACE), Rules())
    assert [type(one) for one in late.actions] == [Kill]


def test_it_is_stopped_where_the_next_has_nothing_to_run() -> None:
    for wanted in (
        Desired("shop", SOURCE, "/f", owner=Owner(0, 0), problem=BROKEN),
        desired(owned(native(), BOB), owner=BOB, suspended=True),
    ):
        assert [type(one) for one in plan(look(wanted, memory()), Rules()).actions] == [TellStop]


def test_nothing_is_remembered_once_it_has_gone() -> None:
    remembered = memory(State.ABSENT)
    done = plan(look(WANTED, remembered, replace(RUNS, state=LaunchState.EXITED)), Rules())
    assert [type(one) for one in done.actions] == [Forget]
    fresh = plan(look(WANTED, Memory(), NEVER_LAUNCHED), Rules())
    (spawn,) = fresh.actions
    assert isinstance(spawn, Spawn) and spawn.number == 1 and spawn.reason == "Created"


def test_a_touch_by_the_next_owner_reloads_nothing_of_the_formers() -> None:
    wanted = replace(WANTED, orders=5, pardons=6)
    assert [type(one) for one in plan(look(wanted, memory()), Rules()).actions] == [TellStop]


def test_without_tyrant_mode_owners_mean_nothing() -> None:
    vassal = native()
    remembered = Memory(state=State.RUNNING, number=3, vassal=vassal, generation=1, since=5.0)
    assert plan(look(desired(vassal), remembered), Rules()).actions == ()
