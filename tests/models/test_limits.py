"""Quantities in Kubernetes' words, and the limits that a manifest gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperorctl.models.errors import Problem
from emperorctl.models.limits import NO_LIMITS, Limits, format_cpu, format_memory, parse_cpu, parse_memory
from emperorctl.models.magic import Place
from emperorctl.models.manifest import read_manifests
from emperorctl.models.vassal import Vassal

PLACE = Place("shop.yaml", "/v/shop.yaml", "/v")


def read(resources: str) -> Vassal | Problem:
    text = f"apiVersion: emperor/v1\nkind: Vassal\nspec:\n  command: [a]\n  resources: {resources}\n"
    (claim,) = read_manifests(text.encode(), "yaml", file="shop.yaml", stem="shop", place=PLACE, source="dir:///v")
    return claim.vassal or claim.problem  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("written", "size"),
    [("64Mi", 64 << 20), ("1G", 10**9), ("1.5Gi", 3 << 29), (4096, 4096), ("4096", 4096), ("1k", 1000), ("0.1", 1)],
)
def test_memory(written: str | int, size: int) -> None:
    assert parse_memory(written) == size


@pytest.mark.parametrize(
    ("written", "thousandths"),
    [("500m", 500), (1, 1000), (2.5, 2500), ("2.5", 2500), ("0.0001", 1), (0.3, 300), ("1500m", 1500)],
)
def test_cpu(written: str | float, thousandths: int) -> None:
    assert parse_cpu(written) == thousandths


@pytest.mark.parametrize("written", ["", "64MB", "-1", "1e9", "64 Mi", "٣Mi", "NaN", "500m", "9" * 40])
def test_what_is_no_memory(written: str) -> None:
    with pytest.raises(ValueError, match=r"expected a quantity|thousandths of a byte"):
        parse_memory(written)


@pytest.mark.parametrize("written", ["", "half", "1Mi", "-1", "1e3", float("nan"), float("inf")])
def test_what_is_no_processor(written: str | float) -> None:
    with pytest.raises(ValueError, match="expected processors"):
        parse_cpu(written)


@given(st.integers(1, 2**50))
def test_what_is_written_is_read_back(number: int) -> None:
    assert parse_memory(format_memory(number)) == number
    assert parse_cpu(format_cpu(number)) == number


def test_the_fields_of_a_manifest() -> None:
    vassal = read("{limits: {memory: 64Mi, cpu: 500m, pids: 100, ioWeight: 50}, required: false}")
    assert isinstance(vassal, Vassal)
    assert vassal.limits == Limits(64 << 20, 500, 100, 50, required=False)
    assert vassal.limits.kinds == {"memory", "cpu", "pids", "io"}
    written = {"memory": "64Mi", "cpu": "500m", "pids": 100, "ioWeight": 50}
    assert vassal.spec["resources"] == {"limits": written, "required": False}


def test_without_limits_there_is_nothing_to_show() -> None:
    vassal = read("{}")
    assert isinstance(vassal, Vassal)
    assert vassal.limits == NO_LIMITS and "resources" not in vassal.spec


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ("{limits: {memory: 64m}}", "thousandths of a byte"),
        ("{limits: {memory: 10Ki}}", "a size from 1Mi"),
        ("{limits: {memory: true}}", "a size from 1Mi"),
        ("{limits: {memory: 1.5}}", "a size from 1Mi"),
        ("{limits: {cpu: 1m}}", "processors from 10m"),
        ("{limits: {cpu: -1}}", "processors"),
        ("{limits: {pids: 0}}", "1"),
        ("{limits: {pids: 1.5}}", "integer"),
        ("{limits: {ioWeight: 20000}}", "10000"),
        ("{limits: {hugepages: 1Gi}}", "not a known field"),
        ("{requests: {memory: 64Mi}}", "not a known field"),
        ("{required: 1}", "boolean"),
    ],
)
def test_every_mistake_is_told_with_its_field(resources: str, words: str) -> None:
    problem = read(resources)
    assert isinstance(problem, Problem)
    assert words in problem.sentence() and problem.field is not None and problem.field.startswith("spec.resources")
    assert problem.line == 5
