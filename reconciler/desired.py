"""The desired store: what all sources together want, name by name.

Fed by the monitors' reports (through the composition root) and by people's orders (through the API); read by the
controller. It draws the conclusions that a single file can't: which claimant of a name counts, what is new, what
was only touched, what is gone. It starts and stops nothing: it wakes names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from itertools import count

from emperorctl.models.errors import Problem
from emperorctl.models.source import Claim, FileReport, Report, Trouble
from emperorctl.models.status import Note, NoteType
from emperorctl.models.uwsgi_run import zerg_vassal
from emperorctl.models.vassal import Desired, Owner, Suspender, Vassal

__all__ = ["DesiredStore"]

_FileKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _File:
    """The last word of one file: its claims by name (the last good ones where `problem` is set)."""

    claims: dict[str, Claim]
    digest: str
    touch: tuple[int, int]
    problem: Problem | None
    owner: Owner | None = None


def _origins(desired: Desired | None) -> tuple[tuple[str, str], ...]:
    """Where its values come from, in which equal vassals may differ."""
    return desired.vassal.origins if desired is not None and desired.vassal is not None else ()


class DesiredStore:
    """Desired state by name.

    `wake` is called with each name that may have changed, `note` with what people should know. `zergs` is how many
    zergs are wanted: vassals that no file names, but another vassal has called for. `wait_for_command`: every new
    vassal is held down until it is released, but for the names in `wait_not`. `handover` is called with a name and its
    former owner when it becomes another's.
    """

    def __init__(
        self, wake: Callable[[str], None], note: Callable[[str, Note], None], suspended: Iterable[str] = ()
    ) -> None:
        self._wake = wake
        self._note = note
        self._files: dict[_FileKey, _File] = {}
        self._by_source: dict[str, set[str]] = {}
        self._holders: dict[str, list[_FileKey]] = {}
        self._desired: dict[str, Desired] = {}
        self._listed: set[str] = set()
        # Files that were there at the first listing of a source, and are still being parsed.
        self._awaited: set[_FileKey] = set()
        self._suspended = set(suspended)
        self._troubles: dict[str, Problem] = {}
        self._zergs: dict[str, dict[str, int]] = {}
        self._zergs_sent = 0
        self.zergs = 0
        self._waiting: set[str] = set()
        self.wait_for_command = False
        self.handover: Callable[[str, Owner], None] = _ignore_handover
        self.wait_not: Collection[str] = ()

    def get(self, name: str) -> Desired | None:
        """What is wanted under `name`."""
        return self._desired.get(name)

    def names(self) -> list[str]:
        """Every name that some file claims."""
        return list(self._desired)

    @property
    def suspended(self) -> frozenset[str]:
        """Names that a person has stopped, whether a file claims them now or not."""
        return frozenset(self._suspended)

    @property
    def troubles(self) -> dict[str, Problem]:
        """Sources that can't be read now, and why."""
        return dict(self._troubles)

    def apply(self, report: Report) -> None:
        """Take in what a monitor says."""
        if isinstance(report, Trouble):
            self._take_trouble(report)
            return
        for file in report.files:
            self._take_file(report.source, file)
            self._awaited.discard((report.source, file.file))
        if report.present is not None:
            known = self._by_source.get(report.source, set())
            for path in known - report.present:
                self._take_file(report.source, FileReport(path))
            if report.source not in self._listed:
                self._listed.add(report.source)
                self._awaited |= {(report.source, path) for path in report.present - known}
            elif self._awaited:
                self._awaited -= {
                    key for key in self._awaited if key[0] == report.source and key[1] not in report.present
                }

    def order_reload(self, name: str) -> None:
        """A person wants `name` to reload, whatever the budgets say."""
        desired = self._desired[name]
        self._put(name, replace(desired, orders=desired.orders + 1, pardons=desired.pardons + 1))

    def pardon(self, name: str) -> None:
        """A person clears the budgets of `name`."""
        desired = self._desired[name]
        self._put(name, replace(desired, pardons=desired.pardons + 1))

    def suspend(self, name: str, suspended: bool) -> None:
        """Hold `name` down, or let it run again."""
        (self._suspended.add if suspended else self._suspended.discard)(name)
        self._hold(name)

    def wait(self, name: str, waiting: bool) -> None:
        """Hold `name` down until a command lets it run, or end that; forgotten when it is gone."""
        (self._waiting.add if waiting else self._waiting.discard)(name)
        self._hold(name)

    def count(self, source: str) -> int:
        """How many vassals a source asks for now."""
        return sum(desired.source == source for desired in self._desired.values())

    def reinforce(self, name: str) -> None:
        """Want one more zerg of `name`. Zergs share its file: they reload when it does, and end when it may not run."""
        broodlord = self._desired.get(name)
        if broodlord is None or broodlord.vassal is None or broodlord.suspended:
            return
        own = self._zergs.setdefault(name, {})
        names = (f"{name}:zerg{number if number > 1 else ''}" for number in count(1))
        zerg = next(one for one in names if one not in self._desired)
        self.zergs += 1
        self._zergs_sent += 1
        own[zerg] = self._zergs_sent
        vassal = zerg_vassal(broodlord.vassal, zerg, self._zergs_sent)
        self._put(zerg, replace(broodlord, name=zerg, vassal=vassal, generation=1, conflict=None, warm=False))

    def dismiss(self, zerg: str) -> None:
        """Want this zerg no more."""
        desired = self._desired.get(zerg)
        if desired is None or desired.vassal is None or not desired.vassal.zerg_of:
            return
        own = self._zergs[desired.vassal.zerg_of]
        del own[zerg]
        if not own:
            del self._zergs[desired.vassal.zerg_of]
        self.zergs -= 1
        if zerg in self._holders:
            # The generations go on: what comes is not what the zerg was.
            self._desired[zerg] = replace(desired, vassal=None)
            self._succeed(zerg)
        else:
            self._put(zerg, None)

    def _hold(self, name: str) -> None:
        """Bring up to date whether `name` is held down, and by whom."""
        before = self._desired.get(name)
        if before is None:
            return
        after = self._held(before, before.vassal)
        if after.suspended is not before.suspended:
            after = replace(after, pardons=after.pardons + 1)
        self._put(name, after)

    def _held(self, desired: Desired, vassal: Vassal | None) -> Desired:
        """The same, held down by whoever does so now."""
        by = Suspender.PERSON
        if vassal is not None and vassal.suspend:
            by = Suspender.FILE
        elif desired.name in self._waiting and desired.name not in self._suspended:
            by = Suspender.COMMAND
        suspended = by is not Suspender.PERSON or desired.name in self._suspended
        return replace(desired, suspended=suspended, suspended_by=by)

    def _put(self, name: str, desired: Desired | None) -> None:
        before = self._desired.get(name)
        if desired is None:
            self._desired.pop(name, None)
            self._waiting.discard(name)
        elif desired == before and _origins(desired) == _origins(before):
            return
        else:
            self._desired[name] = desired
        self._wake(name)
        if name in self._zergs and before is not None:
            self._lead(before, desired)

    def _lead(self, before: Desired, after: Desired | None) -> None:
        """Let the zergs of a changed vassal follow it."""
        for name, number in tuple(self._zergs[before.name].items()):
            zerg = self._desired[name]
            if after is None or after.vassal is None or after.suspended or after.owner != before.owner:
                self.dismiss(name)
            elif (after.vassal, after.orders) != (before.vassal, before.orders):
                vassal = zerg_vassal(after.vassal, name, number)
                orders = zerg.orders + int(after.orders != before.orders)
                generation = zerg.generation + int(vassal != zerg.vassal)
                self._put(name, replace(zerg, vassal=vassal, orders=orders, generation=generation))

    def _take_trouble(self, trouble: Trouble) -> None:
        known = self._troubles.get(trouble.source)
        if trouble.problem is None:
            if self._troubles.pop(trouble.source, None) is not None:
                self._note(
                    trouble.source, Note(NoteType.NORMAL, "SourceAvailable", f"{trouble.source} can be read again")
                )
        elif known != trouble.problem:
            self._troubles[trouble.source] = trouble.problem
            text = f"{trouble.problem.sentence()}; its vassals stay as they are"
            self._note(trouble.source, Note(NoteType.WARNING, trouble.problem.reason, text))

    def _take_file(self, source: str, report: FileReport) -> None:
        key = (source, report.file)
        before = self._files.get(key)
        if report.problem is not None:
            self._take_problem(key, report, before)
            return
        claims = {claim.name: claim for claim in report.claims}
        owner = report.owner or (before.owner if before else None)
        self._drop_claims(key, before, keep=claims, owner=owner)
        if not claims:
            self._files.pop(key, None)
            self._by_source.get(source, set()).discard(report.file)
            return
        self._remember(key, _File(claims, report.digest, report.touch, None, owner))
        edited = before is None or before.digest != report.digest or before.problem is not None
        touched = before is not None and not edited and before.touch != report.touch
        for name, claim in claims.items():
            holders = self._holders.setdefault(name, [])
            if key not in holders:
                holders.append(key)
            known = self._desired.get(name)
            if claim.vassal is not None and known is not None and known.vassal is None:
                # The holder never said anything that could run: whoever does takes its place.
                holders.remove(key)
                holders.insert(0, key)
            if len(holders) > 1 or self._is_zerg(name):
                self._dispute(name)
            if self._counts(name, key):
                self._settle(name, claim, edited=edited and before is not None, touched=touched)
            elif claim.problem is not None and edited:
                self._complain(name, claim.problem.at(key[1]))

    def _take_problem(self, key: _FileKey, report: FileReport, before: _File | None) -> None:
        problem = report.problem
        assert problem is not None
        owner = report.owner or (before.owner if before else None)
        if before is None or _changed_hands(before.owner, owner):
            # What another claimed is not this one's to keep.
            claims = {report.fallback_name: Claim(report.fallback_name, problem=problem)}
            self._drop_claims(key, before, keep=claims, owner=owner)
        else:
            claims = before.claims
        self._remember(key, _File(claims, report.digest, report.touch, problem, owner))
        for name in claims:
            holders = self._holders.setdefault(name, [])
            if key not in holders:
                holders.append(key)
                if len(holders) > 1 or self._is_zerg(name):
                    self._dispute(name)
            if self._counts(name, key):
                self._settle(name, Claim(name, problem=problem), edited=False, touched=False)
            elif before is None or before.problem != problem:
                self._complain(name, problem.at(key[1]))

    def _drop_claims(self, key: _FileKey, before: _File | None, *, keep: Collection[str], owner: Owner | None) -> None:
        """A file that is `owner`'s now claims these names and no others."""
        for name in before.claims if before else ():
            if name not in keep:
                desired = self._desired.get(name)
                if before is not None and desired is not None and _changed_hands(before.owner, owner):
                    self._hand_over(name, key[1], before.owner, owner)
                self._release(name, key)

    def _hand_over(self, name: str, file: str, before: Owner | None, now: Owner | None) -> None:
        assert before is not None and now is not None
        self.handover(name, before)
        message = (
            f"{file} belonged to {before.uid}:{before.gid}, and belongs to {now.uid}:{now.gid} now: what ran for its"
            " former owner is stopped"
        )
        self._note(name, Note(NoteType.WARNING, "OwnerChanged", message))

    def _remember(self, key: _FileKey, file: _File) -> None:
        self._files[key] = file
        self._by_source.setdefault(key[0], set()).add(key[1])

    def _settle(self, name: str, claim: Claim, *, edited: bool, touched: bool) -> None:
        """Let the claim of the name's holder count."""
        source, file = self._holders[name][0]
        owner = self._files[source, file].owner
        known = self._desired.get(name)
        if known is not None and _changed_hands(known.owner, owner):
            # It begins anew. What runs for the other is the plan's matter: it knows who it was started for.
            self._hand_over(name, file, known.owner, owner)
            known = None
        if known is None and self.wait_for_command and name not in self.wait_not:
            self._waiting.add(name)
        desired = known or Desired(
            name,
            source,
            file,
            warm=source not in self._listed or (source, file) in self._awaited,
            conflict=self._conflict(name),
        )
        desired = replace(desired, source=source, file=file, owner=owner)
        if claim.problem is not None:
            problem = claim.problem.at(file)
            if problem != desired.problem:
                self._complain(name, problem)
            self._put(name, self._held(replace(desired, problem=problem), desired.vassal))
            return
        changed = claim.vassal != desired.vassal
        pardoned = known is not None and (edited or changed or touched)
        desired = replace(
            desired,
            vassal=claim.vassal,
            generation=desired.generation + (1 if changed else 0),
            orders=desired.orders + (1 if touched and not changed else 0),
            pardons=desired.pardons + (1 if pardoned else 0),
            modified=self._files[source, file].touch[1],
            problem=None,
        )
        self._put(name, self._held(desired, claim.vassal))

    def _complain(self, name: str, problem: Problem) -> None:
        """Say what is wrong with a file; its conditions are those of the name's holder."""
        self._note(name, Note(NoteType.WARNING, problem.reason, problem.sentence()))

    def _release(self, name: str, key: _FileKey) -> None:
        """A file no longer claims this name."""
        holders = self._holders.get(name, [])
        if key not in holders:
            return
        held = self._counts(name, key)
        holders.remove(key)
        if not holders:
            del self._holders[name]
        if not holders and not self._is_zerg(name):
            self._put(name, None)
        elif held:
            self._succeed(name)
        else:
            self._dispute(name)

    def _succeed(self, name: str) -> None:
        """Let the next in line have this name."""
        self._dispute(name)
        holder = self._files[self._holders[name][0]]
        claim = holder.claims.get(name)
        if holder.problem is not None:
            claim = Claim(name, problem=holder.problem)
        if claim is not None:
            self._settle(name, claim, edited=False, touched=False)

    def _counts(self, name: str, key: _FileKey) -> bool:
        """Whether it is this file's claim that counts."""
        return self._holders[name][0] == key and not self._is_zerg(name)

    def _is_zerg(self, name: str) -> bool:
        """Whether this name is a living zerg's, which came to it before any file did."""
        desired = self._desired.get(name)
        lord = desired.vassal.zerg_of if desired is not None and desired.vassal is not None else ""
        return bool(lord) and name in self._zergs.get(lord, ())

    def _dispute(self, name: str) -> None:
        """Bring the conflict condition of a name up to date, and say it when there is a new claimant."""
        desired = self._desired.get(name)
        if desired is None:
            return
        conflict = self._conflict(name)
        if conflict != desired.conflict:
            if conflict is not None:
                self._note(name, Note(NoteType.WARNING, "Conflict", conflict.sentence()))
            self._put(name, replace(desired, conflict=conflict))

    def _conflict(self, name: str) -> Problem | None:
        holders = self._holders.get(name, [])
        if self._is_zerg(name):
            desired = self._desired[name]
            holders = [(desired.source, desired.file), *holders]
        if len(holders) < 2:
            return None
        others = ", ".join(file for _, file in holders[1:4])
        return Problem(
            "Conflict",
            f'the name "{name}" is also claimed by {others}; the first to come keeps it',
            "rename one of them",
            file=holders[0][1],
        )


def _changed_hands(before: Owner | None, now: Owner | None) -> bool:
    """Whether it is another's now; as long as either is not known, nobody can say so."""
    return before is not None and now is not None and before != now


def _ignore_handover(name: str, former: Owner) -> None:
    """Until somebody wants to know."""
