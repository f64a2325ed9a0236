"""What happened in one simulated run, as a digest and a readable tail.

Two runs of one seed must have equal digests. Nothing that differs between two runs may be noted:
no addresses, no hashes of strings, no wall clock.
"""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from collections.abc import Callable

TAIL = 80
"""Entries kept for the report of a failed run."""


class Trace:
    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._tail: deque[tuple[float, str]] = deque(maxlen=TAIL)
        self.entries = 0

    def note(self, at: float, what: str) -> None:
        self.entries += 1
        self._tail.append((at, what))
        self._digest.update(f"{at!r} {what}\n".encode())

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def tail(self) -> str:
        return "\n".join(f"{at:14.6f}  {what}" for at, what in self._tail)


def name_of(callback: Callable[..., object]) -> str:
    """A name for a callback that is the same in every run."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__
