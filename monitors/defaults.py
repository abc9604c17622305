"""The file of `--vassal-defaults`: read at the start, watched from then on, and only its last good version counts.

Made by the command line, for `run` and for `validate`. What it says is given to every monitor (`adopt`); what that
means for a vassal is `models.merging`'s. A file that others could write is not accepted: it decides what runs as whom.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.magic import Place
from emperorctl.models.manifest import FORMATS
from emperorctl.models.merging import NO_LAYERS, Layers
from emperorctl.models.names import printable
from emperorctl.models.status import Note, NoteType
from emperorctl.models.tyranny import refuse_layers
from emperorctl.models.vassal_defaults import read_defaults
from emperorctl.models.vassal_set import read_settings
from emperorctl.monitors.base import Shared, Warn
from emperorctl.monitors.placeholders import Reach
from emperorctl.monitors.reading import (
    NATIVE_LIMIT,
    Busy,
    Content,
    Entry,
    Fingerprint,
    Gone,
    Unusable,
    look,
    only_ours,
    read,
)
from emperorctl.monitors.watch.base import Hint, Watcher, WatchExhausted
from emperorctl.monitors.watch.choice import WatchMode, fitting
from emperorctl.monitors.watch.polling import INTERVAL, PollingWatcher

__all__ = ["Defaults", "DefaultsWatch", "given_layers"]

_SETTLE = 0.25  # seconds: a file that is being written is looked at again after this long …
_PATIENCE = 20  # … so many times, and then taken as it is


def given_layers(native: tuple[str, ...]) -> Layers:
    """What `--vassal-set` comes to, with nothing below it. Raises UserError."""
    if not native:
        return NO_LAYERS
    here = os.getcwd()
    return Layers(given=read_settings(native, _place(os.path.join(here, "."))))


@dataclass(frozen=True, slots=True)
class Defaults:
    """One such file. `path` is absolute; `given` is what was set besides, and goes over it. `tyrant`: it is for tyrant
    mode."""

    path: str
    given: Layers = NO_LAYERS
    tyrant: bool = False

    def load(self) -> Layers:
        """All layers as of now. Raises ConfigError: file, line, what is wrong, what to do."""
        return self.seen()[0]

    def seen(self) -> tuple[Layers, Fingerprint]:
        """The same, and the state of the file that it came from."""
        shown = printable(self.path)
        for _ in range(_PATIENCE):
            found = read(Entry(None, self.path, shown), NATIVE_LIMIT)
            if not isinstance(found, Busy):
                break
        match found:
            case Content():
                _require_ours(found, shown)
                return self._parsed(found, shown), found.fingerprint
            case Unusable():
                raise ConfigError(found.problem.at(shown))
            case Gone():
                raise ConfigError(Problem("NotFound", "does not exist", "create it, or do without it", file=shown))
        raise ConfigError(Problem("Unreadable", "changes all the time", "write it once", file=shown))

    def _parsed(self, content: Content, shown: str) -> Layers:
        extension = os.path.splitext(self.path)[1]
        form = FORMATS.get(extension)
        if form is None:
            known = " ".join(FORMATS)
            message = f"is no manifest by its name; expected one of {known}"
            raise ConfigError(Problem("InvalidName", message, "rename it", file=shown))
        layers = read_defaults(content.data, form, file=shown, place=_place(self.path))
        layers = replace(layers, given=self.given.given)
        if self.tyrant:
            refuse_layers(layers)
        return layers


def _place(path: str) -> Place:
    reach = Reach(os.path.dirname(path), os.environ, own=True)
    return Place(path, path, "", environment=reach.variable, content=reach.content)


def _require_ours(found: Content, shown: str) -> None:
    if not only_ours(found.uid, found.gid, found.mode):
        message = "can be written by others than root and the Emperor's user, and decides what all vassals run"
        raise ConfigError(Problem("PermissionDenied", message, "chown and chmod it", file=shown))


class DefaultsWatch:
    """Notices that the file has changed. `adopt` is given each good version, `warn` told of all others."""

    def __init__(self, defaults: Defaults, adopt: Callable[[Layers], None], warn: Warn) -> None:
        self._defaults = defaults
        self._adopt = adopt
        self._warn = warn
        self._name = f"file://{printable(defaults.path)}"
        self._shared = Shared()
        self._mode: WatchMode = "auto"
        self._interval = INTERVAL
        self._layers = NO_LAYERS
        self._seen: Fingerprint | None = None
        self._problem: Problem | None = None
        self._watcher: Watcher | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Layers:
        """The layers to start with. Raises ConfigError."""
        self._layers, self._seen = self._defaults.seen()
        return self._layers

    def watch(self, shared: Shared, mode: WatchMode, interval: float = INTERVAL) -> None:
        """Be told of changes from now on; to be called within the event loop."""
        self._shared, self._mode, self._interval = shared, mode, interval
        if fitting(mode, os.path.dirname(self._defaults.path)) == "inotify":
            try:
                self._watcher = shared.inotify.subscribe(self._on_hint)
                self._follow()
            except WatchExhausted as error:
                text = f"{error}, then restart the Emperor; until then {self._name} is looked at every {interval:g} s"
                self._warn(self._name, Note(NoteType.WARNING, "WatchExhausted", text))
                self._poll()
        else:
            self._poll()
        self.check()

    def check(self) -> None:
        """Look at the file; read it where it is not what it was."""
        self._timer = None
        try:
            found = look(None, self._defaults.path)
        except OSError:
            found = None
        now = found[0] if found is not None else None
        if now == self._seen and (now is not None or self._problem is not None):
            return
        self._follow()
        self._seen = now
        try:
            layers, self._seen = self._defaults.seen()
        except ConfigError as error:
            self._broken(error.problem)
            return
        if self._problem is not None or layers != self._layers:
            text = "the defaults of all native vassals are read anew; who runs with others is replaced"
            self._warn(self._name, Note(NoteType.NORMAL, "DefaultsRead", text))
        self._problem = None
        if layers != self._layers:
            self._layers = layers
            self._adopt(layers)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def _broken(self, problem: Problem) -> None:
        if problem != self._problem:
            self._problem = problem
            text = f"{problem.sentence()}; the last good defaults stay"
            self._warn(self._name, Note(NoteType.WARNING, problem.reason, text))

    def _poll(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        self._watcher = PollingWatcher(self._on_hint, self._interval)

    def _follow(self) -> None:
        """Watch where the file lies, and where it leads to if it is a link."""
        watcher, path = self._watcher, self._defaults.path
        if watcher is None:
            return
        try:
            for one in {os.path.dirname(path), os.path.dirname(os.path.realpath(path))}:
                watcher.entries(one)
        except WatchExhausted:
            self._poll()

    def _on_hint(self, hint: Hint, path: str, name: str) -> None:
        names = (os.path.basename(self._defaults.path), os.path.basename(os.path.realpath(self._defaults.path)))
        if name and name not in names:
            return
        # One that is being written will be complete in a moment.
        delay = _SETTLE if hint in (Hint.SOON, Hint.GONE, Hint.ITSELF) else 0.0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self.check)
