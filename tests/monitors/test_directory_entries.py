"""dir://: which entries count, what broken and hostile ones lead to, and what a look at the whole finds."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from emperorctl.models.source import Change
from emperorctl.monitors.reading import Fingerprint
from tests.monitors.recorder import INI, Recorder, watching, write

OTHER = "[uwsgi]\nmaster = false\n"


def follow(source: Path, story: Callable[[Recorder], Awaitable[None]], **options: object) -> None:
    async def main() -> None:
        async with watching(source, **options) as recorder:
            await story(recorder)

    asyncio.run(main())


AUTOSAVED = [
    "#shop.ini#",
    ".#shop.ini",
    "#shop.ini",
    "~$shop.json",
    "shop.ini~",
    "shop.ini.swp",
    ".shop.ini.swp",
    "4913",
]
SET_ASIDE = ["shop.ini.rpmnew", "shop.ini.bak", "shop.ini.tmp", "shop.ini.dpkg-old"]
NO_CONFIGS = [".hidden.ini", "README", "shop.conf", "shop.INI"]


@pytest.mark.parametrize("name", AUTOSAVED + SET_ASIDE + NO_CONFIGS)
def test_what_is_not_a_config_is_ignored(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)

    async def story(recorder: Recorder) -> None:
        assert recorder.now == {}
        write(tmp_path / name, OTHER)
        await recorder.settle(str(tmp_path))
        assert recorder.said(name) == []

    follow(tmp_path, story)


def test_every_known_extension_counts(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    write(tmp_path / "a.xml", "<uwsgi><master/></uwsgi>")
    write(tmp_path / "a.yml", "uwsgi:\n  master: true\n")
    write(tmp_path / "a.yaml", "uwsgi:\n  master: true\n")
    write(tmp_path / "a.json", '{"uwsgi": {"master": true}}')
    write(tmp_path / "a.js", '{"uwsgi": {"master": true}}')
    write(tmp_path / "n.toml", 'apiVersion="emperor/v1"\nkind="Vassal"\n[spec]\ncommand=["sleep"]\n')

    async def story(recorder: Recorder) -> None:
        assert all(said.problem is None for said in recorder.now.values())
        names = sorted(claim.name for said in recorder.now.values() for claim in said.claims)
        assert names == ["a.ini", "a.js", "a.json", "a.xml", "a.yaml", "a.yml", "n"]

    follow(tmp_path, story)


def test_a_file_being_written_is_not_read_before_it_is_closed(tmp_path: Path) -> None:
    write(tmp_path / "shop.ini")

    async def story(recorder: Recorder) -> None:
        with (tmp_path / "shop.ini").open("w") as file:  # truncated here
            file.write("[uw")
            file.flush()
            await recorder.settle(str(tmp_path))
            await recorder.monitor.resync()
            assert recorder.said("shop.ini") == []
            file.write("sgi]\nmaster = false\n")
        await recorder.until(lambda: recorder.said("shop.ini"))
        [said] = recorder.said("shop.ini")
        assert said.problem is None

    follow(tmp_path, story)


def test_a_broken_file_says_so_and_keeps_its_name(tmp_path: Path) -> None:
    write(tmp_path / "shop.ini", "")
    write(tmp_path / "web.yaml", "kind: Vassal\nspec: [\n")
    write(tmp_path / "what.yaml", "a: b\n")
    write(tmp_path / "uw.yaml", "uwsgi: [\n")

    async def story(recorder: Recorder) -> None:
        names = {name: recorder.get(name).fallback_name for name in ("shop.ini", "web.yaml", "what.yaml", "uw.yaml")}  # type: ignore[union-attr]
        assert names == {"shop.ini": "shop.ini", "web.yaml": "web", "what.yaml": "what.yaml", "uw.yaml": "uw.yaml"}
        assert recorder.reason("what.yaml") == "Unrecognised"
        assert all(said.problem and said.problem.file == file for file, said in recorder.now.items())
        write(tmp_path / "shop.ini", INI)
        await recorder.until(lambda: recorder.get("shop.ini").claims)  # type: ignore[union-attr]

    follow(tmp_path, story)


def test_a_resync_without_changes_says_only_what_is_present(tmp_path: Path) -> None:
    for name in ("a.ini", "b.ini"):
        write(tmp_path / name)

    async def story(recorder: Recorder) -> None:
        await recorder.monitor.resync()
        [change] = recorder.reports
        assert isinstance(change, Change) and change.files == ()
        assert change.present == {str(tmp_path / "a.ini"), str(tmp_path / "b.ini")}

    follow(tmp_path, story)


def test_a_resync_finds_what_no_event_told(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    write(tmp_path / "gone.ini")

    async def story(recorder: Recorder) -> None:
        tree = recorder.monitor._tree  # type: ignore[attr-defined]
        tree.watcher.drop_entries(str(tmp_path))
        before = recorder.contents("a.ini")
        write(tmp_path / "a.ini", OTHER)
        write(tmp_path / "new.ini")
        os.unlink(tmp_path / "gone.ini")
        await recorder.monitor.resync()
        assert recorder.contents("a.ini") != before and recorder.get("new.ini")
        await recorder.until(lambda: not recorder.get("gone.ini"))

    follow(tmp_path, story)


def test_a_second_change_within_one_tick_of_the_clock_is_found(tmp_path: Path) -> None:
    write(tmp_path / "a.ini", "[uwsgi]\na = 1\n")

    async def story(recorder: Recorder) -> None:
        tree = recorder.monitor._tree  # type: ignore[attr-defined]
        tree.watcher.drop_entries(str(tmp_path))
        before = recorder.contents("a.ini")
        write(tmp_path / "a.ini", "[uwsgi]\na = 2\n")
        file = tree.root.files["a.ini"]
        own = os.stat(tmp_path / "a.ini")
        times = (own.st_mtime_ns, own.st_ctime_ns, own.st_size, own.st_mtime_ns)
        file.fingerprint, file.racy = Fingerprint(own.st_dev, own.st_ino, *times), True
        await recorder.monitor.resync()
        assert recorder.contents("a.ini") != before

    follow(tmp_path, story)


def test_an_event_looks_at_one_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(50):
        write(tmp_path / f"v{index}.ini")

    async def story(recorder: Recorder) -> None:
        looked: list[str] = []
        real = os.stat
        monkeypatch.setattr(os, "listdir", lambda *_: pytest.fail("the directory was listed"))
        monkeypatch.setattr(os, "stat", lambda path, **how: looked.append(str(path)) or real(path, **how))
        write(tmp_path / "v7.ini", OTHER)
        await recorder.until(lambda: recorder.said("v7.ini"))
        monkeypatch.undo()
        assert {name for name in looked if name.endswith(".ini")} <= {"v7.ini", str(tmp_path / "v7.ini")}

    follow(tmp_path, story)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    os.symlink("nowhere.ini", tmp_path / "dangling.ini")
    os.symlink("loop.ini", tmp_path / "loop.ini")

    async def story(recorder: Recorder) -> None:
        assert recorder.reason("dangling.ini") == "DanglingLink"
        assert recorder.reason("loop.ini") == "LinkLoop"
        await recorder.monitor.resync()
        assert recorder.said("loop.ini") == []
        write(tmp_path / "nowhere.ini")
        await recorder.until(lambda: not recorder.reason("dangling.ini"))

    follow(tmp_path, story)


def test_a_dangling_link_to_another_directory_is_mended(tmp_path: Path) -> None:
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    os.symlink("../later/shop.ini", vassals / "shop.ini")

    async def story(recorder: Recorder) -> None:
        assert recorder.reason("shop.ini") == "DanglingLink"
        os.mkdir(tmp_path / "later")
        await recorder.settle(str(vassals))
        write(tmp_path / "later" / "shop.ini")
        await recorder.until(lambda: not recorder.reason("shop.ini"))

    follow(vassals, story)


def test_a_file_without_read_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    write(tmp_path / "a.ini")
    os.chmod(tmp_path / "a.ini", 0)

    async def story(recorder: Recorder) -> None:
        assert recorder.reason("a.ini") == "PermissionDenied"
        os.chmod(tmp_path / "a.ini", stat.S_IRUSR)
        await recorder.until(lambda: not recorder.reason("a.ini"))

    follow(tmp_path, story)


HOSTILE = ["-x.ini", "new\nline.ini", b"\xff\xfe.ini", "\x1b[31m.ini", "\u202eini.ini", "n" * 251 + ".ini"]


@pytest.mark.parametrize("name", HOSTILE, ids=["dash", "newline", "not utf-8", "escape", "override", "255 bytes"])
def test_a_hostile_name_is_a_problem_and_never_a_vassal(tmp_path: Path, name: str | bytes) -> None:
    real = os.fsdecode(name)
    write(tmp_path / real)

    async def story(recorder: Recorder) -> None:
        [said] = recorder.now.values()
        assert said.problem and said.problem.reason == "InvalidName" and said.claims == ()
        assert said.fallback_name and said.fallback_name.isprintable() and said.file.isprintable()
        said.file.encode()
        os.unlink(tmp_path / real)
        await recorder.until(lambda: not recorder.now)

    follow(tmp_path, story)


@pytest.mark.parametrize("name", ["with space.ini", "münchen.ini", "🚀.ini", "n" * 250 + ".ini"])
def test_a_strange_name_is_fine_for_uwsgi(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)

    async def story(recorder: Recorder) -> None:
        [said] = recorder.now.values()
        assert said.problem is None and said.claims[0].name == name

    follow(tmp_path, story)
