"""All commands, each loaded when it is asked for, and the one place where errors become lines and exit codes.

Called by `main` and by the tests. What a command does is in the module named after it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from emperorctl.cli.options import SETTINGS, GlobalSocket
from emperorctl.cli.term import complain
from emperorctl.models.errors import EmperorError, EmperorUnreachable

__all__ = ["app"]

_COMMANDS = {
    "run": "emperorctl.cli.run:app",
    "get": "emperorctl.cli.get:get",
    "describe": "emperorctl.cli.describe:describe",
    "reload": "emperorctl.cli.orders:reload",
    "stop": "emperorctl.cli.orders:stop",
    "start": "emperorctl.cli.orders:start",
    "logs": "emperorctl.cli.logs:logs",
    "exec": "emperorctl.cli.exec:execute",
    "config": "emperorctl.cli.config:app",
    "events": "emperorctl.cli.events:events",
    "blacklist": "emperorctl.cli.blacklist:app",
    "stats": "emperorctl.cli.stats:stats",
    "doctor": "emperorctl.cli.doctor:app",
    "validate": "emperorctl.cli.validate:validate",
    "convert": "emperorctl.cli.convert:convert",
    "schema": "emperorctl.cli.about:schema",
    "version": "emperorctl.cli.about:version",
}
# The root of the parser's own errors, wherever this version of typer keeps its parser.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_ParserError: type[Exception] = typer.BadParameter.__mro__[2]


class _Commands(MutableMapping[str, Any]):
    """The commands by name; a module is imported when its command is looked up."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            module, _, attribute = _COMMANDS[name].partition(":")
            found = getattr(import_module(module), attribute)
            if not isinstance(found, typer.Typer):
                function = found
                found = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)
                found.command(name)(function)
            command = typer.main.get_command(found)
            command.name = name
            self._loaded[name] = command
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _Group(TyperGroup):
    """The top of the command line. `main` has the signature of typer's."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command line; every outcome is an exit code."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except _ParserError as error:
            code = _misused(error)
        except typer.Abort:
            code = 130
        code = code if isinstance(code, int) else 0
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and see its output out: a full disk must not pass for success."""
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except EmperorError as error:
            complain(str(error), prefix=_prefix(error))
            raise typer.Exit(1) from None
        except BrokenPipeError:
            # Whoever read us has seen enough.
            _write_nowhere()
            raise typer.Exit(141) from None
        except OSError as error:
            if ctx.invoked_subcommand == "run":
                raise
            # The connection's own errors have names by now: this is our output.
            _write_nowhere()
            complain(f"can't write to standard output: {error.strerror}")
            raise typer.Exit(1) from None


def _write_nowhere() -> None:
    """What is still buffered must not fail once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _prefix(error: EmperorError) -> str:
    """What kubectl puts before such an error: nothing where the sentence says who is speaking."""
    from emperorctl.cli.client import Refusal

    return "" if isinstance(error, EmperorUnreachable | Refusal) else "error: "


def _misused(error: Any) -> int:
    text = " ".join(str(error.format_message()).split())
    complain(text.rstrip("."))
    ctx = getattr(error, "ctx", None)
    if isinstance(error, _UsageError) and ctx is not None:
        sys.stderr.write(f"See '{ctx.command_path} --help' for usage.\n")
    return 1


app = typer.Typer(
    cls=_Group,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


@app.callback(invoke_without_command=True)
def _top(ctx: typer.Context, socket: GlobalSocket = None) -> None:
    """Keep plain Linux processes running as a directory of files says, and look at them."""
    ctx.obj = socket
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
