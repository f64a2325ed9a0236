"""Who may log in, and as which device.

An app password is looked up first and never goes upstream. A declared account's password is
compared with the configuration. For a pass-through account upstream is the judge; what it accepted
is kept as a verifier, so that the owner gets in while upstream is down.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import (
    AlreadyExists,
    BadLogin,
    ProxyError,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
)
from proxy.domain.facts import DeviceEnrolled, LoginRefused
from proxy.domain.login_name import candidates
from proxy.domain.model import DEFAULT_DEVICE, Account, Credentials, Device
from proxy.domain.policy import AccountPolicy, backlog_age
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Entropy, World
from proxy.services.maildrops import DeviceMaildrop, Maildrops
from proxy.services.syncs import SyncRun, Syncs

UPSTREAM_WAIT = 45.0
"""Seconds a login waits for upstream to judge a password that nothing else can judge."""

REMEMBERED = 1024
REMEMBER_SECONDS = 900.0
"""Accepted passwords spared another Argon2 hash, and for how long."""


APP_PASSWORD_OCTETS = 20
"""160 random bits."""
APP_PASSWORD_LENGTH = 32
"""Lower-case letters and digits that the bits are written in, base32."""


def new_app_password(entropy: Entropy) -> str:
    return base64.b32encode(entropy.token(APP_PASSWORD_OCTETS)).decode().lower()


def app_password_hash(password: bytes) -> bytes:
    """App passwords are random and long, so a fast hash keeps them."""
    return hashlib.sha256(password).digest()


def since(backlog: str, now: float) -> float | None:
    """The `Device.since` of a device made now under this backlog policy."""
    age = backlog_age(backlog)
    return None if age is None else now - age


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
    ) -> None:
        self._world = world
        self._store = store
        self._observer = observer
        self._directory = directory
        self._syncs = syncs
        self._maildrops = maildrops
        self._remembered = _Remembered(world.entropy.token(32))

    async def login(self, username: str, password: bytes, peer: str) -> DeviceMaildrop:
        """Check the credentials, sync if that is due, and open the device's maildrop.

        Raises:
            BadLogin: the account, the device or the password is not to be accepted.
            Temporary: nobody can judge the password now.
        """
        try:
            account, device_name, policy = await self._admit(username, password)
            device = await self._device(account, device_name, policy)
        except BadLogin as error:
            self._observer.observe(LoginRefused(peer, username, str(error)))
            raise
        return await self._maildrops.open(account, device, policy)

    async def _admit(self, username: str, password: bytes) -> tuple[Account, str, AccountPolicy]:
        """The account, the name of the device, and the account's policy."""
        name, device_name = await self._resolve(username)
        policy = self._directory.policy(name)
        declared = self._directory.declared(name)
        account = await self._store.account(name)
        if account is not None and len(password) == APP_PASSWORD_LENGTH:
            device = await self._store.device_by_app_password(
                account.id, app_password_hash(password)
            )
            if device is not None:
                if device_name is not None and device_name.lower() != device.name.lower():
                    raise BadLogin("the app password of another device")
                if declared is not None:
                    await self._freshen(declared.name, declared.credentials)
                return account, device.name, policy
        if declared is not None:
            account = await self._admit_declared(declared, password)
        elif self._directory.pass_through:
            account = await self._admit_pass_through(name, account, password)
        else:
            raise BadLogin("unknown account")
        return account, device_name or DEFAULT_DEVICE, policy

    async def _resolve(self, username: str) -> tuple[str, str | None]:
        """Account and device a login name means; the account need not exist yet."""
        separator = self._directory.default.devices.separator
        pairs = candidates(username, separator)
        for name, device in pairs:
            if self._directory.declared(name) or await self._store.account(name):
                return name, device
        return pairs[-1]

    async def _admit_declared(self, declared: DeclaredAccount, password: bytes) -> Account:
        if not hmac.compare_digest(password, declared.credentials.password):
            raise BadLogin("wrong password")
        account = await self._store.ensure_account(
            declared.name, declared=True, at=self._world.clock.now()
        )
        await self._freshen(declared.name, declared.credentials)
        return account

    async def _admit_pass_through(
        self, name: str, account: Account | None, password: bytes
    ) -> Account:
        credentials = Credentials(name, password)
        if account is not None and await self._verified(account, password):
            run = await self._freshen(name, credentials)
            if run is not None and _refused(run) and run.credentials == credentials:
                await self._forget(account)
                raise BadLogin("upstream no longer accepts the password")
            return account
        run = await self._syncs.start_own(name, credentials)
        try:
            async with asyncio.timeout(UPSTREAM_WAIT):
                account = await asyncio.shield(run.accepted)
        except TimeoutError:
            raise UpstreamUnreachable("upstream takes too long to judge the login") from None
        except UpstreamRefusedLogin:
            raise BadLogin("upstream refuses the password") from None
        verifier = await self._world.passwords.hash(password)
        await self._store.set_verifier(account.id, verifier)
        account = replace(account, verifier=verifier)
        self._remembered.add(account, password)
        await self._wait(run, name)
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

    async def _freshen(self, name: str, credentials: Credentials) -> SyncRun | None:
        """Sync if that is due, and wait as long as a login may wait."""
        run = self._syncs.freshen(name, credentials)
        if run is not None:
            await self._wait(run, name)
            if not run.finished.done():
                run.finished.add_done_callback(lambda _: self._after_login(name, run))
        return run

    async def _wait(self, run: SyncRun, name: str) -> None:
        """Upstream trouble stays upstream: whatever comes of it, the stored mail is served."""
        login_wait = self._directory.policy(name).sync.login_wait
        await asyncio.wait([run.finished], timeout=login_wait)

    def _after_login(self, name: str, run: SyncRun) -> None:
        """A sync that a login no longer waited for has ended."""
        if _refused(run) and self._directory.declared(name) is None:
            self._syncs.spawn(self._forget_name(name, run.credentials.password))

    async def _forget_name(self, name: str, password: bytes) -> None:
        with suppress(ProxyError):
            account = await self._store.account(name)
            if account is not None and await self._verified(account, password):
                await self._forget(account)

    async def _forget(self, account: Account) -> None:
        """Upstream has refused the password that the verifier stands for."""
        await self._store.set_verifier(account.id, None)

    async def _device(self, account: Account, name: str, policy: AccountPolicy) -> Device:
        device = await self._store.device(account.id, name)
        if device is not None:
            return device
        if policy.devices.enrol == "closed":
            raise BadLogin(f"no device {name}, and enrolment is closed")
        now = self._world.clock.now()
        try:
            device = await self._store.add_device(
                account.id, name, since=since(policy.devices.backlog, now), at=now
            )
        except AlreadyExists:
            # Two first logins at once: the other one made it.
            device = await self._store.device(account.id, name)
            if device is None:
                raise
            return device
        self._observer.observe(DeviceEnrolled(account.name, device.name))
        return device


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
