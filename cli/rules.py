"""How vassals are run, and what they may ask for, by the Emperor's settings.

Called by `reign`. Not in here: the budgets (`run`), and what the defaults of manifests come to (`layers`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from emperorctl.models.isolation import capability_number, namespace_flags
from emperorctl.models.settings import Settings, split_vassal_set
from emperorctl.models.uwsgi_run import UwsgiRun

if TYPE_CHECKING:
    from emperorctl.monitors.gate import Gate

__all__ = ["gate_of", "run_of"]


def run_of(told: Settings) -> UwsgiRun:
    """How uWSGI vassals are run; to be called in the directory that relative paths are meant from. Raises UserError."""
    directory = told.emperor_on_demand_directory
    return UwsgiRun(
        told.binary_path,
        told.emperor_wrapper,
        # A tenant's process is never given the Emperor's own standard error.
        told.uwsgi_logs == "capture" or told.emperor_tyrant,
        grace=told.emperor_curse_tolerance,
        on_demand_extension=told.emperor_on_demand_extension,
        on_demand_directory=os.path.abspath(directory) if directory else None,
        on_demand_exec=told.emperor_on_demand_exec,
        graceful=told.emperor_graceful_shutdown,
        attributes=told.emperor_collect_attribute,
        chdir_attribute=told.emperor_chdir_attr or "",
        wrapper_attribute=told.emperor_wrapper_attr or "",
        override=told.emperor_wrapper_override,
        fallback=told.emperor_wrapper_fallback,
        extra_extensions=told.emperor_extra_extension,
        magic_exec=told.emperor_magic_exec,
        config_pipe=told.emperor_force_config_pipe,
        set=split_vassal_set(told.vassal_set)[1],
        inherit_before=told.vassals_inherit_before,
        include_before=told.vassals_include_before,
        inherit=told.vassals_inherit,
        include=told.vassals_include,
        tyrant=told.emperor_tyrant,
        clone=namespace_flags(_words(told.emperor_use_clone)),
        capabilities=None
        if told.emperor_cap is None
        else tuple(sorted(capability_number(word) for word in _words(told.emperor_cap))),
    )


def gate_of(told: Settings) -> Gate | None:
    """What stands before all files in tyrant mode; None without it."""
    if not told.emperor_tyrant:
        return None
    from emperorctl.models.tyranny import Tyranny
    from emperorctl.monitors.gate import Gate
    from emperorctl.reconciler.runtime.lent import lent_rights
    from emperorctl.reconciler.runtime.ourselves import hard_limits, may_change_users
    from emperorctl.reconciler.runtime.overflow import overflow

    tyranny = Tyranny(
        nofollow=told.emperor_tyrant_nofollow,
        follow=told.tyrant_follow,
        init_groups=told.emperor_tyrant_initgroups,
        emperor=os.geteuid(),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        limits=hard_limits(),
        unmapped=(overflow().uid, overflow().gid),
    )
    return Gate(tyranny, lent_rights if may_change_users(os.getpid()) else None)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",")) if text is not None else ()
