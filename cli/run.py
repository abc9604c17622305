"""`emperorctl run`: the daemon, and the only place where all its parts are put together.

The zygote is started before the parts are imported. Everything below `_Reign` is wiring: what the parts do is theirs.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from emperorctl.cli.options import Socket
from emperorctl.cli.paths import default_socket, default_state_dir
from emperorctl.models.errors import UserError

__all__ = ["run"]

_DAY_MS = 86_400_000


class LogFormat(StrEnum):
    """The forms of the Emperor's own log."""

    TEXT = "text"
    JSON = "json"


class Watching(StrEnum):
    """How sources on disk are watched."""

    AUTO = "auto"
    INOTIFY = "inotify"
    POLL = "poll"


class UwsgiLogs(StrEnum):
    """Where the output of uWSGI vassals goes."""

    INHERIT = "inherit"
    CAPTURE = "capture"


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        help="A directory (dir://PATH or PATH), or a pattern (glob://PATTERN or PATTERN).",
        show_default=False,
    ),
]


def run(
    ctx: typer.Context,
    sources: Sources = None,
    *,
    emperor: Annotated[
        list[str] | None,
        typer.Option(
            "--emperor", metavar="SOURCE", help="Another spelling of SOURCE; may be repeated.", show_default=False
        ),
    ] = None,
    binary_path: Annotated[
        str, typer.Option("--binary-path", metavar="PATH", help="The uwsgi binary for uWSGI configs.")
    ] = "uwsgi",
    emperor_wrapper: Annotated[
        str | None,
        typer.Option(
            "--emperor-wrapper",
            metavar="PATH",
            help="A program to run in place of the uwsgi binary.",
            show_default=False,
        ),
    ] = None,
    emperor_stats: Annotated[
        str | None,
        typer.Option(
            "--emperor-stats",
            "--emperor-stats-server",
            metavar="ADDR",
            help="Serve statistics as uWSGI does: 127.0.0.1:PORT, or the path of a Unix socket.",
            show_default=False,
        ),
    ] = None,
    stats_public: Annotated[
        bool, typer.Option("--stats-public", help="Allow --emperor-stats where other machines can reach it.")
    ] = False,
    socket: Socket = None,
    state_dir: Annotated[
        str | None,
        typer.Option(
            "--state-dir", metavar="DIR", help="What outlives the Emperor: who is stopped.", show_default=False
        ),
    ] = None,
    log_dir: Annotated[
        str | None,
        typer.Option("--log-dir", metavar="DIR", help="The vassals' output (STATE-DIR/logs).", show_default=False),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="The form of the Emperor's own log, on standard error.")
    ] = LogFormat.TEXT,
    uwsgi_logs: Annotated[
        UwsgiLogs,
        typer.Option("--uwsgi-logs", help="Let uWSGI vassals write to the Emperor's standard error, or to log files."),
    ] = UwsgiLogs.INHERIT,
    watch: Annotated[
        Watching, typer.Option("--watch", help="How to learn of changes; auto takes inotify where it works.")
    ] = Watching.AUTO,
    reload_mercy: Annotated[
        float,
        typer.Option(
            "--reload-mercy",
            metavar="SECONDS",
            min=0,
            max=86400,
            help="What vassals get to end with the Emperor.",
        ),
    ] = 30.0,
    emperor_throttle: Annotated[
        int | None,
        typer.Option(
            "--emperor-throttle",
            metavar="MS",
            min=0,
            max=_DAY_MS,
            help="What each spawn beyond the burst within a second adds to the wait before the next (1000),"
            " and each death to that of a blacklisted vassal.",
            show_default=False,
        ),
    ] = None,
    throttle_burst: Annotated[
        int | None,
        typer.Option(
            "--throttle-burst",
            metavar="N",
            min=1,
            help="Spawns within a second before the throttle bites (100; with --emperor-throttle 1, as uWSGI's manual"
            " says).",
            show_default=False,
        ),
    ] = None,
    emperor_max_throttle: Annotated[
        int,
        typer.Option(
            "--emperor-max-throttle", metavar="MS", min=0, max=_DAY_MS, help="The longest wait of either kind."
        ),
    ] = 180_000,
    emperor_no_blacklist: Annotated[
        bool,
        typer.Option(
            "--emperor-no-blacklist", help="Start a vassal that failed before it was loyal again without a wait."
        ),
    ] = False,
    emperor_required_heartbeat: Annotated[
        float,
        typer.Option(
            "--emperor-required-heartbeat",
            metavar="SECONDS",
            min=0,
            max=86400,
            help="The longest silence of a vassal that has sent a heartbeat; then it has to reload. 0 for any.",
        ),
    ] = 30.0,
    emperor_curse_tolerance: Annotated[
        float,
        typer.Option(
            "--emperor-curse-tolerance",
            metavar="SECONDS",
            min=0,
            max=86400,
            help="How long a vassal may live on that closed its protocol socket; also what uWSGI vassals get to stop.",
        ),
    ] = 30.0,
    emperor_broodlord: Annotated[
        int,
        typer.Option("--emperor-broodlord", metavar="N", min=0, max=10_000, help="How many zergs may be sent in all."),
    ] = 0,
) -> None:
    """Keep running what the files of SOURCE describe.

    A vassal is started when its file appears, reloaded when it is touched, stopped when it is removed.
    Signals: TERM, INT and QUIT stop everything and exit 0 (a second one at once); HUP reloads all;
    URG clears the blacklist; USR1 writes the table of vassals to the log.
    """
    wanted = [*(sources or ()), *(emperor or ())]
    if not wanted:
        raise UserError("no source: say which directory holds the vassals, for example: emperorctl run /etc/vassals")
    from emperorctl.reconciler.api.addresses import Exposure, parse_address
    from emperorctl.reconciler.runtime.spawn import spawn_zygote

    exposure = Exposure("--emperor-stats", "--stats-public", stats_public)
    stats = None if emperor_stats is None else parse_address(emperor_stats, exposure)

    # First of all, and from the main thread: the zygote is small as long as nothing is loaded, and starts meanwhile.
    zygote = spawn_zygote()
    try:
        from emperorctl.cli.reign import Orders, reign
        from emperorctl.reconciler.blacklist import BlacklistRule
        from emperorctl.reconciler.plan import Rules
        from emperorctl.reconciler.throttle import ThrottleRule

        path = os.path.abspath(socket or ctx.find_root().obj or default_socket())
        state = os.path.abspath(state_dir or default_state_dir(path))
        strict = emperor_throttle is not None and throttle_burst is None
        delta = (1000 if emperor_throttle is None else emperor_throttle) / 1000
        longest = emperor_max_throttle / 1000
        rules = Rules(
            ThrottleRule(delta, 1 if strict else throttle_burst or 100, longest),
            BlacklistRule(delta=delta, longest=longest, enabled=not emperor_no_blacklist),
            heartbeat=emperor_required_heartbeat,
            curse=emperor_curse_tolerance,
            broodlord=emperor_broodlord,
        )
        orders = Orders(
            sources=tuple(wanted),
            socket=path,
            state_dir=state,
            log_dir=os.path.abspath(log_dir) if log_dir else os.path.join(state, "logs"),
            binary=binary_path,
            wrapper=emperor_wrapper,
            capture=uwsgi_logs is UwsgiLogs.CAPTURE,
            watch=watch.value,
            mercy=reload_mercy,
            rules=rules,
            log_format=log_format.value,
            stats=stats,
        )
        code = reign(orders, zygote)
    finally:
        # Its end of the socket closed, the zygote ends whatever is left, and itself.
        zygote.sock.close()
    raise typer.Exit(code)
