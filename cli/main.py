"""The `emperorctl` command: its entry point, and nothing that takes time to load.

Called by the console script. The commands are in `app`; the daemon is `run`.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]

_DAEMON_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGURG,
)


def main() -> None:
    """Run the command line of this process and exit."""
    if _subcommand(sys.argv[1:]) == "run":
        # Before anything heavy is imported: a signal that comes now waits until the daemon can take it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _DAEMON_SIGNALS)
    try:
        from emperorctl.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


def _subcommand(arguments: list[str]) -> str:
    """The first word that is neither an option nor the value of one."""
    words = iter(arguments)
    for word in words:
        if word in {"-s", "--socket"}:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""
