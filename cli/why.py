"""Why a vassal is not running as it should, since when, and what to do: one sentence for `describe`. Pure.

What happened is in the conditions' messages, which the Emperor writes; this adds since when, when the next try is due,
and what a person can do, for each reason. It judges nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from emperorctl.cli.rows import age, until

__all__ = ["ADVICE", "why"]

ADVICE: Mapping[str, str] = {
    "Starting": "nothing to do: it is about to run",
    "Stopping": "nothing to do: it goes by itself, or gets SIGKILL when its grace period is over",
    "TidyingUp": "nothing to do: it goes on once the hook is done, or is killed at its timeout",
    "OwnerChanged": "nothing to do: once that has gone, the new owner's vassal is started, if the file is right",
    "Killing": "nothing to do: it is gone within moments",
    "Unkillable": "find out what it waits for, as root: cat /proc/{pid}/stack; usually it is a disk or a network mount"
    " that hangs, and nothing is started in its place until it has gone",
    "Removed": "nothing to do: it is forgotten once it has gone; to keep it, put its file back",
    "Suspended": "until then it stays down, also when the Emperor is restarted",
    "SuspendedByFile": "set spec.suspend to false in {file}, which is read again as soon as it is saved",
    "WaitingForCommand": "until then it stays down; when the Emperor is restarted, every vassal waits again",
    "Invalid": "correct the file: it is read again as soon as it is saved; emperorctl validate {file} says when it"
    " is right",
    "DoNotRespawn": "or try again with: emperorctl reload {name}; for what it printed see {logs}",
    "Blacklisted": "fix the cause (see {logs}); the next try is due {due}",
    "LaunchFailed": "the next try is due {due}; to try again at once: emperorctl reload {name}",
    "Throttled": "nothing to do: its turn comes {due}",
    "Pending": "nothing to do: it is started as soon as its turn comes; if it is not: emperorctl reload {name}",
    "Silent": "wait if it is still loading; if not, see {logs}",
    "NotReady": "wait if it is still loading; if READY=1 never comes, see {logs}",
    "Hung": "nothing to do if it comes back by itself; if not, see {logs}; to start it anew: emperorctl reload {name}",
    "Cursed": "nothing to do: unless it goes by itself it is killed, and started again; for why it did so see {logs}",
    "Asleep": "nothing to do: connect to it, and it runs",
    "CannotListen": "it is tried again by itself, every 30s at the latest; at once with: emperorctl reload {name}",
    "Completed": "nothing to do: it has done its work; to run it once more: emperorctl reload {name}",
    # Of conditions other than Ready, whatever their reason:
    "Accepted": "{file} is read again as soon as it is saved corrected",
    "Conflict": "rename one of them, or remove the one that is not meant",
}
"""What to do for each reason that a vassal is not ready. What stands in braces is filled in by `_filled`."""
_UNKNOWN = "see the events below, and {logs}"
_ELSEWHERE = "the Emperor's stderr, or the logto of its own config"


def why(vassal: Mapping[str, Any], now: float) -> str:
    """The sentence, or one for each thing that is wrong; empty where all is well. `now` is in wall seconds."""
    conditions = {condition["type"]: condition for condition in vassal["status"]["conditions"]}
    sentences: dict[str, str] = {}
    for kind, good in (("Ready", "True"), ("Accepted", "True"), ("Conflict", "False")):
        condition = conditions.get(kind)
        if condition is None or condition["status"] == good:
            continue
        reason = condition["reason"]
        message = condition["message"] or reason
        advice = ADVICE.get(reason, _UNKNOWN) if kind == "Ready" else ADVICE[kind]
        # A file that was never right is told of twice, in the same words.
        if message not in sentences:
            sentences[message] = f"since {age(condition['lastTransitionTime'], now)}); {_filled(advice, vassal, now)}"
    return ". ".join(f"{message} ({rest}" for message, rest in sentences.items())


def _filled(advice: str, vassal: Mapping[str, Any], now: float) -> str:
    status = vassal["status"]
    name = shlex.quote(vassal["metadata"]["name"])
    due = [time for time in ((status.get("blacklist") or {}).get("nextTry"), status.get("throttledUntil")) if time]
    processes = status.get("processes")
    return advice.format(
        name=name,
        file=shlex.quote(status.get("file") or "FILE"),
        logs=f"emperorctl logs {name}" if status.get("log") or status.get("kind") != "uwsgi" else _ELSEWHERE,
        # Both budgets have to be willing.
        due=until(max(due), now) if due else "at once",
        pid=processes[0]["pid"] if processes else "PID",
    )
