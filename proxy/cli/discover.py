"""`check ADDRESS`: what to write into the configuration file for an e-mail address."""

from __future__ import annotations

from typing import Any

import typer

from proxy.adapters.lookup import NetLookup
from proxy.cli.common import FAILED, print_json, run
from proxy.services.discovery import Discovery, discover, lines_for


def find(address: str, *, as_json: bool) -> None:
    """Print what was found; fails when nothing was."""
    result = run(discover(address, NetLookup()))
    if as_json:
        print_json(_row(result))
    else:
        _print(result)
    if result.found is None:
        raise typer.Exit(FAILED)


def _row(result: Discovery) -> dict[str, Any]:
    found = result.found
    row: dict[str, Any] = {"address": result.address, "tried": result.tried}
    if found is None:
        return {**row, "found": False, "why": result.no_pop3}
    return {
        **row,
        "found": True,
        "source": found.source,
        "host": found.host,
        "port": found.port,
        "tls": found.tls,
        "username": found.username,
        "provider": found.provider.name if found.provider else "",
        "hints": list(found.hints),
        "lines": lines_for(found, result.address),
    }


def _print(result: Discovery) -> None:
    found = result.found
    if found is None:
        if result.no_pop3:
            typer.echo(result.no_pop3)
            return
        typer.echo(f"No POP3 server found for {result.address}. Looked at:")
        for place in result.tried:
            typer.echo(f"  {place}")
        typer.echo("Ask your provider for the name of its POP3 server.")
        return
    typer.echo(f"Found by {found.source}.")
    for hint in found.hints:
        typer.echo(f"  {hint}")
    typer.echo("Lines for the configuration file:\n")
    for line in lines_for(found, result.address):
        typer.echo(line)
