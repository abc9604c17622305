"""`emperorctl logs`: what a vassal has printed, and what it prints from now on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from emperorctl.cli.client import one_vassal
from emperorctl.cli.options import OneName, Socket, bare_name, connect
from emperorctl.cli.term import Harmless

__all__ = ["logs"]


def logs(
    ctx: typer.Context,
    name: OneName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is printed from now on.")] = False,
    tail: Annotated[
        int, typer.Option("--tail", metavar="N", help="Only the last N lines; -1 is everything.", min=-1)
    ] = -1,
    socket: Socket = None,
) -> None:
    """Print the captured output of a vassal.

    On a terminal, control sequences other than colours are shown instead of obeyed; a pipe or a file gets everything
    as it was printed.
    """
    path = one_vassal(bare_name(name), "log")
    shown = Harmless() if sys.stdout.isatty() else None
    out = sys.stdout.buffer
    try:
        for data in connect(ctx, socket).chunks(path, tail=str(tail), follow="true" if follow else ""):
            out.write(data if shown is None else shown.feed(data))
            out.flush()
    finally:
        if shown is not None:
            out.write(shown.end())
            out.flush()
