"""`message …`: what is stored, where it is, and having it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.adapters.new_files import new_file
from proxy.adapters.stored_mail import StoredMail
from proxy.cli.common import (
    Config,
    Json,
    errors_end_the_command,
    octets,
    operate,
    print_json,
    print_table,
    progress_bar,
    settings_from,
    when,
)

app = typer.Typer(help="Look at stored messages.", no_args_is_help=True)

SHOWN = 50
"""Characters of a header field in a list."""

UPSTREAM_SAYS = {
    "present": "is there",
    "gone": "has left it",
    "expunged": "deleted by the proxy",
    "never": "never was there: the proxy made it",
}


@app.command("list")
def list_(account: str, config: Config = None, as_json: Json = False) -> None:
    """List the stored messages of an account, oldest first."""
    rows = operate(config, "message list", account=account)
    if as_json:
        print_json(rows)
        return
    mail = _stored_mail(config)
    headers = ((row, mail.header(row["sha256"])) for row in rows)
    print_table(
        ("UIDL", "SIZE", "RECEIVED", "FROM", "SUBJECT"),
        (
            (
                row["uid"],
                octets(row["octets"]),
                when(row["received_at"]),
                _short(header["From"]),
                _short(header["Subject"]),
            )
            for row, header in headers
        ),
    )


@app.command()
def show(account: str, uidl: str, config: Config = None, as_json: Json = False) -> None:
    """Show one message: when it was fetched, which device has it, whether it is still upstream."""
    row = operate(config, "message show", account=account, uid=uidl)
    if as_json:
        print_json(row)
    else:
        _print_message(row, _stored_mail(config))


@app.command()
def trace(
    account: str,
    words: Annotated[str, typer.Argument(help="A UIDL, or a part of Message-ID, From or Subject.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Find messages and say where each of them is.

    Looks into all stored messages of the account. One that has left the store is found by its
    UIDL alone.
    """
    mail = _stored_mail(config)
    found = _matching(operate(config, "message list", account=account), words, mail)
    uids = [row["uid"] for row in found] or [words]
    rows = [operate(config, "message show", account=account, uid=uid) for uid in uids]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        _print_message(row, mail)


@app.command()
def resend(
    account: str, uidl: str, device: str, config: Config = None, as_json: Json = False
) -> None:
    """Let a device have a message once more, even if its mail program remembers the UIDL.

    The copy has a UIDL of its own, and no other device sees it.
    """
    row = operate(config, "message resend", account=account, uid=uidl, device=device)
    if as_json:
        print_json(row)
    else:
        typer.echo(f"{row['device']} gets it at its next check, under the UIDL {row['uid']}.")


@app.command()
def export(
    account: str,
    uidl: str,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file to make; without it, standard output.")
    ] = Path("-"),
    config: Config = None,
) -> None:
    """Write one message as it came, octet for octet."""
    row = operate(config, "message show", account=account, uid=uidl)
    with errors_end_the_command():
        message = _stored_mail(config).octets(row["sha256"])
        if str(output) == "-":
            sys.stdout.buffer.write(message)
        else:
            with new_file(output) as file:
                file.write(message)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _stored_mail(config: Path | None) -> StoredMail:
    with errors_end_the_command():
        return StoredMail(settings_from(config).data_dir)


def _matching(rows: list[dict[str, Any]], words: str, mail: StoredMail) -> list[dict[str, Any]]:
    exact = [row for row in rows if row["uid"] == words]
    if exact:
        return exact
    sought, found = words.casefold(), []
    with progress_bar("searching") as progress:
        for number, row in enumerate(rows):
            progress(number, len(rows))
            if any(sought in value.casefold() for value in mail.header(row["sha256"]).values()):
                found.append(row)
    return found


def _print_message(row: dict[str, Any], mail: StoredMail) -> None:
    typer.echo(f"{row['uid']}: {octets(row['octets'])}, SHA-256 {row['sha256']}")
    for name, value in mail.header(row["sha256"]).items():
        if value:
            typer.echo(f"  {name}: {value}")
    typer.echo(f"  received  {when(row['received_at'])}")
    typer.echo(f"  fetched   {when(row['fetched_at'])}")
    left = f" since {when(row['left_upstream_at'])}" if row["left_upstream_at"] else ""
    typer.echo(f"  upstream  {UPSTREAM_SAYS[row['upstream']]}{left}")
    if row["deleted_everywhere_at"]:
        typer.echo(f"  deleted for all devices {when(row['deleted_everywhere_at'])}")
    if row["purged_at"]:
        typer.echo(f"  left the store {when(row['purged_at'])}")
    if row["blob_lost"]:
        typer.echo("  damaged or missing in the store: it is fetched again while upstream has it")
    print_table(
        ("  DEVICE", "STATE", "RETRIEVED", "DELETED"),
        (
            ("  " + d["device"], d["state"], when(d["retrieved_at"]), when(d["deleted_at"]))
            for d in row["deliveries"]
        ),
    )
