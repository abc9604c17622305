"""`emperorctl exec`: a command within a vassal, with this terminal or with streams of its own."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from emperorctl.cli.options import Socket, bare_name, socket_path
from emperorctl.cli.term import complain
from emperorctl.models.errors import UserError

__all__ = ["execute"]


def execute(  # noqa: PLR0917  (what is an argument of the command line has to be one here)
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    command: Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND", hidden=True, show_default=False)] = None,
    stdin: Annotated[bool, typer.Option("--stdin", "-i", help="Pass standard input on to it.")] = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give it a terminal.")] = False,
    socket: Socket = None,
) -> None:
    """Run a command where a vassal runs: emperorctl exec NAME -- COMMAND.

    It has the vassal's user, groups, environment, directory, limits and namespaces, and ends with this command or with
    the vassal. With -it it has this terminal: emperorctl exec -it NAME -- sh.
    """
    if not command:
        raise UserError("you must specify at least one command for the vassal: emperorctl exec NAME -- COMMAND")
    if tty and not sys.stdin.isatty():
        complain("Unable to use a TTY - input is not a terminal", prefix="")
        tty = False
    from emperorctl.cli.attach import converse, open_command
    from emperorctl.cli.client import one_vassal

    path = one_vassal(bare_name(name), "exec")
    size = os.get_terminal_size(sys.stdin.fileno()) if tty else None
    asked = {
        "command": command,
        "stdin": stdin,
        "terminal": {"rows": size.lines, "columns": size.columns} if size else None,
        "term": os.environ.get("TERM", "")[:64] if tty else "",
    }
    code = converse(open_command(socket_path(ctx, socket), path, asked), terminal=tty, stdin=stdin)
    if code:
        complain(f"command terminated with exit code {code}", prefix="")
        raise typer.Exit(code)
