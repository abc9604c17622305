"""How uWSGI configs are run: the settings that say so, and a config that was read made into a vassal or its zerg.

Called by the monitors, by `emperorctl validate`, and by the desired store for zergs. Not in here: what a config
holds (`uwsgi`), and what its binary patch would do (`patches`).
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from emperorctl.models.attributes import collect, labels_and_annotations
from emperorctl.models.bounds import refusal
from emperorctl.models.isolation import Isolation, capability_names, for_all, namespace_names
from emperorctl.models.names import uwsgi_name
from emperorctl.models.patches import Patch
from emperorctl.models.protocol import CONFIG_MAX
from emperorctl.models.sockets import OnDemand, parse_address
from emperorctl.models.uwsgi import EXTENSIONS, Pairs, UwsgiConfig
from emperorctl.models.vassal import EMPTY, Kind, Launch, Reload, ReloadMethod, Stop, StopMethod, Vassal

if TYPE_CHECKING:
    from emperorctl.models.uwsgi_sections import Part

__all__ = ["UwsgiRun", "uwsgi_vassal", "zerg_vassal"]

BROODLORD_NUMBER = "UWSGI_BROODLORD_NUM"


@dataclass(frozen=True, slots=True)
class UwsgiRun:
    """How uWSGI vassals are run: the `binary`, a `wrapper` in its place, whether their output is captured, and how many
    seconds they get to stop (uWSGI's curse tolerance), `graceful` or not.

    `on_demand_extension`, `on_demand_directory` and `on_demand_exec` are uWSGI's three ways of saying which sockets
    start a vassal, of which the first that is given counts: the extension of a file beside the config that holds the
    address, a directory of Unix sockets (absolute), a command that prints the address.

    `attributes` are the options of their configs that are shown with them (see `attributes`); `chdir_attribute`
    and `wrapper_attribute` those that say where, and through which program, a vassal is run.

    `override` and `fallback` are wrappers tried before and after. Files that end in one of `extra_extensions` are
    configs as well, left for uWSGI to read. `magic_exec`: what an executable config prints is the config.
    `config_pipe`: configs travel over a socket instead of being read from their files.

    `set` (KEY=VALUE), `inherit_before`, `include_before`, `inherit` and `include` (files) are passed to every vassal.
    `tyrant`: options that need root's rights are refused in the configs.
    `clone` are the flags of namespaces that all vassals get, `capabilities` the numbers of those that root keeps.
    """

    binary: str = "uwsgi"
    wrapper: str | None = None
    capture: bool = False
    grace: float = 30.0
    on_demand_extension: str | None = None
    on_demand_directory: str | None = None
    on_demand_exec: str | None = None
    graceful: bool = False
    attributes: tuple[str, ...] = ()
    chdir_attribute: str = ""
    wrapper_attribute: str = ""
    override: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    extra_extensions: tuple[str, ...] = ()
    magic_exec: bool = False
    config_pipe: bool = False
    set: tuple[str, ...] = ()
    inherit_before: tuple[str, ...] = ()
    include_before: tuple[str, ...] = ()
    inherit: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    tyrant: bool = False
    clone: int = 0
    capabilities: tuple[int, ...] | None = None

    def is_extra(self, name: str) -> bool:
        """Whether a file of this name is a config only because somebody said so."""
        return name.endswith(self.extra_extensions)

    @property
    def wrapped(self) -> bool:
        """Whether something else than uWSGI may read the configs."""
        return self.wrapper is not None or bool(self.override)

    @property
    def passed_files(self) -> tuple[str, ...]:
        """The files that every vassal reads besides its config, as they were given."""
        return (*self.inherit_before, *self.include_before, *self.inherit, *self.include)

    def arguments(self, option: str, config: str) -> tuple[str, ...]:
        """The arguments of a vassal: its config, and what is passed to all, in uWSGI's order."""
        return (
            *_passed("inherit", self.inherit_before),
            *_passed("include", self.include_before),
            *_passed("set", self.set),
            f"--{option}",
            config,
            *_passed("inherit", self.inherit),
            *_passed("include", self.include),
        )


def _passed(option: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (f"--{option}", value)]


def uwsgi_vassal(  # noqa: PLR0913
    *,
    name: str,
    file: str,
    ext: str,
    working_dir: str | None,
    source: str,
    data: bytes,
    config: UwsgiConfig | None,
    run: UwsgiRun,
    path: str = "",
    executable: bool = False,
    patch: Patch | str | None = None,
    on_demand: str = "",
    part: Part | None = None,
    moved: bool = False,
) -> Vassal:
    """The vassal of a config that `read_uwsgi` accepted, or that is not looked into (`config` None).

    `name` is its id, as uWSGI is given it; `file` the path shown to people; `working_dir` the directory it is run in
    (None: the Emperor's own); `source` the monitor's address; `data` the config's bytes; `path` the absolute path;
    `executable`: the config is what the file prints; `patch`: see `patches.patch_of`;
    `on_demand`: the address that starts it (empty: it always runs); `part`: which of several vassals of the config it
    is; `moved`: `working_dir` is not the directory that `name` starts from. Raises ConfigError.
    """
    option = "config" if run.is_extra(name) else EXTENSIONS[ext]
    section = part.section if part is not None else ""
    if section:
        # It can only travel: see `uwsgi_sections`.
        name, data = uwsgi_name(f"{name}:{section}"), part.text if part is not None else b""
    piped = bool(section) or (run.config_pipe and not executable)
    if piped and len(data) > CONFIG_MAX:
        message = f"the config has {len(data)} bytes, and {CONFIG_MAX} is the most that can travel to a vassal"
        remedy = "move a part of it to a file that it includes" if section else ""
        raise refusal("TooLarge", message, remedy or "shorten it, or do without --emperor-force-config-pipe", file=file)
    names = (*run.attributes, run.chdir_attribute, run.wrapper_attribute)
    attributes = collect(_described(config, part), (one for one in names if one))
    labels, annotations = labels_and_annotations(attributes)
    # The Emperor binds it, wherever the vassal is run.
    sockets = OnDemand((parse_address(on_demand, working_dir),)) if on_demand else None
    named = path if moved and path and not piped else name
    if there := attributes.get(run.chdir_attribute):
        # From another directory, the name alone would not lead to the config; over a pipe it need not.
        named = name if piped else path or name
        working_dir = there if there.startswith("/") or working_dir is None else f"{working_dir}/{there}"
    wrapper = attributes.get(run.wrapper_attribute) or run.wrapper
    command = (wrapper or run.binary, *run.arguments(option, _address(named, executable, piped)))
    spec: dict[str, Any] = {"command": list(command), "config": file}
    if section:
        spec["section"] = part.key if part is not None else ""
    if config is not None:
        spec["sections"] = list(config.sections)
    spec |= {key: list(value) for key, value in (("override", run.override), ("fallback", run.fallback)) if value}
    if patch is not None:
        spec["binaryPatch"] = _shown_patch(patch)
    if working_dir is not None:
        spec["workingDir"] = working_dir
    if sockets is not None:
        spec["onDemand"] = {"addresses": [str(sockets)], "passing": "stdin"}
    launch = Launch(
        command=command,
        inherit_env=True,
        working_dir=working_dir,
        protocol=True,
        capture=run.capture,
        override=run.override,
        fallback=run.fallback,
        # A wrapper in uWSGI's place would not have carried it out either.
        patch=patch if isinstance(patch, Patch) and wrapper is None else None,
        config_pipe=piped,
        isolation=for_all(run.clone, run.capabilities),
    )
    if launch.isolation is not None:
        spec["isolation"] = _shown_isolation(launch.isolation)
    return Vassal(
        name=name,
        kind=Kind.UWSGI,
        source=source,
        file=file,
        launch=launch,
        reload=Reload(ReloadMethod.PROTOCOL),
        stop=Stop(StopMethod.PROTOCOL, grace=run.grace, graceful=run.graceful),
        content=part.digest if part is not None else hashlib.sha256(data).hexdigest(),
        on_demand=sockets,
        labels=labels or EMPTY,
        annotations=annotations or EMPTY,
        config=data if piped else b"",
        section=section,
        spec=spec,
    )


def _described(config: UwsgiConfig | None, part: Part | None) -> Mapping[str, Pairs]:
    """The sections in which attributes are looked for; those of a section of its own come before the common ones."""
    if config is None:
        return {}
    if part is None or not part.section:
        return config.attributes
    return {"emperor": (*config.attributes[part.key], *config.attributes.get("emperor", ()))}


def _address(name: str, executable: bool, piped: bool) -> str:
    """What uWSGI is told to read."""
    if executable:
        # uWSGI gives it to a shell, which would look for a bare name in PATH, and take a space for the name's end.
        return f"exec://{shlex.quote(name if '/' in name else f'./{name}')}"
    return f"emperor://{name}" if piped else name


def _shown_isolation(isolation: Isolation) -> dict[str, Any]:
    shown: dict[str, Any] = {"namespaces": namespace_names(isolation.namespaces)} if isolation.namespaces else {}
    if isolation.bound is not None:
        shown["capabilities"] = capability_names(isolation.bound)
    return shown


def _shown_patch(patch: Patch | str) -> dict[str, Any]:
    if isinstance(patch, str):
        return {"withoutUwsgi": False, "because": patch}
    return {"command": patch.program, "privileged": patch.privileged, "withoutUwsgi": True}


def zerg_vassal(broodlord: Vassal, name: str, number: int) -> Vassal:
    """A zerg of this vassal: uWSGI run with the section `zerg` of the same config, under a `name` of its own.

    `number` counts all zergs of this Emperor; they are told it as uWSGI's are.
    """
    words = list(broodlord.launch.command)
    words[_config_at(words)] += ":zerg"
    spec = {key: value for key, value in broodlord.spec.items() if key != "onDemand"} | {"command": words}
    env = (*broodlord.launch.env, (BROODLORD_NUMBER, str(number)))
    launch = replace(broodlord.launch, command=tuple(words), env=env, patch=None)
    # Never on demand, as with uWSGI: the one that called has the socket.
    return replace(broodlord, name=name, launch=launch, spec=spec, zerg_of=broodlord.name, on_demand=None)


def _config_at(words: Sequence[str]) -> int:
    """Where in a vassal's command the name of its config stands: every option has a value, and what is passed to all
    vassals before it has options of its own."""
    return next(at + 1 for at in range(1, len(words), 2) if words[at] not in ("--inherit", "--include", "--set"))
