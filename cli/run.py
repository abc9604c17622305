"""`emperorctl run`: the daemon, and the only place where all its parts are put together.

The zygote is started before the parts are imported. Its options are `models/settings`'; what the parts do is theirs.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from emperorctl.cli.options import SETTINGS
from emperorctl.cli.paths import places
from emperorctl.cli.settings_command import FILE_OPTIONS, add_command, given_options
from emperorctl.models.errors import UserError
from emperorctl.models.settings import OPTIONS

if TYPE_CHECKING:
    from emperorctl.cli.loading import Loaded
    from emperorctl.cli.reign import Orders

__all__ = ["Files", "Sources", "app"]

_NO_SOURCE = "no source: say which directory holds the vassals, for example: emperorctl run /etc/vassals"

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE|FILE",
        help="A directory (dir://PATH or PATH), a pattern (glob://PATTERN or PATTERN), or a configuration file of the"
        " Emperor.",
        show_default=False,
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        *FILE_OPTIONS,
        metavar="FILE",
        help="A configuration file of the Emperor, as FILE alone; may be repeated.",
        show_default=False,
    ),
]


def run(ctx: typer.Context, *, sources: Sources = None, ini: Files = None, given: dict[str, Any]) -> None:
    """Keep running what the files of SOURCE describe.

    A vassal is started when its file appears, reloaded when it is touched, stopped when it is removed.
    Signals: TERM, INT and QUIT stop everything and exit 0 (a second one at once); HUP reloads all;
    URG clears the blacklist; USR1 writes the table of vassals to the log.
    """
    if given.get("imperial_monitor_list") is True:
        _list_kinds()
    if not (sources or ini or "emperor" in given or os.environ.get(OPTIONS["emperor"].variables[0])):
        raise UserError(_NO_SOURCE)
    from emperorctl.reconciler.runtime.spawn import spawn_zygote

    # First of all, and from the main thread: the zygote is small as long as nothing is loaded, and starts meanwhile.
    zygote = spawn_zygote()
    try:
        from emperorctl.cli.loading import Arguments, load

        arguments = Arguments(tuple(sources or ()), tuple(ini or ()), given, given_options(ctx))
        loaded = load(arguments, os.environ)
        if loaded.settings.imperial_monitor_list:
            _list_kinds()
        if not loaded.settings.emperor:
            raise UserError(_NO_SOURCE)
        from emperorctl.cli.reign import reign

        code = reign(_orders(loaded), zygote)
    finally:
        # Its end of the socket closed, the zygote ends whatever is left, and itself.
        zygote.sock.close()
    raise typer.Exit(code)


def _list_kinds() -> NoReturn:
    """Say what kinds of sources there are, and be done."""
    from emperorctl.monitors.registry import ABOUT

    sys.stdout.write("".join(f"{line}\n" for line in ABOUT.values()))
    raise typer.Exit(0)


def _orders(loaded: Loaded) -> Orders:
    """What follows from the settings. Raises UserError for an address that can't be."""
    from emperorctl.cli.reign import Orders
    from emperorctl.reconciler.api.addresses import Exposure, parse_address
    from emperorctl.reconciler.api.commands import command_place
    from emperorctl.reconciler.blacklist import BlacklistRule
    from emperorctl.reconciler.plan import Rules
    from emperorctl.reconciler.runtime.identity import group_id
    from emperorctl.reconciler.throttle import ThrottleRule

    told = loaded.settings
    group = None if told.socket_group is None else group_id(told.socket_group, "--socket-group")
    exposure = Exposure("--emperor-stats", "--stats-public", told.stats_public)
    path, state, logs = places(told)
    strict = told.emperor_throttle is not None and told.throttle_burst is None
    delta = (1000 if told.emperor_throttle is None else told.emperor_throttle) / 1000
    longest = told.emperor_max_throttle / 1000
    rules = Rules(
        ThrottleRule(delta, 1 if strict else told.throttle_burst or ThrottleRule().burst, longest),
        BlacklistRule(delta=delta, longest=longest, enabled=not told.emperor_no_blacklist),
        heartbeat=told.emperor_required_heartbeat,
        curse=told.emperor_curse_tolerance,
        broodlord=told.emperor_broodlord,
    )
    renounced, warnings = None, [*loaded.warnings]
    if (told.uid or told.gid or told.cap) and os.geteuid() != 0:
        warnings.append("uid, gid and cap are ignored: the Emperor was not started as root")
    elif told.uid or told.gid or told.cap:
        from emperorctl.reconciler.runtime.paranoia import renunciation

        renounced = renunciation(told.uid, told.gid, told.cap)
    return Orders(
        settings=told,
        socket=path,
        state_dir=state,
        log_dir=logs,
        rules=rules,
        stats=None if told.emperor_stats is None else parse_address(told.emperor_stats, exposure),
        commands=None if told.emperor_command_socket is None else command_place(told.emperor_command_socket),
        warnings=tuple(warnings),
        files=loaded.files,
        renounced=renounced,
        socket_group=group,
    )


app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)
add_command(app, "run", run)
