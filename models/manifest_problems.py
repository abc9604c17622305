"""What a manifest's validation found wrong, in words: field, line, what was expected and found, and the remedy.

Called by `manifest` with pydantic's errors. Not in here: any rule about what is right (`manifest_fields`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from emperorctl.models.documents import Document, Path
from emperorctl.models.errors import Problem
from emperorctl.models.manifest_fields import Manifest, described
from emperorctl.models.names import printable
from emperorctl.models.suggest import folded, nearest

__all__ = ["dotted", "model_at", "path_of", "problem_among", "problem_at", "problem_of"]

_ELSEWHERE = {
    "args": "spec.command",
    "argv": "spec.command",
    "cmd": "spec.command",
    "exec": "spec.command",
    "execstart": "spec.command",
    "program": "spec.command",
    "script": "spec.command",
    "environment": "spec.env",
    "envvars": "spec.env",
    "execstartpre": "spec.hooks.preStart",
    "execstartpost": "spec.hooks.postStart",
    "execstoppost": "spec.hooks.postStop",
    "lifecycle": "spec.hooks",
    "variables": "spec.env",
    "chdir": "spec.workingDir",
    "cwd": "spec.workingDir",
    "directory": "spec.workingDir",
    "workdir": "spec.workingDir",
    "workingdirectory": "spec.workingDir",
    "runas": "spec.user",
    "runasuser": "spec.user",
    "uid": "spec.user",
    "username": "spec.user",
    "gid": "spec.group",
    "runasgroup": "spec.group",
    "priority": "spec.nice",
    "limits": "spec.rlimits",
    "memorymax": "spec.resources.limits.memory",
    "memorylimit": "spec.resources.limits.memory",
    "cpuquota": "spec.resources.limits.cpu",
    "tasksmax": "spec.resources.limits.pids",
    "pidslimit": "spec.resources.limits.pids",
    "weight": "spec.resources.limits.ioWeight",
    "ulimits": "spec.rlimits",
    "limitnofile": "spec.rlimits.nofile",
    "onreload": "spec.reload",
    "reloadsignal": "spec.reload.signal",
    "killsignal": "spec.stop.signal",
    "stopsignal": "spec.stop.signal",
    "grace": "spec.stop.gracePeriod",
    "killtimeout": "spec.stop.gracePeriod",
    "stoptimeout": "spec.stop.gracePeriod",
    "stopwaitsecs": "spec.stop.gracePeriod",
    "terminationgraceperiodseconds": "spec.stop.gracePeriod",
    "timeout": "spec.stop.gracePeriod",
    "timeoutstopsec": "spec.stop.gracePeriod",
    "listen": "spec.onDemand.addresses",
    "sockets": "spec.onDemand.addresses",
    "socketactivation": "spec.onDemand",
    "idletimeout": "spec.onDemand.idleTimeout",
    "notifyaccess": "spec.readiness.notify.access",
    "readinessprobe": "spec.readiness",
    "startsecs": "spec.loyalty.after",
    "namespaces": "spec.isolation.namespaces",
    "privatetmp": "spec.isolation.privateTmp",
    "privatedevices": "spec.isolation.privateDevices",
    "privatenetwork": "spec.network",
    "readonlypaths": "spec.isolation.readOnlyPaths",
    "inaccessiblepaths": "spec.isolation.inaccessiblePaths",
    "rootdirectory": "spec.isolation.chroot",
    "capabilityboundingset": "spec.isolation.capabilities",
    "ambientcapabilities": "spec.isolation.capabilities",
    "nonewprivs": "spec.isolation.noNewPrivileges",
    "log": "spec.logs",
    "logging": "spec.logs",
    "size": "spec.logs.maxSize",
    "backups": "spec.logs.maxFiles",
    "tags": "metadata.labels",
}
"""What other tools call a field, folded (`suggest.folded`) → where it is here."""

_WORDS = {
    "string_type": "a string",
    "int_type": "an integer",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def dotted(path: Path) -> str:
    """A path as people write it: `spec.command[2]`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else ("." if out else "") + printable(str(part)[:80])
    return out


def problem_at(document: Document, path: Path, reason: str, message: str, remedy: str = "") -> Problem:
    """A problem with one field of a document, without the file's name unless the field comes from elsewhere."""
    line, column = document.line_of(path)
    file = document.file_of(path)
    return Problem(reason, message, remedy, file=file, line=line, column=column, field=dotted(path))


def problem_of(error: ValidationError, document: Document) -> Problem:
    """The most telling of the errors: the first in the file, what is missing last; the others are counted."""
    return problem_among(error.errors(include_url=False), document)


def problem_among(found: Sequence[ErrorDetails], document: Document) -> Problem:
    """The same of some of pydantic's errors, at least one."""
    places = [document.line_of(path_of(item)) for item in found]
    order = [
        (item["type"] == "missing", place[0] or 0, place[1] or 0, index)
        for index, (item, place) in enumerate(zip(found, places, strict=True))
    ]
    item = dict(found[min(order)[3]])
    reason, message, remedy = _words(item, document)
    if len(found) > 1:
        message += f"; and {len(found) - 1} more in this document"
    return problem_at(document, path_of(item), reason, message, remedy)


def path_of(item: Any) -> Path:
    """The place of an error: pydantic's, and the member that one of our own names."""
    path = tuple(part for part in item["loc"] if part != "[key]")
    key = item.get("ctx", {}).get("key")
    return path if key is None else (*path, key)


def _words(item: dict[str, Any], document: Document) -> tuple[str, str, str]:
    path, value, context = path_of(item), item["input"], item.get("ctx", {})
    got = described(value, document.source_of(path))
    match item["type"]:
        case "refused":
            return "InvalidValue", context["message"], context["remedy"]
        case "expected":
            return "InvalidValue", f"expected {context['what']}, got {got}", context["remedy"]
        case "missing":
            return "MissingField", "is missing", f"add {dotted(path)}"
        case "extra_forbidden":
            return _unknown(path)
        case "greater_than_equal" | "less_than_equal":
            low, high = context.get("ge"), context.get("le")
            expected = f"at least {low}" if low is not None else f"at most {high}"
            return "InvalidValue", f"expected {expected}, got {got}", ""
        case "string_type":
            return "InvalidValue", f"expected a string, got {got}", _quoted(value, document.source_of(path))
        case "model_type" if isinstance(value, str) and value in _names(model_at(path)):
            return "InvalidValue", f"expected a mapping, got {got}", f"write {{{value}: {{}}}}"
        case "literal_error":
            return "InvalidValue", f"expected {context['expected'].replace(chr(39), '')}, got {got}", ""
        case kind:
            return "InvalidValue", f"expected {_WORDS.get(kind, item['msg'])}, got {got}", ""


def _quoted(value: Any, source: str | None) -> str:
    if not isinstance(value, bool | int | float):
        return ""
    text = source or (str(value).lower() if isinstance(value, bool) else str(value))
    return f'write "{printable(text[:60])}" in quotes'


def _unknown(path: Path) -> tuple[str, str, str]:
    parent, word = path[:-1], str(path[-1])
    model = model_at(parent)
    known = _names(model)
    # What other tools call it says more than a likeness.
    alike = [name for name in known if folded(word) not in _ELSEWHERE or folded(name) == folded(word)]
    suggestion = nearest(word, alike)
    if suggestion is None:
        there = _ELSEWHERE.get(folded(word)) or next(
            (full for full in _everything(Manifest, "") if folded(full.rpartition(".")[2]) == folded(word)), None
        )
        if there is not None:
            above, _, last = there.rpartition(".")
            suggestion = last if above == dotted(parent) else there
    remedy = f"did you mean `{suggestion}`?" if suggestion else f"known here: {', '.join(sorted(known))}"
    if not known and not suggestion:
        remedy = "nothing is set here: write {}"
    return "UnknownField", "is not a known field", remedy


def _names(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [info.alias or name for name, info in model.model_fields.items()]


def _inner(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def model_at(path: Path) -> type[BaseModel] | None:
    """The model of the mapping at a path; None where there is none, or any keys may be."""
    model: type[BaseModel] | None = Manifest
    for part in path:
        if model is None:
            return None
        if isinstance(part, int):
            continue  # an item of a list: its model is the list's
        fields = (info for name, info in model.model_fields.items() if (info.alias or name) == part)
        model = next((_inner(info.annotation) for info in fields), None)
    return model


def _everything(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        full = f"{prefix}.{info.alias or name}".lstrip(".")
        yield full
        if (inner := _inner(info.annotation)) is not None:
            yield from _everything(inner, full)
