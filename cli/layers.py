"""What `--vassal-defaults` and `--vassal-set` come to for native manifests, as `run` and `validate` are given them.

Called by `reign` and `validate`; what is given neither loads nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from emperorctl.models.merging import NO_LAYERS, Layers
from emperorctl.models.settings import split_vassal_set

if TYPE_CHECKING:
    from emperorctl.monitors.defaults import Defaults

__all__ = ["defaults_of", "layers_of"]


def defaults_of(file: str | None, settings: Iterable[str], *, tyrant: bool = False) -> Defaults | Layers:
    """The defaults' file, to be read; or, where there is none, the layers. `tyrant`: for tyrant mode. Raises
    UserError."""
    native, _ = split_vassal_set(settings)
    if file is None and not native:
        return NO_LAYERS
    from emperorctl.monitors.defaults import Defaults, given_layers

    given = given_layers(native)
    if tyrant:
        from emperorctl.models.tyranny import refuse_layers

        refuse_layers(given)
    return given if file is None else Defaults(os.path.abspath(file), given, tyrant)


def layers_of(file: str | None, settings: Iterable[str]) -> Layers:
    """The layers as of now. Raises UserError."""
    found = defaults_of(file, settings)
    return found if isinstance(found, Layers) else found.load()
