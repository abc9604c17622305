"""What happens to the files of a source, and what the processes make of it: everything that editors and tools do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.harness import Emperor, alive, wait_for

Make = Callable[..., Emperor]
OLD = 1_000_000_000  # a Unix time long ago


def manifest(seconds: int, **more: Any) -> str:
    """A vassal that does nothing; `seconds` tells one version of it from another."""
    spec = {"command": ["sleep", str(seconds)], "stop": {"gracePeriod": "2s"}}
    return json.dumps({"apiVersion": "emperor/v1", "kind": "Vassal", "spec": spec} | more)


def seconds_of(emperor: Emperor, name: str) -> int | None:
    """Which version runs under this name."""
    pid = emperor.main_pid(name)
    try:
        return int(psutil.Process(pid).cmdline()[-1]) if pid else None
    except (psutil.NoSuchProcess, IndexError, ValueError):
        return None


def wait_version(emperor: Emperor, name: str, seconds: int) -> int:
    """Wait until this version runs; its pid."""
    emperor.wait_for(
        lambda: emperor.phase(name) == "Running" and seconds_of(emperor, name) == seconds,
        what=f"version {seconds} of {name}",
    )
    pid = emperor.main_pid(name)
    assert pid is not None
    return pid


def started(emperor: Make, *options: str) -> tuple[Emperor, Path, int]:
    """An Emperor with one vassal `a`, version 1001; its file and its pid."""
    e = emperor(*options).start()
    path = e.write("a.yaml", manifest(1001))
    return e, path, wait_version(e, "a", 1001)


def sleepers(emperor: Emperor) -> dict[int, int]:
    """Every process of every vassal: how many run each version. Zygote and Emperor aside."""
    found: dict[int, int] = {}
    for process in emperor.processes():
        try:
            words = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if words and words[0] == "sleep":
            found[int(words[1])] = found.get(int(words[1]), 0) + 1
    return found


def switch(link: Path, target: str) -> None:
    """`ln -sfn TARGET LINK`: another link, moved over the first."""
    fresh = link.with_name(link.name + ".tmp")
    fresh.symlink_to(target)
    fresh.rename(link)


@pytest.fixture(params=["inotify", "poll"])
def watch(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The options for each way of watching."""
    return ("--watch", request.param)


# --- one file ---


def test_a_new_file_an_edit_and_a_removal(emperor: Make, watch: tuple[str, str]) -> None:
    e, path, pid = started(emperor, *watch)
    path.write_text(manifest(1002))
    again = wait_version(e, "a", 1002)
    assert not alive(pid)
    path.unlink()
    e.wait_absent("a")
    wait_for(lambda: not alive(again))


def rename_over(path: Path, text: str) -> None:
    """What careful programs do."""
    fresh = path.with_name(".a.yaml.new")
    fresh.write_text(text)
    fresh.rename(path)


def write_in_place(path: Path, text: str) -> None:
    """What careless programs do."""
    path.write_text(text)


def append_in_pieces(path: Path, text: str) -> None:
    """What slow programs do: the file is open all the time."""
    with path.open("w") as file:
        for start in range(0, len(text), 20):
            file.write(text[start : start + 20])
            file.flush()
            time.sleep(0.01)


def backup_and_rename(path: Path, text: str) -> None:
    """What vim does with `backupcopy=no`."""
    probe = path.with_name("4913")
    probe.touch()
    probe.unlink()
    backup = path.with_name("a.yaml~")
    path.rename(backup)
    path.write_text(text)
    backup.unlink()


def emacs_save(path: Path, text: str) -> None:
    """What emacs does: a lock that is a dangling link, an autosave, a backup that stays."""
    lock, autosave, backup = (path.with_name(name) for name in (".#a.yaml", "#a.yaml#", "a.yaml~"))
    lock.symlink_to("someone@host.1234")
    autosave.write_text(text)
    backup.unlink(missing_ok=True)
    os.link(path, backup)
    fresh = path.with_name("#a.yaml.new#")
    fresh.write_text(text)
    fresh.rename(path)
    autosave.unlink()
    lock.unlink()


def remove_and_create(path: Path, text: str) -> None:
    """What `cp --remove-destination` does."""
    path.unlink()
    path.write_text(text)


def copy_with_old_mtime(path: Path, text: str) -> None:
    """What `rsync -t` and a rollback do."""
    fresh = path.with_name(".a.yaml.XyZ123")
    fresh.write_text(text)
    os.utime(fresh, (OLD, OLD))
    fresh.rename(path)


def truncate_with_old_mtime(path: Path, text: str) -> None:
    """What `cp -p` does: written in place, then given the time of the source."""
    path.write_text(text)
    os.utime(path, (OLD, OLD))


EDITS = [
    rename_over,
    write_in_place,
    append_in_pieces,
    backup_and_rename,
    emacs_save,
    remove_and_create,
    copy_with_old_mtime,
    truncate_with_old_mtime,
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_every_way_to_save_a_file_replaces_the_process_once(emperor: Make, edit: Callable[[Path, str], None]) -> None:
    e, path, pid = started(emperor)
    edit(path, manifest(1002))
    again = wait_version(e, "a", 1002)
    assert not alive(pid)
    edit(path, manifest(1003))
    wait_version(e, "a", 1003)
    assert not alive(again)
    assert set(e.objects()) == {"a"}
    assert e.objects()["a"]["status"]["respawns"] == 2
    assert e.objects()["a"]["metadata"]["generation"] == 3


def test_a_touch_reloads(emperor: Make, watch: tuple[str, str]) -> None:
    e, path, pid = started(emperor, *watch)
    os.utime(path)
    again = e.wait_running("a", other_than=pid)
    os.utime(path, (OLD, OLD))  # backwards is a touch as well
    e.wait_running("a", other_than=again)
    assert e.objects()["a"]["metadata"]["generation"] == 1
    assert e.objects()["a"]["status"]["respawns"] == 2


def test_what_leaves_content_and_mtime_alone_does_nothing(emperor: Make) -> None:
    e, path, pid = started(emperor)
    path.chmod(0o640)
    path.chmod(0o600)
    path.read_text()
    os.link(path, path.with_name("backup.txt"))
    e.write("b.yaml", manifest(1002))
    wait_version(e, "b", 1002)
    assert e.main_pid("a") == pid


def test_links_their_targets_and_what_lies_between_are_followed(emperor: Make, watch: tuple[str, str]) -> None:
    e = emperor(*watch).start()
    first, second = e.root / "first", e.root / "second"
    for number, directory in enumerate((first, second)):
        directory.mkdir()
        (directory / "target.yaml").write_text(manifest(1001 + number))
    (e.root / "current").symlink_to("first")
    link = e.vassals / "a.yaml"
    link.symlink_to("../current/target.yaml")
    pid = wait_version(e, "a", 1001)
    os.utime(link, follow_symlinks=False)  # touch -h
    pid = e.wait_running("a", other_than=pid)
    os.utime(first / "target.yaml")
    pid = e.wait_running("a", other_than=pid)
    rename_over(first / "target.yaml", manifest(1011))
    wait_version(e, "a", 1011)
    switch(e.root / "current", "second")
    pid = wait_version(e, "a", 1002)
    (second / "target.yaml").rename(second / "elsewhere.yaml")
    e.wait_condition("a", "Accepted", "False", "DanglingLink")
    assert e.main_pid("a") == pid  # the last good generation goes on
    switch(link, "../second/elsewhere.yaml")
    e.wait_condition("a", "Accepted", "True")
    link.unlink()
    e.wait_absent("a")


def test_a_file_that_is_half_written_is_never_applied(emperor: Make) -> None:
    e, path, pid = started(emperor)
    whole = "\n".join(
        [
            "apiVersion: emperor/v1",
            "kind: Vassal",
            "spec:",
            "  command: [sleep, '1002']",  # cut here it would be a good manifest
            "  nice: 3",
        ]
    )
    half = whole[: whole.index("\n  nice")] + "\n"
    with path.open("w") as file:
        file.write(half)
        file.flush()
        os.fsync(file.fileno())
        e.write("b.yaml", manifest(1005))
        wait_version(e, "b", 1005)
        until = time.monotonic() + 1.0  # several looks at the busy file fit in here
        while time.monotonic() < until:
            assert e.main_pid("a") == pid
            time.sleep(0.05)
        assert e.condition("a", "Accepted")["status"] == "True"
        file.write(whole[len(half) :])
    again = wait_version(e, "a", 1002)
    assert psutil.Process(again).nice() == 3
    assert e.objects()["a"]["metadata"]["generation"] == 2


def test_a_truncated_file_leaves_the_vassal_running(emperor: Make) -> None:
    e, path, pid = started(emperor)
    path.write_text("")
    e.wait_condition("a", "Accepted", "False", "Empty")
    path.write_text(manifest(1002)[:60])
    e.wait_condition("a", "Accepted", "False", "InvalidSyntax")
    assert e.main_pid("a") == pid
    path.write_text(manifest(1002))
    wait_version(e, "a", 1002)


def test_what_is_no_config_never_becomes_a_vassal(emperor: Make) -> None:
    e = emperor().start()
    names = [".a.yaml", "a.yaml~", "#a.yaml#", ".#a.yaml", ".a.yaml.swp", "a.yaml.bak", "a.txt", "4913", "a"]
    names += ["~$a.json", "a.yaml.rpmnew", "a.yaml.dpkg-old", "README.md", "a.conf", "a.ini.orig"]
    for name in names:
        (e.vassals / name).write_text(manifest(1001))
    (e.vassals / "b.yaml").write_text(manifest(1002))
    wait_version(e, "b", 1002)
    assert set(e.objects()) == {"b"}
    (e.vassals / "a.txt").rename(e.vassals / "a.yaml")
    wait_version(e, "a", 1001)
    (e.vassals / "a.yaml").rename(e.vassals / "c.yaml")
    pid = wait_version(e, "c", 1001)
    e.wait_absent("a")
    (e.vassals / "c.yaml").rename(e.vassals / ".c.yaml")
    e.wait_absent("c")
    wait_for(lambda: not alive(pid))


def test_a_thousand_edits_a_second_end_at_the_last_one(emperor: Make) -> None:
    e, path, _ = started(emperor)
    fresh = path.with_name(".fresh")
    seconds, count = 2.0, 2000
    begun = time.monotonic()
    for number in range(count):
        fresh.write_text(manifest(2001 + number))
        fresh.rename(path)
        time.sleep(max(0.0, begun + seconds * number / count - time.monotonic()))
    wait_version(e, "a", 2000 + count)
    assert sleepers(e) == {2000 + count: 1}
    respawns = e.objects()["a"]["status"]["respawns"]
    assert respawns <= 60, respawns


def test_a_thousand_writes_in_place_end_at_the_last_one(emperor: Make) -> None:
    e, path, _ = started(emperor)
    for number in range(1000):
        path.write_text(manifest(2001 + number))
    wait_version(e, "a", 3000)
    assert sleepers(e) == {3000: 1}
    e.wait_condition("a", "Accepted", "True")


# --- whole directories ---


def test_a_directory_that_is_missing_at_the_start_is_waited_for(emperor: Make, watch: tuple[str, str]) -> None:
    e = emperor(*watch)
    e.vassals.rmdir()
    e.sources = [str(e.vassals / "deep" / "down")]
    e.start()
    e.wait_log("SourceMissing")
    (e.vassals / "deep").mkdir(parents=True)
    ready = e.root / "ready"
    ready.mkdir()
    (ready / "a.yaml").write_text(manifest(1001))
    ready.rename(e.vassals / "deep" / "down")
    wait_version(e, "a", 1001)
    (e.vassals / "deep" / "down" / "b.yaml").write_text(manifest(1002))
    wait_version(e, "b", 1002)


def test_a_directory_replaced_by_another(emperor: Make, watch: tuple[str, str]) -> None:
    e, _, pid = started(emperor, *watch)
    e.write("b.yaml", manifest(1002))
    wait_version(e, "b", 1002)
    fresh = e.root / "fresh"
    fresh.mkdir()
    (fresh / "a.yaml").write_text(manifest(1001))
    (fresh / "c.yaml").write_text(manifest(1003))
    shutil.copystat(e.vassals / "a.yaml", fresh / "a.yaml")
    e.vassals.rename(e.root / "old")
    fresh.rename(e.vassals)
    wait_version(e, "c", 1003)
    e.wait_absent("b")
    assert e.main_pid("a") == pid  # it is there again, as it was
    (e.root / "old" / "d.yaml").write_text(manifest(1004))  # the old one means nothing any more
    e.write("e.yaml", manifest(1005))
    wait_version(e, "e", 1005)
    assert set(e.objects()) == {"a", "c", "e"}


def test_a_linked_directory_switched_to_another(emperor: Make, watch: tuple[str, str]) -> None:
    e = emperor(*watch)
    for number, name in enumerate(("one", "two"), start=1):
        (e.root / name).mkdir()
        (e.root / name / "a.yaml").write_text(manifest(1000 + number))
        (e.root / name / f"{name}.yaml").write_text(manifest(1000))
    (e.root / "live").symlink_to("one")
    e.sources = [str(e.root / "live")]
    e.start()
    wait_version(e, "a", 1001)
    wait_version(e, "one", 1000)
    subprocess.run(["ln", "-sfn", "two", str(e.root / "live")], check=True)
    wait_version(e, "a", 1002)
    wait_version(e, "two", 1000)
    e.wait_absent("one")
    switch(e.root / "live", "one")
    wait_version(e, "a", 1001)
    wait_version(e, "one", 1000)
    e.wait_absent("two")


def test_kubernetes_switches_all_its_files_at_once(emperor: Make, watch: tuple[str, str]) -> None:
    e = emperor(*watch)

    def publish(version: str, files: Mapping[str, str]) -> None:
        directory = e.vassals / version
        directory.mkdir()
        for name, text in files.items():
            (directory / name).write_text(text)
        switch(e.vassals / "..data", version)
        for name in files:
            if not (e.vassals / name).is_symlink():
                (e.vassals / name).symlink_to(f"..data/{name}")
        for entry in e.vassals.iterdir():
            if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in files:
                entry.unlink()
        for entry in e.vassals.iterdir():
            if entry.is_dir() and not entry.is_symlink() and entry.name != version:
                shutil.rmtree(entry)

    publish("..2026_01_01", {"a.yaml": manifest(1001), "b.yaml": manifest(1002)})
    e.start()
    wait_version(e, "a", 1001)
    wait_version(e, "b", 1002)
    publish("..2026_01_02", {"a.yaml": manifest(1011), "b.yaml": manifest(1012)})
    wait_version(e, "a", 1011)
    wait_version(e, "b", 1012)
    publish("..2026_01_03", {"a.yaml": manifest(1021), "c.yaml": manifest(1023)})
    wait_version(e, "a", 1021)
    wait_version(e, "c", 1023)
    e.wait_absent("b")
    assert set(e.objects()) == {"a", "c"}
    assert e.objects()["a"]["status"]["respawns"] == 2


def git(directory: Path, *words: str) -> None:
    """Run git, with nobody's configuration."""
    env = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", "-c", "gc.auto=0"]
    command = ["git", *identity, "-C", str(directory), *words]
    subprocess.run(command, check=True, env=env, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_git_checkout_changes_hundreds_of_files_at_once(emperor: Make) -> None:
    e = emperor()
    git(e.vassals, "init")
    for number in range(200):
        (e.vassals / f"v{number}.yaml").write_text(manifest(10_000 + number))
    git(e.vassals, "add", ".")
    git(e.vassals, "commit", "-m", "one")
    git(e.vassals, "checkout", "-b", "two")
    for number in range(60):
        (e.vassals / f"v{number}.yaml").unlink()
    for number in range(60, 140):
        (e.vassals / f"v{number}.yaml").write_text(manifest(20_000 + number))
    for number in range(200, 250):
        (e.vassals / f"v{number}.yaml").write_text(manifest(30_000 + number))
    git(e.vassals, "add", "-A")
    git(e.vassals, "commit", "-m", "two")
    git(e.vassals, "checkout", "main")
    one = {10_000 + number: 1 for number in range(200)}
    two = {
        **{20_000 + number: 1 for number in range(60, 140)},
        **{10_000 + number: 1 for number in range(140, 200)},
        **{30_000 + number: 1 for number in range(200, 250)},
    }
    e.start()
    wait_for(lambda: sleepers(e) == one, what="200 processes")
    kept = {number: e.main_pid(f"v{number}") for number in range(140, 200)}
    git(e.vassals, "checkout", "two")
    wait_for(lambda: sleepers(e) == two, what="exactly those of the second commit")
    assert {number: e.main_pid(f"v{number}") for number in kept} == kept
    assert set(e.objects()) == {f"v{number}" for number in range(60, 250)}
    git(e.vassals, "checkout", "main")
    wait_for(lambda: sleepers(e) == one, what="exactly those of the first commit")


def test_a_source_that_is_gone_says_nothing(emperor: Make, watch: tuple[str, str]) -> None:
    e, _, pid = started(emperor, *watch)
    e.vassals.rename(e.root / "away")
    e.wait_log("SourceMissing")
    assert e.main_pid("a") == pid
    (e.root / "away").rename(e.vassals)
    e.write("b.yaml", manifest(1002))
    wait_version(e, "b", 1002)
    assert e.main_pid("a") == pid
    shutil.rmtree(e.vassals)
    e.wait_for(lambda: e.log().count("SourceMissing") >= 2)
    e.vassals.write_text("not a directory")
    e.wait_log("NotADirectory")
    e.vassals.unlink()
    e.vassals.mkdir()
    e.write("c.yaml", manifest(1003))
    wait_version(e, "c", 1003)
    e.wait_absent("a")  # a directory that can be read and does not hold it is a word


@pytest.mark.as_user
def test_a_source_that_may_not_be_read_says_nothing(emperor: Make) -> None:
    e, path, pid = started(emperor)
    e.vassals.chmod(0)
    try:
        e.wait_log("PermissionDenied")
        assert e.main_pid("a") == pid
        assert alive(pid)
    finally:
        e.vassals.chmod(0o755)
    path.write_text(manifest(1002))
    wait_version(e, "a", 1002)


@pytest.mark.as_user
def test_a_file_that_may_not_be_read_keeps_its_last_good_generation(emperor: Make) -> None:
    e, path, pid = started(emperor)
    path.chmod(0)
    e.wait_condition("a", "Accepted", "False", "PermissionDenied")
    assert e.main_pid("a") == pid
    path.chmod(0o644)
    e.wait_condition("a", "Accepted", "True")
    assert e.main_pid("a") == pid


def test_a_pattern_sees_new_matching_directories(emperor: Make, watch: tuple[str, str]) -> None:
    e = emperor(*watch)
    sites = e.root / "sites"
    (sites / "one" / "conf").mkdir(parents=True)
    (sites / "one" / "conf" / "one.yaml").write_text(manifest(1001))
    e.sources = [f"{sites}/*/conf/*.yaml"]
    e.start()
    wait_version(e, "one", 1001)
    (sites / "two" / "conf").mkdir(parents=True)
    (sites / "two" / "conf" / "two.yaml").write_text(manifest(1002))
    (sites / "two" / "conf" / "two.json").write_text(manifest(1000))  # does not match
    wait_version(e, "two", 1002)
    ready = e.root / "three"
    (ready / "conf").mkdir(parents=True)
    (ready / "conf" / "three.yaml").write_text(manifest(1003))
    ready.rename(sites / "three")
    wait_version(e, "three", 1003)
    rename_over(sites / "two" / "conf" / "two.yaml", manifest(1012))
    wait_version(e, "two", 1012)
    (sites / "three").rename(e.root / "gone")
    e.wait_absent("three")
    shutil.rmtree(sites / "one")
    e.wait_absent("one")
    assert set(e.objects()) == {"two"}


def test_files_that_change_while_the_emperor_starts_end_at_the_newest(emperor: Make) -> None:
    e = emperor()
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            for name in "abc":
                e.write(f"{name}.yaml", manifest(2000 + number))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        e.start()
        for name in "abc":
            e.wait_running(name)
    finally:
        stop.set()
        thread.join()
    for number, name in enumerate("abc"):
        e.write(f"{name}.yaml", manifest(1001 + number))
    for number, name in enumerate("abc"):
        wait_version(e, name, 1001 + number)
    assert sleepers(e) == {1001: 1, 1002: 1, 1003: 1}
