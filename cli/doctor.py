"""`emperorctl doctor`: what works on this host, and how to mend what does not. Asks no Emperor and starts none.

It takes the arguments of `run`, and then looks at what these settings need. The checks are `runtime.checks`' part.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emperorctl.cli.formats import write_json, write_yaml
from emperorctl.cli.options import SETTINGS, SimpleOutput
from emperorctl.cli.paths import places
from emperorctl.cli.run import Files, Sources
from emperorctl.cli.settings_command import add_command, given_options
from emperorctl.cli.term import cell, colour_wanted, paint

if TYPE_CHECKING:
    from emperorctl.cli.loading import Loaded
    from emperorctl.reconciler.runtime.checks import Finding, Needs

__all__ = ["app", "lines_of"]

_STYLES = {"ok": "green", "warning": "yellow", "error": "red"}
_INDENT = " " * 9


def doctor(
    ctx: typer.Context,
    *,
    sources: Sources = None,
    ini: Files = None,
    output: Annotated[SimpleOutput | None, typer.Option("--output", "-o", show_default=False)] = None,
    given: dict[str, Any],
) -> None:
    """Check what works on this host, and say how to mend what does not.

    With the arguments of run it checks what these settings need, too. Run it as the user that the Emperor has.
    Exit code 1 where anything is an error.
    """
    from emperorctl.cli.loading import Arguments, load
    from emperorctl.reconciler.runtime.checks import Verdict, examine

    loaded = load(Arguments(tuple(sources or ()), tuple(ini or ()), given, given_options(ctx)), os.environ)
    findings = list(examine(_needs(loaded, [*(sources or ()), *(ini or ())])))
    if output is not None:
        document = {"apiVersion": "emperor/v1", "kind": "Diagnosis", "items": [_item(one) for one in findings]}
        (write_json if output is SimpleOutput.JSON else write_yaml)(document)
    else:
        for line in lines_of(findings, colour=colour_wanted(sys.stdout)):
            sys.stdout.write(line + "\n")
    if any(one.verdict is Verdict.ERROR for one in findings):
        raise typer.Exit(1)


def lines_of(findings: Sequence[Finding], *, colour: bool = False) -> Iterable[str]:
    """The report for people: a line for each finding, one below it for what to do, and a sum."""
    for one in findings:
        word = paint(f"{one.verdict:<7}", _STYLES[one.verdict]) if colour else f"{one.verdict:<7}"
        yield f"{word}  {cell(one.check)}: {cell(one.message)}"
        if one.remedy:
            yield f"{_INDENT}{cell(one.remedy)}"
    counts = {word: sum(one.verdict == word for one in findings) for word in _STYLES}
    yield f"{counts['error']} errors, {counts['warning']} warnings, {counts['ok']} ok"


def _item(one: Finding) -> dict[str, str]:
    return {"check": one.check, "status": str(one.verdict), "message": one.message, "remedy": one.remedy}


def _needs(loaded: Loaded, words: Sequence[str]) -> Needs:
    """What these settings ask of the host."""
    from emperorctl.models.uwsgi import EXTENSIONS
    from emperorctl.reconciler.runtime.checks import Needs

    told = loaded.settings
    socket, state, logs = places(told)
    names = [name for source in told.emperor for name in _listed(source)]
    uwsgi = [name for name in names if os.path.splitext(name)[1] in EXTENSIONS and not _is_native(name)]
    paths = [_path(word) for word in (*words, *told.emperor)]
    return Needs(
        directories={"socket": os.path.dirname(socket), "state": state, "log": logs},
        files=tuple(dict.fromkeys(os.path.abspath(path) for path in paths if os.path.exists(path))),
        vassals=len(names),
        uwsgi=len(uwsgi),
        binary=told.binary_path,
        tyrant=told.emperor_tyrant,
        renounced=(told.uid, told.gid, told.cap),
        namespaces=frozenset((told.emperor_use_clone or "").replace(",", " ").split()),
    )


def _path(source: str) -> str:
    from emperorctl.monitors.registry import split_source

    return split_source(source).path


def _listed(source: str) -> list[str]:
    """The files that a source holds now, as far as they look like vassals'."""
    from emperorctl.models.emperor_file import CONFIG_EXTENSIONS

    path = _path(source)
    pattern = os.path.join(glob.escape(path), "*") if os.path.isdir(path) else path
    return [name for name in glob.iglob(pattern) if os.path.splitext(name)[1] in CONFIG_EXTENSIONS]


def _is_native(name: str) -> bool:
    """Whether a file in a format of both kinds says that it is a manifest."""
    if name.endswith((".ini", ".xml", ".js")):
        return False
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True
    with os.fdopen(fd, "rb") as file:
        return b"kind" in (file.read(65536) or b"")


app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)
add_command(app, "doctor", doctor)
