"""What a config reads besides itself, and ways that lead back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from emperorctl.models.magic import Place
from emperorctl.models.uwsgi_includes import Node, circle, reads

PLACE = Place("a.ini", "/v/a.ini", "/v")


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("ini", "b.ini", "/v/b.ini"),
        ("include", "/etc/c.xml", "/etc/c.xml"),
        ("inherit", "../x/./d.yml", "/x/d.yml"),
        ("ini", ":common", "/v/a.ini:common"),
        ("ini", "%p:common", "/v/a.ini:common"),
        ("json", "b.json:s", "/v/b.json:s"),
        ("yaml", ":common", None),
        ("ini", "http://host/b.ini", None),
        ("ini", "%(dir)/b.ini", None),
        ("ini", "$(DIR)/b.ini", None),
        ("ini", "%q.ini", None),
        ("chdir", "/v", None),
    ],
)
def test_what_an_option_reads(key: str, value: str, found: str | None) -> None:
    assert [str(node) for node in reads(((key, value),), PLACE, "/v")] == ([] if found is None else [found])


def test_where_conditions_decide_nothing_is_said() -> None:
    options = (("if-env", "A"), ("ini", "a.ini"), ("endif", ""))
    assert list(reads(options, PLACE, "/v")) == []


@pytest.mark.parametrize(
    ("graph", "way"),
    [
        ({"a": "b", "b": "c", "c": ""}, ""),
        ({"a": "bc", "b": "c", "c": ""}, ""),
        ({"a": "a"}, "aa"),
        ({"a": "b", "b": "c", "c": "b"}, "bcb"),
        ({"a": "bc", "b": "", "c": "da", "d": ""}, "aca"),
    ],
)
def test_a_way_back(graph: Mapping[str, str], way: str) -> None:
    found = circle([Node("a")], lambda node: [Node(path) for path in graph[node.path]])
    assert "".join(node.path for node in found) == way


def test_many_ways_to_one_place_are_walked_once() -> None:
    walked: list[str] = []

    def following(node: Node) -> list[Node]:
        walked.append(node.path)
        level = int(node.path) + 1
        return [Node(str(level))] * 2 if level < 200 else []

    assert circle([Node("0"), Node("5")], following) == []
    assert len(walked) == 200
