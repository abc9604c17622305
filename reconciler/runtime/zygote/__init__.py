"""The zygote: a small helper process that forks every vassal, and buries them all if the Emperor dies.

Started by `runtime.spawn` from a bare interpreter, where this package is the top-level package `zygote`; so it
is the standard library only, with relative imports inside. Its wire format (`orders`) and its reading of
/proc (`procfs`) are used by the Emperor too.
"""

from __future__ import annotations

__all__: list[str] = []
