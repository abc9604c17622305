"""`emperorctl reload`, `stop` and `start`: orders by name, accepted at once; each takes its own time."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from emperorctl.cli.client import Client, Refusal, one_vassal
from emperorctl.cli.formats import resource_name
from emperorctl.cli.options import Names, Socket, bare_name, connect
from emperorctl.cli.term import complain
from emperorctl.models.errors import UserError

__all__ = ["reload", "start", "stop"]

_All = Annotated[bool, typer.Option("--all", help="Every vassal.")]


def reload(ctx: typer.Context, names: Names = None, everything: _All = False, socket: Socket = None) -> None:
    """Reload vassals now, each by its own method.

    This overrules throttle and blacklist: a vassal that waits for another try gets it at once.
    """
    if bool(names) is everything:
        raise UserError("expected either names of vassals or --all")
    client = connect(ctx, socket)
    if names:
        _order(client, "reload", names, "reload ordered")
        return
    count = client.post("/apis/emperor/v1/reload")["details"]["count"]
    sys.stdout.write(f"{count} vassals: reload ordered\n" if count != 1 else "1 vassal: reload ordered\n")


def stop(ctx: typer.Context, names: Names = None, socket: Socket = None) -> None:
    """Stop vassals and hold them down until started again.

    They stay stopped when the Emperor itself restarts, and are shown as Suspended.
    """
    _order(connect(ctx, socket), "stop", _given(names), "stop ordered")


def start(ctx: typer.Context, names: Names = None, socket: Socket = None) -> None:
    """Let stopped vassals run again."""
    _order(connect(ctx, socket), "start", _given(names), "start ordered")


def _given(names: list[str] | None) -> list[str]:
    if not names:
        raise UserError("expected the name of at least one vassal")
    return names


def _order(client: Client, verb: str, names: list[str], done: str) -> None:
    """One order for each name. What is refused does not keep the others from theirs."""
    refused = False
    for name in names:
        try:
            status = client.post(one_vassal(bare_name(name), verb))
        except Refusal as refusal:
            refused = True
            complain(str(refusal), prefix="")
        else:
            sys.stdout.write(f"{resource_name(status['details']['name'])} {done}\n")
    if refused:
        raise typer.Exit(1)
