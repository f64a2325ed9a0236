"""`account authorize` and `account set-password`: what a person gives so that we may log in."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from proxy.adapters import logs
from proxy.adapters.entropy import SystemEntropy
from proxy.adapters.web import WebClient
from proxy.cli.common import Config, errors_end_the_command, operate, run, settings_from
from proxy.config.schema import Settings
from proxy.domain.directory import DeclaredAccount
from proxy.domain.errors import BadRequest, ConsentNeeded, NotFound
from proxy.domain.login_name import canonical
from proxy.services.consent import Consent, Grant
from proxy.web.redirect import waiting_for_redirect

BROWSER_TIME = 600.0
"""Seconds that a person has in the browser."""


def authorize(
    account: str,
    device: Annotated[
        bool,
        typer.Option(
            "--device", help="Show a code to enter in a browser anywhere (no browser needed here)."
        ),
    ] = False,
    paste: Annotated[
        bool,
        typer.Option(
            "--paste",
            help="Use a browser on another computer, and paste the address that it ends at.",
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(help="Port of 127.0.0.1 that the browser comes back to; 0: any.")
    ] = 0,
    config: Config = None,
) -> None:
    """Let a declared account log in upstream by OAuth 2.0.

    Opens nothing by itself: it prints an address for your browser, waits until you have given your
    consent there, and keeps what comes of it encrypted in the store. A running proxy uses it at
    once.
    """
    with errors_end_the_command():
        logs.configure("error", "text")
        if device and paste:
            raise BadRequest("--device or --paste, not both")
        settings = settings_from(config)
        declared = _declared(settings, account)
        grant = run(_consent(declared, device=device, paste=paste, port=port))
        if not grant.refresh_token:
            raise ConsentNeeded(
                "the provider gave no refresh token: oauth_scope may lack offline_access"
            )
    operate(config, "account keep-token", account=account, refresh_token=grant.refresh_token)
    typer.echo(f"{account} is authorized. `pop3-sync-proxy account sync {account}` tries it out.")


def set_password(account: str, config: Config = None) -> None:
    """Keep the upstream password of an account, encrypted, in the store.

    For accounts with `password_stored = true`. Asks for the password, or reads it from standard
    input when that is not a terminal; it never stands on the command line.
    """
    with errors_end_the_command():
        password = _password()
    operate(config, "account set-password", account=account, password=password)
    typer.echo(f"The password of {account} is kept.")


def _password() -> str:
    if sys.stdin.isatty():
        prompted: str = typer.prompt("Upstream password", hide_input=True)
        return prompted
    return sys.stdin.readline().removesuffix("\n").removesuffix("\r")


def _declared(settings: Settings, name: str) -> DeclaredAccount:
    for account in settings.account:
        if canonical(account.name) == canonical(name):
            return account
    raise NotFound(f"no [[account]] {name} in the configuration")


async def _consent(account: DeclaredAccount, *, device: bool, paste: bool, port: int) -> Grant:
    consent = Consent(WebClient(), account.policy.upstream, account.credentials.username)
    if device:
        code = await consent.begin_device()
        typer.echo(f"Open {code.verification_url} and enter the code {code.user_code}")
        return await consent.finish_device(code)
    state = SystemEntropy().token(16).hex()
    if paste:
        # Nothing listens there: the browser shows an error, and the address is what counts.
        url = consent.url(f"http://localhost:{port or 8080}", state)
        typer.echo(f"Open this address in a browser:\n\n  {url}\n")
        typer.echo("It ends at an address that cannot be opened. Paste that address here:")
        return await consent.finish(sys.stdin.readline().strip(), state)
    async with waiting_for_redirect(port) as redirect:
        url = consent.url(redirect.url, state)
        typer.echo(f"Open this address in a browser on this machine:\n\n  {url}\n")
        typer.echo("On another computer? Stop this with Ctrl-C, and add --paste.")
        try:
            async with asyncio.timeout(BROWSER_TIME):
                answer = await redirect.answer()
        except TimeoutError:
            raise ConsentNeeded("nothing came back from the browser") from None
        return await consent.finish(answer, state)
