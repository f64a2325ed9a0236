"""The composition root: builds everything from the settings, starts it and stops it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from proxy import __version__
from proxy.adapters.certificate import ensure_certificate, server_context
from proxy.adapters.clock import SystemClock
from proxy.adapters.entropy import SystemEntropy
from proxy.adapters.logs import LogObserver
from proxy.adapters.net import SocketListener, SocketNetwork
from proxy.adapters.observers import TeeObserver
from proxy.adapters.passwords import Argon2Passwords
from proxy.adapters.prometheus import PrometheusObserver
from proxy.adapters.store import open_store
from proxy.config.schema import Settings
from proxy.domain.directory import Directory
from proxy.domain.policy import SessionPolicy
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Network, World
from proxy.services.admin import Admin
from proxy.services.face import Face
from proxy.services.janitor import Janitor
from proxy.services.logins import Logins
from proxy.services.maildrops import Maildrops
from proxy.services.pop3_session import Pop3Session
from proxy.services.syncs import Syncs
from proxy.web.control import call_running, start_control
from proxy.web.http import start_http

IMPLEMENTATION = f"pop3-sync-proxy/{__version__}"

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
    ) -> None:
        self.syncs = Syncs(world, store, observer, directory)
        maildrops = Maildrops(store, world.clock, observer)
        self.logins = Logins(world, store, observer, directory, self.syncs, maildrops)
        self.janitor = Janitor(store, world.clock, observer, directory, maildrops)
        self.admin = Admin(store, world.clock, world.entropy, directory, self.syncs)
        self.sessions: set[Pop3Session] = set()
        self._face = Face(self.logins, world.network, observer, policy, IMPLEMENTATION)

    def session(self, *, tls: bool) -> Pop3Session:
        """A protocol for one accepted connection."""
        return Pop3Session(self._face, self.sessions, tls=tls)


class App:
    """A running proxy; made by `running`."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._network = SocketNetwork(_device_tls(settings))
        self._metrics = PrometheusObserver()
        self._directory = directory_of(settings)
        world = World(self._network, SystemClock(), SystemEntropy(), Argon2Passwords())
        self.core = Core(
            world,
            store,
            TeeObserver([LogObserver(), self._metrics]),
            self._directory,
            settings.pop3,
        )
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
                listener = await self._listen(address, tls=tls)
                stack.push_async_callback(listener.close)
                self.addresses.append((name, listener.address))
        if settings.http.listen:
            http = await start_http(settings.http.listen, self._metrics.render, self._is_ready)
            stack.push_async_callback(http.close)
            self.addresses.append(("http", http.address))
        control = await start_control(settings.data_dir, self.core.admin)
        stack.push_async_callback(control.close)
        self._listening = True
        self.core.syncs.follow_directory()

    async def _listen(self, address: str, *, tls: bool) -> SocketListener:
        return await self._network.listen(address, lambda: self.core.session(tls=tls), tls=tls)

    def reload(self, settings: Settings) -> None:
        """Take over accounts, policies and the certificate; listeners and data stay as they are."""
        self._network.replace_certificate(_device_tls(settings))
        self._directory.replace(directory_of(settings))
        self.core.syncs.follow_directory()

    async def drain(self) -> None:
        """Let sessions end for a while, then hang up on the rest."""
        self._listening = False
        open_sessions = [asyncio.create_task(s.wait_closed()) for s in self.core.sessions]
        if open_sessions:
            _, lasting = await asyncio.wait(open_sessions, timeout=DRAIN)
            for waiting in lasting:
                waiting.cancel()
        for session in list(self.core.sessions):
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


async def administer(settings: Settings, command: str, arguments: dict[str, Any]) -> Any:
    """Run an operator's command in the running proxy, or on the store of a stopped one.

    Raises:
        ProxyError: what the command raised.
    """
    try:
        return await call_running(settings.data_dir, command, arguments)
    except ConnectionError:
        pass
    store = await open_store(settings.data_dir)
    try:
        network = SocketNetwork(None)
        world = World(network, SystemClock(), SystemEntropy(), Argon2Passwords())
        directory = directory_of(settings)
        core = Core(world, store, LogObserver(), directory, SessionPolicy())
        try:
            return await core.admin.call(command, arguments)
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
    """For looking at upstreams without a proxy."""
    return SocketNetwork(None)


def _device_tls(settings: Settings) -> ssl.SSLContext | None:
    """The certificate of the configuration; with `listen_tls` and none given, one of our own."""
    pop3 = settings.pop3
    if pop3.certificate:
        key = Path(pop3.private_key) if pop3.private_key else None
        return server_context(Path(pop3.certificate), key)
    if pop3.listen_tls:
        return server_context(*ensure_certificate(settings.data_dir))
    return None
