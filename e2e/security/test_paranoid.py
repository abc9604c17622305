"""An Emperor that root starts and that goes on as another user: who runs as whom, with which rights, and the reign."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from e2e.harness import Emperor, Household, alive, wait_for
from emperorctl.models.capabilities import CAPABILITIES
from emperorctl.reconciler.runtime import cgroups, controllers
from emperorctl.reconciler.runtime.lock import instance_of

pytestmark = pytest.mark.as_root

USER, TENANT = 60301, 60302
RIGHTS = "setuid,setgid,kill,chown"


def readable() -> bool:
    """Whether another user can load the program under test: not from below a home directory of root's."""
    command = [sys.executable, "-c", "import emperorctl.cli.app"]
    try:
        done = subprocess.run(
            command, user=USER, group=USER, extra_groups=[], cwd="/", check=False, capture_output=True
        )
    except OSError:
        return False
    return done.returncode == 0


READABLE = os.geteuid() != 0 or readable()
# Where it can't be read, the right to read is what makes these tests possible at all.
READER = set() if READABLE else {"dac_read_search"}
CAPS = ",".join([RIGHTS, *READER])


@pytest.fixture
def instances() -> Iterator[list[str]]:
    """Those of this test's Emperors. Once they have ended, the empty control groups go that they can't remove."""
    made: list[str] = []
    yield made
    place = cgroups.find_place()
    for top in {*controllers.hierarchies().values(), *([place.directory] if place else [])}:
        for entry in (entry for one in made for entry in Path(top).glob(f"emperorctl-{one}-*")):
            with contextlib.suppress(OSError):
                cgroups.remove(str(entry))


@pytest.fixture
def court(instances: list[str], emperor: Callable[..., Emperor]) -> Callable[..., Emperor]:
    """A factory of paranoid Emperors whose directories are their user's."""

    def make(*options: str) -> Emperor:
        made = emperor("--uid", str(USER), *options)
        os.chown(made.root, USER, USER)
        made.vassals.chmod(0o755)
        instances.append(instance_of(str(made.socket)))
        return made

    return make


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def held(pid: int, which: str = "CapEff") -> set[str]:
    mask = int(status(pid)[which], 16)
    return {name for name, number in CAPABILITIES.items() if mask >> number & 1}


def zygotes(made: Emperor) -> list[int]:
    return [one.pid for one in psutil.Process(made.pid).children() if one.name() == "emperor-zygote"]


def test_who_runs_as_whom_and_with_which_capabilities(court: Callable[..., Emperor]) -> None:
    made = court("--cap", CAPS).start()
    assert status(made.pid)["Uid"].split() == [str(USER)] * 4
    assert status(made.pid)["Gid"].split() == [str(USER)] * 4
    assert held(made.pid) == held(made.pid, "CapPrm") == {"kill", "chown"} | READER
    assert status(made.pid)["NoNewPrivs"] == "1"
    helpers = zygotes(made)
    assert len(helpers) == 2
    for pid in helpers:
        assert status(pid)["Uid"].split() == [str(USER)] * 4
        assert held(pid) == held(pid, "CapPrm") == held(pid, "CapBnd") == set(CAPS.split(","))
        assert not held(pid, "CapInh") and not held(pid, "CapAmb")
    for pid in (made.pid, *helpers):
        assert not held(pid, "CapInh") and not held(pid, "CapAmb")
        assert status(pid)["Groups"].split() in ([], [str(USER)])
    told = made.api("GET", "/version").body
    assert (told["uid"], told["gid"], sorted(told["capabilities"])) == (USER, USER, sorted({"chown", "kill"} | READER))
    assert sorted(told["zygote"]["capabilities"]) == sorted(CAPS.split(","))
    assert f"uid {USER}" in made.cli("version").stdout
    assert f"as {USER} (uid {USER}, gid {USER})" in made.log()


def test_its_vassals_run_as_others_and_are_steered(court: Callable[..., Emperor]) -> None:
    made = court("--cap", CAPS).start()
    made.manifest("own", ["sleep", "1000"])
    made.manifest("other", ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"], user=str(TENANT))
    own, other = made.wait_running("own"), made.wait_running("other")
    assert status(own)["Uid"].split() == [str(USER)] * 4
    assert status(other)["Uid"].split() == [str(TENANT)] * 4
    assert status(other)["Gid"].split() == [str(TENANT)] * 4
    for pid in (own, other):
        assert not held(pid) and not held(pid, "CapPrm") and not held(pid, "CapAmb")
    made.cli("reload", "other")
    second = made.wait_running("other", other_than=other)
    assert made.get("other")["status"]["lastExit"]["code"] == 7  # type: ignore[index]
    made.cli("stop", "other")
    made.wait_phase("other", "Suspended")
    assert not alive(second)
    made.cli("start", "other")
    third = made.wait_running("other")
    os.kill(third, signal.SIGKILL)
    made.wait_running("other", other_than=third)
    (made.vassals / "other.yaml").unlink()
    made.wait_absent("other")


def test_a_hostile_daemon_of_another_user_is_ended_without_the_right_to_signal_it(
    court: Callable[..., Emperor],
) -> None:
    if cgroups.find_place() is None:
        pytest.skip("no writable cgroup v2 here")
    made = court("--cap", ",".join(["setuid", "setgid", *READER])).start()
    made.wait_log("NoKill")
    script = "trap '' TERM HUP; setsid sh -c 'trap \"\" TERM; sleep 1000' & while :; do sleep 0.05; done"
    made.manifest("other", ["sh", "-c", script], user=str(TENANT), stop={"gracePeriod": "100ms"})
    made.wait_running("other")
    made.wait_for(lambda: len(tenants()) >= 3, what="the daemon is there")
    (made.vassals / "other.yaml").unlink()
    made.wait_absent("other")
    wait_for(lambda: not tenants(), what="nothing of it is left")


def test_its_death_leaves_nothing(court: Callable[..., Emperor], household: Household) -> None:
    if cgroups.find_place() is None:
        pytest.skip("no writable cgroup v2 here")
    made = court("--cap", CAPS).start()
    for number in range(3):
        made.manifest(f"v{number}", ["sh", "-c", "setsid sleep 1000 & sleep 1000"], user=str(TENANT))
    for number in range(3):
        made.wait_running(f"v{number}")
    helpers = zygotes(made)
    made.kill()
    wait_for(lambda: not tenants(), timeout=10, what="every vassal is gone")
    wait_for(lambda: not any(map(alive, helpers)), timeout=10, what="so are the zygotes")


def test_a_lost_zygote_is_replaced_with_its_rights(court: Callable[..., Emperor]) -> None:
    made = court("--cap", CAPS).start()
    made.manifest("first", ["sleep", "1000"], user=str(TENANT))
    kept = made.wait_running("first")
    current = made.api("GET", "/version").body["zygote"]["pid"]
    os.kill(current, signal.SIGKILL)
    made.wait_log("ZygoteReplaced")
    made.manifest("second", ["sleep", "1000"], user=str(TENANT))
    pid = made.wait_running("second")
    assert status(pid)["Uid"].split() == [str(TENANT)] * 4
    after = made.api("GET", "/version").body["zygote"]
    assert after["pid"] != current and sorted(after["capabilities"]) == sorted(CAPS.split(","))
    assert made.main_pid("first") == kept
    made.kill()
    wait_for(lambda: not tenants(), timeout=10, what="every vassal is gone")


def test_without_capabilities_only_its_own_user_is_served(court: Callable[..., Emperor]) -> None:
    made = court(*(["--cap", *READER] if READER else [])).start()
    made.manifest("own", ["id", "-u"], stop={"gracePeriod": "1s"})
    made.manifest("other", ["sleep", "1000"], user=str(TENANT))
    made.wait_for(lambda: str(USER) in made.cli("logs", "own").stdout, what="it runs as the Emperor's user")
    made.wait_for(lambda: "NotPermitted" in str(made.get("other")), what="the other is refused")
    assert not held(made.pid) - READER and not any(held(pid) - READER for pid in zygotes(made))


def test_limits_are_enforced_by_it_too(court: Callable[..., Emperor]) -> None:
    place = cgroups.find_place()
    able = controllers.controllers_v2(place)
    if "pids" not in controllers.hierarchies() and not (
        "pids" in able and place and controllers.delegated(place.directory)
    ):
        pytest.skip("no pids controller here that these tests may use")
    made = court("--cap", CAPS).start()
    forks = "for n in $(seq 30); do sleep 1000 & done; wait"
    made.manifest("a", ["sh", "-c", forks], user=str(TENANT), resources={"limits": {"pids": 8}})
    made.wait_for(lambda: "ork" in made.cli("logs", "a").stdout, what="fork fails")
    assert len(tenants()) <= 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--uid", "no-such-user"], "--uid: there is no user"),
        (["--uid", str(USER), "--cap", "flying"], '--cap: "flying" is no capability'),
        (["--cap", "kill"], "--cap: it is what --uid keeps"),
        (["--gid", str(USER)], "root with another group is still root"),
        (["--uid", str(USER), "--cap", "dac_read_search"], "chown -R"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_runs(
    emperor: Callable[..., Emperor], options: list[str], words: str
) -> None:
    made = emperor(*options)
    made.manifest("a", ["sleep", "1000"])
    made.start(ready=False)
    assert made.wait() == 1
    assert words in made.log() and "Started" not in made.log()
    # Its end was in order: nobody has to ask for it again.
    made.process = None


def test_a_program_that_its_user_can_not_read_is_no_program_to_start(court: Callable[..., Emperor]) -> None:
    if READABLE:
        pytest.skip("everybody can read the program under test")
    made = court()
    made.start(ready=False)
    assert made.wait() == 1
    assert f"--uid: {USER} can't read " in made.log() and "dac_read_search" in made.log()
    made.process = None


def tenants() -> list[int]:
    """Every process of the other user."""
    found = []
    for one in psutil.process_iter(["uids"]):
        uids = one.info["uids"]
        if uids is not None and uids.real == TENANT and alive(one.pid):
            found.append(one.pid)
    return found


def test_it_starts_again_in_what_it_was_given(court: Callable[..., Emperor]) -> None:
    made = court("--cap", CAPS).start()
    made.manifest("a", ["sh", "-c", "echo here; sleep 1000"], user=str(TENANT))
    made.wait_running("a")
    made.cli("stop", "a")
    made.wait_phase("a", "Suspended")
    assert made.stop() == 0
    made.start()
    assert made.phase("a") == "Suspended"
    made.cli("start", "a")
    made.wait_running("a")
    assert made.state.stat().st_uid == made.logs.stat().st_uid == made.socket.stat().st_uid == USER
