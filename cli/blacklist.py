"""`emperorctl blacklist list` and `blacklist clear`: the vassals that fail too often, and their pardon."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from emperorctl.cli.client import BLACKLIST
from emperorctl.cli.formats import one_or_list, resource_name, write_json, write_yaml
from emperorctl.cli.options import SETTINGS, Names, NoHeaders, SimpleOutput, Socket, bare_name, connect
from emperorctl.cli.rows import age, until
from emperorctl.cli.table import Table
from emperorctl.models.durations import format_duration

__all__ = ["app"]

app = typer.Typer(
    help="The vassals that fail too often, and their pardon.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)


@app.callback(invoke_without_command=True)
def _top(ctx: typer.Context) -> None:
    """The vassals that fail too often, and their pardon."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command("list")
def list_entries(
    ctx: typer.Context,
    output: Annotated[SimpleOutput | None, typer.Option("--output", "-o", show_default=False)] = None,
    no_headers: NoHeaders = False,
    socket: Socket = None,
) -> None:
    """Show who is on it, and when the next try is due."""
    items = connect(ctx, socket).get(BLACKLIST)["items"]
    if output is SimpleOutput.JSON:
        write_json(one_or_list(items, single=False))
    elif output is SimpleOutput.YAML:
        write_yaml(one_or_list(items, single=False))
    elif not items:
        sys.stderr.write("No resources found\n")
    else:
        now = time.time()
        table = Table(("NAME", "ATTEMPTS", "THROTTLE", "FIRST", "LAST", "NEXT TRY"), header=not no_headers)
        table.write(
            [
                item["metadata"]["name"],
                str(item["attempts"]),
                format_duration(item["throttle"]),
                f"{age(item['firstAttempt'], now)} ago",
                f"{age(item['lastAttempt'], now)} ago",
                until(item["nextTry"], now),
            ]
            for item in items
        )


@app.command("clear")
def clear(ctx: typer.Context, names: Names = None, socket: Socket = None) -> None:
    """Take vassals off, or all; they are tried again at once."""
    body = {"names": [bare_name(name) for name in names]} if names else None
    cleared = connect(ctx, socket).post(f"{BLACKLIST}/clear", body)["details"]["names"]
    sys.stdout.write("".join(f"{resource_name(name)} cleared\n" for name in cleared))
    if not cleared:
        sys.stderr.write("None of them is on the blacklist\n" if names else "The blacklist is empty\n")
