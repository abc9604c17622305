"""How the files of one source are reached: plainly, or in tyrant mode through the gate.

Made and used by `files` alone, so that it need not know which of the two it is. Not in here: the rules (`gate`).
"""

from __future__ import annotations

import os
from functools import partial

from emperorctl.models.errors import Problem
from emperorctl.models.names import printable
from emperorctl.models.sockets import OnDemand, parse_address
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import Owner
from emperorctl.monitors.base import MonitorContext
from emperorctl.monitors.gate import Grants, Ground
from emperorctl.monitors.parsing import Order, Parsed, Setting
from emperorctl.monitors.parsing import administered as administered_manifest
from emperorctl.monitors.reading import Busy, Content, Entry, Gone, Unusable, read

__all__ = ["Entrance"]

_ANY_GROUND = Ground()


class Entrance:
    """`root` is the source's own directory."""

    def __init__(self, context: MonitorContext, source: str, root: str) -> None:
        self._context = context
        self._source = source
        self._root = root
        self._complaints: dict[str, str] = {}

    def enter(self, path: str) -> tuple[int, Ground]:
        """A descriptor of a directory of the source, and in tyrant mode who can write there. Raises OSError."""
        gate = self._context.gate
        if gate is None:
            return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), _ANY_GROUND
        fd, ground = gate.enter(self._root, path)
        self._complain(path, ground.complaint)
        return fd, ground

    def look_above(self) -> None:
        """In tyrant mode, say who besides root could put another directory in the place of the source's own."""
        if self._context.gate is not None:
            self._complain("", self._context.gate.complaint_above(self._root))

    def read(self, entry: Entry, limit: int, ground: Ground, lease_on: int | None) -> Content | Unusable | Gone | Busy:
        """The content of an entry; see `reading.read`."""
        gate = self._context.gate
        if gate is None:
            return read(entry, limit, lease_on=lease_on)
        return gate.read(entry, limit, ground, lease_on=lease_on)

    def read_beside(
        self, config: Content, entry: Entry, limit: int, ground: Ground, lease_on: int | None
    ) -> Content | Unusable | Gone | Busy:
        """The same, for a file that belongs to a config: in tyrant mode it has to have the same owner."""
        found = self.read(entry, limit, ground, lease_on)
        if self._context.gate is not None and isinstance(found, Content) and found.uid != config.uid:
            message = f"belongs to user id {found.uid}, and the config beside it to {config.uid}"
            problem = Problem("OtherOwner", message, "give both to the same owner", file=entry.shown)
            return Unusable(problem, found.fingerprint, found.touch)
        return found

    def judge(
        self, parsed: Parsed, owner: Owner | None, order: Order, setting: Setting, *, administered: bool = False
    ) -> tuple[Parsed, Owner | None]:
        """What a file may claim of that, and whose it is; in tyrant mode alone, owners count.

        `administered`: its on-demand address is the administrator's.
        """
        gate = self._context.gate
        if gate is None:
            return parsed, None
        granted = None
        if order.on_demand and administered and parsed.problem is None:
            granted = OnDemand((parse_address(order.on_demand, setting.working_dir or None),))
        grants = Grants(granted, partial(administered_manifest, order, setting))
        return gate.govern(parsed, owner, order, grants), owner

    def called_by(self, owner: int) -> int | None:
        """The uid by which the manifests of this owner are called: in tyrant mode alone."""
        return None if self._context.gate is None else owner

    def _complain(self, path: str, complaint: str) -> None:
        if self._complaints.get(path, "") == complaint:
            return
        self._complaints[path] = complaint
        if complaint:
            message = f"{printable(path or self._root)}: {complaint}"
            self._context.warn(self._source, Note(NoteType.WARNING, "UnsafeDirectory", message))
