"""Options and arguments that several commands share, and what they mean.

Each command takes `--socket` before and after its name; the later one wins.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emperorctl.cli.client import Client

__all__ = [
    "SETTINGS",
    "Follow",
    "GlobalSocket",
    "Names",
    "NoHeaders",
    "OneName",
    "Output",
    "Selector",
    "SimpleOutput",
    "Socket",
    "Targets",
    "bare_name",
    "connect",
    "group",
    "socket_path",
]

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""What every command shares of the parser's settings."""

_SOCKET_HELP = "The Emperor's control socket.  [env: EMPERORCTL_SOCKET]"
_PREFIXES = ("vassal.emperor/", "vassal/", "blacklistentry.emperor/", "blacklist/")


class Output(StrEnum):
    """The forms of `get`."""

    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class SimpleOutput(StrEnum):
    """The forms of commands without a table of columns to choose from."""

    JSON = "json"
    YAML = "yaml"


def _complete_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of vassals, for the shell; nothing where no Emperor answers."""
    from emperorctl.cli.client import VASSALS
    from emperorctl.models.errors import EmperorError

    try:
        items = connect(ctx, ctx.params.get("socket")).get(VASSALS)["items"]
    except EmperorError:
        return []
    return [name for item in items if (name := item["metadata"]["name"]).startswith(incomplete)]


GlobalSocket = Annotated[str | None, typer.Option("--socket", "-s", metavar="PATH", help=_SOCKET_HELP)]
Socket = Annotated[str | None, typer.Option("--socket", "-s", metavar="PATH", help=_SOCKET_HELP)]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        hidden=True,
        autocompletion=_complete_names,
        show_default=False,
    ),
]
OneName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        hidden=True,
        autocompletion=_complete_names,
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TYPE [NAME]",
        hidden=True,
        autocompletion=_complete_names,
        show_default=False,
    ),
]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Print no header line.")]
Selector = Annotated[
    str,
    typer.Option(
        "--selector",
        "-l",
        metavar="SELECTOR",
        help="By labels: k=v, k!=v, k in (a,b), k notin (a,b), k, !k; all of them must hold.",
        show_default=False,
    ),
]
Follow = Annotated[bool, typer.Option("--watch", "-w", help="Go on with every change.")]


def connect(ctx: typer.Context, socket: str | None) -> Client:
    """The client of the Emperor that the command line or the environment names, for as long as the command runs."""
    from emperorctl.cli.client import Client

    client = Client(socket_path(ctx, socket))
    ctx.call_on_close(client.close)
    return client


def socket_path(ctx: typer.Context, socket: str | None) -> str:
    """The control socket that the command line or the environment names."""
    from emperorctl.cli.paths import client_socket

    return str(socket or ctx.find_root().obj or client_socket())


def group(help: str) -> typer.Typer:
    """A command that is the first word of others, such as `blacklist list`; alone it prints its help."""
    app = typer.Typer(help=help, add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)

    @app.callback(invoke_without_command=True, help=help)
    def top(ctx: typer.Context) -> None:
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())

    return app


def bare_name(text: str) -> str:
    """A vassal's name from `NAME`, `vassal/NAME`, or what `-o name` prints."""
    for prefix in _PREFIXES:
        if text.startswith(prefix) and text != prefix:
            return text.removeprefix(prefix)
    return text
