"""How orders and results travel between the Emperor and the parser's process: JSON and raw bytes, never pickle.

Used by `outside` (the Emperor's end, which trusts nothing it reads) and `worker` (the other end).
A job is two lines of JSON (the setting; orders without their data, sizes) followed by the files' bytes; a result is one
line of JSON for each file, in order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from emperorctl.models.merging import NO_LAYERS, Layers
from emperorctl.models.names import printable
from emperorctl.models.protocol import CONFIG_MAX
from emperorctl.models.source import Claim
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.parsing import Facts, Order, Parsed, Setting

__all__ = ["MAX_RESULT", "decode_job", "decode_result", "encode_job", "encode_result"]

MAX_RESULT = 8 * 1024 * 1024
"""The longest line of one result, in bytes."""

_last: tuple[Setting | None, bytes] = (None, b"")


@cache
def _results() -> TypeAdapter[Parsed]:
    return TypeAdapter(Parsed)


@cache
def _runs() -> TypeAdapter[UwsgiRun]:
    return TypeAdapter(UwsgiRun)


def encode_job(orders: Sequence[Order], setting: Setting) -> bytes:
    """The bytes of a job."""
    said = [[o.file, o.path, o.identity, o.inode, o.executable, o.on_demand, o.owner, len(o.data)] for o in orders]
    return b"".join([_encoded(setting), b"\n", json.dumps(said).encode(), b"\n", *(order.data for order in orders)])


def _encoded(setting: Setting) -> bytes:
    """A source's setting is the same for thousands of jobs."""
    global _last
    if _last[0] is not setting:
        _last = setting, _encode(setting)
    return _last[1]


def _encode(setting: Setting) -> bytes:
    head: dict[str, Any] = {
        "source": setting.source,
        "vassals_dir": setting.vassals_dir,
        "working_dir": setting.working_dir,
        "moved": setting.moved,
        "run": _runs().dump_python(setting.run, mode="json"),
        "facts": asdict(setting.facts),
        "layers": _layers_out(setting.layers),
    }
    return json.dumps(head).encode()


def decode_job(data: bytes) -> tuple[list[Order], Setting]:
    """The job in these bytes; from the Emperor, so it is taken as it is."""
    line, _, rest = data.partition(b"\n")
    said, _, rest = rest.partition(b"\n")
    head = json.loads(line)
    run = _runs().validate_python(head["run"])
    facts, layers = Facts(**head["facts"]), _layers_in(head["layers"])
    setting = Setting(head["source"], head["vassals_dir"], head["working_dir"], run, facts, layers, head["moved"])
    orders, position = [], 0
    for file, path, identity, inode, executable, on_demand, owner, size in json.loads(said):
        data = rest[position : position + size]
        orders.append(Order(file, path, identity, inode, data, executable, on_demand, owner))
        position += size
    return orders, setting


def _layers_out(layers: Layers) -> list[Any] | None:
    if not layers:
        return None
    lines = [[list(path), line] for path, line in layers.lines.items()]
    return [dict(layers.defaults), dict(layers.given), layers.file, lines]


def _layers_in(sent: list[Any] | None) -> Layers:
    if sent is None:
        return NO_LAYERS
    defaults, given, file, lines = sent
    return Layers(defaults, given, file, {tuple(path): line for path, line in lines})


def encode_result(parsed: Parsed) -> bytes:
    """One result, with its newline; the config itself does not travel back, but what was cut out of it does."""
    if any(_has_config(claim) for claim in parsed.claims):
        parsed = _with_config(parsed, b"")
    return _results().dump_json(parsed, warnings="none", fallback=_plain) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def decode_result(line: bytes, order: Order, setting: Setting) -> Parsed:
    """The result in a line, accepted only if it speaks of this file alone. Raises ValueError."""
    try:
        parsed = _results().validate_json(line, strict=True)
    except ValidationError as error:
        raise ValueError(f"not a result: {error.error_count()} errors") from None
    if (parsed.problem is None) == (not parsed.claims):
        raise ValueError("neither claims nor a problem, or both")
    for claim in parsed.claims:
        vassal = claim.vassal
        if (vassal is None) == (claim.problem is None) or printable(claim.name) != claim.name:
            raise ValueError("a claim that can't be")
        if vassal is not None and (vassal.name, vassal.file, vassal.source) != (claim.name, order.file, setting.source):
            raise ValueError("a claim in another's name")
        if vassal is not None and vassal.section:
            if vassal.name != f"{order.identity}:{vassal.section}" or len(vassal.config) > CONFIG_MAX:
                raise ValueError("a section that is not the file's")
        elif vassal is not None and vassal.config:
            raise ValueError("a config that is not the file's")
        if vassal is not None and vassal.owner is not None:
            raise ValueError("an owner, which is not the file's to say")
    return _with_config(parsed, order.data) if setting.run.config_pipe else parsed


def _has_config(claim: Claim) -> bool:
    """Whether it is the claim of a vassal that is sent the whole file."""
    return claim.vassal is not None and claim.vassal.launch.config_pipe and not claim.vassal.section


def _with_config(parsed: Parsed, config: bytes) -> Parsed:
    """The same with this config in the vassal that has one to be sent."""
    claims = tuple(
        replace(claim, vassal=replace(claim.vassal, config=config))
        if claim.vassal is not None and _has_config(claim)
        else claim
        for claim in parsed.claims
    )
    return replace(parsed, claims=claims)
