"""`emperorctl schema` and `emperorctl version`: what may be written in a manifest, and who is who."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from emperorctl.cli.formats import write_json, write_yaml
from emperorctl.cli.options import SimpleOutput, Socket, connect
from emperorctl.cli.term import cell, complain
from emperorctl.models.errors import EmperorUnreachable

__all__ = ["client_version", "schema", "version"]


def client_version() -> str:
    """The version of this very installation."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("emperorctl")
    except PackageNotFoundError:
        return "unknown"


def schema() -> None:
    """Print the JSON schema of native manifests.

    Editors check and complete with it.
    """
    from emperorctl.models.schema import manifest_schema

    write_json(manifest_schema())


def _user(server: Mapping[str, Any]) -> str:
    """Whom the Emperor runs as, and with which rights."""

    def held(names: Any) -> str:
        return names if isinstance(names, str) else " ".join(names) or "none"

    zygote = server.get("zygote") or {}
    rights = f"capabilities {held(server.get('capabilities', []))}, its zygote's {held(zygote.get('capabilities', []))}"
    return f"uid {server['uid']}, gid {server.get('gid')}, {rights}"


def version(
    ctx: typer.Context,
    *,
    output: Annotated[SimpleOutput | None, typer.Option("--output", "-o", show_default=False)] = None,
    client_only: Annotated[bool, typer.Option("--client", help="Ask no Emperor.")] = False,
    socket: Socket = None,
) -> None:
    """Show the versions of this command and of the Emperor."""
    own = client_version()
    document: dict[str, object] = {"clientVersion": {"version": own}}
    server: dict[str, object] | None = None
    unreachable = ""
    if not client_only:
        try:
            server = connect(ctx, socket).get("/version")
        except EmperorUnreachable as error:
            # That no Emperor runs is an answer; being kept from asking is an error.
            unreachable = str(error)
    if server is not None:
        document["serverVersion"] = server
    if output is SimpleOutput.JSON:
        write_json(document)
    elif output is SimpleOutput.YAML:
        write_yaml(document)
    else:
        sys.stdout.write(f"Client Version: {own}\n")
        if server is not None:
            sys.stdout.write(f"Server Version: {cell(str(server.get('version', '<unknown>')))}\n")
            if "uid" in server:
                sys.stdout.write(f"Server User: {cell(_user(server))}\n")
    if unreachable:
        sys.stdout.flush()
        complain(unreachable, prefix="")
