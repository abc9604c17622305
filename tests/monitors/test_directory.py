"""dir://: each kind of change ends in the right report, and none is reported twice."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from emperorctl.models.source import Change, Trouble
from tests.monitors.recorder import INI, MANIFEST, Recorder, replace, watching, write

OTHER = "[uwsgi]\nmaster = false\n"


def follow(source: Path, story: Callable[[Recorder], Awaitable[None]], **options: object) -> None:
    async def main() -> None:
        async with watching(source, **options) as recorder:
            await story(recorder)

    asyncio.run(main())


def test_the_first_listing_names_everything_once(tmp_path: Path) -> None:
    write(tmp_path / "shop.ini")
    write(tmp_path / "web.yaml", MANIFEST.format(1))

    async def main() -> None:
        async with watching(tmp_path) as recorder:
            assert recorder.listed == 1
            assert recorder.monitor.source == f"dir://{tmp_path}"
            assert recorder.monitor.describe_watch() == "inotify"
            shop, web = recorder.get("shop.ini"), recorder.get("web.yaml")
            assert shop and web
            assert shop.file == str(tmp_path / "shop.ini")
            assert [claim.name for claim in (*shop.claims, *web.claims)] == ["shop.ini", "web"]
            vassal = shop.claims[0].vassal
            assert vassal and vassal.launch.command[-2:] == ("--ini", "shop.ini")
            assert vassal.launch.working_dir == str(tmp_path)
            assert shop.touch == (os.stat(shop.file).st_mtime_ns,) * 2
            assert shop.digest

    asyncio.run(main())


def test_the_first_listing_is_in_order_of_names(tmp_path: Path) -> None:
    letters = "qwertyuiopasdfghjklzxcvbnm"
    for letter in letters:
        write(tmp_path / f"{letter}.yaml", MANIFEST.format(1))

    async def main() -> None:
        async with watching(tmp_path) as recorder:
            assert [Path(file).stem for file in recorder.now] == sorted(letters)

    asyncio.run(main())


def test_an_empty_directory_is_listed_and_no_trouble(tmp_path: Path) -> None:
    async def story(recorder: Recorder) -> None:
        assert recorder.listed == 1 and recorder.trouble is None

    follow(tmp_path, story)


def test_large_listings_come_in_batches_and_the_last_says_what_is_present(tmp_path: Path) -> None:
    for index in range(300):
        write(tmp_path / f"v{index}.yaml", MANIFEST.format(index))

    async def main() -> None:
        async with watching(tmp_path, keep=True) as recorder:
            *batches, last = recorder.reports
            assert len(batches) > 1 and all(isinstance(change, Change) for change in recorder.reports)
            assert [change.present for change in batches] == [None] * len(batches)  # type: ignore[union-attr]
            assert isinstance(last, Change) and last.present == recorder.now.keys() and len(recorder.now) == 300

    asyncio.run(main())


def test_a_new_file(tmp_path: Path) -> None:
    async def story(recorder: Recorder) -> None:
        write(tmp_path / "shop.ini")
        await recorder.until(lambda: recorder.get("shop.ini"))
        await recorder.settle(str(tmp_path))
        assert len(recorder.said("shop.ini")) == 1

    follow(tmp_path, story)


@pytest.mark.parametrize("how", [write, replace], ids=["in place", "renamed over"])
def test_an_edit(tmp_path: Path, how: Callable[[Path, str], None]) -> None:
    write(tmp_path / "shop.ini")

    async def story(recorder: Recorder) -> None:
        before = recorder.contents("shop.ini")
        how(tmp_path / "shop.ini", OTHER)
        await recorder.until(lambda: recorder.contents("shop.ini") != before)
        await recorder.settle(str(tmp_path))
        assert len(recorder.said("shop.ini")) == 1

    follow(tmp_path, story)


def test_an_editor_that_moves_the_old_file_away_never_makes_it_seem_gone(tmp_path: Path) -> None:
    write(tmp_path / "shop.ini")

    async def story(recorder: Recorder) -> None:
        before = recorder.contents("shop.ini")
        os.rename(tmp_path / "shop.ini", tmp_path / "shop.ini~")
        write(tmp_path / "shop.ini", OTHER)
        os.chmod(tmp_path / "shop.ini", 0o600)
        os.unlink(tmp_path / "shop.ini~")
        await recorder.until(lambda: recorder.contents("shop.ini") != before)
        await recorder.settle(str(tmp_path))
        assert [bool(said.claims) for said in recorder.said("shop.ini")] == [True]

    follow(tmp_path, story)


@pytest.mark.parametrize("mtime", [1_000_000_000, 4_000_000_000], ids=["older", "newer"])
def test_a_touch_is_a_change_whichever_way_the_time_went(tmp_path: Path, mtime: int) -> None:
    write(tmp_path / "shop.ini")

    async def story(recorder: Recorder) -> None:
        digest = recorder.contents("shop.ini")
        os.utime(tmp_path / "shop.ini", (mtime, mtime))
        await recorder.until(lambda: recorder.said("shop.ini"))
        await recorder.settle(str(tmp_path))
        [said] = recorder.said("shop.ini")
        assert said.touch == (mtime * 10**9,) * 2
        assert said.digest == digest

    follow(tmp_path, story)


def test_a_changed_mode_alone_is_no_change(tmp_path: Path) -> None:
    write(tmp_path / "shop.ini")

    async def story(recorder: Recorder) -> None:
        os.chmod(tmp_path / "shop.ini", 0o600)
        await recorder.settle(str(tmp_path))
        assert recorder.said("shop.ini") == []

    follow(tmp_path, story)


def test_a_touched_link_and_a_touched_target(tmp_path: Path) -> None:
    vassals, elsewhere = tmp_path / "vassals", tmp_path / "elsewhere"
    vassals.mkdir()
    elsewhere.mkdir()
    write(elsewhere / "real.ini")
    os.symlink(elsewhere / "real.ini", vassals / "shop.ini")

    async def story(recorder: Recorder) -> None:
        os.utime(vassals / "shop.ini", (5, 5), follow_symlinks=False)
        await recorder.until(lambda: recorder.said("shop.ini"))
        [said] = recorder.said("shop.ini")
        assert said.touch[0] == 5 * 10**9 != said.touch[1]
        os.utime(elsewhere / "real.ini", (6, 6))
        await recorder.until(lambda: len(recorder.said("shop.ini")) == 2)
        assert recorder.said("shop.ini")[1].touch == (5 * 10**9, 6 * 10**9)

    follow(vassals, story)


def test_with_nofollow_the_links_own_time_counts_alone(tmp_path: Path) -> None:
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    write(tmp_path / "real.ini")
    os.symlink("../real.ini", vassals / "shop.ini")

    async def story(recorder: Recorder) -> None:
        os.utime(tmp_path / "real.ini", (6, 6))
        await recorder.settle(str(vassals))
        assert recorder.said("shop.ini") == []

    follow(vassals, story, nofollow=True)


def test_with_nofollow_an_edited_target_waits_for_its_link(tmp_path: Path) -> None:
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    write(tmp_path / "app.skel")
    for name in ("one.ini", "two.ini"):
        os.symlink("../app.skel", vassals / name)

    async def story(recorder: Recorder) -> None:
        before = recorder.contents("one.ini")
        write(tmp_path / "app.skel", "[uwsgi]\nmaster = false\n")
        await recorder.monitor.resync()
        await recorder.settle(str(vassals))
        assert recorder.said("one.ini") == recorder.said("two.ini") == []
        os.utime(vassals / "one.ini", (5, 5), follow_symlinks=False)
        await recorder.until(lambda: recorder.said("one.ini"))
        assert recorder.contents("one.ini") != before == recorder.contents("two.ini")

    follow(vassals, story, nofollow=True)


def test_with_nofollow_what_was_wrong_is_read_again(tmp_path: Path) -> None:
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    write(tmp_path / "app.skel", "[other]\n")
    os.symlink("../app.skel", vassals / "one.ini")

    async def story(recorder: Recorder) -> None:
        assert recorder.reason("one.ini") == "NoUwsgiSection"
        write(tmp_path / "app.skel")
        await recorder.until(lambda: not recorder.reason("one.ini"))
        os.unlink(tmp_path / "app.skel")
        await recorder.until(lambda: recorder.reason("one.ini") == "DanglingLink")

    follow(vassals, story, nofollow=True)


def test_a_removal(tmp_path: Path) -> None:
    write(tmp_path / "shop.ini")

    async def story(recorder: Recorder) -> None:
        os.unlink(tmp_path / "shop.ini")
        await recorder.until(lambda: not recorder.get("shop.ini"))
        [said] = recorder.said("shop.ini")
        assert not said.claims and said.problem is None
        assert recorder.trouble is None

    follow(tmp_path, story)


def test_renamed_away_counts_as_gone_and_the_new_name_as_new(tmp_path: Path) -> None:
    write(tmp_path / "shop.ini")

    async def story(recorder: Recorder) -> None:
        os.rename(tmp_path / "shop.ini", tmp_path / "store.ini")
        await recorder.until(lambda: recorder.get("store.ini") and not recorder.get("shop.ini"))

    follow(tmp_path, story)


def test_two_files_exchanged(tmp_path: Path) -> None:
    write(tmp_path / "a.ini")
    write(tmp_path / "b.ini", OTHER)

    async def story(recorder: Recorder) -> None:
        a, b = recorder.contents("a.ini"), recorder.contents("b.ini")
        os.rename(tmp_path / "a.ini", tmp_path / "c")
        os.rename(tmp_path / "b.ini", tmp_path / "a.ini")
        os.rename(tmp_path / "c", tmp_path / "b.ini")
        await recorder.until(lambda: (recorder.contents("a.ini"), recorder.contents("b.ini")) == (b, a))

    follow(tmp_path, story)


def test_the_directory_replaced_by_another(tmp_path: Path) -> None:
    vassals, new = tmp_path / "vassals", tmp_path / "new"
    vassals.mkdir()
    new.mkdir()
    write(vassals / "old.ini")
    write(vassals / "both.ini")
    write(new / "both.ini", OTHER)

    async def story(recorder: Recorder) -> None:
        before = recorder.contents("both.ini")
        os.rename(vassals, tmp_path / "away")
        os.rename(new, vassals)
        await recorder.until(lambda: recorder.contents("both.ini") != before and not recorder.get("old.ini"))
        assert recorder.get("both.ini") and recorder.trouble is None
        write(vassals / "late.ini")  # it is the new directory that is watched now
        await recorder.until(lambda: recorder.get("late.ini"))

    follow(vassals, story)


def test_a_symlinked_directory_switched(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    write(tmp_path / "one" / "shop.ini")
    write(tmp_path / "two" / "shop.ini", OTHER)
    os.symlink("one", tmp_path / "vassals")

    async def story(recorder: Recorder) -> None:
        before = recorder.contents("shop.ini")
        os.symlink("two", tmp_path / "next")
        os.rename(tmp_path / "next", tmp_path / "vassals")
        await recorder.until(lambda: recorder.contents("shop.ini") != before)
        write(tmp_path / "one" / "lost.ini")
        write(tmp_path / "two" / "found.ini")
        await recorder.until(lambda: recorder.get("found.ini"))
        assert not recorder.get("lost.ini")

    follow(tmp_path / "vassals", story)


def test_a_link_further_up_the_path_switched(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "vassals").mkdir(parents=True)
        write(tmp_path / name / "vassals" / f"{name}.ini")
    os.symlink("one", tmp_path / "current")

    async def story(recorder: Recorder) -> None:
        os.unlink(tmp_path / "current")
        os.symlink("two", tmp_path / "current")
        await recorder.until(lambda: recorder.get("two.ini") and not recorder.get("one.ini"))

    follow(tmp_path / "current" / "vassals", story)


def test_the_data_switch_of_kubernetes(tmp_path: Path) -> None:
    for name, text in (("..one", INI), ("..two", OTHER)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "shop.ini", text)
    os.symlink("..one", tmp_path / "..data")
    os.symlink("..data/shop.ini", tmp_path / "shop.ini")

    async def story(recorder: Recorder) -> None:
        before = recorder.contents("shop.ini")
        os.symlink("..two", tmp_path / "..data_tmp")
        os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
        shutil.rmtree(tmp_path / "..one")
        await recorder.until(lambda: recorder.contents("shop.ini") != before)
        await recorder.settle(str(tmp_path))
        assert [bool(said.claims) for said in recorder.said("shop.ini")] == [True]
        again = recorder.contents("shop.ini")
        write(tmp_path / "..two" / "shop.ini", INI + "x = y\n")
        await recorder.until(lambda: recorder.contents("shop.ini") != again)

    follow(tmp_path, story)


def test_an_edit_through_a_link_to_another_directory(tmp_path: Path) -> None:
    vassals, elsewhere = tmp_path / "vassals", tmp_path / "elsewhere"
    vassals.mkdir()
    elsewhere.mkdir()
    write(elsewhere / "real.ini")
    os.symlink("../elsewhere/real.ini", vassals / "shop.ini")

    async def story(recorder: Recorder) -> None:
        for how, text in ((write, OTHER), (replace, INI), (write, OTHER + "a = b\n")):
            before = recorder.contents("shop.ini")
            how(elsewhere / "real.ini", text)
            await recorder.until(lambda before=before: recorder.contents("shop.ini") != before)

    follow(vassals, story)


def test_a_checkout_of_hundreds_of_files(tmp_path: Path) -> None:
    for index in range(300):
        write(tmp_path / f"v{index}.ini")

    async def story(recorder: Recorder) -> None:
        before = recorder.contents("v0.ini")
        for index in range(100):
            os.unlink(tmp_path / f"v{index}.ini")
        for index in range(100, 400):
            (tmp_path / f"v{index}.ini").unlink(missing_ok=True)
            write(tmp_path / f"v{index}.ini", OTHER)

        def done() -> bool:
            wanted = {str(tmp_path / f"v{index}.ini") for index in range(100, 400)}
            return recorder.now.keys() == wanted and all(said.digest != before for said in recorder.now.values())

        await recorder.until(done)
        assert all(len(recorder.said(f"v{index}.ini")) == 1 for index in range(400))

    follow(tmp_path, story)


def test_the_directory_appears_later(tmp_path: Path) -> None:
    vassals = tmp_path / "deep" / "vassals"

    async def story(recorder: Recorder) -> None:
        assert recorder.trouble.reason == "SourceMissing" and recorder.listed == 0
        os.mkdir(tmp_path / "deep")
        os.mkdir(vassals)
        write(vassals / "shop.ini")
        await recorder.until(lambda: recorder.get("shop.ini"))
        assert recorder.trouble is None and recorder.listed

    follow(vassals, story)


def test_a_removed_directory_is_trouble_and_nothing_is_gone(tmp_path: Path) -> None:
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    for name in ("a", "b", "c"):
        write(vassals / f"{name}.ini")

    async def story(recorder: Recorder) -> None:
        shutil.rmtree(vassals)
        await recorder.until(lambda: recorder.trouble)
        assert recorder.trouble.reason == "SourceMissing"
        await recorder.monitor.resync()
        assert len(recorder.now) == 3
        assert [type(report) for report in recorder.reports] == [Trouble]
        vassals.mkdir()
        write(vassals / "a.ini", OTHER)
        await recorder.until(lambda: recorder.now.keys() == {str(vassals / "a.ini")})
        assert recorder.trouble is None

    follow(vassals, story)


def test_a_directory_moved_away_and_back(tmp_path: Path) -> None:
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    write(vassals / "a.ini")

    async def story(recorder: Recorder) -> None:
        os.rename(vassals, tmp_path / "away")
        await recorder.until(lambda: recorder.trouble)
        os.rename(tmp_path / "away", vassals)
        await recorder.until(lambda: recorder.trouble is None)
        write(vassals / "b.ini")
        await recorder.until(lambda: recorder.get("b.ini"))
        assert recorder.said("a.ini") == []

    follow(vassals, story)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_a_directory_without_permission_is_trouble_until_it_has_it_again(tmp_path: Path) -> None:
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    write(vassals / "a.ini")

    async def story(recorder: Recorder) -> None:
        os.chmod(vassals, 0)
        try:
            await recorder.until(lambda: recorder.trouble)
            assert recorder.trouble.reason == "PermissionDenied"
            assert recorder.get("a.ini")
        finally:
            os.chmod(vassals, 0o755)
        await recorder.until(lambda: recorder.trouble is None)
        assert recorder.get("a.ini") and not recorder.said("a.ini")

    follow(vassals, story)


def test_a_file_in_place_of_the_directory_is_trouble(tmp_path: Path) -> None:
    write(tmp_path / "vassals")

    async def story(recorder: Recorder) -> None:
        assert recorder.trouble.reason == "NotADirectory"
        os.unlink(tmp_path / "vassals")
        os.mkdir(tmp_path / "vassals")
        await recorder.until(lambda: recorder.listed)

    follow(tmp_path / "vassals", story)


def test_an_empty_directory_of_another_file_system_is_an_unmounted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.ini")

    async def story(recorder: Recorder) -> None:
        root = recorder.monitor._tree.root  # type: ignore[attr-defined]
        os.rename(tmp_path / "a.ini", tmp_path.parent / "a.ini")
        root.identity = (root.identity[0] + 1, root.identity[1])
        await recorder.monitor.resync()
        assert recorder.trouble.reason == "Unmounted"
        assert recorder.get("a.ini")
        os.rename(tmp_path.parent / "a.ini", tmp_path / "a.ini")
        await recorder.monitor.resync()
        assert recorder.trouble is None and recorder.get("a.ini")

    follow(tmp_path, story)
