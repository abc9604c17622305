"""`Why:` has three parts for every reason that there is: why, since when, what to do."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from emperorctl.cli.why import ADVICE, why
from emperorctl.models.observed import NEVER_LAUNCHED, Exit, LaunchFailure
from emperorctl.models.plan import BlacklistEntry, Look, Memory, State, Throttle
from emperorctl.models.vassal import Desired
from emperorctl.reconciler import conditions
from emperorctl.reconciler.conditions import judge
from emperorctl.reconciler.lifecycle import Direction
from tests.fakes.emperor import BORN, vassal
from tests.fakes.vassals import desired, native

NOW = BORN + 3600
OTHER_CONDITIONS = {"Accepted", "Conflict", "Limited"}
NOT_A_TROUBLE = {
    # Ready, Loyal, Accepted and Progressing where all is well; phases.
    *("Accepting", "Started", "Valid", "Settled", "Reloading", "Waiting", "Notified"),
    *("NotRunning", "NotProven", "FirstRequest", "Ready", "Survived", "Enforced"),
    # Of the condition Limited, which has one advice for all.
    "NotEnforced",
}
"""Reasons of conditions that ask nothing of anybody. A reason that does belongs into ADVICE instead."""


def troubled(reason: str, message: str, **status: Any) -> dict[str, Any]:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-24T03:55:00Z",
    }
    return vassal("shop", **{"status_conditions": [condition], **{f"status_{key}": status[key] for key in status}})


def reasons_in_the_code() -> set[str]:
    """Every CamelCase word that `conditions` writes, but in prose."""
    tree = ast.parse(Path(conditions.__file__).read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {word for word in words if re.fullmatch(r"([A-Z][a-z]+)+", word)}


def test_every_reason_has_something_to_do() -> None:
    unknown = reasons_in_the_code() - set(ADVICE) - NOT_A_TROUBLE
    assert not unknown, f"cli/why.py does not say what to do about: {sorted(unknown)}"


@pytest.mark.parametrize("reason", sorted(set(ADVICE) - OTHER_CONDITIONS))
def test_the_three_parts(reason: str) -> None:
    text = why(troubled(reason, "it is so"), NOW)
    assert text.startswith("it is so (since 5m); ")
    advice = text.partition("(since 5m); ")[2]
    assert len(advice) > 20
    assert "{" not in advice


def test_an_unknown_reason_has_them_too() -> None:
    expected = "it is so (since 5m); see the events below, and emperorctl logs shop"
    assert why(troubled("FromTheFuture", "it is so"), NOW) == expected


ENTRY = BlacklistEntry(1, 0.0, 0.0, 3.0, 3.0)
FAILURE = LaunchFailure(0.0, "execve", 2, "CommandNotFound", "there is no such command", "install it")


@pytest.mark.parametrize(
    ("memory", "wanted", "reason", "remedy"),
    [
        (Memory(state=State.STARTING), desired(), "Starting", "nothing to do"),
        (Memory(state=State.STOPPING), None, "Stopping", "nothing to do"),
        (Memory(state=State.KILLING), None, "Killing", "nothing to do"),
        (Memory(state=State.KILLING, overdue=True), None, "Unkillable", "cat /proc/4711/stack"),
        (Memory(), None, "Removed", "put its file back"),
        (Memory(), desired(suspended=True), "Suspended", "emperorctl start shop"),
        (Memory(), Desired("shop", "dir:///vassals", "/vassals/shop.yaml"), "Invalid", "emperorctl validate /etc"),
        (Memory(abandoned=True, last_exit=Exit(0.0, code=26)), desired(), "DoNotRespawn", "emperorctl reload shop"),
        (Memory(blacklist=ENTRY, last_exit=Exit(0.0, code=3)), desired(), "Blacklisted", "blacklist clear shop"),
        (Memory(last_failure=FAILURE), desired(), "LaunchFailed", "install it"),
        (Memory(throttled_until=9.0), desired(), "Throttled", "its turn comes in 9s"),
        (Memory(), desired(), "Pending", "nothing to do"),
        (Memory(state=State.RUNNING, vassal=native(protocol=True)), desired(), "Silent", "emperorctl logs shop"),
    ],
)
def test_what_the_plan_says_and_what_to_do(memory: Memory, wanted: Desired | None, reason: str, remedy: str) -> None:
    look = Look(wanted, NEVER_LAUNCHED, memory, Throttle(), now=0.0)
    (ready,) = (item for item in judge(look, memory, Direction.KEEP)[0] if item.type == "Ready")
    assert ready.reason == reason
    one = troubled(ready.reason, ready.message, throttledUntil="2026-11-24T04:00:09Z")
    text = why(one, NOW)
    assert text.startswith(f"{ready.message} (since 5m); ")
    assert remedy in text


def test_the_next_try_is_when_both_budgets_are_willing() -> None:
    one = troubled(
        "Blacklisted",
        "exited with code 3",
        blacklist={"nextTry": "2026-11-24T04:00:02Z"},
        throttledUntil="2026-11-24T04:00:07Z",
    )
    assert why(one, NOW).endswith("the next try is due in 7s")
    one["status"]["throttledUntil"] = None
    assert why(one, NOW).endswith("the next try is due in 2s")


def test_output_that_is_not_captured_is_looked_for_elsewhere() -> None:
    text = why(troubled("Silent", "it is so", kind="uwsgi", log=""), NOW)
    assert "emperorctl logs" not in text
    assert "see the Emperor's stderr" in text


def test_names_can_be_pasted_into_a_shell() -> None:
    one = troubled("DoNotRespawn", "it is so", file="/srv/it's/a b.ini")
    one["metadata"]["name"] = "a b;c.ini"
    assert "emperorctl reload 'a b;c.ini'" in why(one, NOW)


def test_what_is_wrong_in_two_ways_is_told_in_two_sentences_and_once_if_the_words_are_the_same() -> None:
    def condition(kind: str, status: str, message: str) -> dict[str, str]:
        when = "2026-11-24T03:55:00Z"
        return {"type": kind, "status": status, "reason": "Invalid", "message": message, "lastTransitionTime": when}

    one = vassal("shop", status_conditions=[condition("Accepted", "False", "no"), condition("Ready", "False", "no")])
    assert why(one, NOW).count("no (since 5m)") == 1
    one["status"]["conditions"].append(condition("Conflict", "True", "also claimed by x"))
    assert "right. also claimed by x (since 5m); rename one of them" in why(one, NOW)


def test_all_well() -> None:
    assert why(vassal("shop"), NOW) == ""
