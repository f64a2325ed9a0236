"""Whether the proxy can do its work, for whoever asks, however often."""

from __future__ import annotations

import asyncio

from proxy.interfaces.store import Store

PROBE_EVERY = 5.0
"""Seconds for which an answer holds. Finding out writes to the disk."""

PATIENCE = 5.0
"""Seconds after which a disk that does not answer counts as one that cannot be written."""


class Readiness:
    def __init__(self, store: Store) -> None:
        self.listening = False
        """Every listener is open, and the proxy is not about to end."""
        self._store = store
        self._writable = False
        self._probed_at: float | None = None
        self._probe: asyncio.Task[None] | None = None

    async def __call__(self) -> bool:
        if not self.listening:
            return False
        loop = asyncio.get_running_loop()
        if self._probed_at is None or loop.time() - self._probed_at >= PROBE_EVERY:
            if self._probe is None or self._probe.done():
                self._probe = loop.create_task(self._look())
            # Whoever asks may go away; the others wait for the same one.
            _, hanging = await asyncio.wait([self._probe], timeout=PATIENCE)
            if hanging:
                return False
        return self._writable

    async def _look(self) -> None:
        self._writable = await self._store.is_writable()
        self._probed_at = asyncio.get_running_loop().time()
