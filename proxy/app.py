"""The composition root: builds everything from the settings, starts it and stops it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from proxy import __version__
from proxy.adapters.certificate_files import describe
from proxy.adapters.clock import SystemClock
from proxy.adapters.device_certificate import CertificateSource, OwnIssuer
from proxy.adapters.entropy import SystemEntropy
from proxy.adapters.logs import LogObserver
from proxy.adapters.net import SocketNetwork
from proxy.adapters.observers import TeeObserver
from proxy.adapters.passwords import Argon2Passwords
from proxy.adapters.prometheus import PrometheusObserver
from proxy.adapters.store import open_store
from proxy.adapters.vault import AesVault, KeySource
from proxy.adapters.web import WebClient
from proxy.config.schema import Settings
from proxy.domain.directory import Directory
from proxy.domain.errors import BadConfig, VaultLocked
from proxy.domain.facts import CertificateLoaded, CertificateUnusable
from proxy.domain.policy import LimitsPolicy, SessionPolicy
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Network, World
from proxy.services.admin import Admin
from proxy.services.admin_names import Report
from proxy.services.face import Face
from proxy.services.janitor import Janitor
from proxy.services.logins import Logins
from proxy.services.maildrops import Maildrops
from proxy.services.pop3_session import Pop3Session
from proxy.services.sessions import Sessions
from proxy.services.syncs import Syncs
from proxy.services.throttle import Throttle
from proxy.services.tokens import KeptSecrets
from proxy.web.control import call_running, start_control
from proxy.web.http import start_http

IMPLEMENTATION = f"pop3-sync-proxy/{__version__}"

CERTIFICATE_CHECK = 10.0
"""Seconds between two looks at the files of the certificate."""

DRAIN = 5.0
"""Seconds that sessions get to end by themselves when the proxy stops."""


class Core:
    """The services over a world and a store, with no socket of their own: production and
    simulation build the same."""

    def __init__(
        self,
        world: World,
        store: Store,
        observer: Observer,
        directory: Directory,
        policy: SessionPolicy,
        limits: LimitsPolicy,
    ) -> None:
        self._directory = directory
        self._kept = KeptSecrets(store, world.vault)
        self.syncs = Syncs(world, store, observer, directory, self._kept)
        maildrops = Maildrops(store, world.clock, observer)
        throttle = Throttle(limits, world.entropy.token(32))
        self.logins = Logins(world, store, observer, directory, self.syncs, maildrops, throttle)
        self.janitor = Janitor(store, world.clock, observer, directory, maildrops)
        self.admin = Admin(
            store,
            world,
            directory,
            self.syncs,
            self.logins.scram_secrets,
            self._kept,
            self.janitor,
        )
        self.sessions: Sessions[Pop3Session] = Sessions(limits)
        self._face = Face(self.logins, world.network, observer, policy, limits, IMPLEMENTATION)

    async def load_passwords(self) -> None:
        """Those that the store keeps. The sync of an account tells when it cannot be decrypted."""
        for account in self._directory.all_declared():
            if account.password_stored:
                with suppress(VaultLocked):
                    password = await self._kept.password(account.name)
                    self._directory.set_password(account.name, password or b"")

    def session(self, *, tls: bool) -> Pop3Session:
        """A protocol for one accepted connection."""
        return Pop3Session(self._face, self.sessions, tls=tls)


class App:
    """A running proxy; made by `running`."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._network = SocketNetwork(None)
        self._metrics = PrometheusObserver()
        self._observer = TeeObserver([LogObserver(), self._metrics])
        self._directory = directory_of(settings)
        self.core = Core(
            _world(self._network, settings),
            store,
            self._observer,
            self._directory,
            settings.pop3,
            settings.limits,
        )
        self._certificate = certificate_of(settings)
        self._certificate_state: object = None
        self._load_certificate()
        self._listening = False
        self.addresses: list[tuple[str, str]] = []
        """What listens where: ("pop3", "127.0.0.1:1110") and so on."""

    async def start(self, stack: AsyncExitStack) -> None:
        """Open every listener; `stack` closes them."""
        settings = self._settings
        for name, addresses, tls in (
            ("pop3", settings.pop3.listen, False),
            ("pop3s", settings.pop3.listen_tls, True),
        ):
            for address in addresses:
                session = partial(self.core.session, tls=tls)
                listener = await self._network.listen(address, session)
                stack.push_async_callback(listener.close)
                self.addresses += [(name, bound) for bound in listener.addresses]
        if settings.http.listen:
            http = await start_http(settings.http.listen, self._metrics.render, self._is_ready)
            stack.push_async_callback(http.close)
            self.addresses.append(("http", http.address))
        control = await start_control(settings.data_dir, self.core.admin)
        stack.push_async_callback(control.close)
        watch = asyncio.create_task(self._follow_certificate())
        stack.callback(watch.cancel)
        self._listening = True
        await self.core.load_passwords()
        self.core.syncs.follow_directory()

    async def reload(self, settings: Settings) -> None:
        """Take over accounts, policies and the certificate; listeners and data stay as they are."""
        self._certificate = certificate_of(settings)
        self._load_certificate()
        self._directory.replace(directory_of(settings))
        await self.core.load_passwords()
        self.core.syncs.follow_directory()

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
        """Let sessions end for a while, then hang up on the rest."""
        self._listening = False
        open_sessions = [asyncio.create_task(s.wait_closed()) for s in self.core.sessions]
        if open_sessions:
            _, lasting = await asyncio.wait(open_sessions, timeout=DRAIN)
            for waiting in lasting:
                waiting.cancel()
        for session in self.core.sessions:
            session.shut_down()

    async def _is_ready(self) -> bool:
        return self._listening and await self._store.is_writable()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[App]:
    """A proxy with every listener open; leaving the context drains and stops it.

    Raises:
        OSError: an address cannot be bound.
        DataDirInUse, StoreTooNew, StoreUnavailable: the data directory cannot be used.
    """
    store = await open_store(settings.data_dir)
    try:
        app = App(settings, store)
        janitor = asyncio.create_task(app.core.janitor.work())
        try:
            async with AsyncExitStack() as listeners:
                await app.start(listeners)
                yield app
            await app.drain()
        finally:
            janitor.cancel()
            await app.core.syncs.stop()
            await asyncio.gather(janitor, return_exceptions=True)
    finally:
        await store.close()


async def administer(
    settings: Settings, command: str, arguments: dict[str, Any], report: Report
) -> Any:
    """Run an operator's command in the running proxy, or on the store of a stopped one.

    Raises:
        ProxyError: what the command raised.
    """
    try:
        return await call_running(settings.data_dir, command, arguments, report)
    except ConnectionError:
        pass
    store = await open_store(settings.data_dir)
    try:
        directory = directory_of(settings)
        world = _world(SocketNetwork(None), settings)
        core = Core(world, store, LogObserver(), directory, SessionPolicy(), LimitsPolicy())
        await core.load_passwords()
        try:
            return await core.admin.call(command, arguments, report)
        finally:
            await core.syncs.stop()
    finally:
        await store.close()


def directory_of(settings: Settings) -> Directory:
    """The accounts and policies of a configuration."""
    return Directory(
        settings.account, settings.default_policy(), pass_through=settings.accounts.pass_through
    )


def upstream_network() -> Network:
    """For playing an upstream."""
    return SocketNetwork(None)


def upstream_world(settings: Settings) -> World:
    """For looking at upstreams without a proxy."""
    return _world(SocketNetwork(None), settings)


def certificate_of(settings: Settings) -> CertificateSource | None:
    """The certificate of the configuration; with `listen_tls` and none given, one of our own."""
    pop3 = settings.pop3
    if not pop3.certificate and not pop3.listen_tls:
        return None
    return CertificateSource(
        data_dir=settings.data_dir,
        certificate=Path(pop3.certificate) if pop3.certificate else None,
        private_key=Path(pop3.private_key) if pop3.private_key else None,
        names=pop3.certificate_names,
        asks_devices=pop3.client_certificates,
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
