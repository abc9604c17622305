"""One file's bytes into claims: the same pure function in the event loop and in the parser's own process.

Called by `files` (trusted, small files), by `worker` (everything else) and by `validate`. Foreign exceptions of the
parsers end here. Not in here: reading, and the choice of where to parse (`files`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from emperorctl.models import manifest, uwsgi
from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.magic import Place
from emperorctl.models.manifest_isolation import impose
from emperorctl.models.merging import NO_LAYERS, Layers
from emperorctl.models.names import printable, uwsgi_name
from emperorctl.models.patches import Patch, patch_of
from emperorctl.models.source import Claim
from emperorctl.models.tyranny import refuse_options
from emperorctl.models.uwsgi import UwsgiConfig
from emperorctl.models.uwsgi_includes import LOADERS, Node, circle, reads
from emperorctl.models.uwsgi_run import UwsgiRun, uwsgi_vassal
from emperorctl.models.vassal import Vassal
from emperorctl.monitors.placeholders import Reach

if TYPE_CHECKING:
    from emperorctl.models.uwsgi_sections import Part

__all__ = ["Facts", "Order", "Parsed", "Setting", "administered", "parse", "refused_name", "too_complex", "unparsed"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the magic variables say of this machine and this Emperor. `time` is the Emperor's start in Unix seconds,
    `environ` what any manifest may know of its environment."""

    hostname: str = ""
    version: str = ""
    cores: str = ""
    uid: str = ""
    user: str = ""
    gid: str = ""
    group: str = ""
    time: float = 0.0
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all files of one source have in common; `layers` are what native manifests are merged with.

    `moved`: its `working_dir` was given, and is that of all vassals that do not say otherwise; else it is that of
    uWSGI's (None: the Emperor's own).
    """

    source: str
    vassals_dir: str
    working_dir: str | None
    run: UwsgiRun
    facts: Facts
    layers: Layers = NO_LAYERS
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One file to parse. `file` is its path as shown, `path` the real one, `identity` its id as a uWSGI vassal.

    `executable`: somebody may execute it. `on_demand` is the address that starts it as a uWSGI vassal, as it was
    found written; empty if it always runs. `owner` is the uid that its vassals are called by, in tyrant mode.
    """

    file: str
    path: str
    identity: str
    inode: int
    data: bytes
    executable: bool = False
    on_demand: str = ""
    owner: int | None = None

    @property
    def extension(self) -> str:
        """The file's extension, with its dot."""
        return os.path.splitext(self.path)[1]

    @property
    def stem(self) -> str:
        """The file's name without the extension."""
        return os.path.splitext(os.path.basename(self.path))[0]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file claims, or why it can't be used as a whole, shown under `fallback_name`."""

    claims: tuple[Claim, ...] = ()
    problem: Problem | None = None
    fallback_name: str = ""


def administered(order: Order, setting: Setting, name: str) -> Vassal | None:
    """What a manifest of this name would come to that said nothing: all of that is given by the administrator. None
    where he gives nothing, or nothing that is right.

    Whatever depends on the file, or would have to be looked up with its owner's rights, is not his word.
    """
    if not setting.layers:
        return None
    place = replace(_place(replace(order, path="", identity="", inode=0), setting), environment=None, content=None)
    silent = json.dumps({"apiVersion": manifest.API_VERSIONS[0], "kind": "Vassal", "spec": {"command": ["-"]}}).encode()
    try:
        (claim,) = manifest.read_manifests(
            silent, "json", file="", stem=name, place=place, source=setting.source, layers=setting.layers,
            owner=order.owner,
        )  # fmt: skip
        if claim.vassal is None:
            return None
        return impose(claim.vassal, setting.run.clone, setting.run.capabilities)
    except ConfigError:
        return None


def refused_name(order: Order) -> Parsed | None:
    """The answer to a file with a hostile name, whatever it holds; None where the name is fine."""
    try:
        uwsgi_name(order.identity)
        order.path.encode()
    except ConfigError as error:
        return Parsed((), error.problem.at(order.file), _fallback(order))
    except UnicodeEncodeError:
        problem = Problem("InvalidName", "lies in a directory whose name is not UTF-8", "rename the directory")
        return Parsed((), problem.at(order.file), _fallback(order))
    return None


def unparsed(order: Order, problem: Problem) -> Parsed:
    """The answer to a file that can't be used, with the name it would most likely have had."""
    return Parsed((), problem.at(order.file), _fallback(order))


def parse(order: Order, setting: Setting, *, own: bool = False) -> Parsed:
    """What a file claims. Never raises for what is in the file. `own`: it is known to be root's or this user's."""
    try:
        return Parsed(tuple(_claims(order, setting, own)))
    except ConfigError as error:
        return unparsed(order, error.problem)
    except (RecursionError, MemoryError):
        return unparsed(order, too_complex(order))


def too_complex(order: Order) -> Problem:
    """The problem of a file that took too much to parse."""
    return Problem(
        "TooComplex",
        "takes too much time or memory to parse",
        "write it with less nesting, shorter keys and fewer references",
        file=order.file,
    )


def _claims(order: Order, setting: Setting, own: bool) -> list[Claim]:
    form = manifest.FORMATS.get(order.extension)
    kind = "uwsgi" if form is None else manifest.recognise(order.data, form)
    run = setting.run
    extra, executed = run.is_extra(order.identity), run.magic_exec and order.executable
    if form is None or kind == "uwsgi" or (kind == "unknown" and (run.wrapped or extra or executed)):
        if extra or executed:
            uwsgi.bounded(order.data, order.file)
            return [_claim(order, setting, None, None)]
        # A wrapper may read a config of its own.
        config = uwsgi.read_uwsgi(order.data, order.extension, order.file, lenient=run.wrapped, several=True)
        if not config.several:
            return [_claim(order, setting, config, None)]
        # Not loaded for the many who have no such file.
        from emperorctl.models.uwsgi_sections import parts_of  # noqa: PLC0415

        parts = parts_of(order.data, config, order.extension, _place(order, setting))
        return [_own_claim(order, setting, config, part) for part in parts]
    claims = manifest.read_manifests(
        order.data,
        form,
        file=order.file,
        stem=order.stem,
        place=_place(
            order, setting, Reach(os.path.dirname(order.path), os.environ if own else setting.facts.environ, own)
        ),
        source=setting.source,
        layers=setting.layers,
        owner=order.owner,
    )
    if kind == "unknown":  # it parses, and says of itself neither the one nor the other
        raise ConfigError(
            Problem(
                "Unrecognised",
                "is neither a manifest nor a uWSGI config",
                "write kind: Vassal for a manifest, or a uwsgi section",
            )
        )
    if setting.moved:
        claims = [_moved(claim, setting) for claim in claims]
    if run.clone or run.capabilities is not None:
        claims = [_imposed(claim, run, order.file) for claim in claims]
    return claims


def _imposed(claim: Claim, run: UwsgiRun, file: str) -> Claim:
    """A manifest's claim, with the namespaces and capabilities of all vassals."""
    if claim.vassal is None:
        return claim
    try:
        return replace(claim, vassal=impose(claim.vassal, run.clone, run.capabilities))
    except ConfigError as error:
        return Claim(claim.name, problem=error.problem.at(file))


def _own_claim(order: Order, setting: Setting, config: UwsgiConfig, part: Part) -> Claim:
    """The claim of one of several vassals: what is wrong with it is no concern of the others."""
    try:
        if part.problem is not None:
            raise ConfigError(part.problem)
        return _claim(order, setting, config, part)
    except ConfigError as error:
        name = f"{order.identity}:{part.section}" if part.section else order.identity
        return Claim(name, problem=error.problem.at(order.file))


def _claim(order: Order, setting: Setting, config: UwsgiConfig | None, part: Part | None) -> Claim:
    patch = None
    if config is not None:
        key = part.key if part is not None else uwsgi.SECTION
        _require_end(order, setting, config, key)
        options = config.attributes.get(key, ())
        if setting.run.tyrant:
            refuse_options(options)
        patch = _patch(options, _place(order, setting), setting.run)
    vassal = uwsgi_vassal(
        name=order.identity,
        file=order.file,
        ext=order.extension,
        working_dir=setting.working_dir,
        source=setting.source,
        data=order.data,
        config=config,
        path=order.path,
        run=setting.run,
        executable=setting.run.magic_exec and order.executable,
        patch=patch,
        # The three ways to say so know a file, not its sections.
        on_demand=order.on_demand if part is None or not part.section else "",
        part=part,
        moved=setting.moved,
    )
    return Claim(vassal.name, vassal)


def _patch(options: uwsgi.Pairs, place: Place, run: UwsgiRun) -> Patch | str | None:
    """The binary patch of a config, with what is set for all vassals."""
    patch = patch_of([*(one.partition("=")[::2] for one in run.set), *options], place)
    if isinstance(patch, Patch) and run.passed_files:
        return "only uWSGI reads the files that are passed to all vassals"
    return patch


def _require_end(order: Order, setting: Setting, config: UwsgiConfig, key: str) -> None:
    """Refuse what reads itself again without end, as far as the file itself tells. Raises ConfigError."""
    if setting.run.wrapped or not any(one in LOADERS for one, _ in config.attributes.get(key, ())):
        return
    place, directory = _place(order, setting), setting.working_dir or ""
    here = {order.path, os.path.normpath(order.identity)}

    def following(node: Node) -> list[Node]:
        if node.path not in here:
            return []
        return list(reads(config.attributes.get(node.section, ()), place, directory))

    way = circle([Node(order.path, key)], lambda node: [_as(one, order.path, here) for one in following(node)])
    if way:
        shown = " -> ".join(printable(str(node)) for node in way[:4])
        message = f"includes itself: {shown}; uWSGI would never come to an end"
        raise ConfigError(Problem("IncludeCycle", message, "remove one of the includes", order.file))


def _as(node: Node, path: str, names: set[str]) -> Node:
    """The same, under the one path of a file that goes by several names."""
    return Node(path, node.section) if node.path in names else node


def _moved(claim: Claim, setting: Setting) -> Claim:
    """A manifest's claim, with the working directory of its source where it gives none."""
    vassal, there = claim.vassal, setting.working_dir
    if vassal is None or there is None or vassal.launch.working_dir is not None:
        return claim
    launch = replace(vassal.launch, working_dir=there)
    return replace(claim, vassal=replace(vassal, launch=launch, spec={**vassal.spec, "workingDir": there}))


def _place(order: Order, setting: Setting, reach: Reach | None = None) -> Place:
    facts = setting.facts
    return Place(
        name=order.identity,
        path=order.path,
        vassals_dir=setting.vassals_dir,
        hostname=facts.hostname,
        version=facts.version,
        inode=str(order.inode),
        cores=facts.cores,
        uid=facts.uid,
        user=facts.user,
        gid=facts.gid,
        group=facts.group,
        time=facts.time,
        environment=None if reach is None else reach.variable,
        content=None if reach is None else reach.content,
    )


def _fallback(order: Order) -> str:
    form = manifest.FORMATS.get(order.extension)
    native = form is not None and manifest.recognise(order.data, form) == "native"
    return printable(order.stem if native else order.identity)
