"""Signals by name and number, for files and for sentences; pure data."""

from __future__ import annotations

import signal

__all__ = ["signal_name", "signal_number"]

_NUMBERS = {item.name: int(item) for item in signal.Signals}
_NAMES = {number: name for name, number in _NUMBERS.items() if name not in {"SIGIOT", "SIGCLD", "SIGPOLL"}}


def signal_number(text: str) -> int:
    """The number of `SIGHUP`, `HUP`, `hup` or `1`. Raises ValueError, saying what was expected."""
    word = text.strip().upper()
    if word.isascii() and word.isdigit() and 1 <= int(word) <= signal.NSIG - 1:
        return int(word)
    number = _NUMBERS.get(word if word.startswith("SIG") else f"SIG{word}")
    if number is None:
        raise ValueError(f'expected a signal such as SIGHUP, SIGUSR1 or SIGTERM, got "{text[:40]}"')
    return number


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 40` for one without a name."""
    return _NAMES.get(number, f"signal {number}")
