"""Accounts that no configuration names: upstream judges the password.

What it accepted is kept as a verifier, so that the owner gets in while upstream is down, and
without asking it first.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace

from proxy.domain.directory import Directory
from proxy.domain.errors import (
    BadLogin,
    ProxyError,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
)
from proxy.domain.model import Account, Credentials
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.sync_run import SyncRun
from proxy.services.syncs import Syncs
from proxy.services.throttle import Throttle

UPSTREAM_WAIT = 45.0
"""Seconds a login waits for upstream to judge a password that nothing else can judge."""

REMEMBERED = 1024
REMEMBER_SECONDS = 900.0
"""Accepted passwords spared another Argon2 hash, and for how long."""


class PassThrough:
    def __init__(
        self, world: World, store: Store, directory: Directory, syncs: Syncs, throttle: Throttle
    ) -> None:
        self._world = world
        self._store = store
        self._directory = directory
        self._syncs = syncs
        self._throttle = throttle
        self._remembered = _Remembered(world.entropy.token(32))

    async def admit(
        self, name: str, account: Account | None, password: bytes, peer: str, *, fresh: bool
    ) -> Account:
        """The account of this login name; with `fresh`, synced if that is due.

        Raises:
            BadLogin: upstream refuses the password.
            Temporary: nobody can judge it now.
        """
        credentials = Credentials(name, password)
        if account is not None and await self._verified(account, password):
            run = await self._syncs.wait_fresh(name, credentials) if fresh else None
            if run is not None and run.credentials == credentials:
                if _refused(run):
                    await self._forget(account)
                    raise BadLogin("upstream no longer accepts the password")
                if not run.finished.done():
                    run.finished.add_done_callback(lambda _: self._after_login(name, run))
            return account
        return await self._ask_upstream(name, credentials, peer)

    async def _ask_upstream(self, name: str, credentials: Credentials, peer: str) -> Account:
        run = await self._syncs.own_run(name, credentials)
        if run is None:
            host = self._directory.policy(name).upstream.host
            guess = self._throttle.ask_upstream(peer, name, host)
            run = self._syncs.start(name, credentials)
            run.accepted.add_done_callback(guess.settle)
        try:
            async with asyncio.timeout(UPSTREAM_WAIT):
                account = await asyncio.shield(run.accepted)
        except TimeoutError:
            raise UpstreamUnreachable("upstream takes too long to judge the login") from None
        except UpstreamRefusedLogin:
            raise BadLogin("upstream refuses the password") from None
        verifier = await self._world.passwords.hash(credentials.password)
        await self._store.set_verifier(account.id, verifier)
        account = replace(account, verifier=verifier)
        self._remembered.add(account, credentials.password)
        await self._syncs.wait(run, name)
        return account

    async def _verified(self, account: Account, password: bytes) -> bool:
        if account.verifier is None:
            return False
        if self._remembered.has(account, password):
            return True
        if not await self._world.passwords.verify(account.verifier, password):
            return False
        self._remembered.add(account, password)
        return True

    def _after_login(self, name: str, run: SyncRun) -> None:
        """A sync that a login no longer waited for has ended."""
        if _refused(run):
            self._syncs.spawn(self._forget_name(name, run.credentials.password))

    async def _forget_name(self, name: str, password: bytes) -> None:
        with suppress(ProxyError):
            account = await self._store.account(name)
            if account is not None and await self._verified(account, password):
                await self._forget(account)

    async def _forget(self, account: Account) -> None:
        """Upstream has refused the password that the verifier stands for."""
        await self._store.set_verifier(account.id, None)


def _refused(run: SyncRun) -> bool:
    return run.finished.done() and isinstance(run.finished.exception(), UpstreamRefusedLogin)


class _Remembered:
    """Passwords verified lately, as keyed hashes that mean nothing outside the process."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def has(self, account: Account, password: bytes) -> bool:
        until = self._until.get(self._tag(account, password))
        return until is not None and asyncio.get_running_loop().time() < until

    def add(self, account: Account, password: bytes) -> None:
        tag = self._tag(account, password)
        self._until[tag] = asyncio.get_running_loop().time() + REMEMBER_SECONDS
        self._until.move_to_end(tag)
        if len(self._until) > REMEMBERED:
            self._until.popitem(last=False)

    def _tag(self, account: Account, password: bytes) -> bytes:
        # The verifier is part of it: a password remembered under a dropped one is forgotten.
        name = f"{account.id}\0{account.verifier}\0".encode()
        return hmac.digest(self._key, name + password, "sha256")
