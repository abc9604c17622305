"""A small web site run by real uWSGI: its config in every format, and how to ask it. Used by the scenarios."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from e2e.conformance.court import Court

__all__ = ["FORMATS", "Reply", "Site"]

FORMATS = {"a.ini": "ini", "a.xml": "xml", "a.yaml": "yaml", "a.yml": "yaml", "a.json": "json", "a.js": "json"}
"""A file with each of the extensions, and the option that reads it."""

_APP = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.environ.get('GREETING', '')} {os.getpid()} {os.getppid()}".encode()]
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the site answers: its greeting, and the pids of the worker that answered and of its master."""

    greeting: str
    worker: int
    master: int


class Site:
    """One site; more options of uWSGI may be given, an underscore for each dash."""

    def __init__(self, court: Court, port: int, **more: str) -> None:
        self.court = court
        self.port = port
        app = court.root / "app.py"
        app.write_text(_APP)
        self.options = {
            "http-socket": f"127.0.0.1:{port}",
            "wsgi-file": str(app),
            "need-app": "true",
            "master": "true",
            "processes": "1",
            "worker-reload-mercy": "2",
        } | {key.replace("_", "-"): value for key, value in more.items()}

    def config(self, option: str = "ini", greeting: str = "hello") -> str:
        """Its config in one of the formats."""
        options = self.options | {"env": f"GREETING={greeting}"}
        match option:
            case "ini":
                return "[uwsgi]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
            case "xml":
                return (
                    "<uwsgi>\n" + "".join(f"<{key}>{value}</{key}>\n" for key, value in options.items()) + "</uwsgi>\n"
                )
            case "yaml":
                return "uwsgi:\n" + "".join(f"  {key}: {value}\n" for key, value in options.items())
            case _:
                return json.dumps({"uwsgi": options})

    def ask(self) -> Reply:
        """One request. Raises OSError where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.status == 200
            greeting, worker, master = answer.read().decode().split()
            return Reply(greeting, int(worker), int(master))
        finally:
            connection.close()

    def answers(self) -> Reply | None:
        """As `ask`; None while nobody answers."""
        try:
            return self.ask()
        except (OSError, http.client.HTTPException):
            return None

    def wait_reply(self, **fields: Any) -> Reply:
        """Wait until it answers, and like this."""

        def look() -> Reply | None:
            reply = self.answers()
            return reply if reply and all(getattr(reply, key) == value for key, value in fields.items()) else None

        return self.court.wait_for(look, f"port {self.port} answers {fields}")
