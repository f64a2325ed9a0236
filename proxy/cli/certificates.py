"""`certificate` and `device certificate`: what each computer has to be given."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from proxy.adapters.certificate_files import describe, pkcs12
from proxy.adapters.entropy import SystemEntropy
from proxy.adapters.new_files import new_file
from proxy.app import certificate_of
from proxy.cli.common import (
    Config,
    Json,
    errors_end_the_command,
    operate,
    print_json,
    settings_from,
)
from proxy.domain.errors import BadRequest
from proxy.services.credentials import new_app_password


def certificate(
    config: Config = None,
    pem: Annotated[
        bool, typer.Option("--pem", help="Print the certificate to trust, and nothing else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the certificate that devices see, and what they have to trust.

    Where the configuration names no certificate, an authority of the proxy's own signs one: trust
    its file once on each computer, and compare the fingerprint.
    """
    with errors_end_the_command():
        source = certificate_of(settings_from(config))
        if source is None:
            raise BadRequest("no TLS is configured: set listen_tls or certificate under [pop3]")
        own = source.certificate is None
        used = source.files().certificate
        trusted = source.authority.ca_file if own else used
        if pem:
            typer.echo(trusted.read_text(), nl=False)
            return
        shown = describe(used)
        row = {
            "file": str(used),
            "names": list(shown.names),
            "fingerprint": shown.fingerprint,
            "not_after": shown.not_after.isoformat(),
            "authority_file": str(trusted) if own else "",
            "authority_fingerprint": describe(trusted).fingerprint if own else "",
        }
    if as_json:
        print_json(row)
        return
    typer.echo(f"Certificate   {row['file']}")
    typer.echo(f"  names       {' '.join(shown.names)}")
    typer.echo(f"  until       {shown.not_after:%Y-%m-%d}")
    typer.echo(f"  SHA-256     {row['fingerprint']}")
    if own:
        typer.echo(f"Authority     {row['authority_file']}")
        typer.echo(f"  SHA-256     {row['authority_fingerprint']}")
        typer.echo("Trust the authority's file on each computer; --pem prints it.")


def device_certificate(
    account: str,
    device: str,
    out: Annotated[
        Path,
        typer.Option(help="Where to write it: .p12 for phones, .pem for programs such as mpop."),
    ],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a certificate that a device may log in with instead of a password.

    An earlier one of the device ends. The mail program has to know AUTH EXTERNAL, as K-9, mpop and
    curl do, and client_certificates under [pop3] has to be true.
    """
    with errors_end_the_command(), ExitStack() as files:
        if out.suffix not in (".p12", ".pem"):
            raise BadRequest(f"{out}: the name has to end in .p12 or .pem")
        # Before anything changes: a certificate that cannot be kept would end the earlier one.
        # typer.Exit, by which a command fails, leaves none behind as well.
        file = files.enter_context(new_file(out))
        row = operate(config, "device certificate", account=account, device=device)
        password = ""
        if out.suffix == ".p12":
            password = new_app_password(SystemEntropy())[:16]
            file.write(pkcs12(row["private_key"], row["certificate"], row["authority"], password))
        else:
            file.write((row["private_key"] + row["certificate"] + row["authority"]).encode())
    if as_json:
        shown = {"account": row["account"], "device": row["device"], "file": str(out)}
        print_json({**shown, "password": password})
        return
    typer.echo(f"{out} is the certificate of {row['device']} of {row['account']}.")
    if password:
        typer.echo(f"  password to import it  {password}")
    typer.echo("Move it to that device, and keep no copy.")
