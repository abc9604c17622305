"""Attributes: what a uWSGI config says of its vassal to the Emperor, under names that the Emperor was told to collect.

Called by `uwsgi`. They stand in the config's `emperor` section, which uWSGI itself does not read, or else among its own
options. Not in here: which names are collected, and what follows from one (`uwsgi_run.UwsgiRun`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from emperorctl.models.names import is_label_name, is_label_value

__all__ = ["collect", "labels_and_annotations"]

_SECTIONS = ("emperor", "uwsgi")
"""Where attributes are looked for, the first that has one counts."""


def collect(sections: Mapping[str, tuple[tuple[str, str], ...]], names: Iterable[str]) -> dict[str, str]:
    """The attributes of these names that a config has, in the order of the names; of several values the first."""
    first: dict[str, str] = {}
    for section in _SECTIONS:
        for key, value in sections.get(section, ()):
            first.setdefault(key, value)
    return {name: first[name] for name in dict.fromkeys(names) if name in first}


def labels_and_annotations(attributes: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """How attributes are shown: as labels, to select by, where they can be one, otherwise as annotations."""
    labels = {name: value for name, value in attributes.items() if is_label_name(name) and is_label_value(value)}
    return labels, {name: value for name, value in attributes.items() if name not in labels}
