"""Opening an account's upstream session with what it logs in with: a password or a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from proxy.domain.directory import Directory
from proxy.domain.errors import UpstreamRefusedLogin
from proxy.domain.facts import UpstreamLoggedIn
from proxy.domain.model import Credentials
from proxy.domain.policy import UpstreamServer
from proxy.interfaces.observer import Observer
from proxy.interfaces.world import World
from proxy.services.account_passwords import AccountPasswords
from proxy.services.tokens import KeptSecrets, Tokens
from proxy.services.upstream import UpstreamSession
from proxy.services.upstream_dial import open_session
from proxy.services.upstream_memory import UpstreamMemory

T = TypeVar("T")


class AccountLogin:
    def __init__(
        self,
        world: World,
        observer: Observer,
        directory: Directory,
        kept: KeptSecrets,
        passwords: AccountPasswords,
    ) -> None:
        self._world = world
        self._observer = observer
        self._directory = directory
        self._passwords = passwords
        self._tokens = Tokens(world.web, kept)

    def forget(self, name: str) -> None:
        """No token of before."""
        self._tokens.forget(name)

    async def open(
        self,
        name: str,
        server: UpstreamServer,
        credentials: Credentials,
        memory: UpstreamMemory,
        *,
        listing: bool,
    ) -> UpstreamSession:
        """A session past its login. Those of accounts that are not declared bring their password.

        `listing`: as in `open_session`.

        Raises:
            ConsentNeeded, PasswordUnavailable, VaultLocked: what it takes is not at hand.
            Temporary, Permanent: as `open_session`.
        """
        attempt = partial(self._open, name, server, memory, listing)
        if self._directory.declared(name) is None:
            return await attempt(credentials)
        return await self.log_in(name, server, credentials, attempt)

    async def log_in(
        self,
        name: str,
        server: UpstreamServer,
        credentials: Credentials,
        attempt: Callable[[Credentials], Awaitable[T]],
    ) -> T:
        """What `attempt` gives, with what a declared account logs in with now.

        A token that is refused may have been revoked before its time: a fresh one decides.

        Raises:
            ConsentNeeded, PasswordUnavailable, VaultLocked: it is not at hand.
            UpstreamUnreachable, UpstreamUnusable: the token server gives none.
        """
        if not server.oauth_client_id:
            return await attempt(await self._whole(name, credentials))
        for last in (False, True):
            token = await self._tokens.access(name, credentials.username, server)
            try:
                return await attempt(Credentials(credentials.username, token, is_token=True))
            except UpstreamRefusedLogin:
                self._tokens.forget(name)
                if last:
                    raise
        raise AssertionError

    async def _whole(self, name: str, credentials: Credentials) -> Credentials:
        """With the password, if it is not fetched yet."""
        if credentials.password:
            return credentials
        return replace(credentials, password=await self._passwords.of(name))

    async def _open(
        self,
        name: str,
        server: UpstreamServer,
        memory: UpstreamMemory,
        listing: bool,
        credentials: Credentials,
    ) -> UpstreamSession:
        loop = asyncio.get_running_loop()
        began = loop.time()
        session = await open_session(self._world, server, credentials, memory, listing=listing)
        self._observer.observe(UpstreamLoggedIn(name, loop.time() - began))
        return session
