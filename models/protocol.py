"""The emperor protocol: single bytes over a stream socket pair between the Emperor and a vassal."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["EXIT_DO_NOT_RESPAWN", "FromVassal", "ToVassal"]


class ToVassal(IntEnum):
    """What the Emperor says."""

    STOP = 0
    RELOAD = 1
    STOP_GRACEFULLY = 2


class FromVassal(IntEnum):
    """What a vassal says."""

    SPAWNED = 1
    CONFIG = 2
    ACCEPTING = 5
    LOYAL = 17
    WILL = 22
    HEARTBEAT = 26
    REINFORCEMENTS = 30


EXIT_DO_NOT_RESPAWN = 26
"""The exit code that asks not to be started again: the program could not be run."""
