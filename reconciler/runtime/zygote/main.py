"""The zygote's loop: orders in, children of the Emperor out, outcomes back; at the end, the gravedigger.

Run by `runtime.spawn` in a bare interpreter. It reads nothing but its socket, runs no threads, and imports
everything before the first launch. All signals stay blocked, with default dispositions, for its whole life: that
is what its children inherit, so they only have to empty the mask, and no terminal or service manager can end it
before it has buried the vassals.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import select
import time

from . import cells, child, confine, graves, orders, procfs, rights  # noqa: TID251
from .clone import Cloned, Cloner, default_signals, set_name  # noqa: TID251
from .lean import TOLERANT, signal, socket  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Zygote", "main", "serve"]

_FRESH = 2.0
"""Seconds after a leader's death during which its session number can't have been given to a stranger:
the Emperor drops a finished launch long before."""


def main(fd: int) -> None:
    """Serve the socket `fd` until the Emperor is gone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    default_signals()
    # The keepers of cells, the only children it has itself, need not be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    emperor = os.getppid()
    with TOLERANT:
        os.setsid()
    with TOLERANT:
        set_name(procfs.ZYGOTE_NAME)
    os.set_inheritable(fd, False)
    gc.collect()
    gc.freeze()
    gc.disable()
    serve(socket.socket(fileno=fd), emperor)


def serve(sock: socket.socket, emperor: int) -> NoReturn:
    """Be a zygote of this Emperor until it is gone, and bury what it leaves."""
    sock.setblocking(True)
    zygote = Zygote(sock, emperor)
    zygote.serve()
    zygote.bury()
    os._exit(0)


class _Held:
    """One launch, as far as the gravedigger needs it. `pidfd` is kept only where there are no cgroups."""

    __slots__ = ("died", "log", "log_path", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, log: int, log_path: str) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.log = log
        self.log_path = log_path
        self.died: float | None = None


class Zygote:
    """The state of the loop: launches under way (by status pipe) and launches that live (by id)."""

    def __init__(self, sock: socket.socket, emperor: int) -> None:
        self._sock = sock
        self._emperor = emperor
        self._cloner = Cloner()
        self._builder = cells.Builder(self._cloner)
        self._poll = select.epoll()
        self._poll.register(sock, select.EPOLLIN)
        self._emperor_fd = -1
        self._watch_emperor()
        self._pending: dict[int, int] = {}
        self._held: dict[int, _Held] = {}
        self._leaders: dict[int, _Held] = {}
        self._outcomes: list[list[Any]] = []
        self._nofile = _raise_nofile()
        self._root = ""
        self._mark = b""
        self._groups: set[str] = set()
        self._score: int | None = None

    def _watch_emperor(self) -> None:
        # The socket alone could be held open by a fork of the Emperor.
        try:
            self._emperor_fd = os.pidfd_open(self._emperor)
            self._poll.register(self._emperor_fd, select.EPOLLIN)
        except OSError:
            pass

    def serve(self) -> None:
        """Work until the Emperor closes its end or dies."""
        if os.getppid() != self._emperor:
            return
        try:
            while True:
                orders_wait = False
                for fd, _ in self._poll.poll():
                    if fd in self._pending:
                        self._settle(fd)
                    elif fd in self._leaders:
                        self._leader_died(fd)
                    elif fd == self._emperor_fd:
                        return
                    elif fd == self._sock.fileno():
                        orders_wait = True
                # After all that closes descriptors: a new one must not meet an old one's event.
                if orders_wait:
                    self._take()
                if self._outcomes:
                    done = {"done": self._outcomes, "helpers": self._builder.helpers}
                    orders.send(self._sock, orders.encode(done))
                    self._outcomes, self._builder.helpers = [], []
        except (orders.Closed, BrokenPipeError, ConnectionResetError):
            return

    def _take(self) -> None:
        try:
            message, fds = orders.receive(self._sock)
        except orders.DescriptorsLost as lost:
            if "launch" in lost.message:
                self._refuse(lost.message["launch"]["id"], "descriptors", OSError(24, "descriptors lost"))
            return
        if "launch" in message:
            self._launch(message["launch"], fds)
        elif "drop" in message:
            for key in message["drop"]:
                self._drop(key)
        elif "hello" in message:
            self._greet(message["hello"])
        elif "renounce" in message:
            self._renounce(*message["renounce"])
        elif "serve" in message:
            self._bear(fds[0])
        elif "adopt" in message:
            self._adopt(message["adopt"], fds)

    def _greet(self, hello: dict[str, Any]) -> None:
        self._root = hello["cgroup_root"] or ""
        self._mark = hello["mark"].encode()
        self._nofile = (hello["nofile"][0], hello["nofile"][1])
        self._cloner = Cloner(clone3=hello.get("clone3", True))
        self._score = hello.get("oom_score")
        if self._score is not None:
            with TOLERANT:
                confine.expose(hello["own_oom_score"])
        self._builder = cells.Builder(self._cloner)
        if hello["drain_lock"]:
            # Held for life: an Emperor started after this one waits for it before it writes the same log files.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                fcntl.flock(os.open(hello["drain_lock"], flags, 0o600), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                pass

    def _renounce(self, uid: int, gid: int, groups: list[int], kept: list[int]) -> None:
        """Go on as another user, and make processes with what is kept alone."""
        said = ""
        try:
            rights.become(uid, gid, groups, kept)
            rights.show()
        except (OSError, rights.Refused) as error:
            said = str(error) or "refused"
        orders.send(self._sock, orders.encode({"renounced": said}))
        if said:
            os._exit(1)

    def _bear(self, fd: int) -> None:
        """Another zygote, with our own rights, to serve this socket: an Emperor that has given up its own can't start
        one in place of one that is lost."""
        pid = -1
        with TOLERANT:
            cloned = self._cloner.clone(None)
            pid = cloned.pid
            if pid:
                os.close(cloned.pidfd)
        if pid == 0:
            self._sock.close()
            self._poll.close()
            os.close(self._emperor_fd)
            os.setsid()
            serve(socket.socket(fileno=fd), self._emperor)
        os.close(fd)
        orders.send(self._sock, orders.encode({"born": pid}))

    def _launch(self, order: dict[str, Any], received: list[int]) -> None:
        key = order["id"]
        fds = dict(zip(order["fds"], received, strict=True))
        log = fds.pop("log", -1)
        cgroup: int | None = None
        reading, status = os.pipe()
        frame = child.Frame(status, self._emperor, fds, self._nofile, watch=self._emperor_fd)
        frame.score = self._score
        step = "cgroup"
        try:
            if order["cgroup"]:
                os.mkdir(order["cgroup"], 0o755)
                cgroup = os.open(order["cgroup"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if "limits" in order:
                step = "limits"
                self._groups.update(map(os.path.dirname, order["limits"]["groups"]))
                confine.confine(order["limits"])
            step = "clone"
            isolation = order.get("isolation")
            if isolation is not None and isolation["flags"]:
                cloned = self._builder.build(order, cgroup, frame)
            else:
                cloned = self._cloner.clone(cgroup)
        except OSError as error:
            self._refuse(key, error.step if isinstance(error, cells.CellError) else step, error)
            os.close(reading)
            if log >= 0:
                os.close(log)
        else:
            if cloned.pid == 0:
                frame.join = cgroup if not cloned.joined else None
                child.become(order, frame)
            self._pending[reading] = key
            self._poll.register(reading, select.EPOLLIN)
            self._hold(key, cloned, log, order.get("log") or "")
        finally:
            os.close(status)
            if cgroup is not None:
                os.close(cgroup)
            for fd in set(fds.values()):
                os.close(fd)

    def _hold(self, key: int, cloned: Cloned, log: int, log_path: str) -> None:
        held = _Held(cloned.pid, -1, log, log_path)
        self._held[key] = held
        if self._root:
            os.close(cloned.pidfd)
        else:
            self._follow(held, cloned.pidfd)

    def _follow(self, held: _Held, pidfd: int) -> None:
        held.pidfd = pidfd
        self._leaders[pidfd] = held
        self._poll.register(pidfd, select.EPOLLIN)

    def _leader_died(self, pidfd: int) -> None:
        held = self._leaders.pop(pidfd)
        held.died = time.monotonic()
        held.pidfd = -1
        os.close(pidfd)

    def _settle(self, reading: int) -> None:
        key = self._pending.pop(reading)
        report = os.read(reading, 65536)
        os.close(reading)
        pid = self._held[key].pid
        if report:
            self._drop(key)
        # As it came: the Emperor reads it.
        self._outcomes.append([key, pid, report or None])

    def _refuse(self, key: int, step: str, error: OSError) -> None:
        self._outcomes.append([key, 0, orders.report({"step": step, "errno": error.errno or 0, "detail": ""})])

    def _adopt(self, launches: list[dict[str, Any]], fds: list[int]) -> None:
        """Launches of an earlier zygote: `pidfd` and `log` say whether such a descriptor is next in line."""
        remaining = iter(fds)
        for launch in launches:
            pidfd = next(remaining) if launch["pidfd"] else -1
            log = next(remaining) if launch["log"] else -1
            held = _Held(launch["pid"], -1, log, launch["log"] or "")
            self._held[launch["id"]] = held
            if pidfd >= 0:
                self._follow(held, pidfd)

    def _drop(self, key: int) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        if held.log >= 0:
            os.close(held.log)
        if held.pidfd >= 0:
            del self._leaders[held.pidfd]
            os.close(held.pidfd)

    def bury(self) -> None:
        """The Emperor is gone: nothing that it launched may stay, and no line of theirs may be lost."""
        if self._root:
            graves.bury_cgroup(self._root)
        elif self._mark:
            now = time.monotonic()
            held = self._held.values()
            sessions = {one.pid for one in held if one.died is None or now - one.died < _FRESH}
            graves.bury_trees(sessions, self._mark)
        for group in self._groups:
            graves.bury_group(group)
        graves.drain((held.log, held.log_path) for held in self._held.values() if held.log >= 0)
        for root in (*self._groups, *filter(None, (self._root,))):
            graves.remove_cgroup(root)


def _raise_nofile() -> tuple[int, int]:
    """Room for two descriptors per vassal; returns the limits as they were."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass
    return soft, hard
