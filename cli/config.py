"""`emperorctl config view`: the settings that `run` would have with the same arguments, and where each came from.

It starts nothing and asks no Emperor. What it writes as YAML or JSON is a native file that `run` takes.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emperorctl.cli.formats import write_json, write_yaml
from emperorctl.cli.options import NoHeaders, SimpleOutput, group
from emperorctl.cli.run import Files, Sources
from emperorctl.cli.settings_command import add_command, given_options
from emperorctl.cli.table import Table
from emperorctl.cli.term import complain
from emperorctl.models.durations import format_duration
from emperorctl.models.settings import OPTIONS, Kind, Option

if TYPE_CHECKING:
    from emperorctl.cli.loading import Loaded

__all__ = ["app"]

app = group("The settings of an Emperor.")


def view(
    ctx: typer.Context,
    *,
    sources: Sources = None,
    ini: Files = None,
    output: Annotated[SimpleOutput | None, typer.Option("--output", "-o", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show what nobody set, too.")] = False,
    no_headers: NoHeaders = False,
    given: dict[str, Any],
) -> None:
    """Show what `emperorctl run` with the same arguments would be told, and by whom. Starts nothing.

    What is a default is left out, unless --all is given.
    """
    from emperorctl.cli.loading import Arguments, load

    arguments = Arguments(tuple(sources or ()), tuple(ini or ()), given, given_options(ctx))
    loaded = load(arguments, os.environ)
    for warning in loaded.warnings:
        complain(warning, prefix="warning: ")
    shown = [option for option in OPTIONS.values() if everything or option.field in loaded.origins]
    if output is not None:
        document = _document(loaded, shown)
        (write_json if output is SimpleOutput.JSON else write_yaml)(document)
        return
    if not shown:
        sys.stderr.write("Nothing is set: all defaults (see them with --all)\n")
    rows = [(option.name, _shown(loaded, option), loaded.origins.get(option.field, "default")) for option in shown]
    Table(("NAME", "VALUE", "FROM"), header=not no_headers).write(rows)


def _shown(loaded: Loaded, option: Option) -> str:
    value = getattr(loaded.settings, option.field)
    match value:
        case None | ():
            return option.default_text or "<none>"
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(value)
        case float():
            return f"{value:g}"
    return str(value)


def _document(loaded: Loaded, shown: list[Option]) -> dict[str, Any]:
    """A native file with these options; its status, which `run` does not read, says where they came from."""
    from emperorctl.models.manifest import API_VERSIONS

    spec = {option.native: _native(option, getattr(loaded.settings, option.field)) for option in shown}
    origins = {option.native: loaded.origins.get(option.field, "default") for option in shown}
    return {
        "apiVersion": API_VERSIONS[0],
        "kind": "Emperor",
        "spec": {name: value for name, value in spec.items() if value is not None},
        "status": {"origins": origins},
    }


def _native(option: Option, value: Any) -> Any:
    if value is None:
        return None
    match option.kind:
        case Kind.SECONDS:
            return format_duration(value)
        case Kind.MILLISECONDS:
            return format_duration(value / 1000)
        case Kind.LIST:
            return list(value)
    return value


add_command(app, "view", view)
