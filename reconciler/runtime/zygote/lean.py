"""The modules `signal` and `socket` without their enumerations, and nothing of `typing` or `contextlib` at run time.

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

__all__ = ["TOLERANT", "signal", "socket"]


class _Tolerant:
    """What `contextlib.suppress(OSError)` is."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


TOLERANT = _Tolerant()
"""Around something whose failure changes nothing."""
