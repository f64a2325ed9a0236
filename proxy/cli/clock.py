"""`clock …`: what a person says of the computer's clock."""

from __future__ import annotations

import typer

from proxy.cli.common import Config, Json, operate, print_json
from proxy.domain.trouble_texts import when

app = typer.Typer(help="What depends on the computer's clock being right.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("ok")
def ok(config: Config = None, as_json: Json = False) -> None:
    """Say that the computer's clock is right, now: what waits for that goes on.

    `status` tells as `clock_jump` when the proxy is in doubt about the clock, since it has jumped.
    """
    row = operate(config, "clock ok")
    if as_json:
        print_json(row)
        return
    typer.echo(f"The clock says {when(row['now'])}. What waited for it goes on.")
