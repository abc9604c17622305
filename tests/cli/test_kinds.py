from __future__ import annotations

import pytest

from emperorctl.cli.kinds import BLACKLIST_ENTRY, MONITOR, VASSAL, Target, read_targets, vassal_names
from emperorctl.models.errors import UserError


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["vassals"], []),
        (["v"], []),
        (["Vassal", "shop", "blog.ini"], ["shop", "blog.ini"]),
        (["vassal", "/etc/x/a.ini"], ["/etc/x/a.ini"]),
        (["vassal/shop", "v/blog"], ["shop", "blog"]),
        (["vassal.emperor/shop"], ["shop"]),
        (["vassal//etc/x/a.ini"], ["/etc/x/a.ini"]),
    ],
)
def test_types_and_names(words: list[str], names: list[str]) -> None:
    assert vassal_names(words) == names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required resource not specified"),
        (None, "required resource not specified"),
        (["pods"], 'the server doesn\'t have a resource type "pods"'),
        (["pods/x"], 'the server doesn\'t have a resource type "pods"'),
        (["vassal/shop", "blog"], 'expected TYPE/NAME like the others, got "blog"'),
        (["vassal/"], 'expected TYPE/NAME like the others, got "vassal/"'),
        (["vassal", ""], "a name is empty"),
        (["vassals,pods"], 'the server doesn\'t have a resource type "pods"'),
        (["events"], 'the server doesn\'t have a resource type "events": see emperorctl events'),
        (["vassals,"], 'the server doesn\'t have a resource type ""'),
        (["blacklist", "shop"], "only vassals can be described; for an entry of the blacklist see: emperorctl get"),
        (["vassal/a", "blacklist/b"], "only vassals can be described"),
        (["monitors"], "only vassals can be described"),
    ],
)
def test_wrong_types_and_names(words: list[str] | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        vassal_names(words)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("word", ["blacklist", "blacklistentries", "bl", "Blacklist", "blacklistentry.emperor"])
def test_the_blacklist_has_several_names(word: str) -> None:
    assert read_targets([word]) == [Target(BLACKLIST_ENTRY)]
    assert read_targets([word, "shop"]) == [Target(BLACKLIST_ENTRY, ("shop",))]
    assert read_targets([f"{word}//srv/a.ini"]) == [Target(BLACKLIST_ENTRY, ("/srv/a.ini",))]


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        (["vassals,blacklist"], [Target(VASSAL), Target(BLACKLIST_ENTRY)]),
        (["bl,v,vassals", "a", "b"], [Target(BLACKLIST_ENTRY, ("a", "b")), Target(VASSAL, ("a", "b"))]),
        (["v/a", "bl/b", "vassal/c"], [Target(VASSAL, ("a", "c")), Target(BLACKLIST_ENTRY, ("b",))]),
    ],
)
def test_several_kinds(words: list[str], targets: list[Target]) -> None:
    assert read_targets(words) == targets


@pytest.mark.parametrize("word", ["monitors", "monitor", "mon", "Monitor", "monitor.emperor"])
def test_sources_are_monitors(word: str) -> None:
    assert read_targets([word]) == [Target(MONITOR)]
    assert read_targets([f"{word}/dir:///etc/vassals"]) == [Target(MONITOR, ("dir:///etc/vassals",))]
    assert read_targets([word, "/etc/vassals"]) == [Target(MONITOR, ("/etc/vassals",))]
