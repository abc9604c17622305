"""The emperor protocol: single bytes over a stream socket pair between the Emperor and a vassal."""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = ["CONFIG_MAX", "EXIT_DO_NOT_RESPAWN", "FromVassal", "ToVassal", "config_packet"]

_CONFIG = 115


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

CONFIG_MAX = 0xFFFF
"""Bytes of the longest config that a packet holds: its length has 16 bits."""


def config_packet(config: bytes) -> bytes:
    """A config as it travels over `UWSGI_EMPEROR_FD_CONFIG`: a header of uWSGI's own protocol, then the text."""
    return struct.pack("<BHB", _CONFIG, len(config), 0) + config
