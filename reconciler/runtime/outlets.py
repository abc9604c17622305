"""Which program is a vassal's way out of a network of its own, what it is told, and what its failures are called.

Used by `ordering` for the order's part, by `confinement` for failures, and by `host`, which has an `Outlet` for each
launch that has one. Not in here: how the program is run (`zygote.usernet`).
"""

from __future__ import annotations

import ast
import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from emperorctl.models.isolation import Isolation, Port
from emperorctl.models.names import printable
from emperorctl.models.observed import Exit
from emperorctl.reconciler.runtime.identity import Identity

__all__ = ["DNS", "PROGRAMS", "NoOutlet", "Outlet", "explain", "write_outlet"]

PROGRAMS = ("pasta", "slirp4netns")
"""Those that are looked for, in this order."""
DNS = "169.254.1.1"
"""Where pasta answers for the host's first name server."""
_INSTALL = "apt install passt (it holds pasta), or write network: none or host"
_WORD_MAX = 8192
_SHOWN = 640


class NoOutlet(Exception):
    """There is no way out to be had; the arguments are a message and a remedy."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message, self.remedy = message, remedy


def write_outlet(isolation: Isolation, identity: Identity, path: str | None = None) -> dict[str, Any]:
    """The order's part. The program is looked for in `path`, by default the Emperor's own. Raises NoOutlet."""
    if identity.uid == 0:
        # Whoever is root is not to have a program that talks to the network for it, whatever its user namespace.
        raise NoOutlet("network: user is not for vassals that run as root", "set spec.user")
    found = {name: where for name in PROGRAMS if (where := shutil.which(name, path=path)) is not None}
    ports = isolation.ports
    if "pasta" in found:
        before, after = _pasta(os.path.abspath(found["pasta"]), ports)
    elif not found:
        raise NoOutlet("there is neither pasta nor slirp4netns on this host", _INSTALL)
    elif ports:
        raise NoOutlet("ports are published with pasta, and this host has slirp4netns alone", _INSTALL)
    else:
        before, after = _slirp(os.path.abspath(found["slirp4netns"]))
    tried = [[port.protocol, port.address, port.outside, port.where] for port in ports]
    return {"before": before, "after": after, "ports": tried}


def _pasta(program: str, ports: tuple[Port, ...]) -> tuple[list[str], list[str]]:
    # Nothing of the host's loopback device is reached: neither by the gateway's address nor by the vassal's own device.
    words = [program, "--foreground", "--quiet", "--config-net", "--no-map-gw", "--no-netns-quit"]
    words += ["--dns-forward", DNS, "--tcp-ns", "none", "--udp-ns", "none"]
    for option, protocol in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        specs = [_spec(port) for port in ports if port.protocol == protocol]
        for spec in specs or ["none"]:
            words += [option, spec]
    return [*words, "--netns"], []


def _spec(port: Port) -> str:
    return f"{port.address}{'/' if port.address else ''}{port.outside}:{port.inside}"


def _slirp(program: str) -> tuple[list[str], list[str]]:
    return [program, "--configure", "--disable-host-loopback", "--mtu=65520", "--netns-type=path"], ["tap0"]


def explain(isolation: Isolation, report: Mapping[str, Any], number: int) -> tuple[str, str, str]:
    """Reason, message and remedy of a launch that failed for want of a way out."""
    words = os.strerror(number) if number else ""
    if "port" in report:
        return _port(printable(str(report["port"])), number, words)
    if "device" in report:
        device = printable(str(report["device"]))
        remedy = f"chmod 666 {device}: without rights over a network nobody can do anything with it"
        if number != errno.EACCES:
            remedy = "modprobe tun; in a container, the device has to be given to it"
        return "NoUserNetwork", f"its network program can't open {device}: {words}", remedy
    if "ended" in report:
        return "UserNetworkFailed", _ended(report), "see what it says; `emperorctl doctor` says which program it is"
    if report.get("late"):
        message = f"its network was not up in time{_output(report)}"
        return "UserNetworkFailed", message, "see that the host has a route to everywhere (ip route)"
    if report.get("gone"):
        return "UserNetworkFailed", "the process that minds its network was ended", "it is tried again by itself"
    return "UserNetworkFailed", f"its network can't be set up: {words or 'unknown error'}", ""


def _port(where: str, number: int, words: str) -> tuple[str, str, str]:
    if number == errno.EADDRINUSE:
        remedy = "another vassal or program listens there (ss -lntup): give one of them another hostPort"
        return "PortTaken", f"port {where} of the host is taken", remedy
    if number in (errno.EACCES, errno.EPERM):
        remedy = "use a hostPort from 1024, or lower sysctl net.ipv4.ip_unprivileged_port_start"
        return "PortForbidden", f"the vassal's user may not listen on port {where} of the host", remedy
    if number == errno.EADDRNOTAVAIL:
        return "PortForbidden", f"port {where}: this host has no such address", "correct hostIP, or leave it out"
    return "PortForbidden", f"port {where} of the host can't be listened on: {words}", "correct hostPort or hostIP"


def _ended(report: Mapping[str, Any]) -> str:
    code = report.get("ended")
    code = code if isinstance(code, int) else 255
    end = Exit(0.0, code=code) if code >= 0 else Exit(0.0, signal=-code)
    return f"its network program {end.sentence()}{_output(report)}"


def _output(report: Mapping[str, Any]) -> str:
    data = report.get("output", b"")
    text = data.decode(errors="replace") if isinstance(data, bytes) else str(data)
    lines = [printable(line.strip()) for line in text.splitlines() if line.strip()]
    return f"; its output: {' | '.join(lines)[-_SHOWN:]}" if lines else "; it printed nothing"


class Outlet:
    """What the minder of one launch's way out has to say. Owns the read end of a pipe; `lost` is called once, with a
    sentence, when there is no way out any more."""

    __slots__ = ("_fd", "_loop", "_lost")

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[str], None]) -> None:
        self._loop = loop
        self._lost = lost
        self._fd = -1

    def open(self) -> int:
        """Begin to listen; returns the write end, the caller's."""
        self._fd, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._loop.add_reader(self._fd, self._heard)
        return writing

    def close(self) -> None:
        """Listen no more; the minder takes it for the end."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _heard(self) -> None:
        try:
            data = os.read(self._fd, _WORD_MAX)
        except BlockingIOError:
            return
        self.close()
        self._lost(_said(data))


def _said(data: bytes) -> str:
    # It comes from a process with the vassal's own rights.
    try:
        facts = ast.literal_eval(data.decode("ascii"))
        return _ended(facts)
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
        return "the process that minds its network was ended"
