"""The file of `--vassal-defaults`: a manifest that may leave out whatever it likes, read and judged as far as it goes.

Called by `monitors.defaults`. What holds a placeholder can only be judged once it is merged with a vassal's own
manifest (`merging`, `manifest`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from emperorctl.models.documents import Document, Format, Path, parse
from emperorctl.models.errors import ConfigError
from emperorctl.models.expansion import prepared
from emperorctl.models.magic import Place
from emperorctl.models.manifest import require_known
from emperorctl.models.manifest_fields import Manifest, described
from emperorctl.models.manifest_problems import path_of, problem_among, problem_at
from emperorctl.models.merging import Layers

__all__ = ["objections", "read_defaults"]


def read_defaults(data: bytes, format: Format, *, file: str, place: Place) -> Layers:
    """What the file says. `file` is the path as shown, `place` reads for it as for a manifest. Raises ConfigError."""
    try:
        documents = parse(data, format, file)
        document = documents[0]
        if len(documents) > 1:
            message = "is a second document; the defaults are one"
            raise ConfigError(problem_at(documents[1], (), "InvalidValue", message, "write all into one document"))
        if not isinstance(document.data, dict):
            message = f"expected a mapping with apiVersion, kind and spec, got {described(document.data)}"
            raise ConfigError(problem_at(document, (), "InvalidValue", message))
        require_known(document)
        return _layers(document, file, place)
    except ConfigError as error:
        raise ConfigError(error.problem.at(file)) from None


def _layers(document: Document, file: str, place: Place) -> Layers:
    data = document.data
    name: Path = ("metadata", "name")
    if isinstance(data.get("metadata"), dict) and "name" in data["metadata"]:
        message = "can't be a default: every vassal has a name of its own"
        raise ConfigError(problem_at(document, name, "InvalidValue", message, "remove it"))
    found = objections(data)
    if found:
        raise ConfigError(problem_among(found, document))
    defaults = {}
    for part in ("metadata", "spec"):
        if part in data:
            defaults[part] = _prepared(data[part], (part,), place, document)
    lines = {path: line for path in _paths(defaults, ()) if (line := document.line_of(path)[0])}
    return Layers(defaults=defaults, file=file, lines=lines)


def objections(data: Mapping[str, Any]) -> list[Any]:
    """What is wrong with a partial manifest, in pydantic's words: nothing is missing in it, and what holds a
    placeholder is not judged yet."""
    try:
        Manifest.model_validate(dict(data))
    except ValidationError as error:
        return [
            item
            for item in error.errors(include_url=False)
            if item["type"] != "missing" and not _open(item["input"], data, path_of(item))
        ]
    return []


def _open(value: Any, data: Any, path: Path) -> bool:
    """Whether there is a placeholder in what was objected to."""
    for key in path:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(data, str):
            break
    return any(isinstance(text, str) and ("%" in text or "$(" in text or "@(" in text) for text in (value, data))


def _prepared(value: Any, path: Path, place: Place, document: Document) -> Any:
    """The values with environment and files read in; only spec has placeholders. Raises ConfigError."""
    if isinstance(value, dict):
        return {key: _prepared(inner, (*path, key), place, document) for key, inner in value.items()}
    if value is None:
        message, remedy = "expected a value, got nothing", "remove the field: the defaults have nothing to remove"
        raise ConfigError(problem_at(document, path, "InvalidValue", message, remedy))
    if path[0] != "spec":
        return value
    try:
        return prepared(value, place)
    except ConfigError as error:
        problem = error.problem
        raise ConfigError(problem_at(document, path, problem.reason, problem.message, problem.remedy)) from None


def _paths(value: Any, path: Path) -> list[Path]:
    if not isinstance(value, dict):
        return [path]
    return [path, *(inner for key, item in value.items() for inner in _paths(item, (*path, key)))]
