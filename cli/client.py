"""The client of the control socket: requests, answers, streams, and the one place where connection errors are named.

The HTTP itself is `connection`'s. Used by every command that talks to an Emperor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from emperorctl.models.errors import EmperorUnreachable, UserError

if TYPE_CHECKING:
    import socket
    from http.client import HTTPResponse

    from emperorctl.cli.connection import Connection

__all__ = ["BLACKLIST", "EVENTS", "MONITORS", "STATS", "VASSALS", "Client", "Refusal", "one_object", "one_vassal"]

_API = "/apis/emperor/v1"
VASSALS = f"{_API}/vassals"
EVENTS = f"{_API}/events"
BLACKLIST = f"{_API}/blacklist"
MONITORS = f"{_API}/monitors"
STATS = f"{_API}/stats"


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


class Client:
    """One Emperor, known by its socket; one connection, made when it is first needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection: Connection | None = None
        self._response: HTTPResponse | None = None

    def close(self) -> None:
        """Hang up."""
        if self._response is not None:
            self._response.close()
        if self._connection is not None:
            self._connection.close()

    def connect(self) -> socket.socket:
        """A connection to speak over without HTTP's client. To be called within `named_errors`."""
        made = self._made()
        made.connect()
        connection: socket.socket = made.sock
        return connection

    def get(self, path: str, **query: str) -> Any:
        """The document at `path`. Raises Refusal, EmperorUnreachable or UserError."""
        return self._ask("GET", path, query)

    def post(self, path: str, body: object = None) -> Any:
        """Give an order; the Status that accepts it."""
        return self._ask("POST", path, {}, body)

    def chunks(self, path: str, **query: str) -> Iterator[bytes]:
        """A stream as it comes, until the Emperor ends it."""
        from http.client import IncompleteRead

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
        made = self._made()
        made.request(method, target, data)
        self._response = response = made.getresponse()
        if response.status >= 400:
            status = json.loads(response.read())
            raise Refusal(str(status["reason"]), str(status["message"]))
        return response

    def _made(self) -> Connection:
        if self._connection is None:
            from emperorctl.cli.connection import Connection

            self._connection = Connection(self.path)
        return self._connection

    def _patient(self, response: HTTPResponse) -> None:
        """A stream may be silent for as long as it likes."""
        if self._connection is not None and self._connection.sock is not None and not response.isclosed():
            self._connection.sock.settimeout(None)

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Within this, whatever goes wrong with the connection is EmperorUnreachable or UserError, in words."""
        from http.client import HTTPException

        from emperorctl.cli.connection import PATIENCE

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
            text = f"The Emperor at {self.path} did not answer within {PATIENCE:.0f} s"
            raise EmperorUnreachable(text) from None
        except (ValueError, KeyError, TypeError):
            raise EmperorUnreachable(f"What answers at {self.path} is not an Emperor") from None
        except (OSError, HTTPException) as error:
            if type(error) is OSError and error.errno is None:
                # What the socket module itself says, before the kernel is asked.
                raise UserError(f"the socket's path can't be used: {self.path}: {error}") from None
            raise EmperorUnreachable(f"The connection to the Emperor at {self.path} was lost: {error}") from None
