"""Limits on all that a launch starts: what the zygote has to set before the process is born, and how it is going.

Used by `host` and `hooks`. Where the controllers are is `controllers`' knowledge; they are looked for when the first
vassal asks for one, so that nothing changes for those who ask for none. A launch's files on cgroup v2 are in the cgroup
that contains it anyway; on v1 it gets one more for each hierarchy, joined by the new process before anything else.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from emperorctl.models.limits import Limits
from emperorctl.models.observed import Exit
from emperorctl.reconciler.runtime import controllers
from emperorctl.reconciler.runtime.cgroups import Place, members, remove
from emperorctl.reconciler.runtime.controllers import Unavailable
from emperorctl.reconciler.runtime.ordering import Placement, Unusable
from emperorctl.reconciler.runtime.runs import Order
from emperorctl.reconciler.runtime.zygote import kernel, procfs

__all__ = ["Limiter", "cleared"]

_PERIOD = 100_000
"""Microseconds over which processor time is shared out: the kernel's own default."""
_REASON = "LimitNotEnforced"


class Limiter:
    """What one Emperor can limit. `root` is where its launches are contained on cgroup v2, or empty."""

    def __init__(self, place: Place | None, root: str, instance: str, ours: frozenset[int]) -> None:
        self._place = place if root else None
        self._root = root
        self._instance = instance
        self._ours = ours
        self._found: dict[str, str | Unavailable] = {}
        self._made: dict[str, str] = {}

    def place(self, order: Order, limits: Limits) -> Placement | None:
        """What to do for an order; None without limits. Raises Unusable where they can't be enforced and have to."""
        if not limits.kinds:
            return None
        groups: dict[str, None] = {}
        knobs: list[tuple[str, str, bool]] = []
        missing: list[Unavailable] = []
        for kind in sorted(limits.kinds):
            where = self._where(kind)
            if isinstance(where, Unavailable):
                missing.append(where)
                continue
            directory = f"{where}/{order.id}"
            if where != self._root:
                groups[directory] = None
            knobs += _knobs(kind, limits, directory, v2=where == self._root)
        if missing and limits.required:
            remedy = f"{missing[0].remedy}; or set spec.resources.required to false to run it without"
            raise Unusable("limits", _REASON, f"its limits can't be enforced: {_told(missing)}", remedy)
        order.groups = tuple(groups)
        order.limits = limits
        order.unlimited = _told(missing)
        return Placement(order.groups, tuple(knobs))

    def apply(self, order: Order, limits: Limits) -> str:
        """Hold what runs to other limits of the same kinds, or fewer; what is not enforced now, empty if all is."""
        before, order.limits = order.limits, limits
        failures: list[str] = []
        for kind in sorted(before.kinds | limits.kinds):
            where = self._where(kind)
            if isinstance(where, Unavailable):
                if kind in limits.kinds:
                    failures.append(where.message)
                continue
            knobs = _knobs(kind, limits, f"{where}/{order.id}", v2=where == self._root)
            error = _set(knobs)
            if error is not None and kind in limits.kinds:
                failures.append(_words(kind, error))
        order.unlimited = "; ".join(dict.fromkeys(failures))
        return order.unlimited

    def explained(self, end: Exit, order: Order | None) -> Exit:
        """The same end, with what the kernel killed for want of memory. To be asked before the cgroup goes."""
        if order is None or "memory" not in order.limits.kinds:
            return end
        kills = self._oom_kills(order)
        return replace(end, oom_kills=kills, memory=order.limits.memory) if kills else end

    def usage(self, order: Order) -> dict[str, Any]:
        """What it uses now: memory in bytes, processes, seconds of processor time, kills for want of memory."""
        found: dict[str, Any] = {}
        if (directory := self._directory("memory", order)) is not None:
            text = kernel.text(f"{directory}/memory.current") or kernel.text(f"{directory}/memory.usage_in_bytes")
            found["memory"] = int(text or 0)
            found["oomKills"] = self._oom_kills(order)
        if (directory := self._directory("pids", order)) is not None:
            found["pids"] = int(kernel.text(f"{directory}/pids.current") or 0)
        if (directory := self._directory("cpu", order)) is not None:
            spent = _field(kernel.text(f"{directory}/cpu.stat"), "usage_usec")
            if spent is not None:
                found["cpuSeconds"] = round(spent / 1e6, 3)
        return found

    def close(self) -> None:
        """Remove what was made; the zygote does this too, whoever is last."""
        for root in self._made.values():
            remove(root)

    def _oom_kills(self, order: Order) -> int:
        directory = self._directory("memory", order)
        if directory is None:
            return 0
        text = kernel.text(f"{directory}/memory.events") or kernel.text(f"{directory}/memory.oom_control")
        return _field(text, "oom_kill") or 0

    def _directory(self, kind: str, order: Order) -> str | None:
        """The cgroup that counts this for a launch; None where nothing does."""
        where = self._where(kind) if kind in order.limits.kinds else None
        return f"{where}/{order.id}" if isinstance(where, str) else None

    def _where(self, kind: str) -> str | Unavailable:
        """The directory in which launches get cgroups of their own with this controller."""
        found = self._found.get(kind)
        if found is None:
            try:
                found = self._find(kind)
            except Unavailable as error:
                found = error
            self._found[kind] = found
        return found

    def _find(self, kind: str) -> str:
        if kind in controllers.controllers_v2(self._place):
            assert self._place is not None
            controllers.enable(self._place.directory, self._root, frozenset({kind}), self._ours)
            _probe(self._root, controllers.FILES_V2[kind])
            return self._root
        directory = controllers.hierarchies().get(kind)
        if directory is None:
            raise Unavailable(
                f"this host has no control groups that limit {kind}, or they are not the Emperor's to use",
                "run the Emperor as a systemd service with Delegate=yes; emperorctl doctor says what there is",
            )
        if directory not in self._made:
            try:
                self._made[directory] = controllers.make_root(directory, self._instance)
            except OSError as error:
                raise Unavailable(f"{directory}: {error.strerror}", "run the Emperor as root") from None
        _probe(self._made[directory], controllers.FILES_V1[kind])
        return self._made[directory]


def cleared(groups: Iterable[str]) -> bool:
    """Remove the cgroups of a launch that is over, and end what is left in them. False while something is."""
    done = True
    for group in groups:
        try:
            os.rmdir(group)
        except FileNotFoundError:
            continue
        except OSError:
            for pid in members(group):
                entry = procfs.stat(pid)
                # Once more, now that it can't become another unseen.
                if entry is not None and pid in members(group):
                    procfs.kill_exact(entry)
            done = remove(group) and done
    return done


def _probe(root: str, file: str) -> None:
    """A kernel can be built without one half of a controller. Raises Unavailable."""
    trial = f"{root}/probe"
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(trial, 0o755)
        usable = os.access(f"{trial}/{file}", os.W_OK)
        os.rmdir(trial)
    except OSError as error:
        raise Unavailable(f"{trial}: {error.strerror}", "run the Emperor as root") from None
    if not usable:
        raise Unavailable(f"this kernel has no {file}", "build it with this part of the controller, or do without")


def _knobs(kind: str, limits: Limits, directory: str, *, v2: bool) -> list[tuple[str, str, bool]]:
    """The files of one kind; `max` where it is not limited any more."""
    quota = None if limits.cpu is None else limits.cpu * _PERIOD // 1000
    match kind, v2:
        case "memory", True:
            top = limits.memory is None
            wanted = [("memory.max", _or_max(limits.memory), False), ("memory.swap.max", "max" if top else "0", True)]
        case "memory", False:
            size = str(-1 if limits.memory is None else limits.memory)
            wanted = [("memory.limit_in_bytes", size, False), ("memory.memsw.limit_in_bytes", size, True)]
        case "cpu", True:
            wanted = [("cpu.max", f"{_or_max(quota)} {_PERIOD}", False)]
        case "cpu", False:
            wanted = [("cpu.cfs_period_us", str(_PERIOD), False)]
            wanted += [("cpu.cfs_quota_us", str(-1 if quota is None else quota), False)]
        case "io", _:
            wanted = [("io.weight", f"default {limits.io_weight or 100}", False)]
        case _:
            wanted = [("pids.max", _or_max(limits.pids), False)]
    return [(f"{directory}/{file}", value, optional) for file, value, optional in wanted]


def _or_max(value: int | None) -> str:
    return "max" if value is None else str(value)


def _set(knobs: list[tuple[str, str, bool]]) -> OSError | None:
    """Write them; a raised limit on memory and swap together has to come before the one on memory alone."""
    failure: OSError | None = None
    for order in (knobs, knobs[::-1]):
        failure = None
        for path, value, optional in order:
            try:
                kernel.put(path, value)
            except FileNotFoundError as error:
                failure = failure if optional else error
            except OSError as error:
                failure = error
        if failure is None or failure.errno != errno.EINVAL:
            break
    return failure


def _words(kind: str, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"it uses more {kind} than that at present, and only a new process can be held to it"
    return f"{kind} can't be limited: {error.strerror}"


def _told(missing: list[Unavailable]) -> str:
    return "; ".join(dict.fromkeys(one.message for one in missing))


def _field(text: str, name: str) -> int | None:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return None
