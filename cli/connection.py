"""HTTP over a Unix socket, by the standard library.

Made by `client` with its first request, since `http.client` brings `email` and `ssl`.
"""

from __future__ import annotations

import os
import socket
import struct
from http.client import HTTPConnection

from emperorctl.models.errors import UserError

__all__ = ["PATIENCE", "Connection"]

PATIENCE = 10.0
"""Seconds that an answer may take."""

_UCRED = struct.Struct("iII")


class Connection(HTTPConnection):
    """To the socket at `path`. Raises UserError where somebody else listens there."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connect, and see who answers."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(PATIENCE)
            connection.connect(self._path)
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        except BaseException:
            connection.close()
            raise
        owner, own = _UCRED.unpack(raw)[1], os.geteuid()
        if own not in {0, owner} and owner != 0:
            connection.close()
            raise UserError(f"what answers at {self._path} belongs to another user (uid {owner}), not to you or root")
        self.sock = connection
