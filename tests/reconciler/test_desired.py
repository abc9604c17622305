"""What the store concludes from reports, file by file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emperorctl.models.errors import Problem
from emperorctl.models.source import Change, Claim, FileReport, Trouble
from emperorctl.models.status import Note
from emperorctl.reconciler.desired import DesiredStore
from tests.fakes.vassals import SOURCE, change, native, report, uwsgi


class Watched:
    """A store, and all it has said."""

    def __init__(self, suspended: tuple[str, ...] = ()) -> None:
        self.woken: list[str] = []
        self.notes: list[tuple[str, str]] = []
        self.store = DesiredStore(self.woken.append, self._note, suspended)

    def _note(self, name: str, note: Note) -> None:
        self.notes.append((name, note.reason))

    def apply(self, *files: FileReport, complete: bool = False, source: str = SOURCE) -> None:
        self.woken.clear()
        self.store.apply(change(*files, source=source, complete=complete))


BROKEN = Problem("InvalidYaml", "mapping expected", file="/vassals/f.yaml", line=2)


def test_a_new_vassal_is_generation_one() -> None:
    watched = Watched()
    watched.apply(report(native()))
    want = watched.store.get("shop")
    assert want is not None and want.vassal == native() and want.generation == 1 and want.orders == 0
    assert watched.woken == ["shop"]


def test_the_same_report_again_wakes_nobody() -> None:
    watched = Watched()
    watched.apply(report(native()))
    watched.apply(report(native()))
    assert watched.woken == []


def test_a_touch_orders_a_reload_and_an_older_time_too() -> None:
    watched = Watched()
    watched.apply(report(native(), touch=5))
    for count, touch in enumerate((9, 3), start=1):
        watched.apply(report(native(), touch=touch))
        want = watched.store.get("shop")
        assert want is not None and (want.orders, want.pardons, want.generation) == (count, count, 1)


def test_an_edit_raises_the_generation_and_orders_nothing() -> None:
    watched = Watched()
    watched.apply(report(native()))
    watched.apply(report(native(command=("sleep", "2")), digest="2", touch=2))
    want = watched.store.get("shop")
    assert want is not None and (want.generation, want.orders, want.pardons) == (2, 0, 1)


def test_an_edit_of_a_comment_reloads_nothing_but_pardons() -> None:
    watched = Watched()
    watched.apply(report(native()))
    watched.apply(report(native(), digest="2", touch=2))
    want = watched.store.get("shop")
    assert want is not None and (want.generation, want.orders, want.pardons) == (1, 0, 1)


def test_editing_one_document_leaves_its_neighbours_alone() -> None:
    watched = Watched()
    watched.apply(report(native("a"), native("b")))
    watched.apply(report(native("a"), native("b", command=("sleep", "2")), digest="2", touch=2))
    a, b = watched.store.get("a"), watched.store.get("b")
    assert a is not None and b is not None
    assert (a.generation, a.orders, b.generation) == (1, 0, 2)


def test_a_bad_edit_keeps_the_last_good_vassal() -> None:
    watched = Watched()
    watched.apply(report(native()))
    watched.apply(FileReport("/vassals/f.yaml", problem=BROKEN, fallback_name="f", digest="2", touch=(2, 2)))
    want = watched.store.get("shop")
    assert want is not None and want.vassal == native() and want.generation == 1 and want.problem == BROKEN
    assert watched.notes == [("shop", "InvalidYaml")]
    watched.apply(report(native(), digest="1", touch=3))
    want = watched.store.get("shop")
    assert want is not None and want.problem is None and (want.generation, want.orders) == (1, 0)


def test_a_file_that_never_was_good_is_shown_under_its_fallback_name_until_mended() -> None:
    watched = Watched()
    watched.apply(FileReport("/vassals/f.yaml", problem=BROKEN, fallback_name="f"))
    want = watched.store.get("f")
    assert want is not None and want.vassal is None and want.problem == BROKEN
    watched.apply(report(native("other"), digest="2"))
    assert watched.store.get("f") is None and watched.store.get("other") is not None


def test_a_bad_document_beside_good_ones_is_its_own_problem() -> None:
    watched = Watched()
    watched.apply(report(native("a"), native("b")))
    claims = (Claim("a", native("a")), Claim("b", problem=BROKEN))
    watched.apply(FileReport("/vassals/f.yaml", claims, digest="2", touch=(2, 2)))
    a, b = watched.store.get("a"), watched.store.get("b")
    assert a is not None and a.problem is None
    assert b is not None and b.problem == BROKEN and b.vassal == native("b")


def test_a_file_that_is_gone_takes_its_vassals_along() -> None:
    watched = Watched()
    watched.apply(report(native("a"), native("b")))
    watched.apply(FileReport("/vassals/f.yaml"))
    assert watched.store.names() == [] and sorted(watched.woken) == ["a", "b"]


def test_what_a_complete_listing_does_not_name_is_gone() -> None:
    watched = Watched()
    watched.apply(report(native("a"), file="/1"), report(native("b"), file="/2"))
    watched.apply(report(native("b"), file="/2"), complete=True)
    assert watched.store.names() == ["b"]


def test_another_sources_files_are_not_gone() -> None:
    watched = Watched()
    watched.apply(report(native("a"), file="/1"), source="dir:///one")
    watched.apply(source="dir:///two", complete=True)
    assert watched.store.names() == ["a"]


def test_a_source_in_trouble_says_nothing() -> None:
    watched = Watched()
    watched.apply(report(native()), complete=True)
    problem = Problem("SourceUnavailable", "permission denied")
    watched.store.apply(Trouble(SOURCE, problem))
    watched.store.apply(Trouble(SOURCE, problem))
    assert watched.store.names() == ["shop"] and watched.notes == [(SOURCE, "SourceUnavailable")]
    watched.store.apply(Trouble(SOURCE, None))
    assert watched.notes[-1] == (SOURCE, "SourceAvailable") and watched.store.troubles == {}


def test_the_first_claimant_of_a_name_keeps_it_and_both_are_named() -> None:
    watched = Watched()
    watched.apply(report(native(), file="/1"))
    watched.apply(report(native(command=("other",)), file="/2"))
    want = watched.store.get("shop")
    assert want is not None and want.vassal == native() and want.generation == 1
    assert want.conflict is not None and "/2" in want.conflict.message and want.file == "/1"
    assert watched.notes == [("shop", "Conflict")]


def test_the_second_claimant_takes_over_when_the_first_goes() -> None:
    watched = Watched()
    watched.apply(report(native(), file="/1"), report(native(command=("other",)), file="/2"))
    watched.apply(FileReport("/1"))
    want = watched.store.get("shop")
    assert want is not None and want.vassal is not None and want.vassal.launch.command == ("other",)
    assert want.conflict is None and want.generation == 2 and want.file == "/2"


def test_the_second_claimants_edits_and_end_change_nothing_for_the_first() -> None:
    watched = Watched()
    watched.apply(report(native(), file="/1"), report(native(command=("other",)), file="/2"))
    watched.apply(report(native(command=("third",)), file="/2", digest="2"))
    watched.apply(FileReport("/2"))
    want = watched.store.get("shop")
    assert want is not None and want.vassal == native() and want.generation == 1 and want.conflict is None


def test_only_the_first_snapshot_of_a_source_is_warm() -> None:
    watched = Watched()
    watched.apply(report(native("a"), file="/1"), complete=True)
    watched.apply(report(native("b"), file="/2"))
    a, b = watched.store.get("a"), watched.store.get("b")
    assert a is not None and a.warm and b is not None and not b.warm


def test_what_was_there_at_the_first_listing_is_warm_however_long_it_took_to_parse() -> None:
    watched = Watched()
    there = frozenset({"/1", "/2", "/3", "/4"})
    watched.store.apply(Change(SOURCE, (report(native("a"), file="/1"),), there))
    watched.store.apply(Change(SOURCE, (), there - {"/4"}))
    for name, file in (("b", "/2"), ("c", "/3"), ("d", "/4"), ("e", "/5")):
        watched.apply(report(native(name), file=file))
    found = {name: desired.warm for name in "abcde" if (desired := watched.store.get(name))}
    assert found == {"a": True, "b": True, "c": True, "d": False, "e": False}
    watched.apply(FileReport("/2"), report(native("f"), file="/2"))
    again = watched.store.get("f")
    assert again is not None and not again.warm


def test_suspension_is_remembered_for_names_that_are_not_there_yet() -> None:
    watched = Watched(suspended=("shop",))
    watched.apply(report(native()))
    want = watched.store.get("shop")
    assert want is not None and want.suspended
    watched.store.suspend("shop", False)
    assert watched.store.get("shop") == replace(want, suspended=False, pardons=1)
    assert watched.store.suspended == frozenset()


def test_orders_of_people_are_counted() -> None:
    watched = Watched()
    watched.apply(report(native()))
    watched.store.order_reload("shop")
    watched.store.pardon("shop")
    want = watched.store.get("shop")
    assert want is not None and (want.orders, want.pardons) == (1, 2)


def test_a_report_in_parts_ends_with_what_is_present() -> None:
    watched = Watched()
    watched.store.apply(Change(SOURCE, (report(native("a"), file="/1"),)))
    watched.store.apply(Change(SOURCE, (report(native("b"), file="/2"),), frozenset({"/1", "/2"})))
    assert watched.store.names() == ["a", "b"]


def test_a_bad_file_keeps_no_name_from_a_good_one() -> None:
    watched = Watched()
    broken = FileReport("/vassals/shop.json", problem=BROKEN, fallback_name="shop")
    watched.apply(broken)
    watched.apply(report(native()))
    want = watched.store.get("shop")
    assert want is not None and want.vassal == native() and want.problem is None and want.file == "/vassals/f.yaml"
    assert want.conflict is not None and "/vassals/shop.json" in want.conflict.message


def test_a_bad_second_claimant_is_told_what_is_wrong_with_it() -> None:
    watched = Watched()
    watched.apply(report(native()))
    broken = FileReport("/vassals/shop.json", problem=BROKEN, fallback_name="shop")
    watched.apply(broken)
    watched.apply(broken)
    want = watched.store.get("shop")
    assert want is not None and want.vassal == native() and want.problem is None
    assert watched.notes == [("shop", "Conflict"), ("shop", BROKEN.reason)]


def _broodlord() -> Watched:
    watched = Watched()
    watched.apply(report(uwsgi(), file="/vassals/shop.ini"))
    watched.store.reinforce("shop.ini")
    return watched


def test_a_zerg_runs_the_section_zerg_of_its_broodlords_file() -> None:
    store = _broodlord().store
    want = store.get("shop.ini:zerg")
    assert want is not None and want.vassal is not None and want.vassal.zerg_of == "shop.ini"
    assert want.vassal.launch.command == ("uwsgi", "--ini", "shop.ini:zerg")
    assert ("UWSGI_BROODLORD_NUM", "1") in want.vassal.launch.env
    assert want.file == "/vassals/shop.ini" and store.zergs == 1


def test_several_zergs_have_names_of_their_own_and_one_command() -> None:
    store = _broodlord().store
    store.reinforce("shop.ini")
    store.reinforce("shop.ini")
    store.dismiss("shop.ini:zerg2")
    store.reinforce("shop.ini")
    assert store.names() == ["shop.ini", "shop.ini:zerg", "shop.ini:zerg3", "shop.ini:zerg2"]
    zergs = [store.get(name) for name in store.names()[1:]]
    assert {want.vassal.launch.command[-1] for want in zergs if want and want.vassal} == {"shop.ini:zerg"}
    assert store.zergs == 3


def test_zergs_reload_with_their_file() -> None:
    watched = _broodlord()
    watched.apply(report(uwsgi(), file="/vassals/shop.ini", touch=2))
    touched = watched.store.get("shop.ini:zerg")
    assert touched is not None and touched.orders == 1 and touched.generation == 1
    watched.apply(report(uwsgi(content="b"), file="/vassals/shop.ini", digest="2", touch=3))
    edited = watched.store.get("shop.ini:zerg")
    assert edited is not None and edited.vassal is not None
    assert edited.vassal.content == "b" and edited.generation == 2


@pytest.mark.parametrize("order", ["remove", "suspend"])
def test_zergs_go_with_their_broodlord(order: str) -> None:
    watched = _broodlord()
    watched.store.reinforce("shop.ini")
    if order == "remove":
        watched.apply(FileReport("/vassals/shop.ini"))
    else:
        watched.store.suspend("shop.ini", True)
    assert watched.store.get("shop.ini:zerg") is None and watched.store.zergs == 0
    assert {"shop.ini:zerg", "shop.ini:zerg2"} <= set(watched.woken)


def test_nobody_can_reinforce_what_may_not_run() -> None:
    watched = _broodlord()
    watched.store.suspend("shop.ini", True)
    watched.store.reinforce("shop.ini")
    watched.store.reinforce("ghost.ini")
    assert watched.store.zergs == 0


def test_a_zerg_never_takes_the_name_that_a_file_claims() -> None:
    watched = Watched()
    watched.apply(report(uwsgi(), file="/vassals/shop.ini"), report(uwsgi("shop.ini:zerg"), file="/vassals/other"))
    watched.store.reinforce("shop.ini")
    assert watched.store.names() == ["shop.ini", "shop.ini:zerg", "shop.ini:zerg2"]
    claimed = watched.store.get("shop.ini:zerg")
    assert claimed is not None and claimed.file == "/vassals/other"


def test_a_file_that_claims_a_living_zergs_name_waits_for_its_end() -> None:
    watched = _broodlord()
    watched.apply(report(uwsgi("shop.ini:zerg", content="own"), file="/vassals/other"))
    zerg = watched.store.get("shop.ini:zerg")
    assert zerg is not None and zerg.vassal is not None and zerg.vassal.zerg_of == "shop.ini"
    assert zerg.conflict is not None and zerg.conflict.reason == "Conflict"
    assert "also claimed by /vassals/other" in zerg.conflict.message
    assert watched.notes == [("shop.ini:zerg", "Conflict")]
    watched.apply(report(uwsgi("shop.ini:zerg", content="own"), file="/vassals/other", touch=9))
    watched.apply(report(uwsgi(), file="/vassals/shop.ini", touch=2))
    again = watched.store.get("shop.ini:zerg")
    assert again is not None and again.orders == 1 and again.generation == 1, "the broodlord's touch, not the other's"
    watched.store.dismiss("shop.ini:zerg")
    heir = watched.store.get("shop.ini:zerg")
    assert heir is not None and heir.vassal is not None and heir.vassal.content == "own" and not heir.vassal.zerg_of
    assert heir.conflict is None and heir.file == "/vassals/other" and heir.generation == 2
    assert watched.store.zergs == 0
    watched.store.reinforce("shop.ini")
    assert "shop.ini:zerg2" in watched.store.names()


def test_a_file_that_claims_a_living_zergs_name_and_goes_leaves_the_zerg_alone() -> None:
    watched = _broodlord()
    watched.apply(report(uwsgi("shop.ini:zerg"), file="/vassals/other"))
    watched.apply(FileReport("/vassals/other"))
    zerg = watched.store.get("shop.ini:zerg")
    assert zerg is not None and zerg.conflict is None and watched.store.zergs == 1
    watched.store.dismiss("shop.ini:zerg")
    assert watched.store.get("shop.ini:zerg") is None


def test_a_broken_file_does_not_inherit_what_a_zerg_was() -> None:
    watched = _broodlord()
    watched.apply(FileReport("/vassals/other", problem=BROKEN, fallback_name="shop.ini:zerg"))
    watched.apply(FileReport("/vassals/shop.ini"))
    heir = watched.store.get("shop.ini:zerg")
    assert heir is not None and heir.vassal is None and heir.problem is not None
    assert watched.store.zergs == 0
