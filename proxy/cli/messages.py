"""`message …`."""

from __future__ import annotations

import typer

from proxy.cli.common import Config, Json, ago, octets, operate, print_json, print_table

app = typer.Typer(help="Look at stored messages.", no_args_is_help=True)


@app.command("list")
def list_(account: str, config: Config = None, as_json: Json = False) -> None:
    """List the stored messages of an account."""
    rows = operate(config, "message list", account=account)
    if as_json:
        print_json(rows)
    else:
        print_table(("UIDL", "SIZE"), ((row["uid"], octets(row["octets"])) for row in rows))


@app.command()
def show(account: str, uidl: str, config: Config = None, as_json: Json = False) -> None:
    """Show one message: which device has it, and since when."""
    row = operate(config, "message show", account=account, uid=uidl)
    if as_json:
        print_json(row)
        return
    typer.echo(f"{row['uid']}: {octets(row['octets'])}, SHA-256 {row['sha256']}")
    print_table(
        ("  DEVICE", "RETRIEVED", "DELETED"),
        (
            ("  " + d["device"], ago(d["retrieved_at"]), ago(d["deleted_at"]))
            for d in row["deliveries"]
        ),
    )
