"""`account merge`, `account distinct`, and naming the accounts that want it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Annotated, Any

import typer

from proxy.cli.common import WRONG_USAGE, Config, Json, operate, print_json


def merge(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The account that ends.")],
    into: Annotated[str, typer.Argument(metavar="INTO", help="The account that stays.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make one account of two that stand for the same mailbox.

    No device gets a message twice or loses one that it has not had, and each goes on seeing the
    UIDLs that it knows. From then on FROM is another name of INTO. Without --yes it says what it
    would do and asks; where there is no terminal to ask at, it changes nothing.
    """
    if not yes:
        told = _told(operate(config, "account look-at-merge", account=source, into=into))
        typer.echo("\n".join(told), err=as_json)
        if not sys.stdin.isatty():
            typer.echo("Nothing has changed: add --yes to have it done.", err=True)
            raise typer.Exit(WRONG_USAGE)
        typer.confirm("Merge them? It cannot be undone but from a backup.", abort=True)
    row = operate(config, "account merge", account=source, into=into)
    if as_json:
        print_json(row)
        return
    if yes:
        typer.echo("\n".join(_told(row)))
    typer.echo(f"{row['account']} is part of {row['into']} now.")


def distinct(
    account: Annotated[str, typer.Argument(help="One account.")],
    other: Annotated[str, typer.Argument(help="The other one.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say that two accounts are two mailboxes, though the same mail is in them.

    The proxy deletes nothing upstream for accounts that seem to be one mailbox, until that is said
    or they are merged. It holds for good.
    """
    row = operate(config, "account distinct", account=account, other=other)
    if as_json:
        print_json(row)
        return
    typer.echo(f"{row['account']} and {row['other']} are two mailboxes from now on.")


def _told(row: dict[str, Any]) -> list[str]:
    source, into = row["account"], row["into"]
    told = [f"{source} becomes part of {into}, under whose policy and upstream login all goes on."]
    if row["devices"]:
        told.append(f"  devices that move: {_listed(row['devices'])}")
    if row["joined"]:
        told.append(
            f"  devices of both, each of which becomes one that has had what either had: "
            f"{_listed(row['joined'])}"
        )
    told.append(
        f"  messages: {row['messages']} in the store, of which {row['same']} are in {into} too "
        f"and {row['moved']} are new to it"
    )
    for key, text in (
        ("without_scram", "app passwords that work on, but not by SCRAM"),
        ("without_password", f"app passwords of {source} that end"),
        ("without_certificate", f"certificates of {source} that end"),
    ):
        if row[key]:
            told.append(f"  {text}, so that the device wants a new one: {_listed(row[key])}")
    return told


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def namesakes_line(names: Sequence[str]) -> str:
    """What to do about spellings of one name that are an account each."""
    into, *others = names
    commands = " and ".join(
        f"`pop3-sync-proxy account merge {quote(each)} {quote(into)}`" for each in others
    )
    return f"{_listed(names)} are spellings of one name, and an account each: run {commands}"
