"""The machine's random numbers."""

from __future__ import annotations

import random
import secrets


class SystemEntropy:
    """See `interfaces.world.Entropy`; both methods draw from the operating system."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def token(self, octets: int) -> bytes:
        return secrets.token_bytes(octets)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
