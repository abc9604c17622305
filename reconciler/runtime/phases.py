"""Which hooks are run at which moment of a launch: before and after its start, before and after its end.

Used by `host`, at each of these moments; a launch without hooks goes straight on. Not in here: how a hook is run
(`hooks`), and what the plan makes of it: it sees the name of the hook in `Observed.hook`, and failures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from emperorctl.models.observed import LaunchFailure
from emperorctl.models.status import Note, NoteType
from emperorctl.models.vassal import Hook, Kind, Launch, Notify
from emperorctl.reconciler.runtime.hooks import Command, Means, Running
from emperorctl.reconciler.runtime.runs import Order, Run

__all__ = ["EmperorHooks", "Phases"]

_START, _STOP = "vassals-start-hook", "vassals-stop-hook"
_REASONS = {
    "preStart": "PreStartFailed",
    "postStart": "PostStartFailed",
    "preStop": "PreStopFailed",
    "postStop": "PostStopFailed",
    _START: "StartHookFailed",
    _STOP: "StopHookFailed",
}
_MERCY = 0.25
"""Seconds that a preStop hook may go on after the grace period: until then the plan ends it, if the process lives."""


@dataclass(frozen=True, slots=True)
class EmperorHooks:
    """uWSGI's hooks of the whole Emperor: each a program, found in PATH, whose one argument is the vassal's name.

    `start` is run in the vassal's identity before each launch, `stop` in the Emperor's after each end; neither is ever
    held against the vassal. `timeout` is in seconds.
    """

    start: str | None = None
    stop: str | None = None
    timeout: float = 300.0


class Phases:
    """`note` is told of failures that stop nothing, `changed` of the hook that is now run for a launch ("": none)."""

    def __init__(
        self,
        hooks: EmperorHooks,
        means: Means,
        *,
        note: Callable[[str, Note], None],
        changed: Callable[[Run, str], None],
    ) -> None:
        self._hooks = hooks
        self._means = means
        self._note = note
        self._changed = changed
        self._closed = False

    def before_start(self, run: Run, then: Callable[[LaunchFailure | None], None]) -> None:
        """Call `then` with None when the program may be started, or with what failed."""
        if self._hooks.start is None and not run.vassal.hooks.pre_start:
            then(None)
            return
        run.begun = True
        commands = [self._start_hook(run, self._hooks.start)] if self._hooks.start is not None else []
        commands += [_command("preStart", hook, run) for hook in run.vassal.hooks.pre_start]

        def done(failure: LaunchFailure | None) -> None:
            if failure is not None and not run.condemned:
                failure = _as_start(failure)
            then(failure)

        self._run(run, commands, done)

    def after_start(self, run: Run) -> None:
        """The program runs."""
        if run.vassal.hooks.post_start and not run.condemned:
            commands = [_command("postStart", hook, run) for hook in run.vassal.hooks.post_start]
            self._run(run, commands, lambda failure: None)

    def before_stop(self, run: Run, grace: float, then: Callable[[], None]) -> None:
        """Call `then` when the program may be told to stop, unless it has gone or is to be killed by then."""
        if not run.vassal.hooks.pre_stop:
            then()
            return
        commands = [_command("preStop", hook, run) for hook in run.vassal.hooks.pre_stop]
        if run.hook is not None:
            # A postStart that is not done yet.
            run.hook.cancel()
            run.next = lambda: self._stop(run, commands, grace, then)
        else:
            self._stop(run, commands, grace, then)

    def awaited(self, run: Run) -> str:
        """The hook for which a launch that has ended is held: nothing takes its place until it is done."""
        if self._closed or run.unhooked or not run.begun:
            return ""
        if run.vassal.hooks.post_stop:
            return "postStop"
        if self._hooks.stop is not None:
            return _STOP
        return run.hook.hook if run.hook is not None else ""

    def after_end(self, run: Run, order: Order | None) -> None:
        """The launch has ended; `order` is what may be left of it. To be called once, after the fact is recorded."""
        run.over = True
        if not self.awaited(run):
            return
        if run.hook is not None and run.hook.hook == "postStart":
            run.hook.cancel()
        if order is None:
            self._end(run)
        else:
            self._means.book.when_cleared(order, lambda: self._end(run))

    def cancel(self, run: Run) -> None:
        """End the hook that is now run for it; where the launch has ended, no other is run."""
        if run.hook is not None:
            run.hook.cancel()
        run.unhooked = run.unhooked or run.over

    def close(self) -> None:
        """The Emperor ends: start no more."""
        self._closed = True

    def _stop(self, run: Run, commands: Sequence[Command], grace: float, then: Callable[[], None]) -> None:
        def done(failure: LaunchFailure | None) -> None:
            if not (run.condemned or run.over):
                then()

        if not (run.condemned or run.over):
            self._run(run, commands, done, within=grace + _MERCY)

    def _end(self, run: Run) -> None:
        """Nothing is left of the launch, but perhaps a preStop that has told the program to go."""
        if run.hook is not None:
            run.next = lambda: self._end(run)
            return
        commands = [_command("postStop", hook, run) for hook in run.vassal.hooks.post_stop]
        if self._hooks.stop is not None:
            commands.append(self._stop_hook(run, self._hooks.stop))
        if not commands or run.unhooked or self._closed:
            self._changed(run, "")
            return
        self._run(run, commands, lambda failure: self._changed(run, ""))

    def _run(
        self,
        run: Run,
        commands: Sequence[Command],
        done: Callable[[LaunchFailure | None], None],
        *,
        within: float | None = None,
    ) -> None:
        running = run.hook = Running(
            self._means,
            run,
            began=lambda command: self._changed(run, command.hook),
            forgive=lambda command, failure: self._forgiven(run, command, failure),
        )

        def over(failure: LaunchFailure | None) -> None:
            run.hook = None
            if not run.over:
                self._changed(run, "")
            done(failure)
            follow, run.next = run.next, None
            if follow is not None:
                follow()

        running.start(commands, over, within=within)
        self._changed(run, commands[0].hook)

    def _forgiven(self, run: Run, command: Command, failure: LaunchFailure) -> None:
        called = command.hook if command.hook in (_START, _STOP) else f"{command.hook} hook"
        text = f"its {called} failed: {failure.sentence()}"
        self._note(run.name, Note(NoteType.WARNING, _REASONS[command.hook], text))

    def _start_hook(self, run: Run, program: str) -> Command:
        launch, directory = _unpublished(run.vassal.launch), _vassals_directory(run)
        launch = replace(
            launch,
            command=(program, run.name),
            env=(*launch.env, *_told(_START, directory)),
            working_dir=launch.working_dir if run.vassal.kind is Kind.UWSGI else directory,
            protocol=False,
            notify=Notify.NONE,
        )
        return Command(_START, launch, run.identity, self._hooks.timeout, forgiven=True)

    def _stop_hook(self, run: Run, program: str) -> Command:
        # Nothing of the vassal's: its file may be a stranger's, and this may run as root.
        directory = _vassals_directory(run)
        # Nor is it run in a directory that a tenant can write to: many a program looks for its parts where it is run.
        working_dir = directory if run.vassal.owner is None else "/"
        launch = Launch((program, run.name), _told(_STOP, directory), inherit_env=True, working_dir=working_dir)
        return Command(_STOP, launch, None, self._hooks.timeout, forgiven=True)


def _command(name: str, hook: Hook, run: Run) -> Command:
    launch = run.vassal.launch
    env = (*launch.env, ("EMPEROR_HOOK", name))
    if hook.as_emperor:
        own = Launch(hook.command, env, launch.inherit_env, launch.working_dir, umask=launch.umask)
        return Command(name, own, None, hook.timeout, forgiven=name != "preStart")
    launch = replace(_unpublished(launch), command=hook.command, env=env, protocol=False, notify=Notify.NONE)
    return Command(name, launch, run.identity, hook.timeout, forgiven=name != "preStart")


def _unpublished(launch: Launch) -> Launch:
    """The vassal's ports are its own; a hook has another network."""
    if launch.isolation is None or not launch.isolation.ports:
        return launch
    return replace(launch, isolation=replace(launch.isolation, ports=()))


def _vassals_directory(run: Run) -> str | None:
    """The directory that the vassal's file lies in; None where it does not lie in a file."""
    file = run.vassal.file
    return None if "://" in file else os.path.dirname(os.path.abspath(file))


def _told(hook: str, directory: str | None) -> tuple[tuple[str, str], ...]:
    told = ("EMPEROR_HOOK", hook)
    return (told,) if directory is None else (told, ("UWSGI_VASSALS_DIR", directory))


def _as_start(failure: LaunchFailure) -> LaunchFailure:
    message = f"its preStart hook failed: {failure.message}"
    return replace(failure, step="preStart", reason=_REASONS["preStart"], message=message)
