"""Argon2id in threads of its own, so that a hash holds up no session."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

THREADS = 2
"""Hashes at once. Each takes 64 MiB, so this bounds the memory a flood of logins can cost."""


class Argon2Passwords:
    """See `interfaces.world.Passwords`.

    The parameters are the second recommended option of RFC 9106 §4 (64 MiB, three passes), which
    a Raspberry Pi can afford. Verifiers carry their own, so older ones stay valid.

    A cancelled call gives up its place in the queue; a hash already begun ends unseen.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")

    async def hash(self, password: bytes) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._hasher.hash, password)

    async def verify(self, verifier: str, password: bytes) -> bool:
        """False as well for a verifier that cannot be read."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._verify, verifier, password)

    def _verify(self, verifier: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(verifier, password)
        except (InvalidHashError, VerificationError, UnicodeEncodeError):
            return False
