"""`sync`, `gc`, `verify`, `backup`, `restore` and `export`: looking after the whole store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.adapters.backup import Copied, back_up
from proxy.adapters.backup import restore as restore_backup
from proxy.adapters.stored_mail import Mailbox, StoredMail, new_maildir, new_mbox
from proxy.cli.accounts import sync_line
from proxy.cli.common import (
    FAILED,
    Config,
    Json,
    errors_end_the_command,
    octets,
    operate,
    print_json,
    progress_bar,
    settings_from,
)
from proxy.domain.errors import BadRequest, StoreUnavailable


def add_commands(app: typer.Typer) -> None:
    for command in (sync, gc, verify, backup, restore, export):
        app.command()(command)


def sync(config: Config = None, as_json: Json = False) -> None:
    """Sync all declared accounts now. `account sync` does one."""
    rows = operate(config, "sync")
    if as_json:
        print_json(rows)
    for row in [] if as_json else rows:
        typer.echo(f"{row['account']}: {row['failure']}" if row["failure"] else sync_line(row))
    if any(row["failure"] for row in rows):
        raise typer.Exit(FAILED)


def gc(config: Config = None, as_json: Json = False) -> None:
    """Free what retention no longer keeps, now; the running proxy does so every hour."""
    rows = operate(config, "gc")
    if as_json:
        print_json(rows)
        return
    for row in rows:
        if row["in_doubt"]:
            typer.echo(f"{row['account']}: left alone, the clock of this computer is in doubt")
        elif row["in_use"]:
            typer.echo(f"{row['account']}: left alone, a device is reading it")
        else:
            freed = octets(row["octets"])
            typer.echo(f"{row['account']}: {row['messages']} messages let go, {freed} freed")


def verify(
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt", help="Accept the catalogue as it is, and take in mail that it does not name."
        ),
    ] = False,
    account: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Whose mail that is, where nothing tells.", show_default=False
        ),
    ] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compare every stored message with its digest; fetch again what is damaged or unreadable.

    Fails when something stays so, or could not be compared. Upstream is asked for nothing else, but
    with --adopt: then all declared accounts are synced, so that what is still there keeps its name,
    and messages in the folder blobs/orphans of data_dir that it has no more are taken in. That is
    also how the proxy is told to go on with a catalogue that it refused, or with a new one.
    """
    if account and not adopt:
        with errors_end_the_command():
            raise BadRequest("--account says whose mail --adopt takes in: give both")
    arguments = {"adopt": True, "account": account} if adopt else {}
    row = operate(config, "verify", **arguments)
    lost = [one for one in row["damaged"] if not one["repaired"]]
    if as_json:
        print_json(row)
    else:
        _print_adopted(row["adopted"], account)
        _print_verified(row, lost)
    unsettled = lost or row["uncompared"] or row["catalogue"]
    adopted = row["adopted"] or {"failures": [], "unreadable": []}
    if unsettled or adopted["failures"] or adopted["unreadable"]:
        raise typer.Exit(FAILED)


def _print_adopted(row: dict[str, Any] | None, account: str) -> None:
    if row is None:
        return
    untold = (
        f"they may be {account}'s, which has to be synced first: see above, and run this again"
        if account
        else "nothing tells whose they are: give --account NAME"
    )
    typer.echo(f"{row['adopted']} messages taken in.")
    for failure in row["failures"]:
        typer.echo(f"  not synced, so nothing new is taken in for it: {failure}", err=True)
    for count, why in (
        (row["known"], "the account has them already, with another header"),
        (row["untold"], untold),
        (len(row["damaged"]), "they are damaged"),
    ):
        if count:
            typer.echo(f"  {count} stay in blobs/orphans: {why}", err=True)
    for problem in row["unreadable"]:
        typer.echo(f"  stays in blobs/orphans, since it cannot be taken in: {problem}", err=True)


def _print_verified(row: dict[str, Any], lost: list[dict[str, Any]]) -> None:
    typer.echo(
        f"{row['blobs']} messages compared: {len(row['damaged'])} damaged, "
        f"{row['repaired']} of them fetched again."
    )
    if row["found_again"]:
        typer.echo(f"{row['found_again']} that were lost are whole again.")
    for one in row["damaged"]:
        state = "was lost, and has been fetched again" if one["repaired"] else "is lost"
        typer.echo(f"  {one['sha256']} of {', '.join(one['accounts'])} {state}", err=True)
    for problem in row["uncompared"]:
        typer.echo(f"  not compared: {problem}", err=True)
    for failure in row["failures"]:
        typer.echo(f"  {failure}", err=True)
    for problem in row["catalogue"]:
        typer.echo(f"  catalogue: {problem}", err=True)
    if row["catalogue"]:
        typer.echo("The catalogue is damaged: restore a backup.", err=True)
    if row["set_aside"] and row["adopted"] is None:
        typer.echo(
            f"{row['set_aside']} messages that the catalogue does not name lie in blobs/orphans: "
            "--adopt takes them in.",
            err=True,
        )


Folder = Annotated[Path, typer.Argument(metavar="DIR", show_default=False)]


def backup(folder: Folder, config: Config = None, as_json: Json = False) -> None:
    """Write a backup of the whole store to DIR, while the proxy runs or not.

    DIR is new, empty, or an earlier backup, which is brought up to date: only new messages are
    written. On the same file system they are hard links. The configuration and the key of
    [secrets] are not in it; keep them elsewhere.
    """
    with errors_end_the_command(), progress_bar("backup") as progress:
        copied = back_up(settings_from(config).data_dir, folder, progress)
    _report(copied, f"Backed up to {folder}", as_json)


def restore(folder: Folder, config: Config = None, as_json: Json = False) -> None:
    """Fill an empty data directory from the backup in DIR.

    The proxy must not run, and there must be no store in its data directory: move that away.
    Every message is compared with its digest.
    """
    with errors_end_the_command(), progress_bar("restore") as progress:
        data_dir = settings_from(config).data_dir
        copied = restore_backup(folder, data_dir, progress)
    _report(copied, f"Restored to {data_dir}", as_json)


def _report(copied: Copied, what: str, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "messages": copied.messages,
                "blobs": copied.blobs,
                "octets": copied.octets,
                "damaged": list(copied.damaged),
            }
        )
    else:
        typer.echo(f"{what}: {copied.messages} messages, {octets(copied.octets)} written.")
        for sha256 in copied.damaged:
            typer.echo(f"  left out, since missing or damaged: {sha256}", err=True)
    if copied.damaged:
        typer.echo("Run `pop3-sync-proxy verify` on the proxy's store.", err=True)
        raise typer.Exit(FAILED)


def export(
    account: str,
    mbox: Annotated[
        Path | None, typer.Option(help="An mbox file to make.", show_default=False)
    ] = None,
    maildir: Annotated[
        Path | None, typer.Option(help="A Maildir folder to make.", show_default=False)
    ] = None,
    config: Config = None,
) -> None:
    """Write all stored messages of an account to a mailbox that other programs read."""
    with errors_end_the_command():
        if (mbox is None) is (maildir is None):
            raise BadRequest("give either --mbox FILE or --maildir DIR")
        mail = StoredMail(settings_from(config).data_dir)
    rows = operate(config, "message list", account=account)
    failed = 0
    with (
        errors_end_the_command(),
        progress_bar("export") as progress,
        new_mbox(mbox) if mbox else new_maildir(maildir or Path()) as box,
    ):
        for number, row in enumerate(rows):
            progress(number, len(rows))
            failed += not _export_one(mail, row, box)
    typer.echo(f"{len(rows) - failed} messages written to {mbox or maildir}.")
    if failed:
        raise typer.Exit(FAILED)


def _export_one(mail: StoredMail, row: dict[str, Any], box: Mailbox) -> bool:
    try:
        message = mail.octets(row["sha256"])
    except StoreUnavailable as error:
        typer.echo(f"left out {row['uid']}: {error}", err=True)
        return False
    box.add(message, row["received_at"])
    return True
