"""Opening an account's upstream session with what it logs in with: a password or a token."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import ConsentNeeded, UpstreamRefusedLogin
from proxy.domain.facts import UpstreamLoggedIn
from proxy.domain.model import Credentials
from proxy.domain.policy import UpstreamServer
from proxy.interfaces.observer import Observer
from proxy.interfaces.world import World
from proxy.services.tokens import KeptSecrets, Tokens
from proxy.services.upstream import UpstreamSession
from proxy.services.upstream_dial import open_session
from proxy.services.upstream_memory import UpstreamMemory


class AccountLogin:
    def __init__(
        self, world: World, observer: Observer, directory: Directory, kept: KeptSecrets
    ) -> None:
        self._world = world
        self._observer = observer
        self._directory = directory
        self._kept = kept
        self._tokens = Tokens(world.web, kept)

    def forget(self, name: str) -> None:
        """No token of before."""
        self._tokens.forget(name)

    async def open(
        self, name: str, server: UpstreamServer, credentials: Credentials, memory: UpstreamMemory
    ) -> UpstreamSession:
        """A session past its login. Those of accounts that are not declared bring their password.

        Raises:
            ConsentNeeded, VaultLocked: what it takes is not at hand.
            Temporary, Permanent: as `open_session`.
        """
        if self._directory.declared(name) is None:
            return await self._open(name, server, credentials, memory)
        if server.oauth_client_id:
            return await self._open_by_token(name, server, credentials.username, memory)
        return await self._open(name, server, await self._whole(name, credentials), memory)

    async def credentials(self, account: DeclaredAccount) -> Credentials:
        """What a declared account logs in with now. A token that is refused is to be forgotten.

        Raises:
            ConsentNeeded, VaultLocked: it is not at hand.
            UpstreamUnreachable, UpstreamUnusable: the token server gives none.
        """
        server, username = account.policy.upstream, account.credentials.username
        if server.oauth_client_id:
            token = await self._tokens.access(account.name, username, server)
            return Credentials(username, token, is_token=True)
        return await self._whole(account.name, account.credentials)

    async def _whole(self, name: str, credentials: Credentials) -> Credentials:
        """With the password that the store keeps, where the configuration has none."""
        if credentials.password:
            return credentials
        password = await self._kept.password(name)
        if password is None:
            raise ConsentNeeded(
                f"no password is kept: run `pop3-sync-proxy account set-password {name}`"
            )
        self._directory.set_password(name, password)
        return replace(credentials, password=password)

    async def _open(
        self, name: str, server: UpstreamServer, credentials: Credentials, memory: UpstreamMemory
    ) -> UpstreamSession:
        loop = asyncio.get_running_loop()
        began = loop.time()
        session = await open_session(self._world, server, credentials, memory)
        self._observer.observe(UpstreamLoggedIn(name, loop.time() - began))
        return session

    async def _open_by_token(
        self, name: str, server: UpstreamServer, username: str, memory: UpstreamMemory
    ) -> UpstreamSession:
        """A token that is refused may have been revoked before its time: a fresh one decides."""
        for attempt in ("known", "fresh"):
            token = await self._tokens.access(name, username, server)
            credentials = Credentials(username, token, is_token=True)
            try:
                return await self._open(name, server, credentials, memory)
            except UpstreamRefusedLogin:
                self._tokens.forget(name)
                if attempt == "fresh":
                    raise
        raise AssertionError
