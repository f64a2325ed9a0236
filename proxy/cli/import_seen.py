"""`device import-seen`: reads what a mail program has fetched, and tells the proxy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.adapters import logs
from proxy.app import administer
from proxy.cli.common import Config, Json, errors_end_the_command, print_json, run, settings_from
from proxy.config.schema import Settings
from proxy.domain.errors import BadRequest
from proxy.domain.login_name import canonical
from proxy.wire.seen_files import (
    FILE_LIMIT,
    BadSeenFile,
    SeenFile,
    SeenMailbox,
    read_seen_file,
)


def import_seen(
    account: str,
    device: str,
    file: Annotated[
        Path,
        typer.Argument(
            help="Thunderbird's popstate.dat, fetchmail's idfile, mpop's uidls_file, getmail's "
            "oldmail file, or a list of UIDLs; - for standard input.",
        ),
    ],
    host: Annotated[
        str | None, typer.Option(help="Of the mailbox in FILE, when there are several.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Of the mailbox in FILE, when there are several.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Let a device go on where its mail program was when it used the upstream directly.

    What the program has fetched is not shown to the device, and counts as delivered to it; all else
    it gets. Other devices notice nothing. A device of a new name is made.
    """
    with errors_end_the_command():
        logs.configure("error", "text")
        try:
            seen = read_seen_file(_octets(file))
        except BadSeenFile as error:
            raise BadRequest(f"{file}: {error}") from None
        settings = settings_from(config)
        mailbox = _mailbox(seen, settings, account, host, user)
        if not mailbox.uids:
            raise BadRequest(f"{file}: no UIDL of fetched mail is in it")
        arguments = {
            "account": account,
            "device": device,
            "uids": mailbox.uids,
            "slashes_lost": seen.slashes_lost,
        }
        row = run(administer(settings, "device import-seen", arguments))
    if as_json:
        print_json({**row, "program": seen.program, "host": mailbox.host, "user": mailbox.user})
    else:
        _tell(row, seen, mailbox)


def _octets(file: Path) -> bytes:
    """At most one more than a file may have, so that nothing endless is read."""
    if str(file) == "-":
        return sys.stdin.buffer.read(FILE_LIMIT + 1)
    with file.open("rb") as opened:
        return opened.read(FILE_LIMIT + 1)


def _mailbox(
    seen: SeenFile, settings: Settings, account: str, host: str | None, user: str | None
) -> SeenMailbox:
    """The one meant by the options, or else the account's own.

    Raises:
        BadRequest: with all that is in the file.
    """
    found = [box for box in seen.mailboxes if _is(box, host, user)]
    if len(found) > 1:
        upstream, name = _upstream(settings, account)
        found = [box for box in found if _is(box, upstream, name)]
    if len(found) == 1:
        return found[0]
    if not seen.mailboxes:
        raise BadRequest("no UIDL of fetched mail is in the file")
    rows = [f"  {box.host} {box.user}  {len(box.uids)} UIDLs" for box in seen.mailboxes]
    raise BadRequest(
        "\n".join(["say by --host and --user which mailbox of the file it is:", *rows])
    )


def _is(mailbox: SeenMailbox, host: str | None, user: str | None) -> bool:
    return (host is None or mailbox.host.lower() == host.lower()) and (
        user is None or mailbox.user.lower() == user.lower()
    )


def _upstream(settings: Settings, account: str) -> tuple[str, str]:
    """Host and user name of an account, declared or not."""
    for declared in settings.account:
        if canonical(declared.name) == canonical(account):
            return declared.policy.upstream.host, declared.credentials.username
    return settings.default_policy().upstream.host, account


def _tell(row: dict[str, Any], seen: SeenFile, mailbox: SeenMailbox) -> None:
    whose = f" of {mailbox.user} at {mailbox.host}" if mailbox.host else ""
    what = "a list" if seen.program == "list" else f"a file of {seen.program}"
    typer.echo(f"{row['uids']} UIDLs of fetched mail{whose}, from {what}.")
    typer.echo(f"  {row['known']} are known: {row['device']} does not get those messages again.")
    typer.echo(f"  {row['waiting']} wait until the proxy has fetched the messages.")
    if row["ambiguous"]:
        typer.echo(f"  {row['ambiguous']} stand for several messages, which it does get.")
    made = "is a new device" if row["new_device"] else "is a device"
    typer.echo(f"{row['device']} {made} of {row['account']}.")
