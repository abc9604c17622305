"""Who a vassal runs as: names or numbers to uid, gid and groups.

Used by `host`, and for the Emperor's own options. Name services may hang (LDAP, NIS): lookups run in threads of their
own with a time limit, one per question, and answers are kept for a few seconds. Nothing here ever falls back to root.
"""

from __future__ import annotations

import _thread
import asyncio
import errno
import grp
import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emperorctl.models.errors import UserError
from emperorctl.models.names import printable

__all__ = ["Identities", "Identity", "IdentityError", "Key", "group_id", "look_up", "parse_id"]

ID_MAX = 2**31 - 1
_KEPT = 10.0
_TIMEOUT = 5.0
_HANGING_MAX = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """`switch`: the process has to change to it (it is not the Emperor's own)."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str
    shell: str
    switch: bool


class IdentityError(Exception):
    """No such identity; `reason` is a CamelCase word. `transient`: the lookup failed, not the name."""

    def __init__(self, reason: str, message: str, remedy: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.remedy = remedy
        self.transient = transient


def parse_id(text: str, what: str) -> int | None:
    """The number of a decimal id, or None for a name. Raises IdentityError for a number that is no one's id."""
    if not text.strip("-+ _") or not (text[0].isdigit() or text[0] in "-+ "):
        return None
    if text.isascii() and text.isdigit() and (text == "0" or not text.startswith("0")):
        number = int(text) if len(text) <= 10 else ID_MAX + 1
        if 1 <= number <= ID_MAX:
            return number
        if number == 0:
            raise IdentityError(
                f"Invalid{what.capitalize()}",
                f"the {what} 0 is root and must be named",
                f"write `{what}: root` if that is meant",
            )
    elif text.isascii() and not text.isdigit() and text[0].isdigit():
        return None  # a name may begin with a digit; whether there is one, the name service says
    raise IdentityError(
        f"Invalid{what.capitalize()}",
        f'"{text[:40]}" is not an id of a {what}: expected 1 to {ID_MAX}',
        f"give the name of a {what}, or its decimal id",
    )


def look_up(user: str | None, group: str | None, init_groups: bool = False) -> Identity:
    """Ask the name services; may block. A name has all its groups, and with `init_groups` a number that is somebody's
    too. Raises IdentityError, OSError."""
    own_uid, own_gid = os.geteuid(), os.getegid()
    entry: pwd.struct_passwd | None = None
    groups: tuple[int, ...] = ()
    named = False
    if user is None:
        uid = own_uid
        entry = _passwd(uid)
    elif (number := parse_id(user, "user")) is not None:
        uid = number
        entry = _passwd(uid)
    else:
        try:
            entry = pwd.getpwnam(user)
        except (KeyError, ValueError):
            raise IdentityError(
                "UnknownUser", f'there is no user "{user}"', "create the user, or correct `user`"
            ) from None
        uid = entry.pw_uid
        named = True
    if group is not None:
        gid = _group(group)
    elif user is None:
        gid = own_gid
    else:
        # A number that nobody has: its private group by custom, and certainly not root's.
        gid = entry.pw_gid if entry is not None else uid
    switch = (uid, gid) != (own_uid, own_gid) or (named and own_uid == 0 and uid != 0)
    if switch and (named or init_groups) and entry is not None:
        groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Identity(
        uid,
        gid,
        groups,
        entry.pw_name if entry is not None else str(uid),
        (entry.pw_dir if entry is not None else "") or "/",
        (entry.pw_shell if entry is not None else "") or "/bin/sh",
        switch,
    )


def _passwd(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _group(group: str) -> int:
    number = parse_id(group, "group")
    if number is not None:
        return number
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise IdentityError(
            "UnknownGroup", f'there is no group "{group}"', "create the group, or correct `group`"
        ) from None


def group_id(text: str, option: str) -> int:
    """The id of the group that an option of the Emperor's names, or gives as a number. Raises UserError."""
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= ID_MAX:
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        message = f'{option}: there is no group "{printable(text[:40])}" (create it, or give a decimal id)'
        raise UserError(message) from None


Key = tuple[str | None, str | None] | tuple[str | None, str | None, bool]
"""The arguments of `look_up`."""
Answer = Identity | IdentityError
Lookup = Callable[..., Identity]


class Identities:
    """Answers, kept for a few seconds, and questions under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lookup: Lookup = look_up, timeout: float = _TIMEOUT) -> None:
        self._loop = loop
        self._lookup = lookup
        self._timeout = timeout
        self._answers: dict[Key, tuple[float, Identity]] = {}
        self._asking: dict[Key, list[Callable[[Answer], None]]] = {}
        self._hanging = 0

    def ask(self, user: str | None, group: str | None, tell: Callable[[Answer], None]) -> None:
        """Call `tell` once: at once where the answer is known, otherwise later from the event loop."""
        self._ask((user, group), tell)

    def _ask(self, key: Key, tell: Callable[[Answer], None]) -> None:
        known = self._answers.get(key)
        if known is not None and self._loop.time() < known[0]:
            tell(known[1])
            return
        if key in self._asking:
            self._asking[key].append(tell)
            return
        if self._hanging >= _HANGING_MAX:
            tell(_hangs(*key))
            return
        self._asking[key] = [tell]
        self._hanging += 1
        timer = self._loop.call_later(self._timeout, self._answered, key, _hangs(*key), None)
        # Not `threading.Thread`, which waits until the thread runs: with a thousand users, a second of nothing else.
        _thread.start_new_thread(self._run, (key, timer))

    def ask_all(self, keys: Sequence[Key], tell: Callable[[tuple[Identity, ...] | IdentityError], None]) -> None:
        """As `ask`, for several: called with all of them, or with the first error."""
        found: list[Identity] = []

        def told(answer: Answer) -> None:
            if isinstance(answer, IdentityError):
                tell(answer)
                return
            found.append(answer)
            if len(found) < len(keys):
                self._ask(keys[len(found)], told)
            else:
                tell(tuple(found))

        self._ask(keys[0], told)

    def _run(self, key: Key, timer: asyncio.TimerHandle) -> None:
        answer: Answer
        try:
            answer = self._lookup(*key)
        except IdentityError as error:
            answer = error
        except (OSError, ValueError) as error:
            answer = IdentityError("UserLookupFailed", f"looking up the user failed: {error}", "", transient=True)
        try:
            self._loop.call_soon_threadsafe(self._returned, key, answer, timer)
        except RuntimeError:
            pass  # the loop has closed: nobody wants to know any more

    def _returned(self, key: Key, answer: Answer, timer: asyncio.TimerHandle) -> None:
        self._hanging -= 1
        self._answered(key, answer, timer)

    def _answered(self, key: Key, answer: Answer, timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
        if isinstance(answer, Identity):
            self._answers[key] = (self._loop.time() + _KEPT, answer)
        for tell in self._asking.pop(key, ()):
            tell(answer)


def _hangs(user: str | None, group: str | None, init_groups: bool = False) -> IdentityError:
    name = user or group or "the Emperor's own user"
    return IdentityError(
        "UserLookupTimeout",
        f'looking up "{name}" takes too long ({os.strerror(errno.ETIMEDOUT).lower()})',
        "see to the name service (nsswitch.conf), or use numeric ids",
        transient=True,
    )
