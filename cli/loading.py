"""The Emperor's settings put together: arguments before environment before files before defaults, and who said what.

Called by `run`, once the zygote is on its way, and by `config view`. pydantic validates; where several places speak,
`places` merges them. What there may be is in `models/settings`. A repeatable option is taken wholly from the highest
place that gives it. Not in here: the command line's own grammar (`settings_command`), and the grammar of files
(`config_files`).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from emperorctl.cli.config_files import Given, Reading, ignored, split_section, unknown
from emperorctl.models.durations import parse_duration
from emperorctl.models.emperor_file import CONFIG_EXTENSIONS
from emperorctl.models.errors import ConfigError, Problem, UserError
from emperorctl.models.isolation import capability_number, namespace_flags
from emperorctl.models.manifest_fields import described
from emperorctl.models.settings import OPTIONS, PREFIX, REFUSED, Kind, Option, Settings
from emperorctl.models.uwsgi_options import argument_of

__all__ = ["Arguments", "Loaded", "load"]

COMMAND_LINE = "command line"
_INTERNAL = {"EMPERORCTL_INSTANCE"}
"""Marks of our own processes: an Emperor that is itself a vassal inherits them."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line holds: `words` are sources or files, `files` those of `--ini` and its like, in order;
    `options` by field, and uWSGI's own that are ignored."""

    words: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings; `origins` of those that are not defaults, by field; sentences worth a warning; the
    configuration files that were named."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]
    files: tuple[str, ...] = ()


def load(arguments: Arguments, env: Mapping[str, str]) -> Loaded:
    """The settings that all of this amounts to. Raises UserError: what, where, what was expected, what to do."""
    sources: list[str] = []
    files = list(arguments.files)
    for word in arguments.words:
        (files if _is_config(word) else sources).append(word)
    reading = Reading(env)
    for path, section in map(split_section, files):
        reading.read(path, section)
    reading.finish()
    options = dict(arguments.options)
    if sources or "emperor" in options:
        options["emperor"] = (*sources, *options.get("emperor", ()))
    given = {name: Given(name, value, COMMAND_LINE, label=f"--{OPTIONS[name].name}") for name, value in options.items()}
    variables, warnings = _variables(env)
    layers = (given, variables, _merged(reading.given))
    settings = _validated(layers)
    winners = {**layers[2], **variables, **given}
    for name, read, known in _WORDS:
        if getattr(settings, name) is not None:
            _check_words(getattr(settings, name), winners[name], read, known)
    warnings = [*(f"--{ignored(name)}" for name in arguments.foreign), *warnings, *reading.warnings]
    origins = {name: item.origin for name, item in winners.items()}
    if not settings.emperor and files and not sources:
        raise UserError(
            f"{files[-1]}: no source: there is no option emperor in it"
            " (add emperor = DIRECTORY; if it describes a vassal, name the directory that it lies in)"
        )
    return Loaded(settings, origins, tuple(warnings), tuple(split_section(file)[0] for file in files))


def _check_words(value: str, item: Given, read: Callable[[str], int], known: str) -> None:
    """Words with commas between them. Raises UserError for one that is not known."""
    for word in value.split(","):
        try:
            read(word.strip())
        except ValueError:
            message = f"expected {known}, with commas between them, got {described(word.strip())}"
            raise UserError(f"{_where(item)}{item.label}: {message}") from None


_WORDS: tuple[tuple[str, Callable[[str], int], str], ...] = (
    ("emperor_use_clone", lambda word: namespace_flags((word,)), "fs, net, ipc, pid, uts, user or cgroup"),
    ("emperor_cap", capability_number, "names of capabilities as in capabilities(7)"),
)


def _is_config(word: str) -> bool:
    """Whether a word names a configuration file rather than a source. Raises UserError for what can be neither."""
    path, _ = split_section(word)
    named = os.path.splitext(path)[1].lower() in CONFIG_EXTENSIONS
    if "://" in word or "\0" in word:
        return False
    for candidate, config in ((word, named and path == word), (path, named)):
        try:
            mode = os.stat(candidate).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            return False
        if config and stat.S_ISREG(mode):
            return True
        known = " ".join(sorted(CONFIG_EXTENSIONS))
        raise UserError(f"{word}: neither a directory nor a configuration file (a file whose name ends in {known})")
    if named and not set(word) & set("*?["):
        raise UserError(f"{word}: there is no such configuration file (a source is a directory or a pattern)")
    return False


def _variables(env: Mapping[str, str]) -> tuple[dict[str, Given], list[str]]:
    """Which fields the environment gives, and what it says that is ignored. Raises UserError for an unknown name."""
    known = {variable: option for option in OPTIONS.values() for variable in option.variables}
    found: dict[str, Given] = {}
    warnings = []
    for variable, option in known.items():
        if env.get(variable):
            found.setdefault(option.field, Given(option.field, env[variable], variable, label=variable))
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or variable in known or variable in _INTERNAL:
            continue
        name = variable.removeprefix(PREFIX).lower().replace("_", "-")
        if argument_of(name) is None:
            raise UserError(f"{variable}: {unknown(name)}")
        if name in REFUSED:
            raise UserError(f"{variable}: {name} is not supported yet (remove it; nothing would be done for it)")
        warnings.append(f"{variable}: {ignored(name)}")
    return found, warnings


def _merged(given: Iterable[Given]) -> dict[str, Given]:
    """What all files say together: the last value counts, repeatable options add up."""
    found: dict[str, Given] = {}
    for item in given:
        option, before = OPTIONS[item.field], found.get(item.field)
        if option.kind is not Kind.LIST:
            found[item.field] = item
            continue
        values = tuple(item.value) if isinstance(item.value, list) else (item.value,)
        if before is None:
            found[item.field] = Given(item.field, values, item.origin, item.file, item.line, item.label)
        else:
            origin = before.origin if item.origin in before.origin else f"{before.origin}, {item.origin}"
            found[item.field] = Given(
                item.field, (*before.value, *values), origin, before.file, before.line, item.label
            )
    return found


def _model(base: type[BaseModel]) -> type[BaseModel]:
    """The model of all options: generated, so that there is one list of them."""
    parts: dict[str, Any] = {
        option.field: (_annotation(option), Field(default=option.default)) for option in OPTIONS.values()
    }
    return create_model("EmperorSettings", __base__=base, **parts)


class _Plain(BaseModel):
    """What the model begins with where all values are from one place."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, validate_default=True)


def _annotation(option: Option) -> Any:
    range_ = [bound for bound in (option.low is not None and Ge(option.low), option.high and Le(option.high)) if bound]
    match option.kind:
        case Kind.FLAG:
            return Annotated[bool, BeforeValidator(_flag)]
        case Kind.NUMBER | Kind.MILLISECONDS:
            return Annotated[int, *range_] if option.default is not None else Annotated[int, *range_] | None
        case Kind.SECONDS:
            return Annotated[float, *range_]
        case Kind.CHOICE:
            return Literal[option.choices]
        case Kind.LIST:
            return Annotated[tuple[Annotated[str, MinLen(1)], ...], BeforeValidator(_several)]
    return Annotated[str, MinLen(1)] if option.default is not None else Annotated[str, MinLen(1)] | None


def _flag(value: Any) -> Any:
    """An option without a value is on, as in uWSGI."""
    return True if value == "" else value


def _several(value: Any) -> Any:
    """A variable holds one value, or a JSON list of several."""
    if not isinstance(value, str):
        return tuple(value)
    try:
        found = json.loads(value) if value.startswith("[") else None
    except ValueError:
        found = None  # a pattern may begin with a bracket, too
    return tuple(found) if isinstance(found, list) else (value,)


def _validated(layers: tuple[Mapping[str, Given], ...]) -> Settings:
    told = [layer for layer in layers if layer]
    try:
        if len(told) > 1:
            # Only then: most Emperors are told everything in one place, and would keep its modules for life.
            from emperorctl.cli.places import layered

            found = _model(layered(tuple(told)))()
        else:
            found = _model(_Plain)(**{name: item.value for layer in told for name, item in layer.items()})
    except ValidationError as error:
        raise _refused(error, layers) from None
    return Settings(**found.model_dump())


def _where(item: Given) -> str:
    return f"{item.origin}: " if item.file else ""


def _refused(error: ValidationError, layers: Sequence[Mapping[str, Given]]) -> UserError:
    """The first of pydantic's errors, in words."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    item = next(layer[name] for layer in layers if name in layer)
    option = OPTIONS[name]
    value = item.value
    if option.kind is Kind.LIST:
        value = next((word for word in value if not word), value) if not isinstance(value, str) else value
    message = f"expected {option.expected()}, got {described(value)}"
    remedy = _remedy(option, value)
    if item.file:
        return ConfigError(Problem("InvalidValue", message, remedy, item.file, item.line, None, item.label))
    return UserError(f"{item.label}: {message}" + (f" ({remedy})" if remedy else ""))


def _remedy(option: Option, value: Any) -> str:
    """What to write instead, where that can be told."""
    if option.kind not in (Kind.SECONDS, Kind.MILLISECONDS) or not isinstance(value, str):
        return ""
    try:
        seconds = parse_duration(value)
    except ValueError:
        return ""
    return f"write {seconds * (1000 if option.kind is Kind.MILLISECONDS else 1):g}"
