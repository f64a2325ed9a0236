"""What devices prove themselves with: app passwords, and SCRAM keys of any password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from proxy.domain.login_name import canonical
from proxy.interfaces.store import Store
from proxy.interfaces.world import Entropy
from proxy.wire.scram import ScramKeys, scram_keys

APP_PASSWORD_OCTETS = 20
"""160 random bits."""
_APP_PASSWORD = re.compile(rb"[a-z2-7]{32}")
"""The bits in base32, in lower case."""

ITERATIONS = 4096
"""Of PBKDF2: the least RFC 7677 §4 allows. App passwords are random, so more would gain nothing."""

SALT_OCTETS = 16
NONCE_OCTETS = 18


def new_app_password(entropy: Entropy) -> str:
    return base64.b32encode(entropy.token(APP_PASSWORD_OCTETS)).decode().lower()


def has_form_of_app_password(password: bytes) -> bool:
    return _APP_PASSWORD.fullmatch(password) is not None


def app_password_hash(password: bytes) -> bytes:
    """App passwords are random and long, so a fast hash keeps them."""
    return hashlib.sha256(password).digest()


def new_nonce(entropy: Entropy) -> str:
    """For SCRAM, on either side: printable, without a comma, and never used twice."""
    return base64.b64encode(entropy.token(NONCE_OCTETS)).decode()


class ScramSecrets:
    """Salts and keys for SCRAM-SHA-256.

    All passwords of an account share one salt, made from its name and a secret of the store. So a
    name that nobody has gets a salt as well, always the same however it is spelled, and cannot be
    told from an account.
    """

    def __init__(self, store: Store, entropy: Entropy) -> None:
        self._store = store
        self._entropy = entropy
        self._secret: bytes | None = None
        self._own: dict[tuple[str, bytes], ScramKeys] = {}

    async def salt(self, account: str) -> bytes:
        """Raises:
        StoreUnavailable: the secret cannot be read or kept.
        """
        if self._secret is None:
            self._secret = await self._store.secret("scram", fresh=self._entropy.token(32))
        known = await self._store.account(account)
        name = (known and known.salt_name) or canonical(known.name if known else account)
        return hmac.digest(self._secret, name.encode(), "sha256")[:SALT_OCTETS]

    async def stored(self, account: str, password: str) -> bytes:
        """The keys of an app password as `Device.scram_keys` has them."""
        keys = scram_keys(password.encode(), await self.salt(account), ITERATIONS)
        return keys.stored_key + keys.server_key

    async def own(self, account: str, password: bytes) -> ScramKeys:
        """The keys of a declared account's own password, computed once."""
        tag = account, hashlib.sha256(password).digest()
        if tag not in self._own:
            self._own[tag] = scram_keys(password, await self.salt(account), ITERATIONS)
        return self._own[tag]

    def all_own(self, account: str) -> list[ScramKeys]:
        """The keys of all passwords that this account has had while the process runs."""
        return [keys for (name, _), keys in self._own.items() if name == account]


def unpack(stored: bytes) -> ScramKeys:
    """The keys that `Device.scram_keys` holds."""
    return ScramKeys(stored[:32], stored[32:])
