"""The WSGI application of hello.ini."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """One greeting for every request."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"hello from uWSGI\n"]
