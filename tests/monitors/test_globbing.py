"""glob://: patterns in any component, directories that come later, and what an unreadable one means."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from emperorctl.monitors.globbing import glob_layout
from tests.monitors.recorder import INI, MANIFEST, Recorder, watching, write


def follow(source: object, story: Callable[[Recorder], Awaitable[None]]) -> None:
    async def main() -> None:
        async with watching(source) as recorder:
            await story(recorder)

    asyncio.run(main())


def test_the_id_is_the_path_that_the_pattern_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apps" / "shop").mkdir(parents=True)
    write(tmp_path / "apps" / "shop" / "vassal.ini")
    monkeypatch.chdir(tmp_path)

    async def absolute(recorder: Recorder) -> None:
        [claim] = recorder.get("vassal.ini").claims  # type: ignore[union-attr]
        assert claim.name == str(tmp_path / "apps/shop/vassal.ini")

    async def relative(recorder: Recorder) -> None:
        assert recorder.monitor.source == f"glob://{tmp_path}/apps/*/vassal.ini"
        report = recorder.get("vassal.ini")
        assert report and report.file == str(tmp_path / "apps/shop/vassal.ini")
        [claim] = report.claims
        assert claim.name == "apps/shop/vassal.ini"
        assert claim.vassal and claim.vassal.launch.working_dir is None
        assert claim.vassal.launch.command[-1] == "apps/shop/vassal.ini"

    follow(f"{tmp_path}/apps/*/vassal.ini", absolute)
    follow("apps/*/vassal.ini", relative)


@pytest.mark.parametrize(
    ("pattern", "root", "components", "identity"),
    [
        ("/etc/*/vassal.ini", "/etc", ("*", "vassal.ini"), "/etc/a/vassal.ini"),
        ("/*.ini", "/", ("*.ini",), "/a.ini"),
        ("/etc/x.ini", "/etc", ("x.ini",), "/etc/x.ini"),
        ("/etc/a[12]/conf/*.y?ml", "/etc", ("a[12]", "conf", "*.y?ml"), None),
    ],
)
def test_layouts(pattern: str, root: str, components: tuple[str, ...], identity: str | None) -> None:
    layout = glob_layout(pattern)
    assert (layout.root, layout.components) == (root, components)
    if identity:
        assert layout.identity(identity) == identity


def test_relative_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for pattern, found, identity in (
        ("*.ini", "a.ini", "a.ini"),
        ("./*.ini", "a.ini", "./a.ini"),
        ("../*/a.ini", "../x/a.ini", "../x/a.ini"),
    ):
        path = os.path.normpath(tmp_path / found)
        assert glob_layout(pattern).identity(path) == identity


def test_native_manifests_know_their_place(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    write(tmp_path / "shop" / "app.yaml", MANIFEST.format("%d"))

    async def story(recorder: Recorder) -> None:
        [claim] = recorder.get("app.yaml").claims  # type: ignore[union-attr]
        assert claim.name == "app" and claim.vassal
        assert claim.vassal.launch.command[1] == f"{tmp_path}/shop/"

    follow(tmp_path / "*" / "app.yaml", story)


def test_matching_directories_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "one" / "conf").mkdir(parents=True)
    write(tmp_path / "one" / "conf" / "a.ini")

    async def story(recorder: Recorder) -> None:
        (tmp_path / "two" / "conf").mkdir(parents=True)
        write(tmp_path / "two" / "conf" / "b.ini")
        await recorder.until(lambda: recorder.get("b.ini"))
        os.mkdir(tmp_path / "three")
        os.mkdir(tmp_path / "three" / "conf")
        write(tmp_path / "three" / "conf" / "c.ini")
        await recorder.until(lambda: recorder.get("c.ini"))
        write(tmp_path / "three" / "conf" / "d.ini")
        await recorder.until(lambda: recorder.get("d.ini"))
        os.rename(tmp_path / "two" / "conf", tmp_path / "two" / "off")
        await recorder.until(lambda: not recorder.get("b.ini"))
        shutil.rmtree(tmp_path / "three")
        await recorder.until(lambda: not recorder.get("c.ini") and not recorder.get("d.ini"))
        assert recorder.get("a.ini") and recorder.trouble is None
        os.rename(tmp_path / "one", tmp_path / "renamed")
        await recorder.until(lambda: str(tmp_path / "renamed/conf/a.ini") in recorder.now and len(recorder.now) == 1)

    follow(tmp_path / "*" / "conf" / "*.ini", story)


def test_a_literal_file_in_every_directory(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    write(tmp_path / "one" / "vassal.ini")
    write(tmp_path / "one" / "other.ini")
    write(tmp_path / "stray.ini")

    async def story(recorder: Recorder) -> None:
        assert list(recorder.now) == [str(tmp_path / "one/vassal.ini")]
        before = recorder.contents("vassal.ini")
        write(tmp_path / "one" / "vassal.ini", INI + "a = b\n")
        await recorder.until(lambda: recorder.contents("vassal.ini") != before)
        os.unlink(tmp_path / "one" / "vassal.ini")
        await recorder.until(lambda: not recorder.now)
        write(tmp_path / "one" / "vassal.ini")
        await recorder.until(lambda: recorder.now)
        recorder.monitor._tree.watcher.drop_entries(str(tmp_path / "one"))  # type: ignore[attr-defined]
        os.unlink(tmp_path / "one" / "vassal.ini")
        await recorder.monitor.resync()
        await recorder.until(lambda: not recorder.now)

    follow(tmp_path / "*" / "vassal.ini", story)


def test_dotfiles_match_no_wildcard(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    write(tmp_path / ".hidden" / "a.ini")
    (tmp_path / "seen").mkdir()
    write(tmp_path / "seen" / ".a.ini")

    async def story(recorder: Recorder) -> None:
        assert recorder.now == {}

    follow(tmp_path / "*" / "*.ini", story)


def test_a_linked_directory_switched(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "real" / name).mkdir(parents=True)
        write(tmp_path / "real" / name / f"{name}.ini")
    (tmp_path / "apps").mkdir()
    os.symlink("../real/current", tmp_path / "apps" / "shop")
    os.symlink("one", tmp_path / "real" / "current")

    async def story(recorder: Recorder) -> None:
        assert recorder.get("one.ini")
        os.symlink("two", tmp_path / "real" / "next")
        os.rename(tmp_path / "real" / "next", tmp_path / "real" / "current")
        await recorder.until(lambda: recorder.get("two.ini") and not recorder.get("one.ini"))

    follow(tmp_path / "apps" / "*" / "*.ini", story)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_an_unreadable_directory_says_nothing_new(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write(tmp_path / "one" / "a.ini")
    os.chmod(tmp_path / "two", 0)

    async def story(recorder: Recorder) -> None:
        assert len(recorder.now) == 1
        os.chmod(tmp_path / "one", 0)
        try:
            await recorder.until(lambda: recorder.reason("a.ini"))
            assert recorder.reason("a.ini") == "PermissionDenied"
            await recorder.monitor.resync()
            assert recorder.get("a.ini")
        finally:
            os.chmod(tmp_path / "one", 0o755)
            os.chmod(tmp_path / "two", 0o755)
        await recorder.until(lambda: not recorder.reason("a.ini"))

    follow(tmp_path / "*" / "*.ini", story)


def test_the_directory_before_the_first_wildcard_may_come_later(tmp_path: Path) -> None:
    async def story(recorder: Recorder) -> None:
        assert recorder.trouble.reason == "SourceMissing"
        (tmp_path / "apps" / "shop").mkdir(parents=True)
        write(tmp_path / "apps" / "shop" / "a.ini")
        await recorder.until(lambda: recorder.get("a.ini"))

    follow(tmp_path / "apps" / "*" / "*.ini", story)


def test_an_id_that_is_too_long_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    write(deep / ("n" * 100 + ".ini"))

    async def story(recorder: Recorder) -> None:
        [said] = recorder.now.values()
        assert said.problem and said.problem.reason == "InvalidName"

    follow(tmp_path / "*" / "*.ini", story)
