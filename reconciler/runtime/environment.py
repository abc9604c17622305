"""The environment that a vassal starts with: the Emperor's own for uWSGI, one built from nothing for the rest.

Used by `ordering`. Pure: the Emperor's environment is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emperorctl.models.sockets import Passing
from emperorctl.models.vassal import Vassal
from emperorctl.reconciler.runtime.identity import Identity
from emperorctl.reconciler.runtime.zygote.child import FIRST_FD
from emperorctl.reconciler.runtime.zygote.procfs import COOKIE

__all__ = ["DEFAULT_PATH", "Environments"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_VASSAL_PREFIX = "UWSGI_VASSAL_"
_NOTIFY = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_LISTEN = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
_NOT_INHERITED = {*_NOTIFY, *_LISTEN, "UWSGI_RELOADS", "UWSGI_EMPEROR_FD", "UWSGI_EMPEROR_FD_CONFIG"}
_OURS = "EMPERORCTL_"


@dataclass(frozen=True, slots=True)
class _Bases:
    inherited: dict[str, str]
    fresh: dict[str, str]
    meant: dict[str, str]


class Environments:
    """What all vassals of one Emperor share of its environment, worked out once.

    `heartbeat`: seconds within which a vassal with a notification socket has to speak, 0 for no such duty.
    """

    def __init__(self, environ: Mapping[str, str], heartbeat: float = 0.0) -> None:
        self._bases = _Bases(_inherited(environ), _fresh(environ), _meant_for_vassals(environ))
        self._heartbeat = heartbeat

    def of(self, vassal: Vassal, generation: int, identity: Identity, cookie: str, notify: str = "") -> dict[str, str]:
        """The complete environment of one launch. `notify` is the path of its notification socket, if it has one."""
        launch = vassal.launch
        if launch.inherit_env and vassal.owner is None:
            env = dict(self._bases.inherited)
        else:
            env = {
                **self._bases.fresh,
                "HOME": identity.home,
                "USER": identity.name,
                "LOGNAME": identity.name,
                "SHELL": identity.shell,
                "EMPEROR_VASSAL_NAME": vassal.name,
                "EMPEROR_VASSAL_GENERATION": str(generation),
            }
        if launch.inherit_env and vassal.owner is not None:
            # A tenant's: of the Emperor's own only what it was given for vassals.
            env |= self._bases.meant
        env.update(launch.env)
        # After what the file declares: these are how the process is reached and found again.
        first = FIRST_FD
        if vassal.on_demand is not None and vassal.on_demand.passing is Passing.LISTEN_FDS:
            addresses = vassal.on_demand.addresses
            first += len(addresses)
            env["LISTEN_FDS"] = str(len(addresses))
            env["LISTEN_FDNAMES"] = ":".join(address.name or vassal.name for address in addresses)
            # LISTEN_PID is set by the new process itself: nobody knows its pid before.
        numbers = iter(range(first, first + 2))  # in the order in which the host hands them over
        if launch.protocol:
            env["UWSGI_EMPEROR_FD"] = str(next(numbers))
        if launch.config_pipe:
            env["UWSGI_EMPEROR_FD_CONFIG"] = str(next(numbers))
        if notify:
            for name in _NOTIFY:
                env.pop(name, None)
            env["NOTIFY_SOCKET"] = notify
            # No WATCHDOG_PID: the pid is not known before there is one, and sd_watchdog_enabled(3) does without.
            if self._heartbeat > 0:
                env["WATCHDOG_USEC"] = str(round(self._heartbeat * 1e6))
        env[COOKIE.decode()] = cookie
        return env


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    env = {
        name: value
        for name, value in environ.items()
        if name not in _NOT_INHERITED and not name.startswith((_VASSAL_PREFIX, _OURS))
    }
    return env | _meant_for_vassals(environ)


def _meant_for_vassals(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "UWSGI_" + name[len(_VASSAL_PREFIX) :]: value
        for name, value in environ.items()
        if name.startswith(_VASSAL_PREFIX) and len(name) > len(_VASSAL_PREFIX)
    }


def _fresh(environ: Mapping[str, str]) -> dict[str, str]:
    env = {"PATH": environ.get("PATH") or DEFAULT_PATH}
    for name, value in environ.items():
        if name in {"LANG", "TZ"} or name.startswith("LC_"):
            env[name] = value
    return env
