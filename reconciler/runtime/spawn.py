"""Starting the zygote: before anything heavy is imported, and from the main thread.

Called by the `run` command first thing, and by `launcher` when a zygote has to be replaced. Imports only what an
interpreter has loaded anyway.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
import sys

from emperorctl.reconciler.runtime.zygote import orders

__all__ = ["ZygoteHandle", "spawn_zygote"]

_BOOT = "import sys; sys.path.append(sys.argv[1]); from zygote.main import main; main(int(sys.argv[2]))"
_TARGET = 3
_BIRTH = 2.0


class ZygoteHandle:
    """A zygote that was started: its pid, its pidfd, and our end of its socket.

    `nofile` is the (soft, hard) limit on descriptors that vassals are to have: the Emperor's own, before it raises it.
    `nursery` is another zygote, kept idle to make further ones where the Emperor has not the rights for it any more.
    """

    __slots__ = ("nofile", "nursery", "pid", "pidfd", "sock")

    def __init__(self, pid: int, pidfd: int, sock: socket.socket, nofile: tuple[int, int]) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sock = sock
        self.nofile = nofile
        self.nursery: ZygoteHandle | None = None

    def successor(self) -> ZygoteHandle:
        """A zygote to take the place of this one, which is lost. Main thread only. Raises OSError."""
        if self.nursery is None:
            return spawn_zygote(self.nofile)
        made = _born(self.nursery, self.nofile)
        made.nursery = self.nursery
        return made


def _born(nursery: ZygoteHandle, nofile: tuple[int, int]) -> ZygoteHandle:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        orders.send(nursery.sock, orders.encode({"serve": True}), [theirs.fileno()])
        if not select.select([nursery.sock], [], [], _BIRTH)[0]:
            raise OSError(errno.ETIMEDOUT, "no other zygote was made")
        pid = int(orders.receive(nursery.sock)[0]["born"])
        if pid <= 0:
            raise OSError(errno.EAGAIN, "no other zygote could be made")
        pidfd = os.pidfd_open(pid)
    except orders.Closed:
        ours.close()
        raise OSError(errno.EPIPE, "whoever makes zygotes is gone") from None
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return ZygoteHandle(pid, pidfd, ours, nofile)


def spawn_zygote(nofile: tuple[int, int] | None = None) -> ZygoteHandle:
    """Start a zygote. Main thread only: all it launches dies with the thread that called this. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    limits = nofile or resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _TARGET if theirs.fileno() != _TARGET else _TARGET + 1
    # Nothing of the Emperor's environment: it may hold secrets. A library path may be what makes Python start at all.
    env = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    if "LD_LIBRARY_PATH" in os.environ:
        env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    directory = os.path.dirname(os.path.abspath(__file__))
    argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, directory, str(target)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), target),
    ]
    # Blocked from its first instruction; `zygote.main` keeps it so.
    pid = os.posix_spawn(sys.executable, argv, env, file_actions=actions, setsigmask=list(signal.valid_signals()))
    theirs.close()
    ours.setblocking(False)
    return ZygoteHandle(pid, os.pidfd_open(pid), ours, limits)
