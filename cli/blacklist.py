"""`emperorctl blacklist list` and `blacklist clear`: the vassals that fail too often, and their pardon."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from emperorctl.cli.client import BLACKLIST
from emperorctl.cli.formats import resource_name
from emperorctl.cli.kinds import BLACKLIST_ENTRY
from emperorctl.cli.options import Names, NoHeaders, Output, Socket, bare_name, connect, group
from emperorctl.cli.printing import Form, Printer

__all__ = ["app"]

app = group("The vassals that fail too often, and their pardon.")


@app.command("list")
def list_entries(
    ctx: typer.Context,
    output: Annotated[Output | None, typer.Option("--output", "-o", show_default=False)] = None,
    no_headers: NoHeaders = False,
    socket: Socket = None,
) -> None:
    """Show who is on it, and when the next try is due. The same as: emperorctl get blacklist."""
    items = connect(ctx, socket).get(BLACKLIST)["items"]
    Printer(Form(output, not no_headers)).all([(BLACKLIST_ENTRY, items)], single=False)
    if not items and output not in {Output.JSON, Output.YAML}:
        sys.stderr.write("No resources found\n")


@app.command("clear")
def clear(ctx: typer.Context, names: Names = None, socket: Socket = None) -> None:
    """Take vassals off, or all; they are tried again at once."""
    body = {"names": [bare_name(name) for name in names]} if names else None
    cleared = connect(ctx, socket).post(f"{BLACKLIST}/clear", body)["details"]["names"]
    sys.stdout.write("".join(f"{resource_name(name)} cleared\n" for name in cleared))
    if not cleared:
        sys.stderr.write("None of them is on the blacklist\n" if names else "The blacklist is empty\n")
