"""Access tokens for accounts that log in by OAuth 2.0, and the passwords that the store keeps.

A token is refreshed before it ends, once for everybody who waits. Refresh tokens and passwords are
kept encrypted; a new refresh token is on disk before the access token that came with it is used.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy.domain.errors import ConsentNeeded, UpstreamUnreachable
from proxy.domain.policy import UpstreamServer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Vault, Web
from proxy.services.consent import Consent

AHEAD = 300.0
"""Seconds before its end at which a token is replaced; half its life where that is shorter."""


@dataclass(slots=True)
class _Access:
    token: bytes
    ends: float
    """Event loop's time."""
    replace_at: float


class KeptSecrets:
    """Secrets of accounts in the store, encrypted."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def password(self, account: str) -> bytes | None:
        """Raises:
        VaultLocked: it cannot be decrypted.
        """
        return await self._get(f"password of {account}")

    async def keep_password(self, account: str, password: bytes | None) -> None:
        await self._put(f"password of {account}", password)

    async def refresh_token(self, account: str) -> bytes | None:
        return await self._get(f"refresh token of {account}")

    async def keep_refresh_token(self, account: str, token: bytes | None) -> None:
        await self._put(f"refresh token of {account}", token)

    async def forget(self, account: str) -> None:
        """Both."""
        await self.keep_password(account, None)
        await self.keep_refresh_token(account, None)

    async def _get(self, name: str) -> bytes | None:
        sealed = await self._store.kept(name)
        return None if sealed is None else self._vault.unseal(name, sealed)

    async def _put(self, name: str, secret: bytes | None) -> None:
        await self._store.keep(name, None if secret is None else self._vault.seal(name, secret))


class Tokens:
    def __init__(self, web: Web, kept: KeptSecrets) -> None:
        self._web = web
        self._kept = kept
        self._access: dict[str, _Access] = {}
        self._refreshes: dict[str, asyncio.Task[_Access]] = {}

    async def access(self, account: str, username: str, server: UpstreamServer) -> bytes:
        """A token that holds.

        Raises:
            ConsentNeeded: a person has to authorize the account, anew or for the first time.
            UpstreamUnreachable, UpstreamUnusable: the token server gives none.
            VaultLocked: the refresh token cannot be decrypted.
        """
        now = asyncio.get_running_loop().time()
        known = self._access.get(account)
        if known is not None and now < known.replace_at:
            return known.token
        refresh = self._refreshes.get(account)
        if refresh is None:
            work = self._refresh(account, username, server)
            refresh = self._refreshes[account] = asyncio.get_running_loop().create_task(work)
            refresh.add_done_callback(lambda _: self._refreshes.pop(account, None))
        try:
            return (await asyncio.shield(refresh)).token
        except UpstreamUnreachable:
            # The token server is down, and there is time left for it to come back.
            if known is not None and now < known.ends:
                return known.token
            raise

    def forget(self, account: str) -> None:
        """The access token is not accepted, or the consent is a new one."""
        self._access.pop(account, None)

    async def _refresh(self, account: str, username: str, server: UpstreamServer) -> _Access:
        refresh_token = await self._kept.refresh_token(account)
        if refresh_token is None:
            raise ConsentNeeded(
                f"consent is needed: run `pop3-sync-proxy account authorize {account}`"
            )
        try:
            grant = await Consent(self._web, server, username).refresh(refresh_token.decode())
        except ConsentNeeded as error:
            raise ConsentNeeded(
                f"{error}; run `pop3-sync-proxy account authorize {account}`"
            ) from None
        if grant.refresh_token and grant.refresh_token.encode() != refresh_token:
            await self._kept.keep_refresh_token(account, grant.refresh_token.encode())
        now = asyncio.get_running_loop().time()
        ahead = min(AHEAD, grant.lifetime / 2)
        made = _Access(
            grant.access_token.encode(), now + grant.lifetime, now + grant.lifetime - ahead
        )
        self._access[account] = made
        return made
