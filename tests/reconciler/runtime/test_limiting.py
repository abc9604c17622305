"""From limits to files of control groups, with directories that stand for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from emperorctl.models.limits import NO_LIMITS, Limits
from emperorctl.models.observed import Exit
from emperorctl.reconciler.runtime import controllers
from emperorctl.reconciler.runtime.cgroups import Place
from emperorctl.reconciler.runtime.controllers import Unavailable
from emperorctl.reconciler.runtime.limiting import Limiter
from emperorctl.reconciler.runtime.ordering import Unusable
from emperorctl.reconciler.runtime.runs import Order

ALL = Limits(64 << 20, 1500, 20, 50)


def knobs(directory: Path, order: Order) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((directory / str(order.id)).iterdir())}


def limiter(tmp_path: Path, places: dict[str, str | Unavailable]) -> Limiter:
    """One that has found its places already: `v2` is its own root."""
    made = Limiter(Place(str(tmp_path), "/"), str(tmp_path / "v2"), "x", frozenset())
    made._found.update(places)
    return made


def v2(tmp_path: Path) -> Limiter:
    root = tmp_path / "v2"
    files = {"memory.max", "memory.swap.max", "cpu.max", "pids.max", "io.weight"}
    for name in files:
        path = root / "7" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return limiter(tmp_path, dict.fromkeys(("memory", "cpu", "pids", "io"), str(root)))


def test_the_files_of_cgroup_v2(tmp_path: Path) -> None:
    placed = v2(tmp_path).place(order := Order(7, "a"), ALL)
    assert placed is not None and placed.groups == () and order.unlimited == ""
    assert {Path(path).name: value for path, value, _ in placed.knobs} == {
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "cpu.max": "150000 100000",
        "pids.max": "20",
        "io.weight": "default 50",
    }
    assert {str(Path(path).parent) for path, _, _ in placed.knobs} == {str(tmp_path / "v2" / "7")}


def test_the_files_of_cgroup_v1_and_its_groups(tmp_path: Path) -> None:
    places: dict[str, str | Unavailable] = {kind: f"/v1/{kind}/emperorctl-x-1" for kind in ("memory", "pids")}
    places["cpu"] = "/v1/memory/emperorctl-x-1"
    placed = limiter(tmp_path, places).place(order := Order(7, "a"), Limits(64 << 20, 1500, 20))
    assert placed is not None
    assert set(placed.groups) == {"/v1/memory/emperorctl-x-1/7", "/v1/pids/emperorctl-x-1/7"}
    assert order.groups == placed.groups
    assert [(Path(path).name, value) for path, value, _ in placed.knobs] == [
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "150000"),
        ("memory.limit_in_bytes", "67108864"),
        ("memory.memsw.limit_in_bytes", "67108864"),
        ("pids.max", "20"),
    ]


def test_nothing_is_looked_for_where_nothing_is_limited(tmp_path: Path) -> None:
    made = limiter(tmp_path, {})
    assert made.place(Order(7, "a"), NO_LIMITS) is None
    assert made._found == {}


def test_what_can_not_be_enforced_is_refused_unless_it_may_be_missing(tmp_path: Path) -> None:
    places: dict[str, str | Unavailable] = {"memory": Unavailable("no memory controller", "do this"), "pids": "/v1/p"}
    made = limiter(tmp_path, places)
    with pytest.raises(Unusable) as refused:
        made.place(Order(7, "a"), Limits(memory=1 << 20, pids=3))
    assert (refused.value.reason, refused.value.step) == ("LimitNotEnforced", "limits")
    assert "no memory controller" in refused.value.message and "do this; or set" in refused.value.remedy
    order = Order(8, "a")
    placed = made.place(order, Limits(memory=1 << 20, pids=3, required=False))
    assert placed is not None and placed.groups == ("/v1/p/8",)
    assert order.unlimited == "no memory controller"


def test_other_limits_are_written_at_once_and_gone_ones_lifted(tmp_path: Path) -> None:
    made = v2(tmp_path)
    made.place(order := Order(7, "a"), ALL)
    assert made.apply(order, Limits(memory=32 << 20)) == ""
    assert knobs(tmp_path / "v2", order) == {
        "memory.max": "33554432",
        "memory.swap.max": "0",
        "cpu.max": "max 100000",
        "pids.max": "max",
        "io.weight": "default 100",
    }


def test_what_could_not_be_changed_is_said(tmp_path: Path) -> None:
    made = limiter(tmp_path, {"memory": str(tmp_path / "v2")})
    made.place(order := Order(7, "a"), Limits(memory=1 << 20))
    assert made.apply(order, Limits(memory=2 << 20)) == "memory can't be limited: No such file or directory"
    assert order.unlimited


@pytest.mark.parametrize("file", ["memory.events", "memory.oom_control"])
def test_an_oom_kill_is_counted_for_its_launch_alone(tmp_path: Path, file: str) -> None:
    made = v2(tmp_path)
    made.place(order := Order(7, "a"), ALL)
    end = Exit(1.0, signal=9)
    (tmp_path / "v2" / "7" / file).write_text("low 0\noom_kill 0\n")
    assert made.explained(end, order) == end
    (tmp_path / "v2" / "7" / file).write_text("low 0\noom_kill 2\n")
    told = made.explained(end, order)
    assert (told.oom_kills, told.memory, told.out_of_memory) == (2, 64 << 20, True)
    assert told.sentence() == "killed by SIGKILL: out of memory, its limit is 64Mi"
    survived = made.explained(Exit(1.0, code=3), order)
    assert not survived.out_of_memory
    assert survived.sentence() == "exited with code 3, and 2 of its processes were killed for want of memory"
    assert made.explained(end, None) == end


def test_what_is_used_now(tmp_path: Path) -> None:
    made = v2(tmp_path)
    made.place(order := Order(7, "a"), ALL)
    directory = tmp_path / "v2" / "7"
    for name, text in {
        "memory.current": "1048576\n",
        "memory.events": "oom_kill 1\n",
        "pids.current": "3\n",
        "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    }.items():
        (directory / name).write_text(text)
    assert made.usage(order) == {"memory": 1 << 20, "oomKills": 1, "pids": 3, "cpuSeconds": 1.5}
    assert made.usage(Order(9, "b")) == {}


def v2_group(directory: Path, *, able: str, handed: str = "", top: bool = False) -> None:
    directory.mkdir(exist_ok=True)
    for name, text in {"controllers": able, "subtree_control": handed, "procs": ""}.items():
        (directory / f"cgroup.{name}").write_text(text)
    if not top:
        (directory / "cgroup.events").write_text("populated 1\n")


def test_controllers_that_are_handed_down_already_ask_for_no_room(tmp_path: Path) -> None:
    v2_group(tmp_path, able="cpu memory pids", handed="memory pids")
    v2_group(tmp_path / "root", able="memory pids")
    controllers.enable(str(tmp_path), str(tmp_path / "root"), frozenset({"memory"}), frozenset())
    assert (tmp_path / "root" / "cgroup.subtree_control").read_text() == "+memory"


def test_a_missing_controller_is_named(tmp_path: Path) -> None:
    v2_group(tmp_path, able="cpu")
    with pytest.raises(Unavailable, match="no controller memory") as refused:
        controllers.enable(str(tmp_path), str(tmp_path), frozenset({"memory"}), frozenset())
    assert "Delegate=yes" in refused.value.remedy


def test_a_group_that_is_not_left_to_us_is_not_divided(tmp_path: Path) -> None:
    v2_group(tmp_path, able="memory")
    (tmp_path / "cgroup.procs").write_text("1\n")
    with pytest.raises(Unavailable, match="not its own to divide"):
        controllers.enable(str(tmp_path), str(tmp_path), frozenset({"memory"}), frozenset())
    assert (tmp_path / "cgroup.subtree_control").read_text() == ""


def test_the_very_top_needs_no_room(tmp_path: Path) -> None:
    v2_group(tmp_path, able="memory", top=True)
    v2_group(tmp_path / "root", able="memory")
    controllers.enable(str(tmp_path), str(tmp_path / "root"), frozenset({"memory"}), frozenset())
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"


def test_a_root_in_a_v1_hierarchy_is_a_new_one_each_time(tmp_path: Path) -> None:
    (tmp_path / "emperorctl-x-1").mkdir()
    (tmp_path / "emperorctl-y-1").mkdir()
    assert controllers.make_root(str(tmp_path), "x") == str(tmp_path / "emperorctl-x-1")
    (tmp_path / "emperorctl-x-1" / "busy").write_text("")
    assert controllers.make_root(str(tmp_path), "x") == str(tmp_path / "emperorctl-x-2")
    assert (tmp_path / "emperorctl-y-1").exists()
