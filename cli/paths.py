"""Where things lie when nobody says otherwise: for root under /run and /var, for others under the XDG directories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emperorctl.models.settings import Settings

__all__ = ["client_socket", "default_socket", "default_state_dir", "places"]

_ROOTS = "/run/emperorctl/emperor.sock"


def default_socket() -> str:
    """The control socket: `EMPERORCTL_SOCKET`, else root's, else the user's own."""
    given = os.environ.get("EMPERORCTL_SOCKET")
    if given:
        return given
    if os.geteuid() == 0:
        return _ROOTS
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/emperorctl-{os.geteuid()}"  # noqa: S108  (checked for its owner before use)
    return os.path.join(runtime, "emperorctl", "emperor.sock")


def client_socket() -> str:
    """The control socket that a client asks: that of root's Emperor for a user who has none of his own."""
    path = default_socket()
    if path != _ROOTS and not os.environ.get("EMPERORCTL_SOCKET") and not os.path.exists(path):
        return _ROOTS if os.path.exists(_ROOTS) else path
    return path


def places(told: Settings) -> tuple[str, str, str]:
    """The control socket, the directory of the state and that of the logs of an Emperor with these settings."""
    socket = os.path.abspath(told.socket or default_socket())
    state = os.path.abspath(told.state_dir or default_state_dir(socket))
    return socket, state, os.path.abspath(told.log_dir) if told.log_dir else os.path.join(state, "logs")


def default_state_dir(socket: str) -> str:
    """The directory of state and logs of the Emperor behind this socket."""
    if os.geteuid() == 0:
        base = "/var/lib/emperorctl"
    else:
        home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        base = os.path.join(home, "emperorctl")
    stem = os.path.basename(socket).removesuffix(".sock") or "emperor"
    own = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), "emperorctl")
    standard = os.path.dirname(socket) in {"/run/emperorctl", own}
    if standard:
        return os.path.join(base, stem)
    from emperorctl.reconciler.runtime.lock import instance_of

    return os.path.join(base, f"{stem}-{instance_of(socket)}")
