"""`emperorctl events`: what happened lately, and what happens from now on."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from emperorctl.cli.client import EVENTS
from emperorctl.cli.formats import write_json, write_yaml
from emperorctl.cli.options import Follow, NoHeaders, SimpleOutput, Socket, connect, target_names
from emperorctl.cli.rows import EVENT_COLUMNS, event_row
from emperorctl.cli.table import Table
from emperorctl.models.errors import UserError

__all__ = ["events"]


def events(
    ctx: typer.Context,
    *,
    involved: Annotated[
        str, typer.Option("--for", metavar="TYPE/NAME", help="Only of this vassal: vassal/NAME.", show_default=False)
    ] = "",
    types: Annotated[
        str, typer.Option("--types", metavar="TYPES", help="Only these: Normal, Warning.", show_default=False)
    ] = "",
    watch: Follow = False,
    output: Annotated[SimpleOutput | None, typer.Option("--output", "-o", show_default=False)] = None,
    no_headers: NoHeaders = False,
    socket: Socket = None,
) -> None:
    """Show recent events, the latest last. Repeats are counted, not repeated."""
    query = {"involvedObject": _involved(involved), "types": _types(types)}
    client = connect(ctx, socket)
    listing = client.get(EVENTS, **query)
    items = listing["items"]
    if output is SimpleOutput.JSON:
        write_json({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
    elif output is SimpleOutput.YAML:
        write_yaml({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
    if output is not None:
        if watch:
            raise UserError("--watch prints a table only")
        return
    table = Table(EVENT_COLUMNS, header=not no_headers, coloured=("TYPE",))
    now = time.time()
    table.write([event_row(event, now) for event in items])
    if not watch:
        if not items:
            sys.stderr.write("No events found\n")
        return
    # From "0" on a watch would tell everything again: there is nothing before the first event.
    version = listing["metadata"]["resourceVersion"]
    for _, event in client.changes(EVENTS, resourceVersion=version, **query):
        table.write([event_row(event, time.time())])


def _involved(text: str) -> str:
    if not text:
        return ""
    if "/" not in text:
        raise UserError(f'--for: expected TYPE/NAME such as vassal/shop, got "{text}"')
    return target_names([text])[0]


def _types(text: str) -> str:
    known = {"normal": "Normal", "warning": "Warning"}
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word.lower() not in known:
            raise UserError(f'--types: expected Normal or Warning, got "{word}"')
    return ",".join(known[word.lower()] for word in words)
