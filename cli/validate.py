"""`emperorctl validate`: would the Emperor accept these files? Asks no Emperor and starts nothing."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from emperorctl.cli.formats import resource_name
from emperorctl.cli.term import complain
from emperorctl.models.errors import UserError
from emperorctl.models.names import printable

__all__ = ["validate"]


def validate(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", hidden=True),
    ] = None,
    *,
    binary_path: Annotated[
        str, typer.Option("--binary-path", metavar="PATH", help="The uwsgi binary, as given to run.")
    ] = "uwsgi",
    emperor_wrapper: Annotated[
        str | None,
        typer.Option("--emperor-wrapper", metavar="PATH", help="The wrapper, as given to run.", show_default=False),
    ] = None,
    emperor_extra_extension: Annotated[
        list[str] | None,
        typer.Option("--emperor-extra-extension", metavar="EXT", help="As given to run.", show_default=False),
    ] = None,
    emperor_magic_exec: Annotated[bool, typer.Option("--emperor-magic-exec", help="As given to run.")] = False,
    vassal_defaults: Annotated[
        str | None, typer.Option("--vassal-defaults", metavar="FILE", help="As given to run.", show_default=False)
    ] = None,
    vassal_set: Annotated[
        list[str] | None,
        typer.Option("--vassal-set", metavar="KEY=VALUE", help="As given to run.", show_default=False),
    ] = None,
) -> None:
    """Say what is wrong with files, directories or patterns, and where.

    They are looked at exactly as the Emperor would look at them; exits 1 if anything is wrong.
    uWSGI's own options are read by uWSGI alone, and not judged here.
    """
    if not paths:
        raise UserError("expected at least one file, directory or pattern")
    from emperorctl.cli.layers import layers_of
    from emperorctl.models.uwsgi_run import UwsgiRun
    from emperorctl.monitors.validate import validate as verdicts_on

    run = UwsgiRun(
        binary=binary_path,
        wrapper=emperor_wrapper,
        extra_extensions=tuple(emperor_extra_extension or ()),
        magic_exec=emperor_magic_exec,
    )
    verdicts = verdicts_on(paths, run, layers_of(vassal_defaults, vassal_set or ()))
    for verdict in verdicts:
        # In the order of the files, also where both streams are one.
        if verdict.accepted:
            lines = [f"{resource_name(name)} valid ({printable(verdict.file)})\n" for name in verdict.names]
            sys.stdout.write("".join(lines))
            sys.stdout.flush()
        for problem in verdict.problems:
            complain(f"{problem.sentence()} [{problem.reason}]")
    if not all(verdict.accepted for verdict in verdicts):
        raise typer.Exit(1)
    if not any(verdict.names for verdict in verdicts):
        sys.stderr.write("No resources found\n")
