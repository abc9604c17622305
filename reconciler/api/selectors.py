"""Label selectors as kubectl writes them: `k=v,k!=v,k in (a,b),k notin (c),k,!k`, all of which must hold.

Pure. Used by the list and watch routes; as in Kubernetes, `!=` and `notin` also hold where the label is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from emperorctl.models.errors import UserError
from emperorctl.models.names import printable

__all__ = ["Selector", "parse_selector"]

_LIMIT = 4096
_KEY = r"(?P<key>[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?)"
_VALUE = r"[A-Za-z0-9._-]*"
_TERM = re.compile(
    rf"\s*(?:!\s*(?P<absent>[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?)"
    rf"|{_KEY}\s*(?:(?P<op>==|=|!=)\s*(?P<value>{_VALUE})|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|\Z)"
)
_SET_VALUE = re.compile(rf"{_VALUE}\Z")


@dataclass(frozen=True, slots=True)
class _Term:
    """One requirement: the label's value is one of `values` (None: any), or with `negated` it is not."""

    key: str
    values: frozenset[str] | None
    negated: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        holds = found is not None and (self.values is None or found in self.values)
        return holds is not self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements of one selector; an empty one matches everything."""

    terms: tuple[_Term, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether every requirement holds for these labels."""
        return all(term.holds(labels) for term in self.terms)


def parse_selector(text: str) -> Selector:
    """The selector that `text` writes. Raises UserError, naming the part that can't be read."""
    if len(text) > _LIMIT:
        raise UserError(f"the label selector is longer than {_LIMIT} characters")
    terms: list[_Term] = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise UserError(
                f'can\'t read the label selector at "{printable(text[position : position + 40])}": expected'
                " k=v, k!=v, k in (a,b), k notin (a,b), k or !k, separated by commas"
            )
        terms.append(_term(match))
        position = match.end()
    return Selector(tuple(terms))


def _term(match: re.Match[str]) -> _Term:
    if match["absent"]:
        return _Term(match["absent"], None, True)
    if match["op"]:
        return _Term(match["key"], frozenset({match["value"]}), match["op"] == "!=")
    if match["set"]:
        values = [value.strip() for value in match["values"].split(",")]
        for value in values:
            if not _SET_VALUE.match(value):
                raise UserError(f'"{printable(value)}" is not a label value')
        return _Term(match["key"], frozenset(values), match["set"] == "notin")
    return _Term(match["key"], None, False)
