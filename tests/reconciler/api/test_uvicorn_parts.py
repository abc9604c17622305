"""uvicorn without its command line, and no harm to those who want that."""

from __future__ import annotations

import importlib
import sys

from emperorctl.reconciler.api import uvicorn_parts


def test_nothing_is_left_in_the_place_of_the_command_line() -> None:
    assert uvicorn_parts.H11Protocol.__module__ == "uvicorn.protocols.http.h11_impl"
    sys.modules.pop("uvicorn.main", None)
    assert callable(importlib.import_module("uvicorn.main").run)
