"""Which user and group id stands for strangers: in a user namespace, all ids that it does not map look like one.

Asked where ids of others decide something: by the control socket and for the gate of tyrant mode. Where every id is
mapped, as it is outside of user namespaces, there are none. Read once; maps can't change.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

__all__ = ["Overflow", "overflow", "whole"]

_ALL = 2**32 - 1
_USUAL = 65534


@dataclass(frozen=True, slots=True)
class Overflow:
    """The `uid` and `gid` that ids look like which can't be told apart here; None where there are no such ids."""

    uid: int | None = None
    gid: int | None = None


@functools.cache
def overflow() -> Overflow:
    """Those of this process's user namespace. What can't be found out counts as not mapped."""
    return Overflow(*(_id(kind) for kind in ("uid", "gid")))


def whole(id_map: str) -> bool:
    """Whether the text of a uid_map or gid_map maps every id there is (-1 is none)."""
    try:
        ranges = sorted((int(first), int(count)) for first, _, count in map(str.split, id_map.splitlines()))
    except ValueError:
        return False
    reached = 0
    for first, count in ranges:
        if first != reached:
            return False
        reached += count
    return reached >= _ALL


def _id(kind: str) -> int | None:
    try:
        with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
            if whole(file.read()):
                return None
        with open(f"/proc/sys/kernel/overflow{kind}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _USUAL
