"""`emperorctl get`: vassals as a table, or as objects; once, or with every change."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from emperorctl.cli.client import VASSALS, Client, Refusal, one_vassal
from emperorctl.cli.formats import one_or_list, resource_name, write_json, write_yaml
from emperorctl.cli.options import Follow, NoHeaders, Output, Selector, Socket, Targets, connect, target_names
from emperorctl.cli.rows import COLUMNS, WIDE, labels_cell, vassal_row
from emperorctl.cli.table import Table
from emperorctl.cli.term import complain
from emperorctl.models.errors import UserError

__all__ = ["get"]

_PATH = re.compile(r"\{?\.?([A-Za-z0-9_./-]+)\}?\Z")


@dataclass(frozen=True, slots=True)
class _Form:
    """How results are printed."""

    output: Output | None
    headers: bool
    labels: bool


def get(
    ctx: typer.Context,
    targets: Targets = None,
    *,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Instead of the short table.", show_default=False)
    ] = None,
    watch: Follow = False,
    watch_only: Annotated[bool, typer.Option("--watch-only", help="Only changes, not what is there now.")] = False,
    selector: Selector = "",
    no_headers: NoHeaders = False,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="Add a column with all labels.")] = False,
    sort_by: Annotated[
        str, typer.Option("--sort-by", metavar="PATH", help="Such as .status.respawns.", show_default=False)
    ] = "",
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="Missing names are no error.")] = False,
    socket: Socket = None,
) -> None:
    """Show vassals in a table, or as objects.

    For example: emperorctl get vassals, get vassal shop blog, get vassal/shop. The type is vassals, vassal or v;
    a name may be given without its file's extension. READY is ready/wanted processes, SOCKET the on-demand socket.
    """
    names = target_names(targets)
    if names and selector:
        raise UserError("name cannot be provided when a selector is specified")
    client = connect(ctx, socket)
    printer = _Printer(_Form(output, not no_headers, show_labels))
    if watch or watch_only:
        if len(names) > 1:
            raise UserError("you may only watch one vassal, or all of them")
        _watch(client, printer, names[0] if names else "", selector, only=watch_only)
        return
    items, missing = _named(client, names) if names else (_listing(client, selector)["items"], [])
    if sort_by:
        items = _sorted(items, sort_by)
    if items or not names:
        printer.all(items, single=len(names) == 1)
    if not items and not names and output not in {Output.JSON, Output.YAML}:
        sys.stderr.write("No resources found\n")
    if missing and not ignore_not_found:
        for refusal in missing:
            complain(str(refusal), prefix="")
        raise typer.Exit(1)


class _Printer:
    """Writes objects in one form, all at once or one after the other."""

    def __init__(self, form: _Form) -> None:
        self._form = form
        self._wide = form.output is Output.WIDE
        columns = COLUMNS + (WIDE if self._wide else ()) + (("LABELS",) if form.labels else ())
        self._table = Table(columns, header=form.headers, coloured=("STATUS", "LOYAL"))
        self._documents = 0

    def all(self, items: Sequence[dict[str, Any]], *, single: bool) -> None:
        """A whole result; as JSON or YAML it is one document."""
        match self._form.output:
            case Output.JSON | Output.YAML:
                self._document(one_or_list(items, single=single))
            case _:
                self._lines(items)

    def more(self, items: Sequence[dict[str, Any]]) -> None:
        """Some of an endless result; as JSON or YAML each is a document."""
        if self._form.output in {Output.JSON, Output.YAML}:
            for item in items:
                self._document(item)
        else:
            self._lines(items)

    def _document(self, document: Any) -> None:
        if self._form.output is Output.JSON:
            write_json(document)
        else:
            write_yaml(document, separate=self._documents > 0)
        self._documents += 1

    def _lines(self, items: Sequence[dict[str, Any]]) -> None:
        if self._form.output is Output.NAME:
            sys.stdout.write("".join([resource_name(item["metadata"]["name"]) + "\n" for item in items]))
            sys.stdout.flush()
            return
        now = time.time()
        rows = [vassal_row(item, now, wide=self._wide) for item in items]
        if self._form.labels:
            rows = [[*row, labels_cell(item)] for row, item in zip(rows, items, strict=True)]
        self._table.write(rows)


def _listing(client: Client, selector: str, name: str = "") -> dict[str, Any]:
    field = f"metadata.name={name}" if name else ""
    listing: dict[str, Any] = client.get(VASSALS, labelSelector=selector, fieldSelector=field)
    return listing


def _named(client: Client, names: Sequence[str]) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """The vassals of these names, and the refusals for those that are not there."""
    found, missing = [], []
    for name in names:
        try:
            found.append(client.get(one_vassal(name)))
        except Refusal as refusal:
            if refusal.reason != "NotFound":
                raise
            missing.append(refusal)
    return found, missing


def _watch(client: Client, printer: _Printer, name: str, selector: str, *, only: bool) -> None:
    listing = _listing(client, selector, name)
    if name and not listing["items"]:
        # Says that it is not there, in the server's words.
        client.get(one_vassal(name))
    if not only:
        printer.more(listing["items"])
    full = listing["items"][0]["metadata"]["name"] if name else ""
    field = f"metadata.name={full}" if full else ""
    known = {item["metadata"]["name"] for item in listing["items"]}
    version = listing["metadata"]["resourceVersion"]
    for kind, vassal in client.changes(VASSALS, resourceVersion=version, labelSelector=selector, fieldSelector=field):
        own = vassal["metadata"]["name"]
        if kind == "DELETED" and own not in known:
            continue
        (known.discard if kind == "DELETED" else known.add)(own)
        printer.more([vassal])


def _sorted(items: Sequence[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    match = _PATH.match(path)
    if match is None:
        raise UserError(f'--sort-by: expected a path such as .status.respawns, got "{path}"')
    steps = match[1].split(".")

    def key(item: Any) -> tuple[int, float, str]:
        for step in steps:
            item = item.get(step) if isinstance(item, dict) else None
        # What is missing comes first, then numbers, then words.
        if item is None:
            return 0, 0.0, ""
        return (1, float(item), "") if isinstance(item, int | float) else (2, 0.0, str(item))

    return sorted(items, key=key)
