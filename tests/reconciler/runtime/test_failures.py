"""From step and errno to words."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from emperorctl.models.vassal import Kind, Launch, Vassal
from emperorctl.reconciler.runtime import failures

SHOP = Vassal("shop", Kind.NATIVE, "s", "f", Launch(("gunicorn",), working_dir="/srv", user="web", nice=-5))
UWSGI = Vassal("shop.ini", Kind.UWSGI, "s", "f", Launch(("uwsgi", "--ini", "shop.ini")))


@pytest.mark.parametrize(
    ("report", "reason", "words", "transient"),
    [
        ({"step": "execve", "errno": errno.ENOENT, "searched": "/bin", "path": "x"}, "MissingProgram", "/bin", False),
        (
            {"step": "execve", "errno": errno.ENOENT, "path": "/x", "seen": "file"},
            "MissingInterpreter",
            "loader",
            False,
        ),
        ({"step": "execve", "errno": errno.EACCES, "path": "/x", "seen": "file"}, "NotExecutable", "this user", False),
        ({"step": "execve", "errno": errno.ETXTBSY, "path": "/x"}, "TextBusy", "written", True),
        ({"step": "execve", "errno": errno.EAGAIN, "path": "/x"}, "NprocLimit", "RLIMIT_NPROC", True),
        ({"step": "execve", "errno": errno.ENOMEM, "path": "/x"}, "ExecFailed", "memory", True),
        ({"step": "chdir", "errno": errno.EACCES}, "ForbiddenDirectory", "/srv", False),
        ({"step": "chdir", "errno": errno.ELOOP}, "BadDirectory", "/srv", False),
        ({"step": "user", "errno": errno.EPERM}, "NotPermitted", '"web"', False),
        ({"step": "user", "errno": 0, "detail": "kept"}, "UserSwitchFailed", "kept", False),
        ({"step": "nice", "errno": errno.EACCES}, "NotPermitted", "-5", False),
        ({"step": "rlimits", "errno": errno.EPERM, "detail": "core"}, "NotPermitted", "core", False),
        ({"step": "clone", "errno": errno.EAGAIN}, "NoResources", "clone", True),
        ({"step": "cgroup", "errno": errno.EACCES}, "LaunchFailed", "cgroup", True),
        ({"step": "launcher", "errno": 0}, "LauncherLost", "zygote", True),
        ({"step": "deathsig", "errno": errno.EINVAL}, "LaunchFailed", "deathsig", False),
    ],
)
def test_reports(report: dict[str, Any], reason: str, words: str, transient: bool) -> None:
    found = failures.explain(SHOP, report, 7.0)
    assert (found.at, found.step, found.reason, found.transient) == (7.0, report["step"], reason, transient)
    assert words in found.message


def test_a_missing_uwsgi_says_where_to_get_one() -> None:
    found = failures.explain(UWSGI, {"step": "execve", "errno": errno.ENOENT, "path": "uwsgi"}, 0.0)
    assert found.remedy == "pip install uwsgi, or give --binary-path"


def test_hostile_words_are_shown_harmlessly() -> None:
    report = {"step": "execve", "errno": errno.EACCES, "path": "/x\x1b[31m\n", "seen": "not executable"}
    assert "\x1b" not in failures.explain(SHOP, report, 0.0).message
