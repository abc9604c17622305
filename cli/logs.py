"""`emperorctl logs`: what a vassal has printed, and what it prints from now on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from emperorctl.cli.client import one_vassal
from emperorctl.cli.options import OneName, Socket, bare_name, connect
from emperorctl.cli.term import harmless

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

    On a terminal, control sequences other than colours are shown instead of obeyed.
    """
    path = one_vassal(bare_name(name), "log")
    terminal = sys.stdout.isatty()
    out = sys.stdout.buffer
    for data in connect(ctx, socket).chunks(path, tail=str(tail), follow="true" if follow else ""):
        out.write(harmless(data) if terminal else data)
        out.flush()
