"""Whether what somebody shows proves that he is an account.

An app password or a client certificate is looked up first and never goes upstream. A declared
account's password is compared with the configuration. Everything else is for `pass_through`.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import nullcontext
from dataclasses import replace

from proxy.domain.directory import Directory
from proxy.domain.errors import BadLogin, UpstreamUnreachable
from proxy.domain.model import Account
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.credentials import (
    ITERATIONS,
    ScramSecrets,
    app_password_hash,
    has_form_of_app_password,
    new_nonce,
    unpack,
)
from proxy.services.enrolment import Admitted
from proxy.services.face import (
    CertificateProof,
    PasswordProof,
    Proof,
    ScramChallenge,
    ScramProof,
)
from proxy.services.gate import Attempt, Gate
from proxy.services.newcomers import Newcomers
from proxy.services.pass_through import PassThrough
from proxy.services.rights import Right, Rights
from proxy.services.syncs import GUESS_TIME
from proxy.services.timekeeper import Timekeeper


class Judge:
    """All that can say yes; it is asked behind the gate alone."""

    def __init__(
        self,
        world: World,
        store: Store,
        directory: Directory,
        gate: Gate,
        pass_through: PassThrough,
        newcomers: Newcomers,
        rights: Rights,
        timekeeper: Timekeeper,
    ) -> None:
        self._world = world
        self._store = store
        self._directory = directory
        self._gate = gate
        self._pass_through = pass_through
        self._newcomers = newcomers
        self._rights = rights
        self._timekeeper = timekeeper
        self.scram_secrets = ScramSecrets(store, world.entropy)

    def stamp(self, name: str, account: Account | None) -> str:
        """What the right password of this account is right by; see `Attempt.stamp`."""
        if self._directory.declared(name) is not None:
            return "declared"
        return (account.verifier if account else None) or ""

    async def admit(self, proof: Proof, attempt: Attempt) -> Admitted:
        """Raises:
        BadLogin: it proves nothing.
        Temporary: nobody can tell now.
        """
        match proof:
            case CertificateProof(fingerprint=fingerprint):
                found = await self._store.device_by_certificate(fingerprint)
                if found is None or not self._directory.allows(found[0].name):
                    raise BadLogin("the certificate of no device")
                account, device = found
                return Admitted(account, Right(account.name, fingerprint, device.id), device)
            case ScramProof(challenge, candidate):
                return await self._by_scram(challenge, candidate, attempt)
            case PasswordProof(password=password):
                return await self._by_password(password, attempt)

    async def challenge(self, username: str, name: str) -> ScramChallenge:
        """What a SCRAM exchange of this user is made with; likewise for a name of nobody."""
        account = await self._known(name)
        found = [
            (unpack(device.scram_keys), device.name)
            for device in (await self._store.devices(account.id) if account else [])
            if device.scram_keys is not None
        ]
        # For all accounts at once: the first challenge of one must not take longer than another's.
        all_own = {
            declared.name: await self.scram_secrets.own(
                declared.name, declared.credentials.password
            )
            for declared in self._directory.all_declared()
            if declared.credentials.password
        }
        # Earlier ones as well: a program that has one of those is told from one that guesses.
        own = self.scram_secrets.all_own(name) if name in all_own else []
        return ScramChallenge(
            username=username,
            nonce=new_nonce(self._world.entropy),
            salt=await self.scram_secrets.salt(name),
            iterations=ITERATIONS,
            candidates=(*(keys for keys, _ in found), *own),
            devices=(*(device for _, device in found), *(None for _ in own)),
        )

    async def _by_scram(
        self, challenge: ScramChallenge, candidate: int | None, attempt: Attempt
    ) -> Admitted:
        name = attempt.name
        if candidate is None:
            await self._would_have_asked(attempt)
            raise BadLogin("wrong password")
        # The challenge may be minutes old: what it was made of must still hold.
        keys, device_name = challenge.candidates[candidate], challenge.devices[candidate]
        if device_name is None:
            password = self._directory.password(name)
            if not password or keys != await self.scram_secrets.own(name, password):
                raise BadLogin("the password was changed")
            return self._by_own_password(await self._declared_account(name), password)
        account = await self._known(name)
        device = await self._store.device(account.id, device_name) if account else None
        known = device.scram_keys if device else None
        if account is None or device is None or known is None or keys != unpack(known):
            raise BadLogin("the device was removed")
        return Admitted(account, Right(account.name, device_id=device.id), device)

    async def _by_password(self, password: bytes, attempt: Attempt) -> Admitted:
        name = attempt.name
        account = await self._known(name)
        if account is not None and has_form_of_app_password(password):
            device = await self._store.device_by_app_password(
                account.id, app_password_hash(password)
            )
            if device is not None:
                return Admitted(account, Right(account.name, device_id=device.id), device)
        declared = self._directory.declared(name)
        if declared is not None:
            own = declared.credentials.password
            if own and hmac.compare_digest(password, own):
                return self._by_own_password(await self._declared_account(name), password)
            await self._would_have_asked(attempt)
            raise BadLogin("wrong password")
        if not self._directory.pass_through:
            raise BadLogin("unknown account")
        if not self._directory.allows(name):
            await self._would_have_asked(attempt)
            raise BadLogin("not among accounts.allow")
        if has_form_of_app_password(password):
            # Also one that was removed, or of another account: the provider is not to see it.
            await self._would_have_asked(attempt)
            raise BadLogin("the app password of no device")
        with self._newcomers.one_more(attempt.peer) if account is None else nullcontext():
            account, run = await self._pass_through.admit(attempt, account, password)
        return replace(self._by_own_password(account, password), password=password, run=run)

    def _by_own_password(self, account: Account, password: bytes) -> Admitted:
        return Admitted(account, Right(account.name, self._rights.secret(password)))

    async def _would_have_asked(self, attempt: Attempt) -> None:
        """A secret that was wrong here uses up what it would have used up of a name that only
        upstream can judge: the answers, too, must not tell which names those are.

        Raises:
            TooManyRefusals, UpstreamUnreachable: upstream would not have been asked.
        """
        if not self._directory.pass_through or self._gate.was_refused(attempt):
            return
        host = self._directory.default.upstream.host
        try:
            async with asyncio.timeout(GUESS_TIME):
                guess = await self._gate.ask(attempt, host)
        except TimeoutError:
            raise UpstreamUnreachable("upstream takes too long to judge other logins") from None
        guess.settle(counts=True)
        self._gate.was_wrong(attempt.account, attempt.secret)

    async def _known(self, name: str) -> Account | None:
        """None as well: it may not come."""
        return await self._store.account(name) if self._directory.allows(name) else None

    async def _declared_account(self, name: str) -> Account:
        return await self._store.ensure_account(name, declared=True, at=self._timekeeper.best_now())
