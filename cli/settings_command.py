"""The command line of `run` and `config view`, made from `models/settings`: parameters, help, and what uWSGI's own
options on it mean.

Values are taken as they were written; `loading` validates them, whichever way they came. Nothing heavy is imported,
since the zygote is not started yet. Not in here: what is done with the options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from emperorctl.models.errors import UserError
from emperorctl.models.settings import BY_NAME, OPTIONS, Group, Kind, Option

__all__ = ["FILE_OPTIONS", "SettingsCommand", "add_command", "given_options"]

FILE_OPTIONS = ("--ini", "--xml", "--yaml", "--yml", "--json", "--js", "--toml", "--config")
"""How uWSGI names configuration files; the extension says what is in one."""
_FOREIGN, _SWITCHED = "emperorctl.foreign", "emperorctl.switched"
_EPILOG = (
    "Each option may also be given as a variable EMPERORCTL_NAME, or by its name in a file: uWSGI's .ini .xml .yml"
    " .json with the option emperor, or a native .yaml .toml .json with kind: Emperor. The command line comes before"
    " the environment, which comes before files. docs/options.md has them all; `emperorctl config view` shows what"
    " they amount to."
)


class SettingsCommand(TyperCommand):
    """A command with the Emperor's options: uWSGI's own are taken off before they are parsed, help comes in groups."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line without what means something to uWSGI alone."""
        known = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        flags = {name for param in self.params if getattr(param, "is_flag", False) for name in param.opts}
        sorter = _Sorter(known | {"--help", "-h"}, flags | {"--help", "-h"})
        rest = super().parse_args(ctx, sorter.sorted(args))
        ctx.meta[_FOREIGN] = tuple(sorter.foreign)
        ctx.meta[_SWITCHED] = sorter.switched
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """All options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                option = OPTIONS.get(str(param.name)) if param.param_type_name == "option" else None
                title = "Arguments" if param.param_type_name == "argument" else "Options"
                sections.setdefault(option.group.value if option else title, []).append(record)
        for title in ("Arguments", *(group.value for group in Group), "Options"):
            if title in sections:
                with formatter.section(title):
                    formatter.write_dl(sections[title])


class _Sorter:
    """Takes a command line apart. `known` are all options of the command, as they are written; `flags` those of them
    that take no value."""

    def __init__(self, known: set[str], flags: set[str]) -> None:
        self._known = known
        self._flags = flags
        self.foreign: list[str] = []
        self.switched: dict[str, str] = {}

    def sorted(self, args: list[str]) -> list[str]:
        """The words that are left for the parser."""
        rest: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                return [*rest, word, *words]
            name, equals, value = word.partition("=")
            if name.startswith("--") and name not in self._known:
                name = name.replace("_", "-")
            option = BY_NAME.get(name.removeprefix("--")) if name.startswith("--") else None
            if name in self._known and option is not None and option.kind is Kind.FLAG and equals:
                self.switched[option.field] = value
            elif name in self._known:
                rest.append(name + equals + value)
                if not equals and name not in self._flags:
                    rest += [following] if (following := next(words, None)) is not None else []
            elif not word.startswith("-") or word == "-" or (word[:2] in self._known and word[1] != "-"):
                rest.append(word)
            else:
                self._drop(word, name, equals, words)
        return rest

    def _drop(self, word: str, name: str, equals: str, words: Any) -> None:
        """Take off an option of uWSGI with its value. Raises UserError for one that uWSGI does not know either."""
        from emperorctl.cli.config_files import unknown
        from emperorctl.models.settings import REFUSED
        from emperorctl.models.uwsgi_options import SHORT, argument_of

        short = not word.startswith("--")
        long = SHORT.get(word[1:2], "") if short else name.removeprefix("--")
        argument = argument_of(long)
        if argument is None:
            raise UserError(unknown(word.partition("=")[0]))
        if long in REFUSED:
            raise UserError(f"--{long} is not supported yet")
        if argument == "required" and not equals and not (short and len(word) > 2):
            next(words, None)
        self.foreign.append(long)


def add_command(app: typer.Typer, name: str, function: Callable[..., Any]) -> None:
    """Make `function` a command that has all options of the Emperor besides its own parameters.

    It is called with its own parameters and with `given`, the fields that the command line gives.
    """
    own = inspect.signature(function, eval_str=True).parameters

    def command(**values: Any) -> Any:
        ctx = values["ctx"]
        given = {field: values.pop(field) for field in OPTIONS}
        return function(**values, given=_given(ctx, given))

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.values()
        if parameter.name != "given"
    ]
    parameters += [_parameter(option) for option in OPTIONS.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = function.__doc__
    command.__name__ = name
    command.__annotations__ = {}
    app.command(name, cls=SettingsCommand, epilog=_EPILOG)(command)


def given_options(ctx: typer.Context) -> tuple[str, ...]:
    """uWSGI's own options that this command line held."""
    found: tuple[str, ...] = ctx.meta.get(_FOREIGN, ())
    return found


def _given(ctx: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    """The fields that the command line gives."""
    found = {field: value for field, value in values.items() if value is not None and value != []}
    found |= ctx.meta.get(_SWITCHED, {})
    if "socket" not in found and (outer := ctx.find_root().obj):
        found["socket"] = outer
    return found


def _parameter(option: Option) -> inspect.Parameter:
    """The parameter of one option: nothing but text, so that every way in is validated alike."""
    names = [f"--{name}" for name in (option.name, *option.aliases)]
    if option.field == "socket":
        names.append("-s")
    kind: Any = {Kind.FLAG: bool | None, Kind.LIST: list[str] | None}.get(option.kind, str | None)
    default = option.default_text or ("" if option.default in (None, False, ()) else str(option.default))
    if isinstance(option.default, float):
        default = f"{option.default:g}"
    help = option.help
    if option.kind is Kind.LIST:
        help += " May be repeated."
    if default:
        help += f"  [default: {default}]"
    info = typer.Option(
        *names,
        metavar=None if option.kind is Kind.FLAG else option.metavar,
        help=help,
        show_default=False,
    )
    return inspect.Parameter(
        option.field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info]
    )
