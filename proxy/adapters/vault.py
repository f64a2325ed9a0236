"""Encryption of kept secrets: AES-256-GCM under a key from a file, the configuration or systemd."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.domain.errors import VaultLocked

KEY_LEAST = 16
"""Octets of key material; fewer could be guessed."""
NONCE_OCTETS = 12
FRESH_OCTETS = 32
VERSION = b"\1"

CREDENTIAL = "pop3-sync-proxy.key"
"""Name of systemd's credential (systemd.exec(5), LoadCredential=)."""


class KeySource:
    """Where the key is: systemd's credential, else the configuration's `key`, else `key_file`."""

    def __init__(self, key: str, key_file: Path, credentials: str) -> None:
        """`credentials` is the directory of systemd's credentials; "" where there is none."""
        self._key = key
        self._key_file = key_file
        self._credential = Path(credentials) / CREDENTIAL if credentials else None

    def read(self) -> bytes:
        """Raises:
        VaultLocked: there is none, or it is too short.
        """
        if self._credential is not None and self._has_credential():
            return self._checked(self._credential.read_bytes(), f"systemd's {CREDENTIAL}")
        if self._key:
            return self._checked(self._key.encode(), "secrets.key")
        try:
            return self._checked(self._key_file.read_bytes(), str(self._key_file))
        except FileNotFoundError:
            raise VaultLocked(
                f"there is no key to decrypt with: {self._key_file} does not exist"
            ) from None
        except OSError as error:
            raise VaultLocked(f"{self._key_file}: {error.strerror}") from None

    def read_or_make(self) -> bytes:
        """The same, but a key file that does not exist is made.

        Raises:
            VaultLocked: as `read`, or the file cannot be made.
        """
        if not self._key and not self._has_credential() and not self._key_file.exists():
            try:
                self._make()
            except OSError as error:
                raise VaultLocked(
                    f"the key file {self._key_file} cannot be made ({error.strerror}): set "
                    "key_file under [secrets] to a place that can be written, or make it yourself"
                ) from None
        return self.read()

    def _has_credential(self) -> bool:
        # The directory may be there for other credentials alone.
        return self._credential is not None and self._credential.exists()

    def _make(self) -> None:
        descriptor = os.open(self._key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(FRESH_OCTETS).hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _checked(material: bytes, where: str) -> bytes:
        material = material.strip()
        if len(material) < KEY_LEAST:
            raise VaultLocked(f"the key in {where} is shorter than {KEY_LEAST} octets")
        return material


class AesVault:
    """`interfaces.world.Vault`. The key is read when it is needed, and not kept."""

    def __init__(self, source: KeySource, token: Callable[[int], bytes]) -> None:
        """`token` gives so many unpredictable octets."""
        self._source = source
        self._token = token

    def seal(self, purpose: str, secret: bytes) -> bytes:
        nonce = self._token(NONCE_OCTETS)
        cipher = _cipher(self._source.read_or_make())
        return VERSION + nonce + cipher.encrypt(nonce, secret, purpose.encode())

    def unseal(self, purpose: str, sealed: bytes) -> bytes:
        cipher = _cipher(self._source.read())
        nonce, rest = sealed[1 : 1 + NONCE_OCTETS], sealed[1 + NONCE_OCTETS :]
        if not sealed.startswith(VERSION):
            raise VaultLocked(f"{purpose} was encrypted by another version of this program")
        try:
            return cipher.decrypt(nonce, rest, purpose.encode())
        except (InvalidTag, ValueError):
            raise VaultLocked(f"{purpose} was encrypted with another key") from None


def _cipher(material: bytes) -> AESGCM:
    derived = HKDF(SHA256(), length=32, salt=None, info=b"pop3-sync-proxy secrets")
    return AESGCM(derived.derive(material))
