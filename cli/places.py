"""Settings from several places at once, the first place's before the others': a base for the model of all options.

Called by `loading` where more than one place says something; pydantic-settings is loaded here alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from emperorctl.cli.config_files import Given

__all__ = ["layered"]


class _Layer(PydanticBaseSettingsSource):
    """One place's values, as a source of pydantic-settings. (Its own source for the environment knows no aliases, and
    does not say which variable it took.)"""

    def __init__(self, model: type[BaseSettings], layer: Mapping[str, Given]) -> None:
        super().__init__(model)
        self._values = {name: item.value for name, item in layer.items()}

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._values


def layered(layers: tuple[Mapping[str, Given], ...]) -> type[BaseSettings]:
    """The base of a model that reads these layers."""

    class Layered(BaseSettings):
        model_config = SettingsConfigDict(extra="forbid", hide_input_in_errors=True)

        @classmethod
        def settings_customise_sources(  # type: ignore[override]  # it takes them as keywords
            cls, settings_cls: type[BaseSettings], **_: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(_Layer(settings_cls, layer) for layer in layers)

    return Layered
