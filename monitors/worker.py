"""The process that parses strangers' files: `python -I -m emperorctl.monitors.worker`, with its socket as stdin.

Started by `outside` when the first such file turns up; it imports the parsers once and forks one child for each
job, so that a hostile file costs 3 ms of fork and at most the job's limits. The child runs as nobody where it can,
with hardly any memory, time or descriptors, and answers over the job's own socket. It ends when the
Emperor's end closes, or by itself after a minute without work. Nothing in here is imported by the Emperor.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time

from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.parsing import Facts, Order, Parsed, Setting, parse, too_complex
from emperorctl.monitors.wire import MAX_RESULT, decode_job, encode_job, encode_result

__all__ = ["main"]

_IDLE = 60.0
_NOBODY = 65534
_MEMORY = 256 * 1024 * 1024
_SAMPLES = (
    ("a.yaml", b"apiVersion: emperor/v1\nkind: Vassal\nspec: {command: [a]}\n"),
    ("a.json", b'{"apiVersion": "emperor/v1", "kind": "Vassal", "spec": {"command": ["a"]}}'),
    ("a.toml", b'apiVersion = "emperor/v1"\nkind = "Vassal"\nspec.command = ["a"]\n'),
    ("a.ini", b"[uwsgi]\nchdir = /\n"),
)


def main() -> None:
    """Take jobs until the Emperor goes or there is nothing to do."""
    control = socket.socket(fileno=0)
    _warm_up()
    gc.freeze()
    gc.disable()  # a job is over before there is anything to collect
    memory = _address_space() + _MEMORY
    children: dict[int, tuple[int, float]] = {}  # pidfd -> pid, deadline
    waiter = select.poll()
    waiter.register(control, select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _ in waiter.poll(_timeout(children))}
            if not ready and not children:
                return
            now = time.monotonic()
            for pidfd, (_, deadline) in tuple(children.items()):
                if now >= deadline:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                if pidfd in ready or now >= deadline:
                    _reap(children, pidfd, waiter)
            if control.fileno() in ready and not _take(control, children, waiter, memory):
                return
    finally:
        for pidfd in tuple(children):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _warm_up() -> None:
    """Have all that is made when it is first used made here, before the forks, not in each of them."""
    setting = Setting("dir:///", "/", "/", UwsgiRun(), Facts())
    for name, data in _SAMPLES:
        orders, same = decode_job(encode_job([Order(name, f"/{name}", name, 0, data)], setting))
        encode_result(parse(orders[0], same))


def _timeout(children: dict[int, tuple[int, float]]) -> float:
    if not children:
        return _IDLE * 1000
    return max(0.0, min(deadline for _, deadline in children.values()) - time.monotonic()) * 1000 + 1


def _reap(children: dict[int, tuple[int, float]], pidfd: int, waiter: select.poll) -> None:
    pid, _ = children.pop(pidfd)
    waiter.unregister(pidfd)
    os.waitpid(pid, 0)
    os.close(pidfd)


def _take(control: socket.socket, children: dict[int, tuple[int, float]], waiter: select.poll, memory: int) -> bool:
    message, fds, flags, _ = socket.recv_fds(control, 4096, 4)
    if not message:
        return False
    if len(fds) != 1 or flags & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        return True
    limits = json.loads(message)
    try:
        pid = os.fork()
    except OSError:  # the closed socket tells the Emperor
        os.close(fds[0])
        return True
    if pid == 0:
        code = 1
        try:
            _work(_only(fds[0]), limits["cpu"], memory)
            code = 0
        finally:
            os._exit(code)
    os.close(fds[0])
    pidfd = os.pidfd_open(pid)
    children[pidfd] = (pid, time.monotonic() + limits["wall"])
    waiter.register(pidfd, select.POLLIN)
    return True


def _only(fd: int) -> int:
    """Every descriptor closed but stderr and this one, which becomes stdin: the Emperor's socket goes."""
    os.dup2(fd, 0)
    os.dup2(2, 1)
    os.closerange(3, 4096)
    return 0


def _work(fd: int, cpu: int, memory: int) -> None:
    """The child's life: confine itself, read the job, answer file by file."""
    _confine(cpu, memory)
    chunks = []
    while chunk := os.read(fd, 1 << 18):
        chunks.append(chunk)
    orders, setting = decode_job(b"".join(chunks))
    for order in orders:
        line = encode_result(parse(order, setting))
        if len(line) > MAX_RESULT:
            line = encode_result(Parsed((), too_complex(order), order.stem))
        view = memoryview(line)
        while view:
            view = view[os.write(fd, view) :]


def _confine(cpu: int, memory: int) -> None:
    os.chdir("/")
    for limit, wish in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        value = wish if hard == resource.RLIM_INFINITY else min(wish, hard)
        resource.setrlimit(limit, (value, value))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        if (*os.getresuid(), *os.getresgid(), *os.getgroups()) != (_NOBODY,) * 6:
            os._exit(1)


def _address_space() -> int:
    """What this process has of it now, in bytes; a child begins with the same."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    sys.setrecursionlimit(1000)
    main()
