"""Several vassals in one uWSGI config: which there are, what travels to each, and what a change of one means."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperorctl.models.errors import ConfigError
from emperorctl.models.magic import Place
from emperorctl.models.uwsgi import read_uwsgi
from emperorctl.models.uwsgi_sections import Part, parts_of

SEVERAL = {
    ".ini": "; of all\n[uwsgi]\nmaster = 1\n[common]\nidle = 9\n[uwsgi:blog]\nenv = A=1\n; mine\nenv = B=2\n"
    "[uwsgi:shop]\nenv = C=3",
    ".yaml": "# of all\nuwsgi:\n  master: 1\ncommon:\n  idle: 9\nuwsgi:blog:\n  env: A=1\n  env: B=2\n"
    'uwsgi:shop:\n  env: "C=3"\n',
    ".json": '{"uwsgi": {"master": 1}, "common": {"idle": "9"}, "uwsgi:blog": {"env": ["A=1", "B=2"]},\n'
    '"uwsgi:shop" : {"env": "C=3"}}',
    ".xml": "<all>\n<uwsgi><master>1</master></uwsgi><common/>\n<uwsgi:blog><env>A=1</env>\n<env>B=2</env></uwsgi:blog>"
    "<uwsgi:shop><env>C=3</env></uwsgi:shop></all>",
}


def parts(text: str | bytes, ext: str, path: str = "/v/sites") -> list[Part]:
    """The vassals of a config of this extension."""
    data = text.encode() if isinstance(text, str) else text
    place = Place(f"sites{ext}", f"{path}{ext}", "/v", inode="7")
    return parts_of(data, read_uwsgi(data, ext, f"sites{ext}", several=True), ext, place)


def by_name(text: str, ext: str = ".ini") -> dict[str, Part]:
    return {part.section: part for part in parts(text, ext)}


@pytest.mark.parametrize("ext", SEVERAL)
def test_each_section_is_a_config_of_its_own(ext: str) -> None:
    found = by_name(SEVERAL[ext], ext)
    assert list(found) == ["", "blog", "shop"]
    assert not any(part.problem for part in found.values())
    assert found[""].text == b""
    again = read_uwsgi(found["blog"].text, ext, "", lenient=True)
    assert again.attributes["uwsgi" if ext == ".xml" else "blog"] == (("env", "A=1"), ("env", "B=2"))
    assert b"C=3" not in found["blog"].text
    assert b"C=3" in found["shop"].text


@pytest.mark.parametrize(
    ("ext", "text"),
    [
        (".ini", b"[blog]\nenv = A=1\n; mine\nenv = B=2\n"),
        (".yaml", b"blog:\n  env: A=1\n  env: B=2\n"),
        (".json", b'{"blog": {"env": ["A=1", "B=2"]}}\n'),
        (".xml", b'<emperor><uwsgi id="blog"><env>A=1</env>\n<env>B=2</env></uwsgi></emperor>\n'),
    ],
)
def test_what_travels_is_what_was_written_under_the_plain_name(ext: str, text: bytes) -> None:
    assert by_name(SEVERAL[ext], ext)["blog"].text == text


@pytest.mark.parametrize("ext", SEVERAL)
@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("A=1", "A=2", {"blog"}),
        ("C=3", "C=4", {"shop"}),
        ("9", "8", {"", "blog", "shop"}),
    ],
)
def test_a_change_concerns_its_own_section_or_all(ext: str, old: str, new: str, changed: set[str]) -> None:
    if ext == ".xml" and old == "9":
        old, new = "<common/>", "<common>x</common>"
    before, after = by_name(SEVERAL[ext], ext), by_name(SEVERAL[ext].replace(old, new), ext)
    assert SEVERAL[ext].replace(old, new) != SEVERAL[ext]
    assert {name for name in before if before[name].digest != after[name].digest} == changed


@pytest.mark.parametrize("ext", SEVERAL)
def test_the_plain_section_changes_alone(ext: str) -> None:
    text = SEVERAL[ext]
    changed = text.replace("master", "enable-threads")
    before, after = by_name(text, ext), by_name(changed, ext)
    assert [name for name in before if before[name].digest != after[name].digest] == [""]


def test_a_file_without_such_sections_is_one_vassal() -> None:
    assert parts("[uwsgi]\n[zerg]\n[foo:bar]\n[ uwsgi:x]\n", ".ini") == []


def test_sections_need_no_plain_one() -> None:
    assert list(by_name("[uwsgi:a]\nx = 1\n[uwsgi:b]\n")) == ["a", "b"]
    assert parts("<uwsgi:a/>", ".xml")[0].text == b'<emperor><uwsgi id="a"></uwsgi></emperor>\n'


def test_a_repeated_ini_section_goes_on() -> None:
    [part] = parts("[uwsgi:a]\nx = 1\n[other]\ny = 2\n[uwsgi:a]\nx = 3\n", ".ini")
    assert part.text == b"[a]\nx = 1\nx = 3\n\n"


@pytest.mark.parametrize(
    ("ext", "text"),
    [
        (".yaml", "uwsgi:a:\n  x: 1\nuwsgi:a:\n  x: 2\n"),
        (".json", '{"uwsgi:a": {}, "uwsgi:a": {}}'),
        (".xml", "<c><uwsgi:a/><uwsgi:a/></c>"),
    ],
)
def test_elsewhere_a_name_is_taken_once(ext: str, text: str) -> None:
    [part] = parts(text, ext)
    assert part.problem is not None
    assert part.problem.reason == "DuplicateName"


def test_what_only_the_file_could_say_is_filled_in() -> None:
    [part] = parts("[uwsgi:blog]\na = %p %n %x %d %s %e %c %i %X\nb = %% %h %(x) %k $(A)\nini = :common\n", ".ini")
    assert part.text == (
        b"[blog]\na = /v/sites.ini sites blog /v/ sites.ini ini v 7 blog\n"
        b"b = %% %h %(x) %k $(A)\nini = /v/sites.ini:common\n\n"
    )


def test_a_percent_sign_of_the_path_stays_one() -> None:
    [part] = parts("[uwsgi:a]\nx = %n\n", ".ini", path="/v/50%h")
    assert part.text == b"[a]\nx = 50%%h\n\n"


@pytest.mark.parametrize("name", ["", " a", "a b", "a:b", "a/b", "-a", ".a", "a]", "ä", "a" * 64, "a\x07"])
def test_names_that_are_none_refuse_the_file(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parts(f"[uwsgi:{name}]\nx = 1\n", ".ini")
    assert caught.value.problem.reason == "InvalidName"


def test_a_file_holds_a_thousand_at_most() -> None:
    text = "".join(f"[uwsgi:v{number}]\n" for number in range(1001))
    with pytest.raises(ConfigError) as caught:
        parts(text, ".ini")
    assert caught.value.problem.reason == "TooComplex"


@pytest.mark.parametrize("ext", SEVERAL)
def test_a_large_file_takes_time_by_its_size(ext: str) -> None:
    many = {f"uwsgi:v{number}": {"env": "A=1"} for number in range(1000)}
    common = {"x": "y" * 500_000}
    texts = {
        ".json": json.dumps({"common": common, **many}),
        ".ini": f"[common]\nx = {common['x']}\n" + "".join(f"[{name}]\nenv = A=1\n" for name in many),
        ".yaml": f"common:\n  x: {common['x']}\n" + "".join(f"{name}:\n  env: A=1\n" for name in many),
        ".xml": f"<c><x>{common['x']}</x>" + "".join(f"<{name}><env>A=1</env></{name}>" for name in many) + "</c>",
    }
    before = time.process_time()
    assert len(parts(texts[ext], ext)) == 1000
    assert time.process_time() - before < 5


@pytest.mark.parametrize(("name", "reserved"), [("zerg", True), ("zerg2", True), ("zergs", False), ("Zerg", False)])
def test_the_names_of_zergs_are_taken(name: str, reserved: bool) -> None:
    found = by_name(f"[uwsgi:{name}]\nx = 1\n[uwsgi:a]\n")
    assert (found[name].problem is not None) == reserved
    assert found["a"].problem is None


def test_uwsgis_yaml_parser_takes_the_first_key_that_begins_so() -> None:
    found = by_name("uwsgi:a:\n  x: 1\nuwsgi:\n  x: 2\n", ".yaml")
    assert found[""].problem is not None
    assert found[""].problem.reason == "SectionOrder"
    assert found["a"].problem is None


@pytest.mark.parametrize(
    ("ext", "text"),
    [
        (".yaml", "{uwsgi:a: {x: 1}}\n"),
        (".yaml", "? uwsgi:a\n: x: 1\n"),
        (".json", '{"uwsgi\\u003aa": {"x": 1}}'),
    ],
)
def test_what_can_not_be_cut_out_is_refused(ext: str, text: str) -> None:
    [part] = parts(text, ext)
    assert part.problem is not None
    assert part.problem.reason == "SectionUnclear"


def test_xml_in_another_encoding() -> None:
    text = b'<?xml version="1.0" encoding="ISO-8859-1"?><c><uwsgi:a><x>%s</x></uwsgi:a></c>'
    [plain], [foreign] = parts(text % b"e", ".xml"), parts(text % b"\xe9", ".xml")
    assert plain.problem is None
    assert plain.text.startswith(b'<?xml version="1.0" encoding="ISO-8859-1"?><emperor>')
    assert foreign.problem is not None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["uwsgi", "uwsgi:a", "uwsgi:b", "c"]), min_size=1, unique=True),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\0%"), max_size=20), min_size=4, max_size=4),
)
def test_nothing_is_lost_whatever_is_written(names: list[str], values: list[str]) -> None:
    text = "".join(f"[{name}]\nx = {value}\n" for name, value in zip(names, values, strict=False))
    config = read_uwsgi(text.encode(), ".ini", "x.ini", lenient=True)
    for part in parts_of(text.encode(), config, ".ini", Place("x.ini", "/x.ini", "/")):
        if part.section and part.problem is None:
            sent = read_uwsgi(part.text, ".ini", "", lenient=True)
            assert sent.attributes[part.section] == config.attributes[part.key]
