"""A reserve of file descriptors that launches leave alone, so that watching, stopping and answering always have some.

Used by `host`. The kernel gives out the lowest number that is free: how high it is says how many are left.
"""

from __future__ import annotations

import errno
import os
import resource

__all__ = ["Reserve"]

_MOST = 32


class Reserve:
    """The last descriptors below the soft limit of this moment: 32 of them, or a quarter where there are few."""

    def __init__(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._first = None if limit == resource.RLIM_INFINITY else limit - min(_MOST, limit // 4)

    def respect(self) -> None:
        """Raise OSError (EMFILE) where only the reserve is left."""
        if self._first is None:
            return
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.close(lowest)
        if lowest >= self._first:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
