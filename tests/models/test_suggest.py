"""Did you mean …?"""

from __future__ import annotations

import pytest

from emperorctl.models.suggest import nearest

KNOWN = ["workingDir", "command", "env", "user", "reload"]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("working_dir", "workingDir"),
        ("Working-Dir", "workingDir"),
        ("WORKINGDIR", "workingDir"),
        ("comand", "command"),
        ("realod", "reload"),
        ("zebra", None),
        ("", None),
        ("x" * 10_000, None),
    ],
)
def test_nearest(word: str, found: str | None) -> None:
    assert nearest(word, KNOWN) == found
