"""Every request that the API knows, in one explicit table; each calls one thing of the Emperor's.

Called through `app`, which has already settled who asks and has read the whole body. There is no Emperor in here but
the one that came with the request: it has only what its caller may see and steer (`realm`), so that no route can reach
further. A name in a path may contain an encoded "/"; it is one segment there and decoded here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from emperorctl.models.errors import Ambiguous, NotFound
from emperorctl.reconciler.api import answers, lastwords, watches
from emperorctl.reconciler.api.answers import Refused
from emperorctl.reconciler.api.facade import EmperorFacade
from emperorctl.reconciler.api.handover import Handover, read_execution
from emperorctl.reconciler.api.selectors import Selector, parse_selector
from emperorctl.reconciler.api.streams import Stream, pieces

__all__ = ["routes"]

_VASSALS = "/apis/emperor/v1/vassals"
_MONITORS = "/apis/emperor/v1/monitors"
_BLACKLIST = "/apis/emperor/v1/blacklist"
_JSON = "application/json"
_ONE_FIELD = "metadata.name="
_Act = Callable[[EmperorFacade, str, str], None]


def routes() -> list[Route]:
    """The whole table."""

    def order(verb: str, act: _Act) -> Route:
        return Route(f"{_VASSALS}/{{name}}/{verb}", _order(act), methods=["POST"])

    return [
        Route("/version", _version),
        Route("/healthz", _healthz),
        Route(_VASSALS, _vassals),
        Route(f"{_VASSALS}/{{name}}", _vassal),
        Route(f"{_VASSALS}/{{name}}/log", _log),
        order("reload", lambda emperor, name, by: emperor.reload(name, by)),
        order("stop", lambda emperor, name, by: emperor.stop(name, by)),
        order("start", lambda emperor, name, by: emperor.start(name, by)),
        Route(f"{_VASSALS}/{{name}}/exec", _exec, methods=["POST"]),
        Route("/apis/emperor/v1/reload", _reload_all, methods=["POST"]),
        Route(_BLACKLIST, _blacklist),
        Route(f"{_BLACKLIST}/clear", _clear_blacklist, methods=["POST"]),
        Route(f"{_BLACKLIST}/{{name}}", _blacklist_entry),
        Route(_MONITORS, _monitors),
        Route(f"{_MONITORS}/{{name}}", _monitor),
        Route("/apis/emperor/v1/events", _events),
        Route("/apis/emperor/v1/stats", _stats),
    ]


async def _version(request: Request) -> Response:
    """Who answers."""
    return answers.respond(_emperor(request).version())


async def _healthz(_request: Request) -> Response:
    """That the loop turns."""
    return PlainTextResponse("ok\n")


async def _vassals(request: Request) -> Stream:
    """The list of vassals, or a watch of them."""
    selector = parse_selector(_option(request, "labelSelector"))
    name = _field_selector(request)
    if _flag(request, "watch"):
        return _watch_vassals(request, name, selector)
    version, objects = _emperor(request).board.snapshot()
    if name is not None:
        one = _emperor(request).board.get(name)
        objects = [] if one is None else [one]
    return _list(request, "VassalList", version, await watches.select(objects, selector))


async def _vassal(request: Request) -> Response:
    """One vassal."""
    name = _name(request)
    encoded = _emperor(request).board.fresh(name)
    if encoded is None:
        raise NotFound(name)
    return Response(encoded + b"\n", media_type=_JSON)


async def _log(request: Request) -> Response | Stream:
    """What a vassal has printed, and with `follow` what it prints from now on."""
    name = _name(request)
    lines = _number(request, "tail", -1)
    if unheard := lastwords.not_captured(name, json.loads(_object(request, name))["status"]):
        raise Refused(404, "NotCaptured", unheard)
    media = "text/plain; charset=utf-8"
    if _flag(request, "follow"):
        return Stream(request, _emperor(request).logs.follow(name, lines), media)
    return Stream(request, _emperor(request).logs.read(name, lines), media, endless=False)


async def _exec(request: Request) -> Handover:
    """Run a command within a vassal, and give this connection to it."""
    name = _name(request)
    what = read_execution(await request.body())
    ration = request.state.ration
    if not ration.take():
        raise Refused(429, "TooManyRequests", "too many watches, logs and commands are open at once; end one")
    try:
        attached = await _emperor(request).execute(name, what, _caller(request))
    except BaseException:
        ration.give_back()
        raise
    return Handover(request, attached, ration)


async def _reload_all(request: Request) -> Response:
    """Order a reload of every vassal."""
    count = _emperor(request).reload_all(_caller(request))
    return answers.success(count=count)


async def _blacklist(request: Request) -> Stream:
    """The vassals that are kept from starting, with their budgets; what they printed is in each one's own entry."""
    version, objects = _emperor(request).board.snapshot()
    # Most are not on it: what the compact form says outright is not decoded.
    held = [encoded for encoded in objects if b'"blacklist":null' not in encoded]
    held = await watches.select(held, parse_selector(_option(request, "labelSelector")))
    items = await lastwords.entries(held)
    return _list(request, "BlacklistEntryList", version, items)


async def _blacklist_entry(request: Request) -> Response:
    """One of them, with the last lines of its log."""
    name = _name(request)
    vassal = json.loads(_object(request, name))
    if not vassal["status"].get("blacklist"):
        raise Refused(404, "NotFound", f'blacklistentries "{name}" not found: this vassal is not on the blacklist')
    return answers.respond(await lastwords.entry_with_log(vassal, _emperor(request).logs))


async def _clear_blacklist(request: Request) -> Response:
    """Pardon some vassals or all; nothing is done where one of the names is wrong."""
    asked = _names(await request.body())
    names = [_emperor(request).resolve(name) for name in asked] if asked else None
    cleared = _emperor(request).clear_blacklist(names, _caller(request))
    return answers.success(names=cleared)


async def _monitors(request: Request) -> Stream:
    """The sources of desired state."""
    objects = [answers.object_bytes(one) for one in _emperor(request).monitors()]
    items = await watches.select(objects, parse_selector(_option(request, "labelSelector")))
    return _list(request, "MonitorList", _emperor(request).board.version, items)


async def _monitor(request: Request) -> Response:
    """One of them, by its address or by what follows the scheme."""
    name = _decoded(request)
    found = [one for one in _emperor(request).monitors() if name in _addresses(one["metadata"]["name"])]
    if not found:
        raise Refused(404, "NotFound", f'monitors "{name}" not found')
    return answers.respond(found[0])


async def _events(request: Request) -> Stream:
    """The list of events, or a watch of them."""
    kind = _kind(_option(request, "involvedKind"))
    name = _option(request, "involvedObject")
    if name and kind in {"", "Vassal"}:
        name = _involved(request, name)
    types = {part for part in _option(request, "types").split(",") if part}
    log = _emperor(request).events

    def wanted(event: dict[str, object]) -> bool:
        involved = event["involvedObject"]
        assert isinstance(involved, dict)
        right = (not kind or involved["kind"] == kind) and (not name or involved["name"] == name)
        return right and (not types or event["type"] in types)

    if _flag(request, "watch"):
        after = _resource_version(request)
        if after is not None and after > log.version:
            raise watches.GONE
        return Stream(request, watches.watch_events(log, after, wanted), _JSON)
    # The Emperor's own are recorded under no name.
    own = "" if kind == "Emperor" else name or None
    items = [answers.object_bytes(event) for event in log.list(own) if wanted(event)]
    return _list(request, "EventList", log.version, items)


async def _stats(request: Request) -> Response:
    """The document of the stats server."""
    return Response(_emperor(request).stats() + b"\n", media_type=_JSON)


def _order(act: _Act) -> Callable[[Request], Awaitable[Response]]:
    async def ordered(request: Request) -> Response:
        name = _name(request)
        act(_emperor(request), name, _caller(request))
        return answers.success(kind="vassals", name=name)

    return ordered


def _watch_vassals(request: Request, name: str | None, selector: Selector) -> Stream:
    board, after = _emperor(request).board, _resource_version(request)
    if after is not None and (after > board.version or board.since(after) is None):
        raise watches.GONE
    return Stream(request, watches.watch_vassals(board, after, name=name, selector=selector), _JSON)


def _emperor(request: Request) -> EmperorFacade:
    """The Emperor that this caller has."""
    emperor: EmperorFacade = request.state.emperor
    return emperor


def _caller(request: Request) -> str:
    """Who gives this order, for its event."""
    return str(request.state.peer)


def _name(request: Request) -> str:
    return _emperor(request).resolve(_decoded(request))


def _object(request: Request, name: str) -> bytes:
    encoded = _emperor(request).board.get(name)
    if encoded is None:
        raise NotFound(name)
    return encoded


def _field_selector(request: Request) -> str | None:
    text = _option(request, "fieldSelector")
    if not text:
        return None
    if not text.startswith(_ONE_FIELD):
        raise Refused(400, "BadRequest", f'can\'t select by "{text}": the only field is {_ONE_FIELD}NAME')
    name = text.removeprefix(_ONE_FIELD)
    try:
        return _emperor(request).resolve(name)
    except NotFound:
        # It may come to be.
        return name


def _involved(request: Request, name: str) -> str:
    """The full name, also of a vassal that is gone but has left events."""
    if _emperor(request).events.list(name):
        return name
    try:
        return _emperor(request).resolve(name)
    except (NotFound, Ambiguous):
        return name


def _decoded(request: Request) -> str:
    """The name in the path."""
    try:
        return unquote(request.path_params["name"], errors="strict")
    except UnicodeDecodeError:
        raise Refused(400, "BadRequest", "the name is not UTF-8") from None


def _addresses(source: str) -> tuple[str, str]:
    return source, source.partition("://")[2]


def _list(request: Request, kind: str, version: int, items: list[bytes]) -> Stream:
    parts = list(answers.list_parts(kind, version, items))
    return Stream(request, pieces(parts), _JSON, sum(map(len, parts)))


def _option(request: Request, key: str) -> str:
    return request.query_params.get(key, "")


def _flag(request: Request, key: str) -> bool:
    text = _option(request, key).lower()
    if text not in {"", "0", "1", "false", "true"}:
        raise Refused(400, "BadRequest", f'{key}: expected true or false, got "{text[:40]}"')
    return text in {"1", "true"}


def _kind(text: str) -> str:
    if text not in {"", "Vassal", "Monitor", "Emperor"}:
        raise Refused(400, "BadRequest", f'involvedKind: expected Vassal, Monitor or Emperor, got "{text[:40]}"')
    return text


def _number(request: Request, key: str, default: int) -> int:
    text = _option(request, key)
    if not text:
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise Refused(400, "BadRequest", f'{key}: expected a whole number, got "{text[:40]}"')
    return int(text)


def _resource_version(request: Request) -> int | None:
    """The `resourceVersion` asked for; None where none is, and for "0", which means any."""
    number = _number(request, "resourceVersion", 0)
    if number < 0:
        raise Refused(400, "BadRequest", "resourceVersion: expected a number from a list or a watch")
    return number or None


def _names(body: bytes) -> list[str]:
    if not body.strip():
        return []
    wrong = Refused(400, "BadRequest", 'expected a body such as {"names": ["shop"]}, or none for all')
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(document, dict) or document.keys() - {"names"}:
        raise wrong
    names = document.get("names")
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise wrong
    return names
