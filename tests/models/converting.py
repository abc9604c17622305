"""Conversions for tests: every manifest that comes out is read back as the Emperor would read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from emperorctl.cli.formats import manifest_text
from emperorctl.models.convert.draft import Conversion, Converted, Given
from emperorctl.models.convert.formats import convert
from emperorctl.models.convert.source_format import SourceFormat
from emperorctl.models.magic import Place
from emperorctl.models.manifest import read_manifests
from emperorctl.models.vassal import Vassal

__all__ = ["conversion", "notes", "only", "read_back", "spec"]


def read_back(manifest: Mapping[str, Any]) -> Vassal:
    """The vassal of a manifest, the same from JSON and from YAML; it lies in /vassals as NAME.yaml."""
    name = manifest["metadata"]["name"]
    place = Place(f"{name}.yaml", f"/vassals/{name}.yaml", "/vassals", hostname="box")
    found = []
    for data, format in ((json.dumps(manifest), "json"), (manifest_text(manifest), "yaml")):
        (claim,) = read_manifests(
            data.encode(),
            format,  # type: ignore[arg-type]
            file=f"{name}.yaml",
            stem=name,
            place=place,
            source="",
        )
        assert claim.problem is None, (claim.problem, data)
        assert claim.vassal is not None
        found.append(claim.vassal)
    assert (found[0].launch, found[0].spec, found[0].name) == (found[1].launch, found[1].spec, found[1].name)
    return found[1]


def conversion(
    text: str | bytes, file: str, format: SourceFormat | None = None, directory: str = "/etc/app"
) -> Conversion:
    """What a file comes to; its manifests are valid and their names differ."""
    data = text.encode() if isinstance(text, str) else text
    result = convert(Given(data, file, directory), format=format, taken=set())
    names = [read_back(one.manifest).name for one in result.converted]
    assert len(set(names)) == len(names)
    return result


def only(text: str, file: str, format: SourceFormat | None = None) -> Converted:
    """The one vassal of a file without problems."""
    result = conversion(text, file, format)
    assert not result.problems
    (one,) = result.converted
    return one


def spec(text: str, file: str, format: SourceFormat | None = None) -> dict[str, Any]:
    """Its spec."""
    found: dict[str, Any] = only(text, file, format).manifest["spec"]
    return found


def notes(one: Converted | Conversion) -> dict[str, str]:
    """Why, by setting."""
    return {note.setting: note.why for note in one.notes}
