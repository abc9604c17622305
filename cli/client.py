"""The client of the control socket: requests, answers, streams, and the one place where connection errors are named.

HTTP by the standard library over a Unix socket. Used by every command that talks to an Emperor.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import quote, urlencode

from emperorctl.models.errors import EmperorUnreachable, UserError

__all__ = ["BLACKLIST", "EVENTS", "MONITORS", "STATS", "VASSALS", "Client", "Refusal", "one_object", "one_vassal"]

_API = "/apis/emperor/v1"
VASSALS = f"{_API}/vassals"
EVENTS = f"{_API}/events"
BLACKLIST = f"{_API}/blacklist"
MONITORS = f"{_API}/monitors"
STATS = f"{_API}/stats"
_PATIENCE = 10.0
_UCRED = struct.Struct("iII")


class Refusal(UserError):
    """The Emperor said no; `reason` is the CamelCase word of its Status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"Error from server ({reason}): {message}")
        self.reason = reason


def one_object(path: str, name: str, *more: str) -> str:
    """The path of one object in the list at `path`, or of something about it."""
    return "/".join((path, quote(name, safe="", errors="surrogateescape"), *more))


def one_vassal(name: str, *more: str) -> str:
    """The path of one vassal, or of something about it."""
    return one_object(VASSALS, name, *more)


class _Connection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(_PATIENCE)
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


class Client:
    """One Emperor, known by its socket; one connection, made when it is first needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection = _Connection(path)
        self._response: HTTPResponse | None = None

    def close(self) -> None:
        """Hang up."""
        if self._response is not None:
            self._response.close()
        self._connection.close()

    def connect(self) -> socket.socket:
        """A connection to speak over without HTTP's client. To be called within `named_errors`."""
        self._connection.connect()
        connection: socket.socket = self._connection.sock
        return connection

    def get(self, path: str, **query: str) -> Any:
        """The document at `path`. Raises Refusal, EmperorUnreachable or UserError."""
        return self._ask("GET", path, query)

    def post(self, path: str, body: object = None) -> Any:
        """Give an order; the Status that accepts it."""
        return self._ask("POST", path, {}, body)

    def chunks(self, path: str, **query: str) -> Iterator[bytes]:
        """A stream as it comes, until the Emperor ends it."""
        with self.named_errors():
            response = self._send("GET", path, query)
            self._patient(response)
            while data := response.read1(65536):
                yield data
            if response.length:
                raise IncompleteRead(b"", response.length)

    def changes(self, path: str, **query: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """A watch: (ADDED|MODIFIED|DELETED, object), until the Emperor ends it."""
        with self.named_errors():
            response = self._send("GET", path, {**query, "watch": "true"})
            self._patient(response)
            while line := response.readline():
                change = json.loads(line)
                if change["type"] == "ERROR":
                    raise Refusal(change["object"]["reason"], change["object"]["message"])
                yield change["type"], change["object"]
        raise EmperorUnreachable(f"The Emperor at {self.path} ended the watch: it is stopping")

    def _ask(self, method: str, path: str, query: dict[str, str], body: object = None) -> Any:
        with self.named_errors():
            response = self._send(method, path, query, body)
            return json.loads(response.read())

    def _send(self, method: str, path: str, query: dict[str, str], body: object = None) -> HTTPResponse:
        sent = {key: value for key, value in query.items() if value}
        target = f"{path}?{urlencode(sent)}" if sent else path
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, target, data)
        self._response = response = self._connection.getresponse()
        if response.status >= 400:
            status = json.loads(response.read())
            raise Refusal(str(status["reason"]), str(status["message"]))
        return response

    def _patient(self, response: HTTPResponse) -> None:
        """A stream may be silent for as long as it likes."""
        if self._connection.sock is not None and not response.isclosed():
            self._connection.sock.settimeout(None)

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Within this, whatever goes wrong with the connection is EmperorUnreachable or UserError, in words."""
        try:
            yield
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            text = f"The connection to the Emperor at {self.path} was refused - is it running?"
            raise EmperorUnreachable(f"{text} Start it with: emperorctl run DIR") from None
        except PermissionError:
            text = f"permission denied on the control socket {self.path}"
            raise UserError(
                f"{text}: only root and the user who runs the Emperor may use it (or its group, with --socket-group)"
            ) from None
        except TimeoutError:
            text = f"The Emperor at {self.path} did not answer within {_PATIENCE:.0f} s"
            raise EmperorUnreachable(text) from None
        except (ValueError, KeyError, TypeError):
            raise EmperorUnreachable(f"What answers at {self.path} is not an Emperor") from None
        except (OSError, HTTPException) as error:
            if type(error) is OSError and error.errno is None:
                # What the socket module itself says, before the kernel is asked.
                raise UserError(f"the socket's path can't be used: {self.path}: {error}") from None
            raise EmperorUnreachable(f"The connection to the Emperor at {self.path} was lost: {error}") from None
