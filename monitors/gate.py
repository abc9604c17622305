"""The gate of tyrant mode: whose a file is, and whether what it says may count.

Made by the composition root, used by `files` in place of `reading.read`. Everything about an entry is decided from
descriptors of that very inode: nothing that is renamed, linked or replaced between two steps can make a file another
owner's. Whatever a tenant's link leads to is opened with that tenant's rights. Not in here: what a vassal may ask for
(`models.tyranny`), where files lie and when to look (`files`, `tree`).
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.names import owned_name, printable
from emperorctl.models.sockets import OnDemand
from emperorctl.models.source import Claim
from emperorctl.models.tyranny import Tyranny, govern, unfit
from emperorctl.models.vassal import Kind, Owner, Vassal
from emperorctl.monitors.parsing import Order, Parsed
from emperorctl.monitors.reading import (
    Busy,
    Content,
    Entry,
    Fingerprint,
    Gone,
    Unusable,
    look,
    not_regular,
    nowhere,
    read_open,
    refused,
    unusable,
)

__all__ = ["PLACE_REASONS", "Gate", "Grants", "Ground", "Lend"]

PLACE_REASONS = frozenset({"UnsafeDirectory", "HardLink"})
"""Reasons to refuse a file that may pass without any change of the file itself."""

Lend = Callable[[int, int], AbstractContextManager[None]]
"""Within this context, files are looked for and opened with the rights of that uid and gid."""

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Grants:
    """What the administrator gives the vassals of one file: `sockets`, and by a manifest's name all that it would come
    to if it said nothing."""

    sockets: OnDemand | None
    given: Callable[[str], Vassal | None]


@dataclass(frozen=True, slots=True)
class Ground:
    """Who else can put files into a directory, judged along the path from the source's root down to it.

    `owners` are those besides root and the Emperor; `open_to_others` is a directory in which others may replace what
    they don't own, empty if there is none; `shared`: others may add files of their own. `refusal`: nothing in it
    counts, and why.
    """

    owners: frozenset[int] = frozenset()
    open_to_others: str = ""
    shared: bool = False
    refusal: Problem | None = None

    @property
    def complaint(self) -> str:
        """What people should know of the directory; empty if its owner and root alone can write there."""
        if self.refusal is not None:
            return f"{self.refusal.message}: its files are refused"
        if self.open_to_others:
            return f"others may write in {self.open_to_others}: its files are refused"
        if len(self.owners) > 1:
            listed = ", ".join(map(str, sorted(self.owners)))
            return f"it lies in directories of the user ids {listed}: its files are refused"
        return "others may put files of their own there" if self.shared else ""

    def unsafe_for(self, uid: int) -> str:
        """Why an entry of this owner may be there by another's doing; empty if it can't be."""
        if self.open_to_others:
            return f"others may write in the directory {self.open_to_others}"
        if strangers := sorted(self.owners - {uid}):
            return f"lies in a directory of user id {strangers[0]}, but is user id {uid}'s"
        return ""


class Gate:
    """`lend`: see `Lend`; None where the Emperor may not do that, so that links of tenants can't be followed."""

    def __init__(self, tyranny: Tyranny, lend: Lend | None) -> None:
        self.tyranny = tyranny
        self._lend = lend

    def _rights(self, owner: os.stat_result, *, own: bool) -> AbstractContextManager[None]:
        """Those of this link's owner, or where `own` is true the Emperor's. Raises PermissionError."""
        if own or (self._lend is None and owner.st_uid in (0, self.tyranny.emperor)):
            return nullcontext()
        if self._lend is None:
            raise PermissionError(errno.EPERM, "the rights of another user can't be taken on")
        return self._lend(owner.st_uid, owner.st_gid)

    # Directories

    def enter(self, root: str, path: str) -> tuple[int, Ground]:
        """A descriptor of the directory `path`, at or below `root`, and who can write there. Raises OSError."""
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            ground = self._walked(Ground(), os.fstat(fd), root)
            shown = root
            for part in [] if path == root else os.path.relpath(path, root).split("/"):
                shown = os.path.join(shown, part)
                below, about, refusal = self._step(fd, part, shown)
                os.close(fd)
                fd = below
                ground = self._walked(ground, about, shown)
                if refusal is not None and ground.refusal is None:
                    ground = replace(ground, refusal=refusal)
        except BaseException:
            os.close(fd)
            raise
        return fd, ground

    def _step(self, fd: int, part: str, shown: str) -> tuple[int, os.stat_result, Problem | None]:
        held = os.open(part, _HOLD, dir_fd=fd)
        try:
            own = os.fstat(held)
            if not stat.S_ISLNK(own.st_mode):
                if not stat.S_ISDIR(own.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), part)
                return os.dup(held), own, None
            to = os.readlink("", dir_fd=held)
            trusted = own.st_uid in (0, self.tyranny.emperor) or self.tyranny.follow
            with self._rights(own, own=trusted):
                below = os.open(to, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            about = os.fstat(below)
            if trusted or about.st_uid == own.st_uid:
                return below, about, None
            message = f"is reached by a link of user id {own.st_uid} to a directory of user id {about.st_uid}"
            remedy = f"remove the link {shlex.quote(printable(shown))}, or `chown -h` it to root"
            return below, about, Problem("UnsafeDirectory", message, remedy)
        finally:
            os.close(held)

    def _walked(self, ground: Ground, about: os.stat_result, path: str) -> Ground:
        owners, open_to, shared = ground.owners, ground.open_to_others, ground.shared
        if about.st_uid not in (0, self.tyranny.emperor):
            owners |= {about.st_uid}
        if about.st_mode & _OTHERS:
            shared = True
            if not about.st_mode & stat.S_ISVTX and not open_to:
                open_to = printable(path)
        if (owners, open_to, shared) == (ground.owners, ground.open_to_others, ground.shared):
            return ground
        return replace(ground, owners=owners, open_to_others=open_to, shared=shared)

    def complaint_above(self, root: str) -> str:
        """Who besides root could replace the source's own directory; empty if nobody can."""
        path = os.path.dirname(os.path.realpath(root))
        while True:
            try:
                about = os.stat(path)
            except OSError:
                return ""
            if about.st_uid not in (0, self.tyranny.emperor):
                return f"{printable(path)}, above it, belongs to user id {about.st_uid}"
            if about.st_mode & _OTHERS and not about.st_mode & stat.S_ISVTX:
                return f"others may write in {printable(path)}, above it"
            if path == "/":
                return ""
            path = os.path.dirname(path)

    # Files

    def read(
        self, entry: Entry, limit: int, ground: Ground, *, lease_on: int | None = None
    ) -> Content | Unusable | Gone | Busy:
        """As `reading.read`, for an entry that a tenant may have made."""
        try:
            held = os.open(entry.name, _HOLD, dir_fd=entry.directory)
        except FileNotFoundError:
            return Gone()
        except OSError as error:
            return Unusable(refused(error, entry, link=False), Fingerprint(0, 0, 0, 0, error.errno or 0, 0), (0, 0))
        own, target = os.fstat(held), -1
        link = stat.S_ISLNK(own.st_mode)
        try:
            if not link:
                return self._read_held(held, own, entry, ground, (limit, lease_on))
            # As text, of the inode that is held: what the name leads to by now is another's matter.
            with self._rights(own, own=self.tyranny.follow):
                target = os.open(os.readlink("", dir_fd=held), os.O_PATH | os.O_CLOEXEC, dir_fd=entry.directory)
                return self._read_held(target, own, entry, ground, (limit, lease_on))
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return Busy()  # somebody holds a lease on it
            owner = Owner(own.st_uid, own.st_gid) if self.tyranny.nofollow or not link else None
            problem = refused(error, entry, link=link)
            if link and error.errno == errno.EPERM and self._lend is None:
                message = "is a tenant's link, and this Emperor can't follow it with that tenant's rights"
                remedy = "put the file itself there, or run the Emperor as root, without --uid"
                problem = Problem("PermissionDenied", message, remedy, file=entry.shown)
            seen = look(entry.directory, entry.name) if error.errno == errno.EACCES else None
            fingerprint = seen[0] if seen is not None else nowhere(error, own)
            return Unusable(problem, fingerprint, (own.st_mtime_ns, fingerprint.mtime), owner)
        finally:
            os.close(held)
            if target >= 0:
                os.close(target)

    def _read_held(
        self, held: int, own: os.stat_result, entry: Entry, ground: Ground, how: tuple[int, int | None]
    ) -> Content | Unusable | Busy:
        """Read the inode behind a descriptor that only holds it; `how`: limit, lease. Raises OSError."""
        about = os.fstat(held)
        link = stat.S_ISLNK(own.st_mode)
        owner = Owner(own.st_uid, own.st_gid) if self.tyranny.nofollow else Owner(about.st_uid, about.st_gid)
        problem = self._link_problem(own, about, entry) if link else None
        if problem is None and not stat.S_ISREG(about.st_mode):
            problem = not_regular(about, entry)
        problem = problem or unfit(owner, self.tyranny, entry.shown) or self._place_problem(own, about, entry, ground)
        if problem is not None:
            return replace(unusable(problem, about, own), owner=owner)
        fd = os.open(f"/proc/self/fd/{held}", _READ)
        try:
            found = read_open(fd, own, entry, *how)
        finally:
            os.close(fd)
        if isinstance(found, Content):
            # Its mode and its owner may have changed since, which is a change to look at again.
            if (found.uid, found.gid, found.mode) != (about.st_uid, about.st_gid, about.st_mode):
                return Busy()
            return replace(found, uid=owner.uid, gid=owner.gid)
        return replace(found, owner=owner) if isinstance(found, Unusable) else found

    def _link_problem(self, own: os.stat_result, about: os.stat_result, entry: Entry) -> Problem | None:
        if self.tyranny.follow or about.st_uid == own.st_uid or (self.tyranny.nofollow and about.st_uid == 0):
            return None
        return Problem(
            "LinkOwner",
            f"is a link of user id {own.st_uid} to a file of user id {about.st_uid}",
            f"`chown -h USER {shlex.quote(entry.shown)}` with the owner of the file, or put the file itself there",
            file=entry.shown,
        )

    def _place_problem(
        self, own: os.stat_result, about: os.stat_result, entry: Entry, ground: Ground
    ) -> Problem | None:
        quoted = shlex.quote(entry.shown)
        if about.st_mode & _OTHERS:
            message = f"others than its owner may write it (mode {stat.S_IMODE(about.st_mode):03o})"
            return Problem("WritableByOthers", message, f"`chmod go-w {quoted}`", file=entry.shown)
        if ground.refusal is not None:
            return ground.refusal.at(entry.shown)
        if unsafe := ground.unsafe_for(own.st_uid):
            remedy = "give the directory to root, or to the owner of the files in it, and `chmod go-w` it"
            return Problem("UnsafeDirectory", unsafe, remedy, file=entry.shown)
        if ground.shared and about.st_nlink > 1 and not stat.S_ISLNK(own.st_mode):
            message = f"has {about.st_nlink} names, one of which others may have made, in a directory they may write in"
            return Problem("HardLink", message, "put a copy there in its place", file=entry.shown)
        return None

    # What files say

    def govern(self, parsed: Parsed, owner: Owner | None, order: Order, grants: Grants) -> Parsed:
        """What a file claims, as its owner may; with `owner` None nobody knows whose it is, and it claims nothing."""
        if owner is None:
            return parsed if not parsed.claims else Parsed((), parsed.problem, parsed.fallback_name)
        fallback = parsed.fallback_name
        if fallback and fallback != printable(order.identity):
            fallback = owned_name(fallback, owner.uid)
        claims = tuple(self._governed(claim, owner, order, grants) for claim in parsed.claims)
        return Parsed(claims, parsed.problem, fallback)

    def _governed(self, claim: Claim, owner: Owner, order: Order, grants: Grants) -> Claim:
        vassal = claim.vassal
        file = printable(order.identity)
        # A section of a uWSGI config is called by its file, as is the whole.
        native = (
            vassal.kind is Kind.NATIVE
            if vassal is not None
            else claim.name != file and not claim.name.startswith(f"{file}:")
        )
        name = owned_name(claim.name, owner.uid) if native else claim.name
        if vassal is None:
            return replace(claim, name=name)
        try:
            # Most ask for nothing that has to be given to them.
            if not native or vassal.on_demand is None:
                return Claim(name, govern(vassal, owner, self.tyranny, granted=grants.sockets))
        except ConfigError as error:
            if not native or (given := grants.given(claim.name)) is None:
                return Claim(name, problem=error.problem)
        else:
            given = grants.given(claim.name)
        try:
            return Claim(name, govern(vassal, owner, self.tyranny, given=given))
        except ConfigError as error:
            return Claim(name, problem=error.problem)
