"""A cell: the namespaces of one launch, and who lives in them.

Called by `main` to clone a process into one, and by `child` in that process. Where the vassal is not to be process 1
of its pid namespace (as such it would not even notice SIGTERM), a keeper is: a child of the zygote that makes the
namespaces, gives up all rights, and does nothing but be there, with orphans reaped by the kernel, until the vassal has
ended; with it goes whatever is left. The vassal joins it there, and is the Emperor's own child all the same: its pid,
its end and its signals are what they are without a cell. Not in here: the file system (`scene`).
"""

from __future__ import annotations

import fcntl
import os
import select
import struct

from . import clone, kernel, usernet  # noqa: TID251
from .clone import NEWCGROUP, NEWPID, NEWUSER, Cloned, Cloner  # noqa: TID251
from .execute import Steps, report  # noqa: TID251
from .lean import signal, socket  # noqa: TID251
from .procfs import KEEPER_NAME  # noqa: TID251
from .rights import become_with_all_rights, drop, keep_capabilities, limit_capabilities, may_limit  # noqa: TID251
from .scene import arrange  # noqa: TID251

TYPE_CHECKING = False  # that of `typing`, which is not to be loaded
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .child import Frame  # noqa: TID251

__all__ = ["Builder", "CellError", "limit", "move_in", "settle"]

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = struct.Struct("16sh22x")
_FIRST = 2
"""The pid of the first process that joins a keeper."""
_GONE = 0
_FAILED = 127


class CellError(OSError):
    """What failed before there was a process to say so; `step` as in a report."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.step = step


class Builder:
    """Clones processes into cells of their own, in the zygote. `helpers` are pids of children of the Emperor that were
    needed for it and have ended, or are about to."""

    def __init__(self, cloner: Cloner) -> None:
        self.helpers: list[int] = []
        self._cloner = cloner
        self._home = -1

    def build(self, order: dict[str, Any], cgroup: int | None, frame: Frame) -> Cloned:
        """As `Cloner.clone`, with what the child needs to find its way in `frame`. Raises CellError."""
        if order["isolation"]["network"] is None:
            return self._build(order, cgroup, frame)
        ours, frame.network = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            cloned = self._build(order, cgroup, frame)
            if cloned.pid:
                self._have_minded(order, cgroup, frame, (cloned, ours))
            return cloned
        finally:
            ours.close()
            if not frame.born:
                frame.network.close()

    def _have_minded(
        self, order: dict[str, Any], cgroup: int | None, frame: Frame, way: tuple[Cloned, socket.socket]
    ) -> None:
        cloned, talk = way
        try:
            minder = self._cloner.clone(cgroup, sibling=False)
        except OSError as error:
            signal.pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
            raise CellError("clone", error) from None
        if minder.pid == 0:
            frame.join = cgroup if not minder.joined else None
            usernet.mind(order, frame, cloned.pidfd, talk)
        os.close(minder.pidfd)

    def _build(self, order: dict[str, Any], cgroup: int | None, frame: Frame) -> Cloned:
        isolation = order["isolation"]
        gate = os.pipe() if isolation["maps"] else None
        try:
            if isolation["init"] and isolation["flags"] & NEWUSER and os.geteuid() != 0:
                return self._by_helper(order, cgroup, frame, gate)
            if isolation["init"]:
                return self._with_keeper(order, cgroup, frame, gate)
            return self._alone(isolation, cgroup, frame, gate)
        finally:
            if gate is not None and not frame.born:
                os.close(gate[0])
                os.close(gate[1])

    def _alone(
        self, isolation: dict[str, Any], cgroup: int | None, frame: Frame, gate: tuple[int, int] | None
    ) -> Cloned:
        try:
            cloned = self._cloner.clone(cgroup, isolation["flags"])
        except OSError as error:
            raise CellError("namespaces", error) from None
        if cloned.pid == 0:
            frame.born = True
            frame.gate = _behind(gate)
        elif gate is not None:
            _open_gate(cloned, isolation["maps"], gate)
        return cloned

    def _by_helper(
        self, order: dict[str, Any], cgroup: int | None, frame: Frame, gate: tuple[int, int] | None
    ) -> Cloned:
        """Without root's rights, only who is in a user namespace may put a child into its pid namespace, and there is
        no way back: another process has to go there. It is the Emperor's child, for so will its own be."""
        hear, say = os.pipe()
        try:
            helper = self._cloner.clone(cgroup)
            if helper.pid == 0:
                frame.join = cgroup if not helper.joined else None
                return self._help(order, cgroup, frame, (gate, say))
            os.close(say)
            say = -1
            told = os.read(hear, 16)
            if not told:
                # It has said why, and stands for the process that never was.
                return helper
            os.close(helper.pidfd)
            self.helpers.append(helper.pid)
            # Not reaped, as the Emperor does not know of it yet.
            return Cloned(int(told), os.pidfd_open(int(told)), helper.joined)
        except OSError as error:
            raise CellError("clone", error) from None
        finally:
            if not frame.born:
                os.close(hear)
                if say >= 0:
                    os.close(say)

    def _help(
        self, order: dict[str, Any], cgroup: int | None, frame: Frame, ways: tuple[tuple[int, int] | None, int]
    ) -> Cloned:
        steps = Steps()
        try:
            frame.entered = NEWUSER
            cloned = self._with_keeper(order, cgroup, frame, ways[0])
            if cloned.pid == 0:
                return cloned
            os.write(ways[1], str(cloned.pid).encode())
        except OSError as error:
            steps.now = error.step if isinstance(error, CellError) else "clone"
            report(frame.status, steps, error)
            os._exit(_FAILED)
        os._exit(_GONE)

    def _with_keeper(
        self, order: dict[str, Any], cgroup: int | None, frame: Frame, gate: tuple[int, int] | None
    ) -> Cloned:
        isolation = order["isolation"]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            try:
                keeper = self._cloner.clone(cgroup, isolation["flags"], sibling=False)
            except OSError as error:
                raise CellError("namespaces", error) from None
            if keeper.pid == 0:
                ours.close()
                frame.join = cgroup if not keeper.joined else None
                frame.gate = _behind(gate)
                _keep(order, frame, theirs)
            try:
                if gate is not None:
                    _open_gate(keeper, isolation["maps"], gate)
                return self._beside(keeper, cgroup, frame, ours)
            except OSError:
                signal.pidfd_send_signal(keeper.pidfd, signal.SIGKILL)
                raise
            finally:
                if not frame.born:
                    os.close(keeper.pidfd)
        finally:
            theirs.close()
            if not frame.born:
                ours.close()

    def _beside(self, keeper: Cloned, cgroup: int | None, frame: Frame, talk: socket.socket) -> Cloned:
        """The vassal, born into the keeper's pid namespace; the others it has to enter itself."""
        if self._home < 0:
            self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if frame.entered:
                clone.enter(keeper.pidfd, frame.entered)
            clone.enter(keeper.pidfd, NEWPID)
        except OSError as error:
            raise CellError("namespaces", error) from None
        try:
            cloned = self._cloner.clone(cgroup)
        except OSError as error:
            self._go_home(frame)
            raise CellError("clone", error) from None
        if cloned.pid == 0:
            frame.born = True
            frame.keeper, frame.talk = keeper.pidfd, talk
        else:
            self._go_home(frame)
        return cloned

    def _go_home(self, frame: Frame) -> None:
        """Have children of the next launch born outside again; a helper will have none."""
        if not frame.entered:
            clone.enter(self._home, NEWPID)


def _behind(gate: tuple[int, int] | None) -> int:
    """The child's end of the gate, the other one closed."""
    if gate is None:
        return -1
    os.close(gate[1])
    return gate[0]


def _open_gate(cloned: Cloned, maps: dict[str, Any], gate: tuple[int, int]) -> None:
    """Give the process its ids, and let it go on. Raises CellError, the process killed."""
    try:
        directory = f"/proc/{cloned.pid}"
        if maps["deny"]:
            # Or an ordinary user could get rid of groups that keep him out of something.
            kernel.put(f"{directory}/setgroups", "deny")
        kernel.put(f"{directory}/gid_map", maps["gid"])
        kernel.put(f"{directory}/uid_map", maps["uid"])
        os.write(gate[1], b"1")
    except OSError as error:
        signal.pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
        raise CellError("maps", error) from None


# --- in the new process ---


def settle(isolation: dict[str, Any], frame: Frame, steps: Steps) -> None:
    """Make the namespaces that this process was born into what the order says. Raises OSError, Refused."""
    if frame.gate >= 0:
        steps.now = "maps"
        if not os.read(frame.gate, 1):
            os._exit(_FAILED)
        os.close(frame.gate)
        if isolation["ids"] is not None:
            become_with_all_rights(*isolation["ids"])
    if isolation["cgroup"]:
        steps.now = "namespaces"
        # Only now, from within the cgroup that is to be its root.
        clone.unshare(NEWCGROUP)
    if isolation["hostname"] is not None:
        steps.now = "hostname"
        socket.sethostname(isolation["hostname"])
    if isolation["loopback"]:
        steps.now = "loopback"
        _raise_loopback()
    if isolation["scene"] is not None:
        arrange(isolation["scene"], steps)
        steps.facts.clear()


def move_in(isolation: dict[str, Any], frame: Frame, steps: Steps) -> None:
    """Join the keeper, once it has made everything ready; where it could not, it has said so. Raises OSError."""
    steps.now = "namespaces"
    here = os.getcwd()
    talk = frame.talk
    assert talk is not None
    try:
        talk.send(b"here")
        ready = talk.recv(16)
    except ConnectionError:
        ready = b""
    if not ready:
        os._exit(_FAILED)
    flags = isolation["flags"] & ~(NEWPID | frame.entered) | (NEWCGROUP if isolation["cgroup"] else 0)
    if flags:
        clone.enter(frame.keeper, flags)
    talk.send(b"in")
    talk.close()
    os.close(frame.keeper)
    # A new mount namespace puts it at its root.
    try:
        os.chdir(here)
    except OSError:
        os.chdir("/")


def limit(isolation: dict[str, Any], ids: list[Any] | None, steps: Steps) -> None:
    """Become that user, with no other capabilities than are kept. Raises OSError, Refused."""
    kept = isolation["kept"]
    if kept is not None:
        steps.now = "capabilities"
        # Where nobody asked for it and it can't be done, there is nothing to lose either.
        if isolation["asked"] or may_limit():
            limit_capabilities(kept)
    if ids is not None:
        steps.now = "user"
        drop(*ids)
    if kept is not None:
        steps.now = "capabilities"
        keep_capabilities(kept)


def _raise_loopback() -> None:
    any_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    name, flags = _IFREQ.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
    fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(name, flags | _IFF_UP))
    any_socket.close()


def _keep(order: dict[str, Any], frame: Frame, talk: socket.socket) -> NoReturn:
    """Be the keeper."""
    steps = Steps()
    try:
        clone.set_name(KEEPER_NAME)
        isolation = order["isolation"]
        if frame.join is not None:
            steps.now = "cgroup"
            frame.enter_cgroup()
        settle(isolation, frame, steps)
        steps.now = "keeper"
        if not talk.recv(16):
            os._exit(_GONE)
        vassal = os.pidfd_open(_FIRST)
        talk.send(b"ready")
        talk.recv(16)
        # First of all: once it has no more rights than the vassal, that one could look into it.
        clone.not_for_others()
        os.dup2(vassal, 0)
        clone.close_from(1)
        clone.no_new_privileges()
        if order.get("ids") is not None:
            drop(*order["ids"])
        keep_capabilities([])
    except ProcessLookupError:
        os._exit(_GONE)
    except BaseException as error:
        report(frame.status, steps, error)
        os._exit(_FAILED)
    # SIGCHLD is ignored here as in the zygote: what dies in its care is gone at once. All else is blocked.
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.poll()
    os._exit(_GONE)
