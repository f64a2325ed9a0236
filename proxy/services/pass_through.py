"""Accounts that no configuration names: upstream judges the password.

What it accepted is kept as a verifier, so that the owner gets in while upstream is down, and
without asking it first.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from proxy.domain.directory import Directory
from proxy.domain.errors import (
    BadLogin,
    KnownWrong,
    ProxyError,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
)
from proxy.domain.model import Account, Credentials
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.enrolment import Admitted
from proxy.services.gate import Attempt, Gate, Guess
from proxy.services.sync_run import SyncRun
from proxy.services.syncs import GUESS_TIME, Syncs

UPSTREAM_WAIT = GUESS_TIME
"""Seconds a login waits for upstream to judge a password that nothing else can judge, the time in
line included."""


class PassThrough:
    def __init__(
        self, world: World, store: Store, directory: Directory, syncs: Syncs, gate: Gate
    ) -> None:
        self._world = world
        self._store = store
        self._directory = directory
        self._syncs = syncs
        self._gate = gate
        self._dummy: str | None = None
        """A verifier of no password, for accounts that have none: they take as long."""

    async def admit(self, attempt: Attempt, account: Account | None, password: bytes) -> Admitted:
        """The account of this name.

        Raises:
            BadLogin: upstream refuses the password.
            Temporary: nobody can judge it now.
        """
        self._check_not_refused(attempt)
        verified = await self._verified(attempt, account, password)
        if account is not None and verified:
            return Admitted(account, None, password)
        return await self._ask_upstream(attempt, password)

    async def freshen(self, admitted: Admitted, attempt: Attempt) -> None:
        """Sync if that is due, and wait for it as long as a login may.

        Raises:
            BadLogin: upstream no longer accepts the password.
        """
        account, password = admitted.account, admitted.password
        assert password is not None  # noqa: S101 - it is what was admitted
        credentials = Credentials(account.name, password)
        if admitted.run is not None:
            await self._syncs.wait(admitted.run, account.name)
            return
        self._check_not_refused(attempt)
        run = await self._syncs.wait_fresh(account.name, credentials)
        if run is None or run.credentials != credentials:
            return
        if _refused(run):
            await self._forget(account, attempt)
            raise BadLogin("upstream no longer accepts the password")
        if not run.finished.done():
            run.finished.add_done_callback(lambda _: self._after_login(account, attempt, run))

    def _check_not_refused(self, attempt: Attempt) -> None:
        if self._gate.was_refused(attempt):
            raise KnownWrong("upstream has refused this password a short while ago")

    async def _ask_upstream(self, attempt: Attempt, password: bytes) -> Admitted:
        credentials = Credentials(attempt.account, password)
        try:
            async with asyncio.timeout(UPSTREAM_WAIT):
                run = await self._run(attempt, credentials)
                account = await asyncio.shield(run.accepted)
        except TimeoutError:
            raise UpstreamUnreachable("upstream takes too long to judge the login") from None
        except UpstreamRefusedLogin:
            raise BadLogin("upstream refuses the password") from None
        verifier = await self._world.passwords.hash(password)
        await self._store.set_verifier(account.id, verifier)
        return Admitted(replace(account, verifier=verifier), None, password, run)

    async def _run(self, attempt: Attempt, credentials: Credentials) -> SyncRun:
        """The run that these are judged by: the one under way, or one that is begun."""
        run = self._syncs.asked(attempt.account, credentials)
        if run is not None:
            return run
        host = self._directory.policy(attempt.account).upstream.host
        guess = await self._gate.ask(attempt, host)
        run = self._syncs.asked(attempt.account, credentials)
        if run is not None:
            guess.settle(counts=False)
            return run
        known = self._gate.proved_from(attempt)
        run = self._syncs.ask(attempt.account, credentials, known_place=known)
        run.accepted.add_done_callback(lambda _: self._settle(guess, attempt, run))
        return run

    def _settle(self, guess: Guess, attempt: Attempt, run: SyncRun) -> None:
        error = run.accepted.exception()
        refused = isinstance(error, UpstreamRefusedLogin)
        if refused:
            self._gate.was_wrong(attempt)
        guess.answered(verdict=refused or error is None, counts=error is not None and run.shown)

    async def _verified(self, attempt: Attempt, account: Account | None, password: bytes) -> bool:
        if account is not None and account.verifier is not None:
            if self._gate.remembers(attempt):
                return True
            return await self._world.passwords.verify(account.verifier, password)
        if self._dummy is None:
            self._dummy = await self._world.passwords.hash(self._world.entropy.token(32))
        await self._world.passwords.verify(self._dummy, password)
        return False

    def _after_login(self, account: Account, attempt: Attempt, run: SyncRun) -> None:
        """A sync that a login no longer waited for has ended."""
        if _refused(run):
            self._syncs.spawn(self._forget_quietly(account, attempt))

    async def _forget_quietly(self, account: Account, attempt: Attempt) -> None:
        with suppress(ProxyError):
            await self._forget(account, attempt)

    async def _forget(self, account: Account, attempt: Attempt) -> None:
        """Upstream has refused the password that the verifier stands for."""
        self._gate.was_wrong(attempt)
        current = await self._store.account(account.name)
        if current is not None and current.verifier == account.verifier:
            await self._store.set_verifier(account.id, None)


def _refused(run: SyncRun) -> bool:
    return run.finished.done() and isinstance(run.finished.exception(), UpstreamRefusedLogin)
