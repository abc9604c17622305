"""The fields of `spec.resources`: what a vassal and all that it starts may use together.

Used by `manifest_fields`. What becomes of them is in `limits`; limits of single processes are `spec.rlimits`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, PlainValidator

from emperorctl.models.limits import Limits, format_cpu, format_memory, parse_cpu, parse_memory
from emperorctl.models.manifest_values import Fields, expected, refused, schema_of
from emperorctl.models.names import printable

__all__ = ["Resources"]

_MEMORY = (1024**2, 2**50)
_CPU = (10, 1_000_000)


def _quantity(value: Any, parse: Callable[[Any], int], kinds: tuple[type, ...], what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise expected(what, value)
    try:
        return parse(value)
    except (ValueError, OverflowError) as error:
        raise refused(printable(str(error))) from None


def _memory(value: Any) -> int:
    low, high = _MEMORY
    what = f"a size from {format_memory(low)} to {format_memory(high)} such as 64Mi"
    size = _quantity(value, parse_memory, (int, str), what)
    if not low <= size <= high:
        raise expected(what, value)
    return size


def _cpu(value: Any) -> int:
    low, high = _CPU
    what = f"processors from {format_cpu(low)} to {format_cpu(high)} such as 500m or 2"
    thousandths = _quantity(value, parse_cpu, (int, float, str), what)
    if not low <= thousandths <= high:
        raise expected(what, value)
    return thousandths


Memory = Annotated[
    int,
    PlainValidator(_memory),
    schema_of(
        type=["integer", "string"], pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$", examples=["64Mi", "1G"]
    ),
]
Cpu = Annotated[
    int,
    PlainValidator(_cpu),
    schema_of(type=["number", "string"], pattern=r"^[0-9]+(\.[0-9]+)?m?$", examples=["500m", 1, 2.5]),
]


class ResourceLimits(Fields):
    """What all processes of the vassal may use together. A changed value is applied to what runs."""

    memory: Memory | None = Field(
        None, description="Memory and swap, such as 64Mi; what needs more is killed by the kernel (OOMKilled)."
    )
    cpu: Cpu | None = Field(None, description="Processor time: 500m is half of one processor, 2 are two.")
    pids: int | None = Field(
        None, ge=1, le=4_194_304, description="Processes and threads; fork(2) fails when there are so many."
    )
    io_weight: int | None = Field(
        None, ge=1, le=10_000, description="Share of a busy disk, 1 to 10000; 100 is what everybody else has."
    )


class Resources(Fields):
    """Limits enforced by control groups."""

    limits: ResourceLimits = Field(ResourceLimits(), description="What it may use at most.")
    required: bool = Field(
        True, description="Do not start it where a limit can't be enforced; false: start it, with a warning."
    )

    def meaning(self) -> Limits:
        """The same as plain data."""
        told = self.limits
        return Limits(told.memory, told.cpu, told.pids, told.io_weight, self.required)

    def effective(self) -> dict[str, Any]:
        """As the spec is shown; empty where nothing is limited."""
        written = self.meaning().written()
        return {"limits": written, "required": self.required} if written else {}
