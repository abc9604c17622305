"""What a vassal may use at most, in Kubernetes' words: quantities such as 64Mi and 500m, and the limits made from them.

Used by `manifest` for `spec.resources`, by the plan to tell a change from another, and by the runtime to enforce them.
Not in here: how a limit is enforced (`runtime.limiting`), and limits of single processes (`vassal.Rlimit`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["NO_LIMITS", "Limits", "format_cpu", "format_memory", "parse_cpu", "parse_memory"]

_DECIMAL = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?(Ki|Mi|Gi|Ti|k|M|G|T|m)?\Z", re.ASCII)
_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}


@dataclass(frozen=True, slots=True)
class Limits:
    """What all processes of a launch may use together; None is no limit.

    `memory` is in bytes, swap included; `cpu` in thousandths of one processor's time; `pids` counts processes and
    threads; `io_weight` is the share of a busy disk, 1 to 10000, where 100 is everybody's.
    `required`: without them it is not started.
    """

    memory: int | None = None
    cpu: int | None = None
    pids: int | None = None
    io_weight: int | None = None
    required: bool = True

    @property
    def kinds(self) -> frozenset[str]:
        """Which kinds of limits there are, by the kernel's names for who enforces them."""
        values = {"memory": self.memory, "cpu": self.cpu, "pids": self.pids, "io": self.io_weight}
        return frozenset(name for name, value in values.items() if value is not None)

    def written(self) -> dict[str, Any]:
        """As a manifest has them; empty without any."""
        values: dict[str, Any] = {
            "memory": None if self.memory is None else format_memory(self.memory),
            "cpu": None if self.cpu is None else format_cpu(self.cpu),
            "pids": self.pids,
            "ioWeight": self.io_weight,
        }
        return {name: value for name, value in values.items() if value is not None}

    def sentence(self) -> str:
        """The same in one line."""
        return ", ".join(f"{name} {value}" for name, value in self.written().items())


NO_LIMITS = Limits()


def parse_memory(value: int | str) -> int:
    """Bytes of a quantity such as 64Mi, 1.5G or 4096. Raises ValueError, saying what is wrong."""
    if isinstance(value, int):
        return value
    match = _DECIMAL.match(value)
    if match is None:
        raise ValueError(f'expected a quantity such as 64Mi or 1G, got "{value[:40]}"')
    whole, fraction, unit = match[1], match[2] or "", match[3]
    if unit == "m":
        raise ValueError(f"{value[:40]} is thousandths of a byte: M is megabytes, Mi is 1024 times 1024 bytes")
    factor = (_BINARY | _UNITS).get(unit or "", 1)
    scaled = int(whole + fraction) * factor
    # As Kubernetes does: a part of a byte is a byte.
    return -(-scaled // int(10 ** len(fraction)))


def parse_cpu(value: float | str) -> int:
    """Thousandths of a processor of a quantity such as 500m, 1 or 2.5. Raises ValueError, saying what is wrong."""
    text = value if isinstance(value, str) else f"{value:.9f}" if isinstance(value, float) else str(value)
    match = _DECIMAL.match(text)
    if match is None or match[3] not in (None, "m"):
        raise ValueError(f'expected processors such as 500m, 1 or 2.5, got "{text[:40]}"')
    fraction = match[2] or ""
    scaled = int(match[1] + fraction) * (1 if match[3] == "m" else 1000)
    return -(-scaled // int(10 ** len(fraction)))


def format_memory(size: int) -> str:
    """The shortest exact way of writing so many bytes."""
    for unit, factor in reversed(_BINARY.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def format_cpu(thousandths: int) -> str:
    """So many thousandths of a processor, as Kubernetes shows them."""
    whole, rest = divmod(thousandths, 1000)
    return f"{thousandths}m" if rest else str(whole)
