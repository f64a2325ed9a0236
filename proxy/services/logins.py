"""Who may log in, and as which device.

An app password or a client certificate is looked up first and never goes upstream. A declared
account's password is compared with the configuration. Everything else is for `pass_through`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import TypeVar

from proxy.domain.directory import Directory
from proxy.domain.errors import (
    BadLogin,
    ProxyError,
    TooManyFailures,
    TooManyRefusals,
)
from proxy.domain.facts import LoginPutOff, LoginRefused, Refusal
from proxy.domain.login_name import candidates
from proxy.domain.model import Account
from proxy.domain.retention import expire_days
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import World
from proxy.services.credentials import (
    APP_PASSWORD_LENGTH,
    ITERATIONS,
    ScramSecrets,
    app_password_hash,
    new_nonce,
    unpack,
)
from proxy.services.enrolment import Admitted, Enrolment
from proxy.services.face import (
    CertificateProof,
    PasswordProof,
    Proof,
    ScramChallenge,
    ScramProof,
    Sender,
)
from proxy.services.maildrops import DeviceMaildrop, Maildrops
from proxy.services.pass_through import PassThrough
from proxy.services.syncs import Syncs
from proxy.services.throttle import Throttle
from proxy.wire.pop3 import Expire

T = TypeVar("T")


def _what_was_tried(proof: Proof) -> bytes:
    """Equal for two tries of the same secret; what a SCRAM proof was made of nobody knows."""
    match proof:
        case PasswordProof(password=password):
            return password
        case ScramProof(challenge=challenge):
            return challenge.nonce.encode()
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
        throttle: Throttle,
    ) -> None:
        self._world = world
        self._store = store
        self._observer = observer
        self._directory = directory
        self._syncs = syncs
        self._maildrops = maildrops
        self._throttle = throttle
        self._enrolment = Enrolment(world, store, observer)
        self._pass_through = PassThrough(world, store, directory, syncs, throttle)
        self.scram_secrets = ScramSecrets(store, world.entropy)

    @property
    def expire(self) -> Expire:
        directory = self._directory
        return Expire(expire_days(directory.default), may_differ=directory.expire_differs)

    @property
    def announces_scram(self) -> bool:
        # Upstream judges the password of a pass-through account, and needs it in clear.
        return not self._directory.pass_through

    async def login(self, proof: Proof, peer: str) -> DeviceMaildrop:
        """Check the credentials, sync if that is due, and open the device's maildrop.

        Raises:
            BadLogin: the account, the device or the password is not to be accepted.
            Temporary: nobody can judge the password now.
        """
        return await self._judge(proof, peer, self._open_maildrop, fresh=True)

    async def sender(self, proof: Proof, peer: str) -> Sender:
        """Check the credentials of somebody who wants to send.

        Raises:
            ProxyError: as `login`.
        """
        return await self._judge(proof, peer, self._sender, fresh=False)

    async def _judge(
        self,
        proof: Proof,
        peer: str,
        then: Callable[[Admitted, str | None, str], Awaitable[T]],
        *,
        fresh: bool,
    ) -> T:
        """`then` is given who was admitted, the device that was asked for, and the peer."""
        username = proof.challenge.username if isinstance(proof, ScramProof) else proof.username
        came = asyncio.get_running_loop().time()
        name, asked = await self._resolve(username)
        if isinstance(proof, PasswordProof):
            came += await self._turn(peer, name, username)
        try:
            admitted = await self._admit(proof, name, peer, fresh=fresh)
            if username and name != admitted.account.name:
                raise BadLogin("the certificate of another account")
            return await then(admitted, asked, peer)
        except BadLogin as error:
            self._refused(peer, username, "credentials", error)
            await self._throttle.failed(peer, name, _what_was_tried(proof), came)
            raise
        except TooManyRefusals as error:
            self._refused(peer, username, "too_many_upstream", error)
            raise
        except ProxyError as error:
            put_off = LoginPutOff(peer, username, type(error).__name__, str(error))
            self._observer.observe(put_off)
            raise

    async def _open_maildrop(
        self, admitted: Admitted, asked: str | None, peer: str
    ) -> DeviceMaildrop:
        account = admitted.account
        policy = self._directory.policy(account.name)
        device = await self._enrolment.of_reader(admitted, asked, policy, peer)
        declared = self._directory.declared(account.name)
        if declared is not None:
            await self._syncs.wait_fresh(account.name, declared.credentials)
        self._throttle.succeeded(peer, account.name)
        return await self._maildrops.open(account, device, policy)

    async def _sender(self, admitted: Admitted, asked: str | None, peer: str) -> Sender:
        account = admitted.account
        policy = self._directory.policy(account.name)
        device = await self._enrolment.of_sender(admitted, asked, policy, peer)
        self._throttle.succeeded(peer, account.name)
        return Sender(account, device, device.name if device else "", admitted.password)

    async def scram(self, username: str, peer: str) -> ScramChallenge:
        name, _ = await self._resolve(username)
        await self._turn(peer, name, username)
        account = await self._store.account(name)
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
        own = [all_own[name]] if name in all_own else []
        return ScramChallenge(
            username=username,
            nonce=new_nonce(self._world.entropy),
            salt=await self.scram_secrets.salt(name),
            iterations=ITERATIONS,
            candidates=(*(keys for keys, _ in found), *own),
            devices=(*(device for _, device in found), *(None for _ in own)),
        )

    async def _turn(self, peer: str, name: str, username: str) -> float:
        try:
            return await self._throttle.turn(peer, name)
        except TooManyFailures as error:
            self._refused(peer, username, "too_many_failures", error)
            raise

    def _refused(self, peer: str, username: str, refusal: Refusal, error: Exception) -> None:
        self._observer.observe(LoginRefused(peer, username, refusal, str(error)))

    async def _resolve(self, username: str) -> tuple[str, str | None]:
        """Account and device a login name means; the account need not exist yet."""
        separator = self._directory.default.devices.separator
        pairs = candidates(username, separator)
        for name, device in pairs:
            if self._directory.declared(name) or await self._store.account(name):
                return name, device
        return pairs[-1]

    # --- the account ----------------------------------------------------------------------------

    async def _admit(self, proof: Proof, name: str, peer: str, *, fresh: bool) -> Admitted:
        match proof:
            case CertificateProof(fingerprint=fingerprint):
                found = await self._store.device_by_certificate(fingerprint)
                if found is None:
                    raise BadLogin("the certificate of no device")
                return Admitted(*found)
            case ScramProof(challenge, candidate):
                return await self._admit_scram(challenge, candidate, name)
            case PasswordProof(password=password):
                return await self._admit_password(name, password, peer, fresh=fresh)

    async def _admit_scram(
        self, challenge: ScramChallenge, candidate: int | None, name: str
    ) -> Admitted:
        if candidate is None:
            raise BadLogin("wrong password")
        device_name = challenge.devices[candidate]
        if device_name is None:
            return Admitted(await self._declared_account(name), None)
        account = await self._store.account(name)
        device = await self._store.device(account.id, device_name) if account else None
        if account is None or device is None:
            raise BadLogin("the device was removed")
        return Admitted(account, device)

    async def _admit_password(
        self, name: str, password: bytes, peer: str, *, fresh: bool
    ) -> Admitted:
        account = await self._store.account(name)
        if account is not None and len(password) == APP_PASSWORD_LENGTH:
            device = await self._store.device_by_app_password(
                account.id, app_password_hash(password)
            )
            if device is not None:
                return Admitted(account, device)
        declared = self._directory.declared(name)
        if declared is not None:
            own = declared.credentials.password
            if not own or not hmac.compare_digest(password, own):
                raise BadLogin("wrong password")
            return Admitted(await self._declared_account(name), None)
        if not self._directory.pass_through:
            raise BadLogin("unknown account")
        account = await self._pass_through.admit(name, account, password, peer, fresh=fresh)
        return Admitted(account, None, password)

    async def _declared_account(self, name: str) -> Account:
        return await self._store.ensure_account(name, declared=True, at=self._world.clock.now())
