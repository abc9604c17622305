"""What the host is told about this Emperor, once.

Made by the composition root, used by `host`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from emperorctl.reconciler.runtime.phases import EmperorHooks

__all__ = ["HostSettings"]


@dataclass(frozen=True, slots=True)
class HostSettings:
    """`instance` names this Emperor across restarts (`lock.instance_of`); `log_dir` is made if missing.

    `environ` is what uWSGI vassals inherit. `containment` is `auto`, `cgroup` or `tree`; the last two are for tests
    and for hosts where the automatic choice is not wanted. `end_patience`: seconds that `close` waits for processes.
    `notify_dir` is where notification sockets are made ("": below `log_dir`), `heartbeat` how often, in seconds, a
    vassal that has one is told to speak (0: not told). `hooks` are those that are run for every vassal. `oom_scores`:
    how ready the kernel is to end the zygote and a vassal when memory is short (None: as it was). `tyrant`: they are
    of users who don't trust each other.
    """

    instance: str
    log_dir: str
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    containment: str = "auto"
    end_patience: float = 5.0
    notify_dir: str = ""
    heartbeat: float = 30.0
    hooks: EmperorHooks = EmperorHooks()
    oom_scores: tuple[int | None, int | None] = (None, None)
    tyrant: bool = False
