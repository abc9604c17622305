"""A vassal's way out of a network of its own: a program of the host's, run as the vassal's user, and who minds it.

Called by `cells` to have a minder beside the vassal, and by `child` in the vassal, which waits until there is a way
out. The minder is a child of the zygote in the vassal's cgroup, as a keeper is. It enters the vassal's user namespace,
which owns that network, becomes the vassal's user there, starts the program in the host's network, and has it told by
the kernel's own messages when there is a route. Then it gives up all rights and stays: the program ends with the
vassal and with the minder, and its end is told to the Emperor, who ends the vassal. Not in here: which program, and
with which arguments (`runtime.outlets`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import struct
import time

from . import clone, confine, kernel, orders  # noqa: TID251
from .execute import Refused, Steps  # noqa: TID251
from .lean import TOLERANT, signal, socket  # noqa: TID251
from .procfs import KEEPER_NAME  # noqa: TID251
from .rights import become_with_all_rights, keep_capabilities, show  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .child import Frame  # noqa: TID251

__all__ = ["go_online", "mind"]

_PATIENCE = 5.0
"""Seconds until there has to be a route; the vassal waits a little longer."""
_GRACE = 2.0
_KEPT = 2000
"""Bytes of the program's output that are told when it fails."""
_READ = 4096
"""Bytes that a pipe takes as a whole."""
_CAPABILITIES = [10, 12, 19, 21]
"""net_bind_service, net_admin, sys_ptrace, sys_admin: in that user namespace alone."""
_TUN = "/dev/net/tun"
_PORTS_FROM = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_NOISE = (b"Failed to send ", b" bytes to syslog")
"""What pasta says where there is no system log, once for every line of its own."""
_ROUTES = 0x40 | 0x400
_NEWROUTE, _MAIN = 24, 254
_HEADER, _ROUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBBBBBI")
_TALK, _LOG, _WORD, _VASSAL = range(4)
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


class _Failed(Exception):
    """There is no way out; the argument is what the vassal reports."""


# --- in the vassal's process ---


def go_online(frame: Frame, steps: Steps) -> None:
    """Show the minder where we are, and wait for the way out. Raises OSError, Refused."""
    steps.now = "network"
    talk = frame.network
    assert talk is not None
    spaces = []
    for kind in ("user", "net"):
        # By a directory that was opened before the view of the file system changed.
        spaces.append(os.open(f"ns/{kind}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=frame.here))
    try:
        orders.send(talk, orders.encode({"here": True}), spaces)
        poll = select.poll()
        poll.register(talk, select.POLLIN)
        answer = orders.receive(talk)[0] if poll.poll((_PATIENCE + _GRACE) * 1000) else {"late": True}
    except (orders.Closed, BrokenPipeError):
        answer = {"gone": True}
    for fd in (*spaces, frame.here):
        os.close(fd)
    talk.close()
    if "up" in answer:
        return
    number = answer.pop("errno", 0)
    steps.facts.update(answer)
    raise OSError(number, "") if number else Refused("no way out")


# --- the minder ---


def mind(order: dict[str, Any], frame: Frame, vassal: int, talk: socket.socket) -> NoReturn:
    """Be the minder of the vassal whose pidfd this is."""
    try:
        word = frame.fds.get("network", -1)
        if word < 0:
            # A hook's: nobody is there to be told.
            word = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        clone.set_name(KEEPER_NAME)
        if frame.join is not None:
            frame.enter_cgroup()
        if "limits" in order:
            confine.join(order["limits"])
        if frame.score is not None:
            confine.expose(frame.score)
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _keep_only([talk.detach(), frame.fds["err"], word, vassal])
        _mind(order["isolation"], socket.socket(fileno=_TALK), frame.nofile)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _keep_only(fds: list[int]) -> None:
    """These descriptors, at the places from 0 on."""
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(fds)) for fd in fds]
    for place, fd in enumerate(copies):
        os.dup2(fd, place, inheritable=False)
    clone.close_from(len(fds))


def _mind(isolation: dict[str, Any], talk: socket.socket, nofile: tuple[int, int]) -> None:
    try:
        _, spaces = orders.receive(talk)
    except orders.Closed:
        return
    try:
        program = _begin(isolation, spaces, nofile)
        program.wait_for_route()
    except _Failed as failed:
        orders.send(talk, orders.encode(failed.args[0]))
        return
    except OSError as error:
        orders.send(talk, orders.encode({"errno": error.errno or errno.EIO}))
        return
    # Before the vassal's program runs, which could look into it otherwise.
    clone.not_for_others()
    clone.no_new_privileges()
    orders.send(talk, orders.encode({"up": True}))
    talk.close()
    program.wait_for_end()


def _begin(isolation: dict[str, Any], spaces: list[int], nofile: tuple[int, int]) -> _Program:
    """Start the program; this process is in the vassal's network from then on, for the program to find it there."""
    network = isolation["network"]
    user, net = spaces
    clone.enter(user, clone.NEWUSER)
    if isolation["ids"] is not None:
        become_with_all_rights(*isolation["ids"])
    os.chdir("/")
    _try_ports(network["ports"])
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise _Failed({"device": _TUN, "errno": error.errno or 0}) from None
    output, into = os.pipe()
    gate, go = os.pipe()
    us = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        _run([*network["before"], f"/proc/{us}/ns/net", *network["after"]], gate, into, us, nofile)
    os.close(gate)
    os.close(into)
    program = _Program(pid, output)
    clone.enter(net, clone.NEWNET)
    # Ports below 1024 are nobody else's in there. Where /proc/sys can't be written to, the vassal has to use others.
    with TOLERANT:
        kernel.put(_PORTS_FROM, "0")
    program.listen()
    # It is found by a path in /proc, which is open to those who may look into this process: its like, in the same user
    # namespace, who have no fewer rights.
    keep_capabilities([])
    show()
    os.write(go, b"1")
    for fd in (go, user, net):
        os.close(fd)
    return program


def _try_ports(ports: list[list[Any]]) -> None:
    """Say which port can't be had, and why: programs tell it in their own words, if at all. Raises _Failed."""
    for protocol, address, number, where in ports:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        probe = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        try:
            if protocol == "tcp":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address or "0.0.0.0", number))  # noqa: S104
            if protocol == "tcp":
                # Two may be bound to one port, but only one may listen.
                probe.listen(1)
        except OSError as error:
            raise _Failed({"port": where, "errno": error.errno or 0}) from None
        finally:
            probe.close()


def _run(argv: list[str], gate: int, into: int, minder: int, nofile: tuple[int, int]) -> NoReturn:
    """Become the program, once the minder is where it is to be found."""
    try:
        os.read(gate, 1)
        os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0)
        os.dup2(into, 1)
        os.dup2(into, 2)
        clone.close_on_exec_from(3)
        resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
        keep_capabilities(_CAPABILITIES)
        clone.no_new_privileges()
        clone.die_with_parent()
        if os.getppid() != minder:
            os._exit(127)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(argv[0], argv, _ENVIRONMENT)  # noqa: S606
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode(errors="surrogateescape"))
    os._exit(127)


class _Program:
    """The running program, and what it says."""

    def __init__(self, pid: int, output: int) -> None:
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._output = output
        self._tail = b""
        self._routes: socket.socket | None = None
        self._poll = select.poll()
        for fd in (_VASSAL, self._pidfd, output):
            self._poll.register(fd, select.POLLIN)
        # An error is told unasked: the Emperor is gone.
        self._poll.register(_WORD, 0)

    def listen(self) -> None:
        """Hear of routes in the network that this process is in."""
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        netlink.bind((0, _ROUTES))
        self._poll.register(netlink, select.POLLIN)
        self._routes = netlink

    def wait_for_route(self) -> None:
        """Until the network is up. Raises _Failed."""
        routes = self._routes
        assert routes is not None
        until = time.monotonic() + _PATIENCE
        while (rest := until - time.monotonic()) > 0:
            found = dict(self._poll.poll(rest * 1000))
            self._look(found)
            if self._pidfd in found:
                raise _Failed({"ended": self._end(), "output": self._tail})
            if routes.fileno() in found and _is_default(routes.recv(65536)):
                self._poll.unregister(routes)
                routes.close()
                return
        self._kill()
        self._drain()
        raise _Failed({"late": True, "output": self._tail})

    def wait_for_end(self) -> None:
        """Until it or the vassal has ended, or the Emperor."""
        while True:
            found = dict(self._poll.poll())
            self._look(found)
            if self._pidfd in found:
                self._drain()
                os.write(_WORD, orders.report({"ended": self._end(), "output": self._tail}))
                return

    def _look(self, found: dict[int, int]) -> None:
        if self._output in found:
            self._relay()
        if _VASSAL in found or _WORD in found:
            self._kill()
            os._exit(0)

    def _end(self) -> int:
        """As `os.waitstatus_to_exitcode` has it."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._drain()
        return code

    def _kill(self) -> None:
        with TOLERANT:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _drain(self) -> None:
        while self._output >= 0 and select.select([self._output], [], [], 0)[0]:
            self._relay()

    def _relay(self) -> None:
        """Into the vassal's log, unless nobody reads it."""
        data = os.read(self._output, _READ)
        if not data:
            self._poll.unregister(self._output)
            os.close(self._output)
            self._output = -1
            return
        data = b"".join(line for line in data.splitlines(keepends=True) if not _is_noise(line))
        self._tail = (self._tail + data)[-_KEPT:]
        with TOLERANT:
            if data and select.select([], [_LOG], [], 0)[1]:
                os.write(_LOG, data)


def _is_noise(line: bytes) -> bool:
    return line.startswith(_NOISE[0]) and line.rstrip().endswith(_NOISE[1])


def _is_default(data: bytes) -> bool:
    """Whether one of these messages of the kernel's is of a new route to everywhere."""
    start = 0
    while start + _HEADER.size + _ROUTE.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, start)
        if kind == _NEWROUTE:
            _, reach, _, _, table, *_ = _ROUTE.unpack_from(data, start + _HEADER.size)
            if reach == 0 and table == _MAIN:
                return True
        start += max(_HEADER.size, (length + 3) & ~3)
    return False
