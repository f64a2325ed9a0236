"""`status` and `account …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.cli.common import Config, Json, ago, octets, operate, print_json, print_table
from proxy.cli.merge import namesakes_line
from proxy.domain.plain_text import printable

app = typer.Typer(help="Look at accounts and sync them.", no_args_is_help=True)


def status(config: Config = None, as_json: Json = False) -> None:
    """Show accounts, devices, and what waits for each.

    Works while the proxy runs and while it does not.
    """
    result = operate(config, "status")
    if as_json:
        print_json(result)
        return
    if not result["accounts"]:
        typer.echo("No account yet. One appears when a device logs in, or when it is declared.")
    for row in result["accounts"]:
        _print_account(row)
    for row in result["troubles"]:
        typer.echo(f"TROUBLE, noticed {ago(row['since'])}: {row['subject']}")
    for names in result["namesakes"]:
        typer.echo(f"TROUBLE: {namesakes_line(names)}")


@app.command("list")
def list_(config: Config = None, as_json: Json = False) -> None:
    """List all accounts, declared ones and those made by a login."""
    rows = operate(config, "account list")
    if as_json:
        print_json(rows)
        return
    print_table(
        ("ACCOUNT", "UPSTREAM", "MESSAGES", "STORED", "DEVICES", "SYNCED", "TROUBLE"),
        (
            (
                row["account"],
                row["upstream"],
                row["messages"],
                octets(row["octets"]),
                row["devices"],
                ago(row["synced_at"]),
                row["failure"] or "-",
            )
            for row in rows
        ),
    )
    for names in sorted({tuple(row["namesakes"]) for row in rows if row["namesakes"]}):
        typer.echo(namesakes_line(names))


@app.command()
def show(account: str, config: Config = None, as_json: Json = False) -> None:
    """Show one account and its devices."""
    row = operate(config, "account show", account=account)
    if as_json:
        print_json(row)
    else:
        _print_account(row)


@app.command()
def sync(account: str, config: Config = None, as_json: Json = False) -> None:
    """Sync a declared account now, and say what came of it."""
    row = operate(config, "account sync", account=account)
    if as_json:
        print_json(row)
        return
    typer.echo(sync_line(row))


@app.command()
def remove(
    account: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Forget an account: its devices, its stored messages, its kept password or token.

    Its open sessions are ended. Names the copies that remain.

    Nothing is deleted upstream. A declared account has to leave the configuration first.
    """
    if not yes:
        row = operate(config, "account show", account=account)
        size = f"{row['messages']} stored messages ({octets(row['octets'])})"
        typer.confirm(
            f"Forget {account} with {len(row['devices'])} devices and {size}?", abort=True
        )
    row = operate(config, "account remove", account=account)
    if as_json:
        print_json(row)
    else:
        typer.echo(f"{account} is forgotten, and {octets(row['octets'])} are freed.")
        if not row["erased"]:
            typer.echo(
                "Another program reads the catalogue: traces stay in catalogue.db-wal until the "
                "proxy is stopped."
            )
        for copy in row["copies"]:
            typer.echo(
                f"It is still in {copy}, from before an upgrade: delete that if it is to go."
            )
        typer.echo("Backups, if there are any, still have it.")


def sync_line(row: dict[str, Any]) -> str:
    """What came of a sync."""
    return (
        f"{row['account']}: {row['listed']} messages upstream, {row['fetched']} fetched "
        f"({octets(row['octets'])}), {row['expunged']} deleted upstream, "
        f"{row['failed']} not handed out, in {row['seconds']} s"
    )


def _print_account(row: dict[str, Any]) -> None:
    kind = "declared" if row["declared"] else "pass-through"
    upstream = f"{row['upstream_messages']} messages there ({octets(row['upstream_octets'])})"
    stored = f"{row['messages']} stored ({octets(row['octets'])})"
    typer.echo(
        f"{row['account']} ({kind}) at {row['upstream']}: {upstream}, {stored}, "
        f"synced {ago(row['synced_at'])}"
    )
    if row["failure"]:
        again = f"; next attempt in {row['retry_in']} s" if row["retry_in"] else ""
        typer.echo(f"  last sync failed {ago(row['failed_at'])}: {row['failure']}{again}")
    if sent := row["submission"]:
        # The text is upstream's: nothing of it may reach the terminal but characters.
        text = printable(sent["answer"])
        at = f"{sent['outcome']} {ago(sent['at'])}"
        typer.echo(f"  sends by {row['smtp']}; the last mail was {at}: {text}")
    elif row["smtp"]:
        typer.echo(f"  sends by {row['smtp']}")
    if row["login_interval"]:
        typer.echo(f"  upstream wants {row['login_interval'] / 60:.0f} min between two logins")
    for left in row["unfetched"]:
        size = octets(left["octets"])
        typer.echo(f"  not fetched: {left['uid'] or '(no UIDL)'} ({size}): {left['why']}")
    print_device_table(row["devices"])


def print_device_table(rows: list[dict[str, Any]]) -> None:
    """Devices of one account."""
    if not rows:
        typer.echo("  no devices yet")
        return
    print_table(
        ("  DEVICE", "WAITING", "VIEW", "APP PASSWORD", "LAST SEEN"),
        (
            (
                "  " + row["device"],
                row["waiting"],
                row["view"],
                "yes" if row["app_password"] else "no",
                ago(row["seen_at"]),
            )
            for row in rows
        ),
    )
