"""Who may log in, and as which device: the gate, the judge behind it, and what is opened then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

from proxy.domain.directory import Directory
from proxy.domain.errors import (
    BadDevice,
    BadLogin,
    KnownWrong,
    ProxyError,
    TooManyFailures,
    TooManyRefusals,
)
from proxy.domain.facts import DeviceRefused, Fact, LoginPutOff, LoginRefused, LoginUnasked
from proxy.domain.login_name import canonical, unfit_device_name
from proxy.domain.retention import expire_days
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.enrolment import Admitted, Enrolment
from proxy.services.face import (
    CertificateProof,
    PasswordProof,
    Proof,
    ScramChallenge,
    ScramProof,
    Sender,
)
from proxy.services.gate import Attempt, Gate
from proxy.services.judge import Judge
from proxy.services.login_names import LoginNames
from proxy.services.maildrops import DeviceMaildrop, Maildrops
from proxy.services.newcomers import Newcomers
from proxy.services.pass_through import PassThrough
from proxy.services.rights import Claim, Rights
from proxy.services.syncs import Syncs
from proxy.services.timekeeper import Timekeeper
from proxy.wire.pop3 import Expire

T = TypeVar("T")


async def _until(moment: float) -> None:
    """`moment` is the loop's time."""
    await asyncio.sleep(moment - asyncio.get_running_loop().time())


def _username(proof: Proof) -> str:
    return proof.challenge.username if isinstance(proof, ScramProof) else proof.username


def _what_was_tried(proof: Proof) -> bytes:
    """See `Attempt.secret`."""
    match proof:
        case PasswordProof(password=password):
            return password
        case ScramProof(challenge, candidate):
            if candidate is None:
                return challenge.nonce.encode()
            return challenge.candidates[candidate].stored_key
        case CertificateProof(fingerprint=fingerprint):
            return fingerprint


class Logins:
    """The door that device sessions log in at; see `face.Door`."""

    def __init__(
        self,
        world: World,
        store: Store,
        observer: Observer,
        directory: Directory,
        syncs: Syncs,
        maildrops: Maildrops,
        gate: Gate,
        newcomers: Newcomers,
        enrolment: Enrolment,
        rights: Rights,
        timekeeper: Timekeeper,
    ) -> None:
        self._store = store
        self._observer = observer
        self._directory = directory
        self._syncs = syncs
        self._maildrops = maildrops
        self._gate = gate
        self._names = LoginNames(store, directory)
        self._enrolment = enrolment
        self._pass_through = PassThrough(world, store, directory, syncs, gate, rights)
        self._judge = Judge(
            world, store, directory, gate, self._pass_through, newcomers, rights, timekeeper
        )
        self.scram_secrets = self._judge.scram_secrets

    @property
    def expire(self) -> Expire:
        directory = self._directory
        return Expire(expire_days(directory.default), may_differ=directory.expire_differs)

    @property
    def announces_scram(self) -> bool:
        # Upstream judges the password of a pass-through account, and needs it in clear.
        return not self._directory.pass_through

    async def login(self, proof: Proof, peer: str, claim: Claim | None = None) -> DeviceMaildrop:
        """Check the credentials, sync if that is due, and open the device's maildrop.

        Raises:
            BadLogin: the account, the device or the password is not to be accepted.
            BadDevice: the password is right, but the device may not come.
            Temporary: nobody can judge the password now.
        """
        return await self._let_in(proof, peer, claim or Claim(), self._open_maildrop)

    async def sender(self, proof: Proof, peer: str, claim: Claim | None = None) -> Sender:
        """Check the credentials of somebody who wants to send.

        Raises:
            ProxyError: as `login`.
        """
        return await self._let_in(proof, peer, claim or Claim(), self._sender)

    async def _let_in(
        self,
        proof: Proof,
        peer: str,
        claim: Claim,
        then: Callable[[Admitted, str | None, Attempt, Claim], Awaitable[T]],
    ) -> T:
        """`then` is given who was admitted, and the device that was asked for."""
        username = _username(proof)
        came = asyncio.get_running_loop().time()
        name, asked = await self._names.resolve(username)
        account = await self._store.account(name)
        attempt = Attempt(
            peer,
            account.name if account else canonical(name),
            name,
            account is not None,
            _what_was_tried(proof),
            self._judge.stamp(name, account),
            came,
        )
        try:
            admitted = await self._admit(proof, username, attempt)
        except ProxyError as error:
            answer_at = self._gate.answer_at(attempt, error, self._judging_host)
            self._gate.failed(attempt, error, answer_at)
            self._tell(peer, username, error, unproved=asked)
            said = self._gate.said(attempt, error, self._judging_host)
            await _until(answer_at)
            raise said from None
        try:
            claim.prove(admitted.right)
            return await then(admitted, asked, attempt, claim)
        except ProxyError as error:
            self._tell(peer, username, error)
            if isinstance(error, BadLogin):
                await _until(self._gate.answer_at(attempt, error, self._judging_host))
            raise

    async def _admit(self, proof: Proof, username: str, attempt: Attempt) -> Admitted:
        # Nobody guesses a certificate, so there is nothing to wait for.
        is_certificate = isinstance(proof, CertificateProof)
        async with nullcontext() if is_certificate else self._gate.turn(attempt):
            admitted = await self._judge.admit(proof, attempt)
            account = admitted.account
            if is_certificate and username and attempt.account != account.name:
                raise BadLogin("the certificate of another account")
            if not self._directory.uses(account.name):
                raise BadLogin("the account is in the store alone")
            if not is_certificate:
                attempt.account = account.name
                self._gate.succeeded(attempt, self._judge.stamp(account.name, account))
            return admitted

    @property
    def _judging_host(self) -> str | None:
        """The upstream that judges names nobody knows here."""
        directory = self._directory
        return directory.default.upstream.host if directory.pass_through else None

    def _tell(
        self, peer: str, username: str, error: ProxyError, unproved: str | None = None
    ) -> None:
        """`unproved`: the device that was asked for by who has not proved to be the account, who is
        not told what is wrong with that. The operator is."""
        fact: Fact
        match error:
            case TooManyRefusals():
                fact = LoginUnasked(peer, username, "too_many_upstream", str(error))
            case KnownWrong():
                fact = LoginUnasked(peer, username, "refused_lately", str(error))
            case TooManyFailures():
                fact = LoginRefused(peer, username, "too_many_failures", str(error))
            case BadDevice():
                fact = DeviceRefused(peer, username, str(error))
            case BadLogin():
                unfit = "" if unproved is None else unfit_device_name(unproved)
                reason = "; ".join(filter(None, (str(error), unfit)))
                fact = LoginRefused(peer, username, "credentials", reason)
            case _:
                fact = LoginPutOff(peer, username, type(error).__name__, str(error))
        self._observer.observe(fact)

    async def _open_maildrop(
        self, admitted: Admitted, asked: str | None, attempt: Attempt, claim: Claim
    ) -> DeviceMaildrop:
        account = admitted.account
        policy = self._directory.policy(account.name)
        device = await self._enrolment.of_reader(admitted, asked, policy, attempt.peer)
        declared = self._directory.declared(account.name)
        if declared is not None:
            await self._syncs.wait_fresh(account.name, declared.credentials)
        elif admitted.password is not None:
            await self._pass_through.freshen(admitted, attempt)
        maildrop = await self._maildrops.open(account, device, policy)
        try:
            claim.settle(device.id)
        except ProxyError:
            maildrop.close()
            raise
        return maildrop

    async def _sender(
        self, admitted: Admitted, asked: str | None, attempt: Attempt, claim: Claim
    ) -> Sender:
        account = admitted.account
        policy = self._directory.policy(account.name)
        device = await self._enrolment.of_sender(admitted, asked, policy, attempt.peer)
        claim.settle(device.id if device else None)
        return Sender(account, device, device.name if device else "", admitted.password)

    async def scram(self, username: str, peer: str) -> ScramChallenge:
        name, _ = await self._names.resolve(username)
        return await self._judge.challenge(username, name)
