"""What works on this host, tried rather than guessed: rights, kernel, control groups, limits, programs, directories.

Used by `emperorctl doctor`; needs no Emperor. Each check is a finding: how it stands, what that means, how to mend it.
What has to be tried in another process is in `probes`.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from emperorctl.models.capabilities import CAPABILITIES
from emperorctl.models.errors import UserError
from emperorctl.models.names import printable
from emperorctl.reconciler.runtime import cgroups, controllers, probes
from emperorctl.reconciler.runtime.paranoia import renunciation, require_readable
from emperorctl.reconciler.runtime.trust import installation, weak_spots
from emperorctl.reconciler.runtime.zygote import procfs

__all__ = ["Finding", "Needs", "Verdict", "examine"]

_PER_VASSAL = 5
"""Descriptors that a vassal costs the Emperor: its pidfd, its log's two ends, how it is spoken with, a socket."""
_OWN = 100
_WANTED = {
    "setuid": "run vassals as other users",
    "setgid": "run vassals as other users",
    "setpcap": "take capabilities from vassals",
    "kill": "stop vassals of other users",
    "chown": "give vassals their log pipes and sockets",
    "dac_override": "read the files of other users",
    "sys_admin": "make namespaces for vassals",
    "sys_chroot": "chroot vassals",
    "net_admin": "set up networks of vassals",
    "sys_resource": "raise limits of vassals",
}
_NEEDED = {"setuid", "setgid", "kill"}
_KINDS = {"memory": "memory", "cpu": "cpu", "pids": "pids", "io": "ioWeight"}


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `message` says how it stands and what that means, `remedy` how to mend it."""

    check: str
    verdict: Verdict
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the settings of an Emperor ask of the host: its places, where its vassals come from, and what else.

    `vassals` is how many there are now, `uwsgi` how many of them need uWSGI. `files` are configurations and sources.
    `tyrant`: the sources are meant to be written by others. `namespaces` that all vassals are to have.
    `renounced`: user, group and capabilities of an Emperor that goes on as another user.
    """

    directories: Mapping[str, str]
    files: tuple[str, ...] = ()
    vassals: int = 0
    uwsgi: int = 0
    binary: str = "uwsgi"
    tyrant: bool = False
    namespaces: frozenset[str] = frozenset()
    renounced: tuple[str | None, str | None, str | None] = (None, None, None)


def examine(needs: Needs) -> Iterator[Finding]:
    """All checks, in the order in which people should read them. Takes some ten milliseconds each at most."""
    yield from _rights()
    yield from _kernel()
    yield from _namespaces(needs)
    yield from _groups()
    yield from _controllers()
    yield from _inotify()
    yield _descriptors(needs)
    yield _uwsgi(needs)
    yield _network()
    yield _service_manager()
    yield from _installation()
    yield from _places(needs)
    yield from _paranoia(needs)


def _ok(check: str, message: str) -> Finding:
    return Finding(check, Verdict.OK, message)


def _rights() -> Iterator[Finding]:
    if os.geteuid() != 0:
        message = (
            f"uid {os.geteuid()}: vassals run as this user alone, without limits by control groups unless delegated"
        )
        yield Finding("user", Verdict.WARNING, message, "run it as root to give vassals users of their own")
        return
    yield _ok("user", "root: vassals can have users of their own")
    have = procfs.capabilities("self")
    missing = [name for name in _WANTED if not have >> CAPABILITIES[name] & 1]
    for name in missing:
        verdict = Verdict.ERROR if name in _NEEDED else Verdict.WARNING
        remedy = f"allow it: CapabilityBoundingSet= of the unit, --cap-add {name.upper()} of the container"
        yield Finding(f"capability {name}", verdict, f"missing: the Emperor can't {_WANTED[name]}", remedy)
    if not missing:
        yield _ok("capabilities", "all that an Emperor can use")


def _kernel() -> Iterator[Finding]:
    release = os.uname().release
    missing = [call for call in probes.SYSCALLS if not probes.has_syscall(call)]
    if "pidfd_open" in missing:
        yield Finding(
            "kernel", Verdict.ERROR, f"{release} has no pidfd_open: no Emperor runs here", "Linux 5.4 or newer"
        )
        return
    for call in missing:
        name, without = probes.SYSCALLS[call]
        yield Finding(f"kernel {call}", Verdict.WARNING, f"missing in {release}: {without}", f"Linux {name} or newer")
    if not missing:
        yield _ok("kernel", f"{release} has all that is used")


def _namespaces(needs: Needs) -> Iterator[Finding]:
    outcomes = probes.namespaces()
    works = [name for name, error in outcomes.items() if error is None]
    if works:
        yield _ok("namespaces", f"these can be made: {', '.join(works)}")
    for name, error in outcomes.items():
        if error is not None:
            verdict = Verdict.ERROR if name in needs.namespaces else Verdict.WARNING
            remedy = "run it as root, outside of containers that forbid it"
            if os.geteuid() != 0:
                remedy += (
                    "; or allow user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
                )
            yield Finding(f"namespace {name}", verdict, f"can't be made: {error}", remedy)


def _groups() -> Iterator[Finding]:
    place = cgroups.find_place()
    if place is None:
        message = (
            "no writable cgroup v2: vassals are contained by sessions, process trees and marks, which a hostile one"
        )
        remedy = "run it as root, or as a service with Delegate=yes"
        yield Finding("control groups", Verdict.WARNING, f"{message} can leave", remedy)
    elif not probes.has_cgroup_kill(place.directory):
        message = "cgroup v2 without cgroup.kill: not used for containment"
        yield Finding("control groups", Verdict.WARNING, message, "Linux 5.14 or newer")
    else:
        yield _ok("control groups", f"cgroup v2 at {place.directory}, with cgroup.kill: nothing escapes a stop")


def _controllers() -> Iterator[Finding]:
    place = cgroups.find_place()
    v2, v1 = controllers.controllers_v2(place), controllers.hierarchies()
    for kind, field in _KINDS.items():
        check = f"limit {field}"
        remedy = "run it as a systemd service with Delegate=yes"
        if kind in v2 and place is not None:
            handed = kind in controllers.handed_down(place.directory)
            if handed or controllers.delegated(place.directory):
                yield _ok(check, "by cgroup v2")
            else:
                message = f"spec.resources.limits.{field} is refused from here: {place.directory} is not delegated"
                yield Finding(check, Verdict.WARNING, message, remedy)
        elif kind in v1:
            yield _ok(check, f"by cgroup v1 at {v1[kind]}")
        else:
            message = f"spec.resources.limits.{field} is refused: no writable control group has this controller"
            yield Finding(check, Verdict.WARNING, message, remedy)


def _inotify() -> Iterator[Finding]:
    error = probes.inotify()
    instances, watches = (_number(f"/proc/sys/fs/inotify/max_user_{name}") for name in ("instances", "watches"))
    if error is not None:
        message = f"no instance can be had ({error}; {instances} for each user): changes are found by polling"
        remedy = "sysctl fs.inotify.max_user_instances=1024"
        yield Finding("inotify", Verdict.WARNING, message, remedy)
    elif watches < 8192:
        message = f"{watches} watches for each user: a source with many directories may not get all that it needs"
        yield Finding("inotify", Verdict.WARNING, message, "sysctl fs.inotify.max_user_watches=65536")
    else:
        yield _ok("inotify", f"{instances} instances and {watches} watches for each user")


def _descriptors(needs: Needs) -> Finding:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return _ok("descriptors", "no limit")
    room = max(0, hard - _OWN) // _PER_VASSAL
    message = f"the hard limit of {hard} is enough for about {room} vassals"
    if needs.vassals > room:
        remedy = f"LimitNOFILE={needs.vassals * 2 * _PER_VASSAL + _OWN} in the unit, or ulimit -Hn"
        return Finding("descriptors", Verdict.ERROR, f"{message}, and there are {needs.vassals}", remedy)
    if room < 500:
        return Finding("descriptors", Verdict.WARNING, message, "LimitNOFILE=65536 in the unit, or ulimit -Hn")
    return _ok("descriptors", message)


def _uwsgi(needs: Needs) -> Finding:
    path = shutil.which(needs.binary)
    verdict = Verdict.ERROR if needs.uwsgi else Verdict.WARNING
    wanted = f"; {needs.uwsgi} files here need it" if needs.uwsgi else ", which only uWSGI configs need"
    if path is None:
        return Finding(
            "uwsgi", verdict, f'no program "{needs.binary}"{wanted}', "pip install uwsgi, or give --binary-path"
        )
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=5, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Finding("uwsgi", verdict, f"{path} does not run: {printable(str(error))}", "install it anew")
    return _ok("uwsgi", f"{path}, version {printable(done.stdout.strip()[:40])}")


def _network() -> Finding:
    found = [path for name in ("pasta", "slirp4netns") if (path := shutil.which(name))]
    if found:
        return _ok("user-mode network", ", ".join(found))
    message = "neither pasta nor slirp4netns: vassals in networks of their own reach nothing outside"
    return Finding("user-mode network", Verdict.WARNING, message, "apt install passt, or apt install slirp4netns")


def _service_manager() -> Finding:
    if not os.path.isdir("/run/systemd/system"):
        return _ok("systemd", "not the service manager here")
    command = ["systemctl", "show", "--property=LoadState,Delegate", "emperorctl.service"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("systemd", Verdict.WARNING, f"can't be asked: {printable(str(error))}", "see systemctl status")
    told = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    if told.get("LoadState") != "loaded":
        return Finding("systemd", Verdict.WARNING, "no unit emperorctl.service", "copy examples/emperorctl.service")
    if told.get("Delegate") != "yes":
        message = "emperorctl.service has no control group of its own to divide"
        return Finding("systemd", Verdict.WARNING, message, "write Delegate=yes into its [Service] section")
    return _ok("systemd", "emperorctl.service has Delegate=yes")


def _installation() -> Iterator[Finding]:
    verdict = Verdict.ERROR if os.geteuid() == 0 else Verdict.WARNING
    spots = installation()
    if not spots:
        yield _ok("installation", "nobody else can change the program, its interpreter and its packages")
        return
    yield _untrusted(
        "installation", spots, "whoever can change the program runs what they like as the Emperor", verdict
    )


def _places(needs: Needs) -> Iterator[Finding]:
    for file in needs.files:
        if spots := weak_spots(file):
            verdict = Verdict.ERROR if os.geteuid() == 0 and not needs.tyrant else Verdict.WARNING
            yield _untrusted(file, spots, "whoever can change it decides what runs, and as whom", verdict)
        else:
            yield _ok(file, "only root and this user can change it")
    for what, directory in needs.directories.items():
        yield _place(what, directory)


def _paranoia(needs: Needs) -> Iterator[Finding]:
    """Whether a root Emperor can go on as the user that it is to be."""
    if os.geteuid() != 0 or not any(needs.renounced):
        return
    try:
        wanted = renunciation(*needs.renounced)
        if wanted is not None:
            require_readable(wanted)
            yield _ok("paranoid mode", f"it can go on as {wanted.name}")
    except UserError as error:
        yield Finding("paranoid mode", Verdict.ERROR, str(error), "the Emperor does not start before this is mended")


def _place(what: str, directory: str) -> Finding:
    check = f"{what} directory"
    existing = directory
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        return Finding(
            check, Verdict.ERROR, f"{existing} is no directory", f"remove it, or choose another {what} directory"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        message = f"{directory} can't be written by uid {os.geteuid()}"
        return Finding(check, Verdict.ERROR, message, "choose another one, or give it to this user")
    if spots := weak_spots(directory):
        return _untrusted(check, spots, "the Emperor does not start there", Verdict.ERROR)
    if existing == directory and what != "socket" and stat.S_IMODE(os.stat(directory).st_mode) & 0o077:
        message = f"{directory} can be read by others, and with it what vassals print"
        return Finding(check, Verdict.WARNING, message, f"chmod 700 {directory}")
    return _ok(check, directory if existing == directory else f"{directory}, to be made in {existing}")


def _untrusted(check: str, spots: Iterable[str], meaning: str, verdict: Verdict) -> Finding:
    first, *others = spots
    more = f" (and {len(others)} more)" if others else ""
    remedy = "give it to root, and take the right to write from others: chown root, chmod go-w"
    return Finding(check, verdict, f"{printable(first)}{more}: {meaning}", remedy)


def _number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
