"""`emperorctl events`: what happened lately, and what happens from now on."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from emperorctl.cli.client import EVENTS
from emperorctl.cli.formats import one_or_list, write_json, write_yaml
from emperorctl.cli.kinds import VASSAL
from emperorctl.cli.options import Follow, NoHeaders, SimpleOutput, Socket, connect
from emperorctl.cli.rows import EVENT_COLUMNS, event_row
from emperorctl.cli.table import Table
from emperorctl.models.errors import UserError

__all__ = ["events"]


def events(
    ctx: typer.Context,
    *,
    involved: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="TYPE/NAME",
            help="Only about this: vassal/NAME, monitor/ADDRESS or emperor.",
            show_default=False,
        ),
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
    if watch and output is not None:
        raise UserError("--watch prints a table only")
    query = {**_involved(involved), "types": _types(types)}
    client = connect(ctx, socket)
    listing = client.get(EVENTS, **query)
    items = listing["items"]
    if output is not None:
        (write_json if output is SimpleOutput.JSON else write_yaml)(one_or_list(items, single=False))
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


def _involved(text: str) -> dict[str, str]:
    """What to ask for: `vassal/NAME`, `monitor/ADDRESS` as `describe` shows it under Source, or `emperor`."""
    if not text:
        return {}
    kind, _, name = text.partition("/")
    if kind.lower() in VASSAL.aliases and name:
        return {"involvedKind": "Vassal", "involvedObject": name}
    if kind.lower() in {"monitor", "monitors"} and name:
        return {"involvedKind": "Monitor", "involvedObject": name}
    if kind.lower() == "emperor" and name in {"", "emperor"}:
        return {"involvedKind": "Emperor"}
    expected = "TYPE/NAME such as vassal/shop, monitor/dir:///etc/vassals, or emperor"
    raise UserError(f'--for: expected {expected}, got "{text}"')


def _types(text: str) -> str:
    known = {"normal": "Normal", "warning": "Warning"}
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word.lower() not in known:
            raise UserError(f'--types: expected Normal or Warning, got "{word}"')
    return ",".join(known[word.lower()] for word in words)
