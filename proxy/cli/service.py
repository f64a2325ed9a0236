"""`serve`, `demo`, `check` and `status`."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import structlog
import typer

from proxy.adapters import logs
from proxy.adapters.open_files import allow_connections
from proxy.adapters.sqlite.glance import account_names
from proxy.adapters.systemd import ServiceManager
from proxy.app import App, accounts_with_passwords, running, smtp_dialer, try_alerts, upstream_world
from proxy.cli import discover
from proxy.cli.accounts import status
from proxy.cli.common import (
    FAILED,
    Config,
    Json,
    errors_end_the_command,
    print_json,
    run,
    settings_from,
)
from proxy.cli.merge import namesakes_line
from proxy.config.schema import Settings
from proxy.demo import play, stage
from proxy.domain.errors import BadConfig, StoreUnavailable
from proxy.domain.login_name import canonical
from proxy.domain.model import Credentials
from proxy.domain.policy import AlertsPolicy, SmtpServer, UpstreamServer
from proxy.services.smtp_login import sending_as
from proxy.services.upstream_trial import Trial, try_smtp, try_upstream

Row = dict[str, str | bool]


def add_commands(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(demo)
    app.command()(check)
    app.command()(status)


def serve(config: Config = None) -> None:
    """Run the proxy.

    It prints one line "ready" with its addresses once every listener is open. SIGTERM and Ctrl-C
    stop it once sessions have ended, a second one at once. SIGHUP makes it reload the
    configuration.
    """
    with errors_end_the_command():
        settings = settings_from(config)
        logs.configure(settings.log.level, settings.log.format, settings.log.parts)
        _make_room(settings)
        run(_serve(settings, config))


def _make_room(settings: Settings) -> None:
    """For as many devices as may be connected, those that send beside those that read."""
    doors = 2 if settings.smtp.listen or settings.smtp.listen_tls else 1
    connections = settings.limits.max_connections
    room = allow_connections(doors * connections) // doors
    if room < connections:
        structlog.get_logger().warning(
            "the limit of open files (ulimit -n) is too low for limits.max_connections",
            max_connections=connections,
            room_for=room,
        )


async def _serve(settings: Settings, config: Path | None) -> None:
    stop, reload = asyncio.Event(), asyncio.Event()
    hurry = asyncio.Event()
    _on_signals(stop, hurry, reload)
    manager = ServiceManager(os.environ)
    with manager.kept_informed():
        async with running(settings, hurry) as app:
            announce(app)
            manager.ready(_where(app))
            while not stop.is_set():
                await _either(stop, reload)
                if reload.is_set():
                    reload.clear()
                    with manager.reloading(lambda: _where(app)):
                        await _reload(app, config)
            manager.stopping()


def announce(app: App) -> None:
    """The one line that scripts wait for."""
    typer.echo(_where(app))
    structlog.get_logger().info("ready", **dict(app.addresses))


def _where(app: App) -> str:
    return " ".join(["ready", *(f"{name}={address}" for name, address in app.addresses)])


async def _reload(app: App, config: Path | None) -> None:
    """A configuration that cannot be used changes nothing."""
    log = structlog.get_logger()
    try:
        # In a thread: it reads files.
        settings = await asyncio.get_running_loop().run_in_executor(None, settings_from, config)
        later = await app.reload(settings)
    except (BadConfig, StoreUnavailable, OSError) as error:
        log.error("reload refused, the old configuration stays", reason=str(error))
        return
    logs.configure(settings.log.level, settings.log.format, settings.log.parts)
    _make_room(settings)
    log.info("configuration reloaded", **dict(app.addresses))
    if later:
        log.warning("some changes take effect at the next start", keys=" ".join(later))


def _on_signals(stop: asyncio.Event, hurry: asyncio.Event, reload: asyncio.Event) -> None:
    """The first signal to stop lets sessions end; the second one does not wait for them."""

    def stop_or_hurry() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop_or_hurry)
    loop.add_signal_handler(signal.SIGINT, stop_or_hurry)
    loop.add_signal_handler(signal.SIGHUP, reload.set)


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def demo(
    play_devices: Annotated[
        bool, typer.Option("--play", help="Play two devices, show what each got, and end.")
    ] = False,
) -> None:
    """Try it out on a mailbox with sample mail.

    Runs the proxy in front of an embedded upstream; nothing is kept. Point a mail program at the
    address it prints, or let --play show the whole story.
    """
    with errors_end_the_command():
        logs.configure("warning", "text")
        run(play.show(typer.echo) if play_devices else _demo())


async def _demo() -> None:
    stop = asyncio.Event()
    _on_signals(stop, asyncio.Event(), asyncio.Event())
    async with stage.set_up() as demo_stage:
        typer.echo(demo_stage.instructions())
        announce(demo_stage.app)
        await stop.wait()


def check(
    address: Annotated[
        str, typer.Argument(help="An e-mail address to find the POP3 server of.", show_default="")
    ] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Validate the configuration and try every upstream.

    Logs in to the upstream of every declared account and prints what it offers, and to the SMTP
    server of [alerts], which is sent nothing. Fails when any of them does. With an ADDRESS it reads
    no configuration: it looks for the address's POP3 server among known providers, in DNS and in
    autoconfiguration files, and prints the lines for the configuration file.
    """
    if address:
        discover.find(address, as_json=as_json)
        return
    with errors_end_the_command():
        settings = settings_from(config)
        logs.configure("error", "text")
        rows = run(_check(settings))
    if as_json:
        print_json(rows)
    else:
        typer.echo("The configuration is valid.")
        for row in rows:
            typer.echo(f"{row['account']} at {row['upstream']}: {row['result']}")
            if row["offers"]:
                typer.echo(f"  offers {row['offers']}")
            if "allowed" in row:
                typer.echo(f"  open to {row['allowed']}")
    if any(not row["ok"] for row in rows):
        raise typer.Exit(FAILED)


async def _check(settings: Settings) -> list[Row]:
    rows = []
    for account in await accounts_with_passwords(settings):
        server = account.policy.upstream
        # The store is the running proxy's, so what it keeps is tried by that alone.
        kept = bool(server.oauth_client_id) or account.password_stored
        credentials = None if kept else account.credentials
        row = await _check_upstream(settings, account.name, server, credentials)
        if kept and row["ok"]:
            row["result"] = f"reachable; `account sync {account.name}` tries the login"
        rows.append(row)
        if account.policy.smtp.host:
            rows.append(await _check_smtp(settings, account.name, account.policy.smtp, credentials))
    if settings.accounts.pass_through:
        row = await _check_upstream(settings, "pass-through accounts", settings.upstream, None)
        row["allowed"] = ", ".join(settings.accounts.allow) or "whoever has a mailbox there"
        rows.append(row)
        if settings.smtp.host:
            smtp = settings.smtp.server
            rows.append(await _check_smtp(settings, "pass-through accounts", smtp, None))
    if settings.alerts.to:
        rows.append(await _check_alerts(settings.alerts))
    return rows + _check_names(settings)


def _check_names(settings: Settings) -> list[Row]:
    """Spellings of one name that are an account each, which is no reason not to start."""
    declared = {account.name for account in settings.account}
    alike: dict[str, list[str]] = {}
    for name in account_names(settings.data_dir):
        alike.setdefault(canonical(name), []).append(name)
    return [
        {
            "account": names[0],
            "upstream": "the store",
            "offers": "",
            "ok": True,
            "result": namesakes_line(sorted(names, key=lambda name: name not in declared)),
        }
        for names in alike.values()
        if len(names) > 1
    ]


async def _check_alerts(alerts: AlertsPolicy) -> Row:
    trouble = await try_alerts(alerts)
    did = "login accepted" if alerts.username else "reachable"
    return {
        "account": "alerts",
        "upstream": f"{alerts.host}:{alerts.port}",
        "offers": "",
        "ok": not trouble,
        "result": trouble or f"{did}; nothing was sent",
    }


async def _check_smtp(
    settings: Settings, account: str, server: SmtpServer, credentials: Credentials | None
) -> Row:
    if credentials is not None:
        credentials = sending_as(server, credentials)
    trial = await try_smtp(upstream_world(settings), smtp_dialer(), server, credentials)
    return _row(account, server, trial, "reachable" if credentials is None else "login accepted")


async def _check_upstream(
    settings: Settings, account: str, server: UpstreamServer, credentials: Credentials | None
) -> Row:
    """Without credentials, as far as one gets without a password."""
    trial = await try_upstream(upstream_world(settings), server, credentials)
    good = f"login accepted, {trial.messages} messages, {trial.octets} octets"
    return _row(account, server, trial, "reachable" if credentials is None else good)


def _row(account: str, server: UpstreamServer | SmtpServer, trial: Trial, good: str) -> Row:
    error = trial.error
    return {
        "account": account,
        "upstream": f"{server.host}:{server.port}",
        "offers": trial.offers,
        "ok": error is None,
        "result": good if error is None else f"{type(error).__name__}: {error}",
    }
