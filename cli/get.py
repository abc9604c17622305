"""`emperorctl get`: vassals, the blacklist or the sources, as a table or as objects; once, or with every change."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from emperorctl.cli.client import Client, Refusal, one_object
from emperorctl.cli.kinds import VASSAL, Kind, Target, read_targets
from emperorctl.cli.options import Follow, NoHeaders, Output, Selector, Socket, Targets, connect
from emperorctl.cli.printing import Form, Printer
from emperorctl.cli.term import complain
from emperorctl.models.errors import UserError

__all__ = ["get"]

_PATH = re.compile(r"\{?\.?([A-Za-z0-9_./-]+)\}?\Z")
_Group = tuple[Kind, Sequence[dict[str, Any]]]


def get(
    ctx: typer.Context,
    words: Targets = None,
    *,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Instead of the short table.", show_default=False)
    ] = None,
    watch: Follow = False,
    watch_only: Annotated[bool, typer.Option("--watch-only", help="Only changes, not what is there now.")] = False,
    selector: Selector = "",
    no_headers: NoHeaders = False,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="Add a column with all labels.")] = False,
    sort_by: Annotated[
        str, typer.Option("--sort-by", metavar="PATH", help="Such as .status.respawns.", show_default=False)
    ] = "",
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="Missing names are no error.")] = False,
    socket: Socket = None,
) -> None:
    """Show vassals, the blacklist, or the sources of vassals, in a table or as objects.

    For example: emperorctl get vassals, get vassal shop blog, get vassal/shop, get blacklist, get vassals,blacklist.
    Types: vassals (vassal, v), blacklist (blacklistentries, bl) and monitors (monitor, mon): the sources that say what
    should run, whether each can be read, and what last went wrong. A vassal's name may be given without its file's
    extension.
    READY is ready/wanted processes, SOCKET the on-demand socket. An entry of the blacklist that is named shows, as
    json or yaml, the last lines of the vassal's log as well.
    """
    targets = read_targets(words)
    names = targets[0].names
    if names and selector:
        raise UserError("name cannot be provided when a selector is specified")
    client = connect(ctx, socket)
    printer = Printer(Form(output, not no_headers, show_labels, kinds=len(targets) > 1))
    if watch or watch_only:
        _may_be_watched(targets)
        _watch(client, printer, names[0] if names else "", selector, only=watch_only)
        return
    groups, missing = _found(client, targets, selector)
    if sort_by:
        groups = [(kind, _sorted(items, sort_by)) for kind, items in groups]
    empty = not any(items for _, items in groups)
    if not (empty and names):
        printer.all(groups, single=len(names) == 1 and len(targets) == 1)
    if empty and not names and output not in {Output.JSON, Output.YAML}:
        sys.stderr.write("No resources found\n")
    if missing and not ignore_not_found:
        for refusal in missing:
            complain(str(refusal), prefix="")
        raise typer.Exit(1)


def _may_be_watched(targets: Sequence[Target]) -> None:
    """Refuse what no watch can show."""
    if [target.kind for target in targets] != [VASSAL]:
        raise UserError("only vassals can be watched: emperorctl get vassals -w shows who is Blacklisted as well")
    if len(targets[0].names) > 1:
        raise UserError("you may only watch one vassal, or all of them")


def _found(client: Client, targets: Sequence[Target], selector: str) -> tuple[list[_Group], list[Refusal]]:
    """What there is of each kind, and the refusals for names that are not there."""
    groups, missing = [], []
    for target in targets:
        kind = target.kind
        if not target.names:
            groups.append((kind, client.get(kind.path, labelSelector=selector)["items"]))
            continue
        items = []
        for name in target.names:
            try:
                items.append(client.get(one_object(kind.path, name)))
            except Refusal as refusal:
                if refusal.reason != "NotFound":
                    raise
                missing.append(refusal)
        groups.append((kind, items))
    return groups, missing


def _watch(client: Client, printer: Printer, name: str, selector: str, *, only: bool) -> None:
    field = f"metadata.name={name}" if name else ""
    listing = client.get(VASSAL.path, labelSelector=selector, fieldSelector=field)
    if name and not listing["items"]:
        # Says that it is not there, in the server's words.
        client.get(one_object(VASSAL.path, name))
    if not only:
        printer.more(VASSAL, listing["items"])
    full = listing["items"][0]["metadata"]["name"] if name else ""
    field = f"metadata.name={full}" if full else ""
    known = {item["metadata"]["name"] for item in listing["items"]}
    version = listing["metadata"]["resourceVersion"]
    for change, vassal in client.changes(
        VASSAL.path, resourceVersion=version, labelSelector=selector, fieldSelector=field
    ):
        own = vassal["metadata"]["name"]
        if change == "DELETED" and own not in known:
            continue
        (known.discard if change == "DELETED" else known.add)(own)
        printer.more(VASSAL, [vassal])


def _sorted(items: Sequence[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    match = _PATH.match(path)
    if match is None:
        raise UserError(f'--sort-by: expected a path such as .status.respawns, got "{path}"')
    steps = match[1].split(".")

    def key(item: Any) -> tuple[int, float, str]:
        for step in steps:
            item = item.get(step) if isinstance(item, dict) else None
        # What is missing comes first, then numbers, then words.
        if item is None:
            return 0, 0.0, ""
        return (1, float(item), "") if isinstance(item, int | float) else (2, 0.0, str(item))

    return sorted(items, key=key)
