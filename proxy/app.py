"""The composition root: builds everything from the settings, starts it and stops it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from proxy.adapters.alert_mail import SmtpPostman, check_password_file
from proxy.adapters.certificate_files import describe
from proxy.adapters.clock import SystemClock
from proxy.adapters.device_certificate import CertificateSource, OwnIssuer, system_times
from proxy.adapters.entropy import SystemEntropy
from proxy.adapters.logs import LogObserver
from proxy.adapters.machine import space, watch_loop
from proxy.adapters.net import SocketNetwork
from proxy.adapters.observers import TeeObserver
from proxy.adapters.password_sources import SystemPasswordSources
from proxy.adapters.passwords import Argon2Passwords
from proxy.adapters.prometheus import PrometheusObserver
from proxy.adapters.smtp_upstream import AioSmtpDialer
from proxy.adapters.sqlite.copies import may_have
from proxy.adapters.store import open_store
from proxy.adapters.unix_sockets import bind_control, control_address, remove_control
from proxy.adapters.vault import AesVault, KeySource
from proxy.adapters.web import WebClient
from proxy.config.schema import Settings
from proxy.domain.allowed import Allowed
from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import BadConfig, BadRequest, MailNotSent, StoreUnavailable
from proxy.domain.facts import CertificateLoaded, CertificateUnusable, MessagesSetAside, Unexpected
from proxy.domain.labels import KEY_OCTETS
from proxy.domain.policy import AlertsPolicy, SessionPolicy
from proxy.interfaces.store import Store
from proxy.interfaces.submission import SmtpDialer
from proxy.interfaces.world import Network, World
from proxy.services.account_passwords import fetch_passwords
from proxy.services.admin_names import Report, unheard
from proxy.services.core import Core
from proxy.services.listeners import Listeners, Wanted
from proxy.services.readiness import Readiness
from proxy.services.room import Room
from proxy.services.sessions import Session
from proxy.services.watch import Watch
from proxy.web.control import call_running, start_control
from proxy.web.http import start_http

CERTIFICATE_CHECK = 10.0
"""Seconds between two looks at the files of the certificate."""


class App:
    """A running proxy; made by `running`."""

    def __init__(
        self, settings: Settings, store: Store, hurry: asyncio.Event, label_key: bytes | None
    ) -> None:
        """`hurry`, once set: sessions are not waited for any longer. `label_key`: see
        `metrics_label`."""
        self._settings = settings
        self._hurry = hurry
        self._is_ready = Readiness(store)
        self._network = SocketNetwork(None)
        self._metrics = PrometheusObserver(label_key)
        self._observer = TeeObserver([LogObserver(), self._metrics])
        self._directory = directory_of(settings)
        room = Room(partial(space, settings.data_dir), settings.store)
        world = _world(self._network, settings)
        self.watch = Watch(
            store,
            world,
            self._observer,
            self._directory,
            settings.alerts,
            room.space,
            SmtpPostman(),
        )
        self.core = Core(
            world,
            store,
            TeeObserver([self._observer, self.watch]),
            self._directory,
            settings.pop3,
            settings.limits,
            submission=settings.smtp.limits,
            dialer=AioSmtpDialer(),
            sources=SystemPasswordSources(os.environ),
            label_key=label_key,
            room=room,
            notices=settings.alerts.notices,
        )
        self._metrics.follow(self.core.load, room.space)
        self.core.timekeeper.changed = self.watch.look
        self._certificate = certificate_of(settings, self.core.timekeeper.between)
        self._certificate_state: object = None
        self._load_certificate()
        self._listeners = Listeners()

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """What listens where: ("pop3", "127.0.0.1:1110") and so on."""
        return self._listeners.addresses

    async def start(self, stack: AsyncExitStack) -> None:
        """Open every listener; `stack` closes them.

        Raises:
            BadConfig: a password is not where the configuration says.
            StoreUnavailable
        """
        check_password_file(self._settings.alerts)
        await self.core.respell(self._directory)
        await self.core.passwords.load(self._directory)
        await self.core.submissions.tell_unfinished()
        stack.push_async_callback(self._listeners.close)
        await self._listeners.follow(self._wanted(self._settings))
        stack.callback(remove_control, self._settings.data_dir)
        control = await start_control(
            bind_control(self._settings.data_dir), self.core.admin, self._observer
        )
        stack.push_async_callback(control.cleanup)
        for watch in (
            self._follow_certificate(),
            self.core.surveyor.work(self._metrics.show),
            watch_loop(self._metrics.timer_was_late),
        ):
            stack.callback(asyncio.create_task(watch).cancel)
        self._is_ready.listening = True
        self.core.syncs.follow_directory()

    def _wanted(self, settings: Settings) -> Wanted:
        """What is to listen where, and how each is opened."""
        wanted: Wanted = {}
        core, pop3, smtp = self.core, settings.pop3, settings.smtp
        for name, addresses, session in (
            ("pop3", pop3.listen, partial(core.session, tls=False)),
            ("pop3s", pop3.listen_tls, partial(core.session, tls=True)),
            ("smtp", smtp.listen, partial(core.smtp_session, tls=False)),
            ("smtps", smtp.listen_tls, partial(core.smtp_session, tls=True)),
        ):
            for address in addresses:
                wanted[name, address] = partial(self._network.listen, address, session)
        if at := settings.http.listen:
            wanted["http", at] = partial(
                start_http, at, self._metrics.render, self._is_ready, self._http_hosts
            )
        return wanted

    def _http_hosts(self) -> tuple[str, ...]:
        return *self._settings.http.hosts, *self._settings.pop3.certificate_names

    async def reload(self, settings: Settings) -> list[str]:
        """Take over the configuration; open sessions go on.

        Returns the keys that take effect at the next start.

        Raises:
            OSError, BadConfig, StoreUnavailable: it cannot be used; nothing has changed.
        """
        settings, later = _but_for_what_waits(settings, self._settings)
        directory = directory_of(settings)
        check_password_file(settings.alerts)
        await self.core.respell(directory)
        await self.core.passwords.load(directory)
        before = self._certificate
        self._certificate = certificate_of(settings, self.core.timekeeper.between)
        try:
            self._load_certificate()
            await self._listeners.follow(self._wanted(settings))
        except (OSError, BadConfig):
            self._certificate = before
            self._load_certificate()
            raise
        self._settings = settings
        self.core.follow(
            settings.pop3,
            settings.limits,
            settings.smtp.limits,
            settings.store,
            notices=settings.alerts.notices,
        )
        self.watch.follow(settings.alerts)
        self.core.take_over(directory)
        self.core.syncs.follow_directory()
        return later

    def _load_certificate(self) -> None:
        """Raises:
        OSError, BadConfig: there is none that can be used; nothing has changed.
        """
        source = self._certificate
        if source is None:
            self._network.replace_certificate(None)
            return
        self._certificate_state = source.state()
        self._network.replace_certificate(source.load())
        found = describe(source.files().certificate)
        self._observer.observe(
            CertificateLoaded(" ".join(found.names), found.fingerprint, found.not_after.timestamp())
        )

    async def _follow_certificate(self) -> None:
        """Load the certificate anew when its files change, or when ours is due for renewal."""
        while True:
            await asyncio.sleep(CERTIFICATE_CHECK)
            if self._certificate and self._certificate.state() != self._certificate_state:
                try:
                    self._load_certificate()
                except (OSError, BadConfig) as error:
                    self._observer.observe(CertificateUnusable(str(error)))

    async def drain(self) -> None:
        """Let sessions end, the longer the more they do, then hang up on the rest."""
        self._is_ready.listening = False
        for session in self._sessions:
            session.drain()
        hurry = asyncio.create_task(self._hurry.wait())
        ended = asyncio.create_task(self._all_ended())
        await asyncio.wait(
            [hurry, ended],
            timeout=self._settings.pop3.drain,
            return_when=asyncio.FIRST_COMPLETED,
        )
        hurry.cancel()
        ended.cancel()
        for session in self._sessions:
            session.shut_down()

    async def _all_ended(self) -> None:
        for session in self._sessions:
            await session.wait_closed()

    @property
    def _sessions(self) -> list[Session]:
        return [*self.core.sessions, *self.core.smtp_sessions]


def _but_for_what_waits(settings: Settings, now: Settings) -> tuple[Settings, list[str]]:
    """New settings with those of now where a change waits for the next start; which ones wait."""
    names = now.http.account_names_in_metrics
    waiting = {
        "data_dir": settings.data_dir != now.data_dir,
        "secrets": settings.secrets != now.secrets,
        "http.account_names_in_metrics": settings.http.account_names_in_metrics != names,
    }
    kept = replace(
        settings,
        data_dir=now.data_dir,
        secrets=now.secrets,
        http=replace(settings.http, account_names_in_metrics=names),
    )
    return kept, [key for key, waits in waiting.items() if waits]


@asynccontextmanager
async def running(settings: Settings, hurry: asyncio.Event | None = None) -> AsyncIterator[App]:
    """A proxy with every listener open; leaving the context lets sessions end.

    `hurry`, once set, cuts that short.

    Raises:
        OSError: an address cannot be bound.
        BadConfig: a password is not where the configuration says.
        DataDirInUse, WrongCatalogue, StoreTooNew, StoreUnavailable: the data directory cannot be
            used.
    """
    store = await open_store(settings.data_dir)
    try:
        await _clean_up(store)
        app = App(settings, store, hurry or asyncio.Event(), await _label_key(settings, store))
        await app.core.timekeeper.start()
        workers = [
            asyncio.create_task(worker.work())
            for worker in (app.core.timekeeper, app.core.janitor, app.watch)
        ]
        try:
            async with AsyncExitStack() as listeners:
                await app.start(listeners)
                yield app
            await app.drain()
        finally:
            for worker in workers:
                worker.cancel()
            await app.core.syncs.stop()
            await app.core.submissions.close()
            await app.core.maildrops.settle()
            await asyncio.gather(*workers, return_exceptions=True)
            await app.core.timekeeper.stop()
    finally:
        await store.close()


async def administer(
    settings: Settings, command: str, arguments: dict[str, Any], report: Report = unheard
) -> Any:
    """Run an operator's command in the running proxy, or on the store of a stopped one.

    Passwords are fetched for what logs in upstream, and for nothing else.

    Raises:
        ProxyError: what the command raised.
    """
    try:
        with control_address(settings.data_dir) as address:
            return await call_running(address, command, arguments, report)
    except ConnectionError:
        pass
    directory = directory_of(settings)
    if accept := bool(arguments.get("adopt")):
        _check_known(arguments.get("account", ""), directory, settings.data_dir)
    store = await open_store(settings.data_dir, accept=accept)
    try:
        world = _world(SocketNetwork(None), settings)
        core = Core(
            world,
            store,
            LogObserver(),
            directory,
            SessionPolicy(),
            settings.limits,
            sources=SystemPasswordSources(os.environ),
            label_key=await _label_key(settings, store),
            room=Room(partial(space, settings.data_dir), settings.store),
        )
        await core.respell(directory)
        try:
            return await core.admin.call(command, arguments, report)
        finally:
            await core.syncs.stop()
    finally:
        await store.close()


async def _clean_up(store: Store) -> None:
    """What cannot be cleaned up is no reason not to serve."""
    try:
        if set_aside := await store.clean_up():
            LogObserver().observe(MessagesSetAside(set_aside))
    except StoreUnavailable as error:
        LogObserver().observe(Unexpected("clean-up", error))


def _check_known(account: str, directory: Directory, data_dir: Path) -> None:
    """Whoever has mistyped a name has accepted no catalogue by that.

    Raises:
        BadRequest: there is no such account.
    """
    known = directory.declared(account) or may_have(data_dir / "catalogue.db", account)
    if account and not known:
        raise BadRequest(
            f"no account {account}, in the configuration or the catalogue: nothing was changed"
        )


async def _label_key(settings: Settings, store: Store) -> bytes | None:
    """What labels of metrics are made with; None: they are the names of accounts."""
    if settings.http.account_names_in_metrics:
        return None
    fresh = SystemEntropy().token(KEY_OCTETS)
    try:
        return await store.secret("metrics_label", fresh=fresh)
    except StoreUnavailable:
        # No reason not to start: what is stored can be read. Labels are then those of this run.
        return fresh


def directory_of(settings: Settings) -> Directory:
    """The accounts and policies of a configuration."""
    return Directory(
        settings.account,
        settings.default_policy(),
        pass_through=settings.accounts.pass_through,
        allowed=Allowed(settings.accounts.allow),
    )


async def accounts_with_passwords(settings: Settings) -> list[DeclaredAccount]:
    """The declared accounts, for logging in upstream without a proxy.

    Raises:
        BadConfig: an account's password is not where the configuration says.
    """
    directory = directory_of(settings)
    await fetch_passwords(directory, SystemPasswordSources(os.environ))
    return directory.all_declared()


def upstream_network() -> Network:
    """For playing an upstream."""
    return SocketNetwork(None)


def smtp_dialer() -> SmtpDialer:
    """For looking at SMTP servers without a proxy."""
    return AioSmtpDialer()


def upstream_world(settings: Settings) -> World:
    """For looking at upstreams without a proxy."""
    return _world(SocketNetwork(None), settings)


async def try_alerts(alerts: AlertsPolicy) -> str:
    """Log in where alerts are sent, and send none; returns what is wrong, "" for nothing."""
    try:
        await SmtpPostman().try_out(alerts)
    except MailNotSent as error:
        return str(error)
    return ""


def certificate_of(
    settings: Settings, clock: Callable[[], tuple[float, float]] = system_times
) -> CertificateSource | None:
    """The certificate of the configuration; with `listen_tls` and none given, one of our own."""
    pop3 = settings.pop3
    if not pop3.certificate and not pop3.listen_tls and not settings.smtp.listen_tls:
        return None
    return CertificateSource(
        data_dir=settings.data_dir,
        certificate=Path(pop3.certificate) if pop3.certificate else None,
        private_key=Path(pop3.private_key) if pop3.private_key else None,
        names=pop3.certificate_names,
        asks_devices=pop3.client_certificates,
        clock=clock,
    )


def _world(network: Network, settings: Settings) -> World:
    return World(
        network,
        SystemClock(),
        SystemEntropy(),
        Argon2Passwords(),
        OwnIssuer(settings.data_dir),
        AesVault(key_source(settings), SystemEntropy().token),
        WebClient(),
    )


def key_source(settings: Settings) -> KeySource:
    """Where the key is that encrypts kept passwords and tokens."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return KeySource(settings.secrets.key, settings.secrets.key_file, credentials)
