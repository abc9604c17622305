"""The schema describes what the fields validate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from emperorctl.models.schema import manifest_schema


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)


def test_it_is_a_draft_2020_12_schema_and_json() -> None:
    schema = manifest_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["apiVersion", "kind", "spec"]
    assert json.loads(json.dumps(schema)) == schema


def test_unknown_fields_are_refused_everywhere() -> None:
    found = list(_objects(manifest_schema()))
    assert len(found) >= 8
    assert all(node["additionalProperties"] is False for node in found)


def test_every_field_is_described() -> None:
    definitions = manifest_schema()["$defs"]
    for name, definition in definitions.items():
        assert definition["description"], name
        for field, schema in definition["properties"].items():
            assert schema.get("description"), f"{name}.{field}"


def test_defaults_are_written_as_a_person_would() -> None:
    definitions = manifest_schema()["$defs"]
    assert definitions["Stop"]["properties"]["gracePeriod"]["default"] == "30s"
    assert definitions["Logs"]["properties"]["maxSize"]["default"] == "10Mi"
    assert "null" not in json.dumps(definitions)
