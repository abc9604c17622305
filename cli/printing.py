"""Objects printed in the form that was asked for: a table, names, JSON or YAML; all at once, or as they come.

Used by `get` and `blacklist list`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emperorctl.cli.formats import one_or_list, resource_name, write_json, write_yaml
from emperorctl.cli.kinds import Kind
from emperorctl.cli.options import Output
from emperorctl.cli.rows import labels_cell
from emperorctl.cli.table import Table

__all__ = ["Form", "Printer"]

_DOCUMENTS = {Output.JSON, Output.YAML}


@dataclass(frozen=True, slots=True)
class Form:
    """How results are printed. `kinds`: names are shown with their kind, since there are several kinds."""

    output: Output | None = None
    headers: bool = True
    labels: bool = False
    kinds: bool = False


class Printer:
    """Writes objects of one kind or several in one form; a table for each kind, an empty line between two."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._wide = form.output is Output.WIDE
        self._tables: dict[str, Table] = {}
        self._documents = 0

    def all(self, groups: Sequence[tuple[Kind, Sequence[dict[str, Any]]]], *, single: bool) -> None:
        """A whole result; as JSON or YAML it is one document. `single`: one object was asked for by name."""
        if self._form.output in _DOCUMENTS:
            self._document(one_or_list([item for _, items in groups for item in items], single=single))
            return
        for kind, items in groups:
            self._lines(kind, items)

    def more(self, kind: Kind, items: Sequence[dict[str, Any]]) -> None:
        """Some of an endless result; as JSON or YAML each is a document."""
        if self._form.output in _DOCUMENTS:
            for item in items:
                self._document(item)
        else:
            self._lines(kind, items)

    def _document(self, document: Any) -> None:
        if self._form.output is Output.JSON:
            write_json(document)
        else:
            write_yaml(document, separate=self._documents > 0)
        self._documents += 1

    def _lines(self, kind: Kind, items: Sequence[dict[str, Any]]) -> None:
        if not items:
            return
        if self._form.output is Output.NAME:
            sys.stdout.write("".join([resource_name(item["metadata"]["name"], kind.word) + "\n" for item in items]))
            sys.stdout.flush()
            return
        now = time.time()
        rows = [kind.row(item, now, wide=self._wide) for item in items]
        if self._form.labels:
            rows = [[*row, labels_cell(item)] for row, item in zip(rows, items, strict=True)]
        if self._form.kinds:
            rows = [[f"{kind.word}.emperor/{row[0]}", *row[1:]] for row in rows]
        self._table(kind).write(rows)

    def _table(self, kind: Kind) -> Table:
        table = self._tables.get(kind.word)
        if table is None:
            if self._tables:
                sys.stdout.write("\n")
            columns = (*kind.columns, *(kind.wide if self._wide else ()), *(("LABELS",) if self._form.labels else ()))
            table = Table(columns, header=self._form.headers, coloured=kind.coloured)
            self._tables[kind.word] = table
        return table
