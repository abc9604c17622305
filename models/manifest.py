"""Native manifests: the bytes of one file into the vassals it claims, or what is wrong with it.

Called by the monitors and by `emperorctl validate`. The fields themselves are in `manifest_fields`, the wording of
errors in `manifest_problems`. Not in here: uWSGI's own configs (`uwsgi`), and any look at the file system.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from pydantic import ValidationError

from emperorctl.models.documents import Document, Format, Path, parse
from emperorctl.models.durations import format_duration
from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.expansion import Expansion
from emperorctl.models.isolation import Isolation
from emperorctl.models.magic import Place
from emperorctl.models.manifest_fields import UNLIMITED, FromFile, LimitPair, Manifest, Spec, described
from emperorctl.models.manifest_hooks import HookStep
from emperorctl.models.manifest_isolation import effective as effective_isolation
from emperorctl.models.manifest_isolation import meaning as isolation_meaning
from emperorctl.models.manifest_network import effective_network
from emperorctl.models.manifest_problems import problem_at, problem_of
from emperorctl.models.merging import NO_LAYERS, Layers, Merged, origins
from emperorctl.models.names import manifest_name, owned_name
from emperorctl.models.source import Claim
from emperorctl.models.vassal import (
    EMPTY,
    Hook,
    Hooks,
    Kind,
    Launch,
    Logs,
    Notify,
    Reload,
    ReloadMethod,
    Rlimit,
    Stop,
    StopMethod,
    Vassal,
)

__all__ = ["API_VERSIONS", "FORMATS", "KINDS", "Recognised", "read_manifests", "recognise", "require_known"]

API_VERSIONS = ("emperor/v1",)
KINDS = ("Vassal",)
FORMATS: Mapping[str, Format] = MappingProxyType({".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"})
"""The extensions that a manifest may have."""

Recognised = Literal["native", "uwsgi", "unknown"]
_BARE_KEY = re.compile(rb"^[ \t{,]*+[\"']?(kind|uwsgi)[\"']?[ \t]*+:", re.MULTILINE)
_JSON_KEY = re.compile(rb'"(kind|uwsgi)(?::[^"\\]*+)?"\s*+:')
_GUESSED = 256 * 1024

# What many vassals have alike is one object for all of them: it is read, never changed.
_ALIKE = 256
_NO_HOOKS = Hooks()
_reload_of = lru_cache(_ALIKE)(Reload)
_stop_of = lru_cache(_ALIKE)(Stop)
_logs_of = lru_cache(_ALIKE)(Logs)


@lru_cache(maxsize=2)
def _documents(data: bytes, format: Format) -> list[Document]:
    """`parse`, remembered for the moment between recognising a file and reading it; nobody changes what it returns."""
    return parse(data, format, "")


def recognise(data: bytes, format: Format) -> Recognised:
    """Whose file this is: a top-level `kind`, right or wrong, makes it native, a top-level `uwsgi` uWSGI's.

    Never raises: for a file that does not parse it is a guess by the look of its lines.
    """
    if format == "toml":
        return "native"
    try:
        documents = [document.data for document in _documents(data, format)]
    except ConfigError:
        pattern = _JSON_KEY if format == "json" else _BARE_KEY
        match = pattern.search(data, 0, _GUESSED) or _JSON_KEY.search(data, 0, _GUESSED)
        return "unknown" if match is None else "native" if match[1] == b"kind" else "uwsgi"
    tables = [data for data in documents if isinstance(data, dict)]
    if any("kind" in table for table in tables):
        return "native"
    uwsgi = any(key.partition(":")[0] == "uwsgi" for table in tables for key in table)
    return "uwsgi" if uwsgi else "unknown"


def read_manifests(  # noqa: PLR0913
    data: bytes,
    format: Format,
    *,
    file: str,
    stem: str,
    place: Place,
    source: str,
    layers: Layers = NO_LAYERS,
    owner: int | None = None,
) -> list[Claim]:
    """One claim for each document of a file.

    `file` is the path as shown to people, `stem` the name of a manifest that gives none, `source` the monitor's
    address; `layers` are merged with what each document says; `owner` is the uid by which vassals are called besides
    their names, in tyrant mode. A document that is wrong but says its name is a claim
    with a problem; ConfigError means that the file as a whole can't be used: its syntax, a missing or wrong name, two
    documents of one name.
    """
    try:
        documents = _documents(data, format)
    except ConfigError as error:
        raise ConfigError(error.problem.at(file)) from None
    names: dict[str, int] = {}
    claims = []
    for document in documents:
        try:
            name = _name(document, stem if len(documents) == 1 else None)
        except ConfigError as error:
            raise ConfigError(error.problem.at(file, document.line)) from None
        if name in names:
            message = f'two documents are named "{name}": in line {names[name]} and in line {document.line}'
            problem = Problem("DuplicateName", message, "rename one of them", file=file, line=document.line)
            raise ConfigError(problem)
        names[name] = document.line
        try:
            called = name if owner is None else owned_name(name, owner)
            known = {"vassal.name": called, "vassal.monitor": source, "vassal.file": file}
            vassal = _vassal(Merged(document, layers) if layers else document, name, place, known)
            claims.append(Claim(name, vassal=vassal))
        except ConfigError as error:
            claims.append(Claim(name, problem=error.problem.at(file, document.line)))
    return claims


def _name(document: Document, default: str | None) -> str:
    data = document.data
    if not isinstance(data, dict):
        message = f"expected a mapping with apiVersion, kind, metadata and spec, got {described(data)}"
        raise ConfigError(problem_at(document, (), "InvalidValue", message))
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    path: Path = ("metadata", "name")
    if name is None:
        if default is None:
            message = "is missing, in a file of several documents"
            raise ConfigError(problem_at(document, path, "NoName", message, "give each document its metadata.name"))
        return manifest_name(default)
    if not isinstance(name, str):
        source = document.source_of(path)
        message = f"expected a string, got {described(name, source)}"
        remedy = f'write "{source}" in quotes' if source else ""
        raise ConfigError(problem_at(document, path, "InvalidName", message, remedy))
    try:
        return manifest_name(name)
    except ConfigError as error:
        problem = error.problem
        raise ConfigError(problem_at(document, path, problem.reason, problem.message, "choose another name")) from None


def _require_known(document: Document, field: str, known: tuple[str, ...]) -> None:
    value = document.data.get(field)
    if isinstance(value, str) and value in known:
        return
    listed = " or ".join(known)
    if field not in document.data:
        remedy = f"write {field}: {listed}"
        if field == "kind":
            remedy += ", or the key uwsgi if this is a uWSGI config"
        problem = problem_at(document, (field,), "MissingField", "is missing", remedy)
    else:
        message = f"{described(value, document.source_of((field,)))} is not known; expected {listed}"
        reason = "UnknownKind" if field == "kind" else "UnknownApiVersion"
        problem = problem_at(document, (field,), reason, message, f"write {field}: {listed}")
    raise ConfigError(problem)


def require_known(document: Document) -> None:
    """Refuse (ConfigError) a document that does not say what it is, or says something else."""
    _require_known(document, "kind", KINDS)
    _require_known(document, "apiVersion", API_VERSIONS)


def _vassal(document: Document, name: str, place: Place, known: Mapping[str, str]) -> Vassal:
    require_known(document)
    data = dict(document.data)
    expansion = Expansion(document, place, known)
    if "spec" in data:
        data["spec"] = expansion.of(data["spec"], ("spec",))
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        raise ConfigError(problem_of(error, document)) from None
    spec, metadata = manifest.spec, manifest.metadata
    isolation = isolation_meaning(spec.isolation, spec.network)
    return Vassal(
        name=name,
        kind=Kind.NATIVE,
        source=known["vassal.monitor"],
        file=known["vassal.file"],
        launch=_launch(spec, isolation),
        reload=_reload(spec),
        stop=_stop_of(StopMethod.SIGNAL, spec.stop.signal, spec.stop.grace_period),
        logs=_logs_of(spec.logs.max_size, spec.logs.max_files),
        hooks=_hooks(spec),
        loyal_after=spec.loyalty.after,
        on_demand=None if spec.on_demand is None else spec.on_demand.meaning(),
        suspend=spec.suspend,
        limits=spec.resources.meaning(),
        line=document.line,
        labels=metadata.labels or EMPTY,
        annotations=metadata.annotations or EMPTY,
        spec=_effective(spec, isolation),
        origins=origins(document),
        late=expansion.late,
    )


def _launch(spec: Spec, isolation: Isolation) -> Launch:
    return Launch(
        command=tuple(spec.command),
        env=tuple(sorted((name, value) for name, value in spec.env.items() if isinstance(value, str))),
        working_dir=spec.working_dir,
        user=spec.user,
        group=spec.group,
        umask=spec.umask,
        nice=spec.nice,
        rlimits=tuple(Rlimit(name, soft, hard) for name, (soft, hard) in spec.rlimits.given()),
        protocol=spec.reload.protocol is not None,
        notify=Notify.NONE if spec.readiness is None else Notify(spec.readiness.notify.access),
        secrets=tuple(sorted((name, value.file) for name, value in spec.env.items() if isinstance(value, FromFile))),
        isolation=isolation,
    )


def _reload(spec: Spec) -> Reload:
    if spec.reload.signal is not None:
        return _reload_of(ReloadMethod.SIGNAL, spec.reload.signal)
    return _reload_of(ReloadMethod.RESTART if spec.reload.restart is not None else ReloadMethod.PROTOCOL)


def _hooks(spec: Spec) -> Hooks:
    if not any(_hook_steps(spec)):
        return _NO_HOOKS
    return Hooks(*(tuple(map(_hook, steps)) for steps in _hook_steps(spec)))


def _hook(step: HookStep) -> Hook:
    return Hook(tuple(step.command), step.timeout, step.as_emperor)


def _hook_steps(spec: Spec) -> tuple[list[HookStep], ...]:
    return spec.hooks.pre_start, spec.hooks.post_start, spec.hooks.pre_stop, spec.hooks.post_stop


def _effective(spec: Spec, isolation: Isolation) -> dict[str, Any]:
    """The spec as it is meant, in the manifest's words: variables expanded, defaults filled in."""
    out: dict[str, Any] = {
        "command": list(spec.command),
        "env": {name: _variable(value) for name, value in spec.env.items()},
    }
    if spec.vars:
        out["vars"] = dict(spec.vars)
    optional = {"workingDir": spec.working_dir, "user": spec.user, "group": spec.group, "nice": spec.nice}
    out |= {key: value for key, value in optional.items() if value is not None}
    if spec.umask is not None:
        out["umask"] = f"{spec.umask:03o}"
    if rlimits := {name: _limit(pair) for name, pair in spec.rlimits.given()}:
        out["rlimits"] = rlimits
    out["reload"] = _effective_reload(_reload(spec))
    out["stop"] = _effective_stop(spec.stop.signal, spec.stop.grace_period)
    if spec.readiness is not None:
        out["readiness"] = {"notify": {"access": spec.readiness.notify.access}}
    if spec.on_demand is not None:
        out["onDemand"] = spec.on_demand.effective()
    hooks = {
        name: [
            {"command": step.command, "timeout": format_duration(step.timeout), "asEmperor": step.as_emperor}
            for step in steps
        ]
        for name, steps in zip(("preStart", "postStart", "preStop", "postStop"), _hook_steps(spec), strict=True)
        if steps
    }
    if hooks:
        out["hooks"] = hooks
    out["loyalty"] = _effective_loyalty(spec.loyalty.after)
    out["logs"] = _effective_logs(spec.logs.max_size, spec.logs.max_files)
    if spec.suspend:
        out["suspend"] = True
    if resources := spec.resources.effective():
        out["resources"] = resources
    out["isolation"] = effective_isolation(isolation)
    if (network := effective_network(isolation)) is not None:
        out["network"] = network
    return out


@lru_cache(_ALIKE)
def _effective_reload(reload: Reload) -> dict[str, Any]:
    return (
        {"signal": _signal_name(reload.signal)} if reload.method is ReloadMethod.SIGNAL else {reload.method.value: {}}
    )


@lru_cache(_ALIKE)
def _effective_stop(signum: int, grace: float) -> dict[str, Any]:
    return {"signal": _signal_name(signum), "gracePeriod": format_duration(grace)}


@lru_cache(_ALIKE)
def _effective_loyalty(after: float) -> dict[str, Any]:
    return {"after": format_duration(after)}


@lru_cache(_ALIKE)
def _effective_logs(max_size: int, max_files: int) -> dict[str, Any]:
    return {"maxSize": _size(max_size), "maxFiles": max_files}


def _variable(value: str | FromFile) -> Any:
    return value if isinstance(value, str) else {"valueFrom": {"file": value.file}}


def _signal_name(number: int) -> str | int:
    return _SIGNALS.get(number, number)


_SIGNALS: Mapping[int, str] = MappingProxyType({int(entry): entry.name for entry in signal.Signals})


def _limit(pair: LimitPair) -> Any:
    soft, hard = (UNLIMITED if limit is None else limit for limit in pair)
    return soft if soft == hard else {"soft": soft, "hard": hard}


def _size(size: int) -> str | int:
    for unit, factor in (("Gi", 1024**3), ("Mi", 1024**2), ("Ki", 1024)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return size
