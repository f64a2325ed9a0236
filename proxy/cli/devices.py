"""`device …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.cli.accounts import print_device_table
from proxy.cli.common import Config, Json, operate, print_json

app = typer.Typer(help="Look at devices, add and change them.", no_args_is_help=True)


@app.command("list")
def list_(account: str, config: Config = None, as_json: Json = False) -> None:
    """List the devices of an account and how many messages wait for each."""
    rows = operate(config, "device list", account=account)
    if as_json:
        print_json(rows)
    else:
        print_device_table(rows)


@app.command()
def add(account: str, device: str, config: Config = None, as_json: Json = False) -> None:
    """Add a device with a password of its own, which is shown this once.

    With that password the mail program may log in as ACCOUNT or as ACCOUNT+DEVICE.
    """
    row = operate(config, "device add", account=account, device=device)
    if as_json:
        print_json(row)
        return
    typer.echo(f"Device {row['device']} of {account} is ready. In its mail program enter:")
    typer.echo(f"  user name  {account}")
    typer.echo(f"  password   {row['app_password']}")
    typer.echo("The password is not shown again.")


@app.command()
def rename(
    account: str, device: str, name: str, config: Config = None, as_json: Json = False
) -> None:
    """Give a device another name; what it has had stays known."""
    row = operate(config, "device rename", account=account, device=device, name=name)
    _say(row, as_json, f"{device} of {account} is now {row['device']}.")


@app.command()
def remove(account: str, device: str, config: Config = None, as_json: Json = False) -> None:
    """Remove a device: its password ends, and it holds no mail back any more."""
    row = operate(config, "device remove", account=account, device=device)
    _say(row, as_json, f"{row['device']} of {account} is removed.")


@app.command()
def reset(account: str, device: str, config: Config = None, as_json: Json = False) -> None:
    """Forget what a device has had: it sees all stored mail again."""
    row = operate(config, "device reset", account=account, device=device)
    _say(row, as_json, f"{row['device']} of {account} sees all stored mail again.")


@app.command("mark-delivered")
def mark_delivered(
    account: str,
    device: str,
    uidls: Annotated[
        list[str] | None,
        typer.Argument(help="Without any, all stored messages.", show_default=False),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take it that a device has messages already: it is shown them no more.

    Other devices see what they saw. `device reset` takes it back.
    """
    row = operate(config, "device mark-delivered", account=account, device=device, uids=uidls or [])
    _say(row, as_json, f"{row['messages']} messages are marked as delivered to {row['device']}.")


def _say(row: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        print_json(row)
    else:
        typer.echo(text)
