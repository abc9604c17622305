"""Reading what tenants wrote: each attack on another tenant, on root's files, or on the Emperor's time.

The attacks on one entry are tried on the gate itself, with real files of real uids and the real lending of rights, and
in a thread where a race is meant; the others on a whole Emperor.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Emperor, alive
from e2e.security.tenants import ALICE, BOB, CAROL, Make, chown, identity_of, ini, listener, manifest, put, reason
from emperorctl.models.source import Report
from emperorctl.models.tyranny import Tyranny
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.models.vassal import Owner
from emperorctl.monitors.base import MonitorContext
from emperorctl.monitors.gate import Gate
from emperorctl.monitors.outside import OutsideParser
from emperorctl.monitors.parsing import Facts, Order, Setting
from emperorctl.monitors.reading import Busy, Content, Entry, Gone, Unusable
from emperorctl.monitors.registry import open_source
from emperorctl.reconciler.runtime.lent import lent_rights

pytestmark = pytest.mark.as_root
TYRANT = "--emperor-tyrant"
LIMIT = 1 << 20
SETTING = Setting("dir:///v", "/v", "/v", UwsgiRun(), Facts())


class Site:
    """`homes` with a directory each for alice and bob, and a gate before them."""

    def __init__(self, root: Path) -> None:
        self.homes = root / "homes"
        self.homes.mkdir()
        for path in (root, self.homes):
            path.chmod(0o755)
        self.alice = self.homes / "alice"
        self.bob = self.homes / "bob"
        for path, uid in ((self.alice, ALICE), (self.bob, BOB)):
            path.mkdir(mode=0o755)
            chown(path, uid)

    def read(self, path: Path, **rules: Any) -> Content | Unusable | Gone | Busy:
        gate = Gate(Tyranny(**rules), lent_rights)
        fd, ground = gate.enter(str(self.homes), str(path.parent))
        try:
            return gate.read(Entry(fd, path.name, str(path)), LIMIT, ground)
        finally:
            os.close(fd)

    def refused(self, path: Path, **rules: Any) -> str:
        found = self.read(path, **rules)
        assert isinstance(found, Unusable), found
        assert found.problem.remedy and found.problem.file == str(path)
        return found.problem.reason

    def owner(self, path: Path, **rules: Any) -> Owner:
        found = self.read(path, **rules)
        assert isinstance(found, Content), found
        return Owner(found.uid, found.gid)


@pytest.fixture
def site() -> Iterator[Site]:
    """Not pytest's own directory: that is nobody's but root's."""
    import shutil
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))
    yield Site(root)
    shutil.rmtree(root)


def link(path: Path, to: Path | str, uid: int) -> Path:
    path.symlink_to(to)
    return chown(path, uid)


# Links


def test_a_file_of_ones_own(site: Site) -> None:
    put(site.alice / "v.ini", ini(), ALICE, gid=CAROL)
    assert site.owner(site.alice / "v.ini") == (ALICE, CAROL)
    link(site.alice / "l.ini", "v.ini", ALICE)
    assert site.owner(site.alice / "l.ini") == (ALICE, CAROL)


def test_a_link_to_another_tenants_file(site: Site) -> None:
    put(site.alice / "v.ini", "secret", ALICE)
    mine = link(site.bob / "v.ini", site.alice / "v.ini", BOB)
    assert site.refused(mine) == "LinkOwner"
    assert site.refused(mine, nofollow=True) == "LinkOwner"
    assert site.owner(mine, follow=True) == (ALICE, ALICE)


def test_a_link_to_a_file_that_its_owner_may_not_read(site: Site) -> None:
    """Not even whether it exists comes out."""
    private = site.homes / "private"
    private.mkdir(mode=0o700)
    put(private / "there.ini", "secret", 0)
    for name in ("there.ini", "missing.ini"):
        mine = link(site.bob / name, private / name, BOB)
        for rules in ({}, {"nofollow": True}):
            found = site.read(mine, **rules)
            assert isinstance(found, Unusable) and found.problem.reason == "PermissionDenied"
    put(site.homes / "closed.ini", "secret", 0, mode=0o600)
    mine = link(site.bob / "closed.ini", site.homes / "closed.ini", BOB)
    assert site.refused(mine, nofollow=True) == "PermissionDenied"


def test_with_nofollow_the_owner_of_the_link_counts(site: Site) -> None:
    """The way to run one template of root's for many tenants."""
    put(site.homes / "template.ini", ini(), 0)
    path = link(site.homes / "site.ini", site.homes / "template.ini", ALICE)
    assert site.owner(path, nofollow=True) == (ALICE, ALICE)
    assert site.refused(path) == "LinkOwner"
    roots = link(site.homes / "root.ini", site.homes / "template.ini", 0)
    assert site.refused(roots, nofollow=True) == "OwnedByRoot"


def test_a_link_to_what_is_no_file(site: Site) -> None:
    os.mkfifo(site.alice / "fifo")
    chown(site.alice / "fifo", ALICE)
    assert site.refused(link(site.alice / "f.ini", "fifo", ALICE)) == "NotRegular"
    assert site.refused(link(site.alice / "z.ini", "/dev/zero", ALICE)) in {"NotRegular", "LinkOwner"}
    assert site.refused(link(site.alice / "o.ini", "o.ini", ALICE)) == "LinkLoop"
    assert site.refused(link(site.alice / "n.ini", "nothing", ALICE)) == "DanglingLink"
    assert site.refused(link(site.alice / "p.ini", "/proc/self/fd/0", ALICE)) in {
        "NotRegular", "LinkOwner", "PermissionDenied", "OwnedByRoot",
    }  # fmt: skip


def test_a_directory_that_is_a_link(site: Site) -> None:
    (site.alice / "conf").mkdir(mode=0o755)
    chown(site.alice / "conf", ALICE)
    put(site.alice / "conf" / "v.ini", ini(), ALICE)
    link(site.bob / "conf", site.alice / "conf", BOB)
    assert site.owner(site.alice / "conf" / "v.ini") == (ALICE, ALICE)
    assert site.refused(site.bob / "conf" / "v.ini") == "UnsafeDirectory"
    link(site.homes / "moved", site.alice / "conf", 0)  # the administrator's own
    assert site.owner(site.homes / "moved" / "v.ini") == (ALICE, ALICE)


# Other names, other hands


def test_a_hard_link_to_another_tenants_file(site: Site) -> None:
    victim = put(site.alice / "v.ini", "secret", ALICE)
    os.link(victim, site.bob / "v.ini")
    assert site.refused(site.bob / "v.ini") == "UnsafeDirectory"
    assert site.owner(victim) == (ALICE, ALICE)  # and alice does not suffer for it


def test_a_hard_link_in_a_directory_that_all_share(site: Site) -> None:
    site.homes.chmod(0o1777)
    victim = put(site.alice / "v.ini", "secret", ALICE)
    os.link(victim, site.homes / "v.ini")
    assert site.refused(site.homes / "v.ini") == "HardLink"
    put(site.homes / "w.ini", ini(), BOB)
    assert site.owner(site.homes / "w.ini") == (BOB, BOB)


def test_a_hard_link_to_a_file_of_roots(site: Site) -> None:
    roots = put(site.homes / "roots.ini", ini(), 0)
    os.link(roots, site.bob / "v.ini")
    assert site.refused(site.bob / "v.ini") == "OwnedByRoot"


def test_a_file_moved_into_anothers_directory(site: Site) -> None:
    """bob may move alice's file from a directory that both can write to into his own."""
    victim = put(site.homes / "v.ini", ini(), ALICE)
    victim.rename(site.bob / "v.ini")
    assert site.refused(site.bob / "v.ini") == "UnsafeDirectory"


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write(site: Site, mode: int) -> None:
    put(site.alice / "v.ini", ini(), ALICE, mode=mode)
    assert site.refused(site.alice / "v.ini") == "WritableByOthers"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_directory_that_others_may_write_in(site: Site, mode: int) -> None:
    put(site.alice / "v.ini", ini(), ALICE)
    site.alice.chmod(mode)
    assert site.refused(site.alice / "v.ini") == "UnsafeDirectory"
    site.alice.chmod(0o755)
    site.homes.chmod(mode)
    assert site.refused(site.alice / "v.ini") == "UnsafeDirectory"


def test_the_emperors_own_user_is_refused_as_root_is(site: Site) -> None:
    put(site.alice / "v.ini", ini(), ALICE)
    assert site.refused(site.alice / "v.ini", emperor=ALICE) == "OwnedByEmperor"


def test_somebody_who_holds_a_lease(site: Site) -> None:
    """It would keep whoever opens the file waiting for 45 seconds."""
    path = put(site.alice / "v.ini", ini(), ALICE)
    fd = os.open(path, os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_SETSIG, 28)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    try:
        before = time.monotonic()
        assert isinstance(site.read(path), Busy)
        assert time.monotonic() - before < 10
    finally:
        os.close(fd)


# Races


def swapping(change: Callable[[int], None]) -> contextlib.AbstractContextManager[None]:
    """Do something over and over in another thread."""

    @contextlib.contextmanager
    def meanwhile() -> Iterator[None]:
        over = threading.Event()

        def work() -> None:
            turn = 0
            while not over.is_set():
                change(turn)
                turn += 1

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    return meanwhile()


def seen(site: Site, path: Path, turns: int, **rules: Any) -> set[tuple[bytes, int]]:
    """What was read as whose, in so many tries."""
    found = [site.read(path, **rules) for _ in range(turns)]
    read = {(one.data, one.uid) for one in found if isinstance(one, Content)}
    assert len({type(one) for one in found}) > 1, "the swap never fell between two looks"
    return read


@pytest.mark.parametrize("rules", [{}, {"nofollow": True}])
def test_a_file_swapped_for_a_link(site: Site, rules: dict[str, bool]) -> None:
    put(site.alice / "v.ini", "alice's", ALICE)
    put(site.homes / "closed.ini", "root's", 0, mode=0o600)
    own = put(site.bob / "own", "bob's", BOB)
    to_alice = link(site.bob / "to-alice", site.alice / "v.ini", BOB)
    to_root = link(site.bob / "to-root", site.homes / "closed.ini", BOB)
    target = site.bob / "v.ini"

    def swap(turn: int) -> None:
        draft = site.bob / f".{turn % 3}"
        if turn % 3 == 0:
            os.link(own, draft)
        else:
            os.symlink(os.readlink((to_alice, to_root)[turn % 3 - 1]), draft)
            os.lchown(draft, BOB, BOB)
        os.rename(draft, target)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)  # renaming one name of an inode to another does nothing

    swap(0)
    with swapping(swap):
        assert seen(site, target, 5000, **rules) == {(b"bob's", BOB)}


def test_a_link_swapped_under_ones_feet(site: Site) -> None:
    """bob's link is looked at, then replaced: alice's link in the same place must not lend it her owner."""
    put(site.alice / "v.ini", "alice's", ALICE)
    put(site.bob / "own", "bob's", BOB)
    target = site.bob / "v.ini"
    link(target, "own", BOB)

    def swap(turn: int) -> None:
        draft = site.bob / ".draft"
        os.symlink("own" if turn % 2 else str(site.alice / "v.ini"), draft)
        os.lchown(draft, BOB, BOB)
        os.rename(draft, target)

    with swapping(swap):
        assert seen(site, target, 5000) == {(b"bob's", BOB)}


def test_a_directory_swapped_for_a_link(site: Site) -> None:
    (site.alice / "conf").mkdir(mode=0o755)
    chown(site.alice / "conf", ALICE)
    put(site.alice / "conf" / "v.ini", "alice's", ALICE)
    own = site.bob / "own"
    own.mkdir(mode=0o755)
    chown(own, BOB)
    put(own / "v.ini", "bob's", BOB)
    conf = site.bob / "conf"
    os.symlink("own", conf)
    os.lchown(conf, BOB, BOB)

    def swap(turn: int) -> None:
        draft = site.bob / ".draft"
        os.symlink("own" if turn % 2 else str(site.alice / "conf"), draft)
        os.lchown(draft, BOB, BOB)
        os.rename(draft, conf)

    with swapping(swap):
        assert seen(site, conf / "v.ini", 3000) == {(b"bob's", BOB)}


def test_rights_are_lent_to_one_thread_and_given_back() -> None:
    def ids() -> tuple[str, ...]:
        return tuple(
            line for line in Path("/proc/thread-self/status").read_text().splitlines() if line[:3] in ("Uid", "Gid")
        )

    before, other = ids(), []
    with pytest.raises(ZeroDivisionError), lent_rights(ALICE, BOB):
        assert all(line.endswith(str(uid)) for line, uid in zip(ids(), (ALICE, BOB), strict=True))
        raise ZeroDivisionError
    assert ids() == before
    started, over = threading.Event(), threading.Event()

    def watch() -> None:
        started.set()
        over.wait()
        other.append(ids())

    thread = threading.Thread(target=watch)
    thread.start()
    started.wait()
    with lent_rights(ALICE, BOB):
        over.set()
        thread.join()
    assert other == [before]


# A whole Emperor


def hosting(emperor: Make, *options: str, pattern: str = "*/*.*") -> Emperor:
    one = emperor(TYRANT, *options)
    (one.root / "homes").mkdir()
    (one.root / "homes").chmod(0o755)
    one.sources = [f"glob://{one.root}/homes/{pattern}"]
    one.options.append(listener(one))
    return one


def place(e: Emperor, name: str, uid: int) -> Path:
    path = e.root / "homes" / name
    path.mkdir(mode=0o755)
    return chown(path, uid)


def test_directories_of_tenants(emperor: Make) -> None:
    e = hosting(emperor)
    alice, bob = place(e, "alice", ALICE), place(e, "bob", BOB)
    first = put(alice / "vassal.ini", ini(), ALICE)
    stolen = link(bob / "vassal.ini", first, BOB)
    e.start()
    assert identity_of(e.wait_running(str(first)))[0] == {ALICE}
    found = e.wait_condition(str(stolen), "Accepted", "False", "LinkOwner")
    assert str(ALICE) in found["message"] and str(BOB) in found["message"]
    assert e.main_pid(str(stolen)) is None
    stolen.unlink()
    put(stolen, ini(), BOB)
    assert identity_of(e.wait_running(str(stolen)))[0] == {BOB}


def test_with_follow_uwsgis_behaviour_is_back(emperor: Make) -> None:
    e = hosting(emperor, "--tyrant-follow")
    alice, bob = place(e, "alice", ALICE), place(e, "bob", BOB)
    put(alice / "vassal.ini", ini(), ALICE)
    stolen = link(bob / "vassal.ini", alice / "vassal.ini", BOB)
    e.start()
    assert identity_of(e.wait_running(str(stolen)))[0] == {ALICE}


def test_a_link_that_changes_hands_is_seen(emperor: Make) -> None:
    e = hosting(emperor, "--emperor-tyrant-nofollow", pattern="*.ini")
    put(e.root / "homes" / ".template", ini(), 0)
    path = link(e.root / "homes" / "a.ini", e.root / "homes" / ".template", ALICE)
    e.start()
    pid = e.wait_running(str(path))
    chown(path, BOB)
    assert identity_of(e.wait_running(str(path), other_than=pid))[0] == {BOB}
    assert not alive(pid)


def test_an_unsafe_directory_is_reported_and_seen_when_it_is_mended(emperor: Make) -> None:
    e = hosting(emperor, "--emperor-freq=1")
    alice = place(e, "alice", ALICE)
    alice.chmod(0o777)
    path = put(alice / "vassal.ini", ini(), ALICE)
    e.start()
    e.wait_condition(str(path), "Accepted", "False", "UnsafeDirectory")
    source = e.sources[0]
    assert [one for one in e.events(source) if one["reason"] == "UnsafeDirectory" and str(alice) in one["message"]]
    alice.chmod(0o755)
    pid = e.wait_running(str(path))
    alice.chmod(0o777)  # what runs is nobody's new doing
    path.touch()
    e.wait_condition(str(path), "Accepted", "False", "UnsafeDirectory")
    assert e.main_pid(str(path)) == pid


def test_a_fifo_does_not_hold_anybody_up(emperor: Make) -> None:
    e = hosting(emperor)
    alice, bob = place(e, "alice", ALICE), place(e, "bob", BOB)
    for name in ("a.ini", "b.yaml", "c.xml"):
        os.mkfifo(alice / name)
        chown(alice / name, ALICE)
    good = put(bob / "vassal.ini", ini(), BOB)
    e.start()
    e.wait_running(str(good))
    e.wait_condition(str(alice / "a.ini"), "Accepted", "False", "NotRegular")


def test_the_address_beside_a_config_is_read_as_the_config_is(emperor: Make) -> None:
    e = hosting(emperor, "--emperor-on-demand-extension=.socket", pattern="*/*.ini")
    bob = place(e, "bob", BOB)
    secret = put(e.root / "homes" / "closed", "top-secret:words", 0, mode=0o600)
    path = put(bob / "vassal.ini", ini(), BOB)
    link(bob / "vassal.ini.socket", secret, BOB)
    e.start()
    e.wait_condition(str(path), "Accepted", "False", "LinkOwner")
    assert "top-secret" not in e.log() and "top-secret" not in str(e.get(str(path)))
    (bob / "vassal.ini.socket").unlink()
    put(bob / "vassal.ini.socket", "127.0.0.1:81", BOB)
    e.wait_condition(str(path), "Accepted", "False", "TyrantForbids")
    put(bob / "vassal.ini.socket", "s", BOB)
    put(bob / "vassal.ini.socket", str(bob / "s"), BOB)
    e.wait_condition(str(path), "Ready", "False", "Asleep")
    assert (bob / "s").stat().st_uid == BOB


def bombs() -> dict[str, str]:
    """Files that would take a parser's time or memory, each in its own way, and one that takes all it may."""
    key = ".".join(["a"] * 20_000)
    laughs = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9) if n else 'x'}]\n" for n in range(9))
    merges = "".join(f"m{n}: &m{n} {{{', '.join([f'<<: *m{n - 1}'] * 9) if n else 'a: b'}}}\n" for n in range(9))
    entities = "".join(f'<!ENTITY e{n} "{(f"&e{n - 1};" * 10) if n else "x"}">' for n in range(12))
    return {
        "key.toml": f"{key} = 1\n",
        "laughs.yaml": f"kind: Vassal\n{laughs}",
        "merge.yaml": f"kind: Vassal\n{merges}",
        "deep.json": "[" * 100_000,
        "entities.xml": f"<!DOCTYPE uwsgi [{entities}]><uwsgi><a>&e11;</a></uwsgi>",
        "heavy.yaml": HEAVY,
    }


HEAVY = "uwsgi:\n" + "  a: b\n" * 140_000
"""As large as a config may be, and refused only after a lot of work."""


def test_bombs_of_some_tenants_hold_up_no_other(emperor: Make) -> None:
    """Each of them has every bomb, and changes the heaviest over and over; one more is served as ever."""
    e = hosting(emperor)
    hostile = [(place(e, f"h{number}", ALICE + 100 + number), ALICE + 100 + number) for number in range(4)]
    for path, uid in hostile:
        for name, text in bombs().items():
            put(path / name, text, uid)
    bob = place(e, "bob", BOB)
    put(bob / "v0.yaml", manifest(name="v0"), BOB)
    e.start()
    assert identity_of(e.wait_running(f"v0.{BOB}"))[0] == {BOB}
    for turn in range(1, 5):
        for path, uid in hostile:
            put(path / "heavy.yaml", HEAVY + f"# {turn}\n", uid)
        put(bob / f"v{turn}.yaml", manifest(name=f"v{turn}"), BOB)
        e.wait_running(f"v{turn}.{BOB}")
    for path, uid in hostile:
        for name in bombs():
            stem = name.partition(".")[0]
            native = name in ("key.toml", "laughs.yaml", "merge.yaml")
            shown = f"{stem}.{uid}" if native else str(path / name)
            e.wait_for(lambda shown=shown: reason(e, shown), what=f"{shown} is refused", timeout=60)  # type: ignore[misc]
    memory = sum(process.memory_info().rss for process in e.processes() if "emperorctl" in " ".join(process.cmdline()))
    assert memory < 500 * 1024 * 1024


def test_owners_do_not_wait_for_each_other() -> None:
    """Twelve tenants with nothing but heavy files: another's file is parsed as if they were not there."""
    hostile, said = range(12), list[int]()

    async def story() -> None:
        parser = OutsideParser()

        def order(owner: int, number: int, text: str) -> Order:
            name = f"/v/{owner}-{number}.yaml"
            return Order(name, name, os.path.basename(name), 1, text.encode())

        async def parse(owner: int, text: str, count: int) -> None:
            orders = [order(owner, number, text) for number in range(count)]
            await parser.parse(orders, SETTING, lambda *_: said.append(owner), owner=owner)

        try:
            tasks = [asyncio.create_task(parse(owner, HEAVY, 20)) for owner in hostile]
            while set(said) < set(hostile):
                await asyncio.sleep(0.01)
            before = len(said)
            await parse(99, manifest(), 1)
            others = said[before : said.index(99)]
            assert len(others) <= 6, others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await parser.aclose()

    asyncio.run(story())


def test_only_the_latest_of_a_file_that_changes_faster_than_it_is_parsed(tmp_path: Path) -> None:
    """What waits is bounded by the number of files, whatever a tenant does."""
    waiting = []

    async def story() -> None:
        reports: list[Report] = []
        context = MonitorContext(
            publish=reports.append, uwsgi=UwsgiRun(), warn=lambda *_: None, gate=Gate(Tyranny(), lent_rights)
        )
        os.chmod(tmp_path, 0o755)
        monitor = open_source(str(tmp_path), context)
        task = asyncio.create_task(monitor.run())
        try:
            for turn in range(40):
                put(tmp_path / "heavy.yaml", HEAVY[:-7] + f"#{turn:05}\n", ALICE)
                await asyncio.sleep(0.03)
                waiting.append(sum(len(files) for files in monitor._strangers.values()))  # type: ignore[attr-defined]
                waiting.append(len(monitor._outside))  # type: ignore[attr-defined]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await context.aclose()

    asyncio.run(story())
    assert max(waiting) == 1
