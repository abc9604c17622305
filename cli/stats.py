"""`emperorctl stats`: the document of the stats server, asked for over the control socket."""

from __future__ import annotations

from typing import Annotated

import typer

from emperorctl.cli.client import STATS
from emperorctl.cli.formats import write_json, write_yaml
from emperorctl.cli.options import SimpleOutput, Socket, connect

__all__ = ["stats"]


def stats(
    ctx: typer.Context,
    *,
    output: Annotated[SimpleOutput, typer.Option("--output", "-o")] = SimpleOutput.JSON,
    socket: Socket = None,
) -> None:
    """Show what `uwsgi --emperor-stats` would tell, whether or not a stats server runs."""
    document = connect(ctx, socket).get(STATS)
    if output is SimpleOutput.YAML:
        write_yaml(document)
    else:
        write_json(document)
