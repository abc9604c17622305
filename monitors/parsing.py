"""One file's bytes into claims: the same pure function in the event loop and in the parser's own process.

Called by `files` (trusted, small files), by `worker` (everything else) and by `validate`. Foreign exceptions of the
parsers end here. Not in here: reading, and the choice of where to parse (`files`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from emperorctl.models import manifest, uwsgi
from emperorctl.models.errors import ConfigError, Problem
from emperorctl.models.magic import Place
from emperorctl.models.manifest_isolation import impose
from emperorctl.models.names import printable, uwsgi_name
from emperorctl.models.patches import patch_of
from emperorctl.models.source import Claim
from emperorctl.models.uwsgi_run import UwsgiRun, uwsgi_vassal

__all__ = ["Facts", "Order", "Parsed", "Setting", "parse", "refused_name", "too_complex", "unparsed"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the magic variables say of this machine and this Emperor. `time` is the Emperor's start in Unix seconds."""

    hostname: str = ""
    version: str = ""
    cores: str = ""
    uid: str = ""
    user: str = ""
    gid: str = ""
    group: str = ""
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What all files of one source have in common."""

    source: str
    vassals_dir: str
    working_dir: str | None
    run: UwsgiRun
    facts: Facts


@dataclass(frozen=True, slots=True)
class Order:
    """One file to parse. `file` is its path as shown, `path` the real one, `identity` its id as a uWSGI vassal.

    `executable`: somebody may execute it. `on_demand` is the address that starts it as a uWSGI vassal, as it was
    found written; empty if it always runs.
    """

    file: str
    path: str
    identity: str
    inode: int
    data: bytes
    executable: bool = False
    on_demand: str = ""

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


def parse(order: Order, setting: Setting) -> Parsed:
    """What a file claims. Never raises for what is in the file."""
    try:
        return Parsed(tuple(_claims(order, setting)))
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


def _claims(order: Order, setting: Setting) -> list[Claim]:
    form = manifest.FORMATS.get(order.extension)
    kind = "uwsgi" if form is None else manifest.recognise(order.data, form)
    run = setting.run
    extra, executed = run.is_extra(order.identity), run.magic_exec and order.executable
    if form is None or kind == "uwsgi" or (kind == "unknown" and (run.wrapped or extra or executed)):
        config, patch = None, None
        if extra or executed:
            uwsgi.bounded(order.data, order.file)
        else:
            # A wrapper may read a config of its own.
            config = uwsgi.read_uwsgi(order.data, order.extension, order.file, lenient=run.wrapped)
            patch = patch_of(config.attributes.get("uwsgi", ()), _place(order, setting))
        vassal = uwsgi_vassal(
            name=order.identity,
            file=order.file,
            ext=order.extension,
            working_dir=setting.working_dir,
            source=setting.source,
            data=order.data,
            config=config,
            path=order.path,
            run=run,
            executable=executed,
            patch=patch,
            on_demand=order.on_demand,
        )
        return [Claim(vassal.name, vassal)]
    claims = manifest.read_manifests(
        order.data,
        form,
        file=order.file,
        stem=order.stem,
        place=_place(order, setting),
        source=setting.source,
    )
    if kind == "unknown":  # it parses, and says of itself neither the one nor the other
        raise ConfigError(
            Problem(
                "Unrecognised",
                "is neither a manifest nor a uWSGI config",
                "write kind: Vassal for a manifest, or a uwsgi section",
            )
        )
    if run.clone or run.capabilities is not None:
        return [_imposed(claim, run, order.file) for claim in claims]
    return claims


def _imposed(claim: Claim, run: UwsgiRun, file: str) -> Claim:
    if claim.vassal is None:
        return claim
    try:
        return replace(claim, vassal=impose(claim.vassal, run.clone, run.capabilities))
    except ConfigError as error:
        return Claim(claim.name, problem=error.problem.at(file))


def _place(order: Order, setting: Setting) -> Place:
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
    )


def _fallback(order: Order) -> str:
    form = manifest.FORMATS.get(order.extension)
    native = form is not None and manifest.recognise(order.data, form) == "native"
    return printable(order.stem if native else order.identity)
