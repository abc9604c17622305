"""The modules `signal` and `socket` without their enumerations, and nothing of `typing` at run time.

Used by this package instead of the modules themselves. Every page of the zygote's heap is mapped at each launch, and
many are copied: `enum`, `re`, `typing` and `collections`, which the public modules bring, would be half of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
else:
    try:
        # The C parts: same functions, plain numbers.
        import _signal as signal
        import _socket as socket
    except ImportError:
        import signal
        import socket

__all__ = ["signal", "socket"]
