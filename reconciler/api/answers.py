"""What the API answers: objects, lists and Status documents in Kubernetes' shape, as Starlette responses.

Also the one place where errors become HTTP. Streams are in `streams`, the routes in `routes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from emperorctl.models.errors import (
    Ambiguous,
    ConfigError,
    EmperorError,
    Forbidden,
    NotFound,
    NotRunning,
    SuspendedByFile,
    TooMany,
    UserError,
    WorldError,
)
from emperorctl.models.names import printable

__all__ = [
    "Refused",
    "failure",
    "list_parts",
    "object_bytes",
    "on_error",
    "on_http_error",
    "respond",
    "status_bytes",
    "success",
]

_HTTP_REASONS = {404: "NotFound", 405: "MethodNotAllowed"}


class Refused(EmperorError):
    """A request is answered with this Status; `code` is the HTTP status, `reason` its CamelCase word."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


def object_bytes(value: object) -> bytes:
    """One API object as compact JSON. Undecodable bytes of file names come out as visible escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(_cleaned(value), ensure_ascii=False, separators=(",", ":")).encode()


def respond(value: object, code: int = 200) -> Response:
    """One object as the whole answer."""
    return Response(object_bytes(value) + b"\n", status_code=code, media_type="application/json")


def success(**details: object) -> Response:
    """An order was accepted; it takes effect later."""
    return respond({"apiVersion": "v1", "kind": "Status", "status": "Success", "details": details})


def status_bytes(refused: Refused) -> bytes:
    """The Status document that says no."""
    return object_bytes(
        {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "reason": refused.reason,
            "message": printable(str(refused)),
            "code": refused.code,
        }
    )


def failure(code: int, reason: str, message: str, *, close: bool = False) -> Response:
    """An order or a question was refused; `close` ends the connection, so that no more of the request is read."""
    body = status_bytes(Refused(code, reason, message)) + b"\n"
    response = Response(body, status_code=code, media_type="application/json")
    if close:
        response.headers["connection"] = "close"
    return response


def list_parts(kind: str, version: int, items: Sequence[bytes], most: int = 256 * 1024) -> Iterable[bytes]:
    """A list document from encoded objects, in pieces of about `most` bytes."""
    head = f'{{"apiVersion":"emperor/v1","kind":"{kind}","metadata":{{"resourceVersion":"{version}"}},"items":['
    gathered: list[bytes] = [head.encode()]
    size = 0
    for index, item in enumerate(items):
        if index:
            gathered.append(b",")
        gathered.append(item)
        size += len(item)
        if size >= most:
            yield b"".join(gathered)
            gathered, size = [], 0
    gathered.append(b"]}\n")
    yield b"".join(gathered)


async def on_error(_request: Request, error: Exception) -> Response:
    """Every error that a route raises on purpose, and the bugs."""
    match error:
        case Refused():
            return failure(error.code, error.reason, str(error))
        case Forbidden():
            return failure(403, "Forbidden", str(error))
        case NotFound():
            return failure(404, "NotFound", str(error))
        case Ambiguous():
            return failure(409, "Ambiguous", str(error))
        case NotRunning():
            return failure(409, "NotRunning", str(error))
        case SuspendedByFile():
            return failure(409, "SuspendedByFile", str(error))
        case ConfigError():
            return failure(422, "Invalid", str(error))
        case UserError():
            return failure(400, "BadRequest", str(error))
        case TooMany():
            return failure(429, "TooManyRequests", str(error))
        case WorldError():
            return failure(503, "ServiceUnavailable", str(error))
        case _:
            message = "the Emperor made a mistake and goes on; its log says more"
            return failure(500, "InternalError", message, close=True)


async def on_http_error(request: Request, error: Exception) -> Response:
    """No such path, or not with this method."""
    assert isinstance(error, HTTPException)
    reason = _HTTP_REASONS.get(error.status_code, "BadRequest")
    message = f"the API has no {request.method} {request.scope['path'][:200]}"
    return failure(error.status_code, reason, message)


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_cleaned(key): _cleaned(item) for key, item in value.items()}
        case list() | tuple():
            return [_cleaned(item) for item in value]
        case _:
            return value
