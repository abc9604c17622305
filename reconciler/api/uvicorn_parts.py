"""The parts of uvicorn that are used, without its command line and its reloaders.

Imported by `protocol` alone. The package loads all of itself, with click and watchfiles, as soon as any part of it is
imported: two MiB that an Emperor would keep for life and never use.
"""

from __future__ import annotations

import sys
from types import ModuleType

__all__ = ["Config", "H11Protocol", "ServerState"]

_COMMAND_LINE = "uvicorn.main"
_there = _COMMAND_LINE in sys.modules
if not _there:
    # In its place while the package is loaded, with the names that the package takes from it.
    _nothing = ModuleType(_COMMAND_LINE)
    vars(_nothing).update(dict.fromkeys(("Server", "main", "run")))
    sys.modules[_COMMAND_LINE] = _nothing

from uvicorn.config import Config  # noqa: E402
from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: E402
from uvicorn.server import ServerState  # noqa: E402

if not _there:
    # Whoever imports it later gets the real one.
    del sys.modules[_COMMAND_LINE]
