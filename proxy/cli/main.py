"""The command `pop3-sync-proxy`: puts the commands together, nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from proxy import __version__
from proxy.cli import (
    accounts,
    certificates,
    clock,
    consent,
    devices,
    import_seen,
    init,
    merge,
    messages,
    service,
    upkeep,
)

app = typer.Typer(
    name="pop3-sync-proxy",
    help="Read one POP3 mailbox on several computers: every message once on each.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init.init)
service.add_commands(app)
upkeep.add_commands(app)
app.command()(certificates.certificate)
devices.app.command("certificate")(certificates.device_certificate)
devices.app.command("import-seen")(import_seen.import_seen)
accounts.app.command("authorize")(consent.authorize)
accounts.app.command("merge")(merge.merge)
accounts.app.command("distinct")(merge.distinct)
accounts.app.command("set-password")(consent.set_password)
app.add_typer(accounts.app, name="account")
app.add_typer(devices.app, name="device")
app.add_typer(messages.app, name="message")
app.add_typer(clock.app, name="clock")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pop3-sync-proxy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the command."""
    app()
