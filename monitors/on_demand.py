"""uWSGI's three ways of saying which socket starts a vassal: a file beside its config, a directory, a command.

Used by `files` for uWSGI configs; native manifests say it themselves. The first way that is given counts. An answer is
a text (empty: it is not started on demand), or a problem; what the text means is `models.sockets`' matter. A command
never holds the event loop up, has a limited time, and is ended with everything it left in its process group.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
from collections.abc import Callable, Mapping

from emperorctl.models import manifest
from emperorctl.models.errors import Problem
from emperorctl.models.names import printable
from emperorctl.models.uwsgi_run import UwsgiRun
from emperorctl.monitors.parsing import Order
from emperorctl.monitors.reading import Busy, Content, Entry, Fingerprint, Gone, Unusable, look

__all__ = ["OnDemandRule", "Read"]

Read = Callable[[Entry, int], Content | Unusable | Gone | Busy]
"""How the file is read that holds an address: the entry, and the most bytes it may have."""

TEXT_MAX = 4096
"""Bytes that a file or a command may say."""
COMMAND_TIME = 10.0
"""Seconds that a command gets."""
_AT_ONCE = 8
_CONTROL = re.compile(rb"[\x00-\x1f]")


class OnDemandRule:
    """How the vassals of one source are found to be on demand."""

    def __init__(self, run: UwsgiRun) -> None:
        self._extension = run.on_demand_extension or None
        self._directory = None if self._extension else run.on_demand_directory or None
        self._command = None if self._extension or self._directory else run.on_demand_exec or None
        self._tyrant = run.tyrant
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @property
    def administered(self) -> bool:
        """Whether the answers are the administrator's own rather than those of files."""
        return self._directory is not None or self._command is not None

    def config_of(self, name: str) -> str | None:
        """The name of the config that the file `name` holds the address of; None where it is no such file."""
        if self._extension is None or not name.endswith(self._extension):
            return None
        return name.removesuffix(self._extension) or None

    def fingerprint(self, directory: int, name: str) -> Fingerprint | None:
        """What has to be equal for the file beside the config `name` to count as unchanged."""
        if self._extension is None:
            return None
        try:
            seen = look(directory, name + self._extension)
        except OSError:
            return None
        return seen[0] if seen else None

    def asks(self, order: Order) -> bool:
        """Whether the answer for this config has to be asked of a command."""
        return self._command is not None and _is_uwsgi(order)

    def answer(self, directory: int, order: Order, read: Read) -> str | Problem | None:
        """The answer that needs no command; None: the file that holds it is just being written (`reading.read`)."""
        if (self._directory is None and self._extension is None) or not _is_uwsgi(order):
            return ""
        if self._directory is not None:
            return f"{os.path.join(self._directory, order.stem)}.socket"
        assert self._extension is not None
        name = os.path.basename(order.path) + self._extension
        found = read(Entry(directory, name, order.file + printable(self._extension)), TEXT_MAX)
        match found:
            case Gone():
                return ""
            case Busy():
                return None
            case Unusable():
                return found.problem
        return _text(found.data, found_in=order.file + printable(self._extension))

    async def ask(self, order: Order, directory: str | None) -> str | Problem:
        """What the command says of this config; it is run in `directory`, with the vassal's name as its argument.

        In tyrant mode it is run in `/`: it has the Emperor's rights, and others may write where the config lies.
        """
        env = {**os.environ, "UWSGI_VASSALS_DIR": os.path.dirname(os.path.abspath(order.path))}
        async with self._turns:
            line = f"{self._command} {shlex.quote(order.identity)}"
            try:
                output, complete = await _output_of(line, "/" if self._tyrant else directory, env)
            except OSError as error:
                return _command_failed(order, f"can't be run: {error.strerror}")
        if not complete:
            return _command_failed(
                order, f"did not end within {COMMAND_TIME:g}s, or printed more than {TEXT_MAX} bytes"
            )
        return _text(output, found_in=order.file)


def _is_uwsgi(order: Order) -> bool:
    form = manifest.FORMATS.get(order.extension)
    return form is None or manifest.recognise(order.data, form) != "native"


def _text(data: bytes, found_in: str) -> str | Problem:
    """Everything up to the first control character, as uWSGI takes it."""
    first = _CONTROL.split(data, maxsplit=1)[0].strip()
    try:
        return first.decode()
    except UnicodeDecodeError:
        return Problem("InvalidAddress", "the on-demand address is not UTF-8", "correct it", file=found_in)


def _command_failed(order: Order, what: str) -> Problem:
    remedy = "correct the command, and touch the vassal's file"
    return Problem("OnDemandCommand", f"the command of --emperor-on-demand-exec {what}", remedy, file=order.file)


async def _output_of(line: str, directory: str | None, env: Mapping[str, str]) -> tuple[bytes, bool]:
    """What a shell command prints, and whether it is all of it. Raises OSError."""
    loop = asyncio.get_running_loop()
    pid, reading = _start(line if directory is None else f"cd {shlex.quote(directory)} && {line}", env)
    pidfd = os.pidfd_open(pid)
    try:
        return await _collect(loop, reading, pidfd)
    finally:
        # Not reaped yet, so the number is still its own, and so is the group's.
        _end(pid)
        await _gone(loop, pidfd)
        _reap(pidfd)
        os.close(reading)


def _start(line: str, env: Mapping[str, str]) -> tuple[int, int]:
    """A shell in a process group of its own: its pid, and where its output can be read. Raises OSError."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.set_blocking(writing, True)
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", line],
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 1),
            ],
            setpgroup=0,
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return pid, reading


async def _collect(loop: asyncio.AbstractEventLoop, reading: int, pidfd: int) -> tuple[bytes, bool]:
    """Read until the end of the output or of the process, whichever comes first."""
    output, over = bytearray(), asyncio.Event()

    def take() -> None:
        try:
            data = os.read(reading, TEXT_MAX)
        except BlockingIOError:
            return
        output.extend(data)
        if not data or len(output) > TEXT_MAX:
            over.set()

    loop.add_reader(reading, take)
    loop.add_reader(pidfd, over.set)
    try:
        async with asyncio.timeout(COMMAND_TIME):
            await over.wait()
        loop.remove_reader(reading)
        take()
        return bytes(output), len(output) <= TEXT_MAX
    except TimeoutError:
        return b"", False
    finally:
        loop.remove_reader(reading)
        loop.remove_reader(pidfd)


def _end(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


async def _gone(loop: asyncio.AbstractEventLoop, pidfd: int) -> None:
    gone = asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(pidfd)


def _reap(pidfd: int) -> None:
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        pass
    os.close(pidfd)
