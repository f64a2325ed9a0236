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
from proxy.services.rights import Rights
from proxy.services.sync_run import SyncRun
from proxy.services.syncs import GUESS_TIME, Syncs

UPSTREAM_WAIT = GUESS_TIME
"""Seconds a login waits for upstream to judge a password that nothing else can judge, the time in
line included."""

VERDICT_WAIT = 18.0
"""Seconds a login with a password that was right before waits for upstream to judge it again, where
upstream is being asked. Dovecot refuses within 17 s (15 of penalty, 2 of delay); mail programs give
up after 20 to 60. Who then has no verdict is served, and its session ends by a refusal that comes
later."""


class PassThrough:
    def __init__(
        self,
        world: World,
        store: Store,
        directory: Directory,
        syncs: Syncs,
        gate: Gate,
        rights: Rights,
    ) -> None:
        self._world = world
        self._store = store
        self._directory = directory
        self._syncs = syncs
        self._gate = gate
        self._rights = rights
        syncs.began = self._began
        self._dummy: str | None = None
        """A verifier of no password, for accounts that have none: they take as long."""

    async def admit(
        self, attempt: Attempt, account: Account | None, password: bytes
    ) -> tuple[Account, SyncRun | None]:
        """The account of this name, and the sync that upstream accepted the password in.

        Raises:
            BadLogin: upstream refuses the password.
            Temporary: nobody can judge it now.
        """
        self._check_not_refused(attempt)
        verified = await self._verified(attempt, account, password)
        if account is not None and verified:
            return account, None
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
        if await self._is_refused_now(account, credentials, attempt):
            raise BadLogin("upstream no longer accepts the password")

    def _check_not_refused(self, attempt: Attempt) -> None:
        if self._gate.was_refused(attempt):
            raise KnownWrong("upstream has refused this password a short while ago")

    async def _ask_upstream(self, attempt: Attempt, password: bytes) -> tuple[Account, SyncRun]:
        credentials = Credentials(attempt.name, password)
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
        return replace(account, verifier=verifier), run

    async def _run(self, attempt: Attempt, credentials: Credentials) -> SyncRun:
        """The run that these are judged by: the one under way, or one that is begun."""
        run = self._syncs.asked(attempt.name, credentials)
        if run is not None:
            return run
        host = self._directory.policy(attempt.name).upstream.host
        guess = await self._gate.ask(attempt, host)
        run = self._syncs.asked(attempt.name, credentials)
        if run is not None:
            guess.settle(counts=False)
            return run
        known = self._gate.proved_from(attempt)
        run = self._syncs.ask(attempt.name, credentials, known_place=known)
        run.accepted.add_done_callback(lambda _: self._settle(guess, attempt, run))
        return run

    def _settle(self, guess: Guess, attempt: Attempt, run: SyncRun) -> None:
        error = run.accepted.exception()
        refused = isinstance(error, UpstreamRefusedLogin)
        if refused:
            self._gate.was_wrong(attempt.account, attempt.secret)
        guess.answered(verdict=refused or error is None, counts=error is not None and run.shown)

    async def _verified(self, attempt: Attempt, account: Account | None, password: bytes) -> bool:
        if (
            account is not None
            and attempt.stamp == account.verifier
            and self._gate.remembers(attempt)
        ):
            return True
        async with self._gate.looking(attempt):
            return await self._matches(account, password)

    async def _matches(self, account: Account | None, password: bytes) -> bool:
        passwords = self._world.passwords
        if account is not None and account.verifier is not None:
            return await passwords.verify(account.verifier, password)
        if self._dummy is None:
            self._dummy = await passwords.hash(self._world.entropy.token(32))
        await passwords.verify(self._dummy, password)
        return False

    # --- upstream's verdict on passwords that were right before ---------------------------------

    async def _is_refused_now(
        self, account: Account, credentials: Credentials, attempt: Attempt
    ) -> bool:
        """Sync if that is due, and wait for the verdict as well as for the sync.

        The sync under way may be with another password that was right: this one is judged after it.
        """
        until = asyncio.get_running_loop().time() + VERDICT_WAIT
        run = await self._syncs.wait_fresh(account.name, credentials)
        if run is None:
            return False
        if run.credentials == credentials and run.accepted.done():
            return await self._heed(account, run, attempt)
        # It goes on when the login has stopped waiting.
        verdict = self._syncs.spawn(self._verdict(account, credentials, run, attempt))
        left = until - asyncio.get_running_loop().time()
        await asyncio.wait([verdict], timeout=max(left, 0.0))
        return verdict.done() and not verdict.cancelled() and verdict.result()

    async def _verdict(
        self, account: Account, credentials: Credentials, run: SyncRun | None, attempt: Attempt
    ) -> bool:
        while run is not None and run.credentials != credentials:
            await asyncio.wait([run.finished])
            run = self._syncs.freshen(account.name, credentials)
        if run is None:
            return False
        await asyncio.wait([run.accepted])
        return await self._heed(account, run, attempt)

    async def _heed(self, account: Account, run: SyncRun, attempt: Attempt) -> bool:
        """Whether upstream has refused the password of this sync; its verifier is then dropped."""
        if not _refused(run):
            return False
        self._gate.was_wrong(attempt.account, attempt.secret)
        with suppress(ProxyError):
            current = await self._store.account(account.name)
            if current is not None and current.verifier == account.verifier:
                await self._store.set_verifier(account.id, None)
        return True

    def _began(self, name: str, run: SyncRun) -> None:
        """Whoever asked for the sync: what upstream refuses is nobody's right any more."""

        def ended(_: object) -> None:
            if _refused(run) and self._directory.declared(name) is None:
                secret = self._rights.secret(run.credentials.password)
                self._rights.end("revoked", lambda r: (r.account, r.secret) == (name, secret))
                self._syncs.spawn(self._drop(name, run.credentials.password))

        run.finished.add_done_callback(ended)

    async def _drop(self, name: str, password: bytes) -> None:
        """Upstream has refused this password, that the verifier may stand for, and perhaps no login
        waits to be told."""
        with suppress(ProxyError):
            account = await self._store.account(name)
            if account is not None and await self._matches(account, password):
                self._gate.was_wrong(account.name, password)
                await self._store.set_verifier(account.id, None)


def _refused(run: SyncRun) -> bool:
    return run.finished.done() and isinstance(run.finished.exception(), UpstreamRefusedLogin)
