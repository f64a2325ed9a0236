"""How many sessions there may be with each upstream host at once, and who stands in line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from proxy.domain.policy import AccountPolicy
from proxy.domain.schedule import LOGIN_RETRY

GUESS_PAUSE = 30.0
"""Seconds at most that a host which could not be reached is not asked about passwords: it may be
back long before the next sync is due."""


class UpstreamPlaces:
    def __init__(self) -> None:
        self.open = 0
        """Sessions that have their turn."""
        self.waiting = 0
        self._hosts: dict[tuple[str, int], asyncio.Semaphore] = {}
        self._guesses: dict[tuple[str, bool], asyncio.Semaphore] = {}
        self._away: dict[str, float] = {}
        self._tried: dict[str, float] = {}

    @asynccontextmanager
    async def turn(self, policy: AccountPolicy) -> AsyncIterator[None]:
        """Wait for a turn with this host, `max_sessions_per_host` at once, and take it."""
        limit = policy.sync.max_sessions_per_host
        slot = self._hosts.setdefault((policy.upstream.host, limit), asyncio.Semaphore(limit))
        self.waiting += 1
        try:
            await slot.acquire()
        finally:
            self.waiting -= 1
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
            slot.release()

    async def guess(
        self, policy: AccountPolicy, judged: asyncio.Future[Any], *, known_place: bool
    ) -> None:
        """Wait until one more password may be judged at this host; then it may until `judged`.

        Strangers take up half of its places at most, and owners a quarter beside.
        """
        places = policy.sync.max_sessions_per_host // (4 if known_place else 2)
        key = policy.upstream.host, known_place
        slot = self._guesses.setdefault(key, asyncio.Semaphore(max(places, 1)))
        await slot.acquire()
        judged.add_done_callback(lambda _: slot.release())

    def could_not_reach(self, host: str, seconds: float) -> None:
        """It is tried again so much later."""
        self._away[host] = _now() + min(seconds, GUESS_PAUSE)

    def reached(self, host: str) -> None:
        self._away.pop(host, None)
        self._tried.pop(host, None)

    def is_away(self, host: str) -> bool:
        """Whether it could not be reached a moment ago."""
        return _now() < self._away.get(host, 0.0)

    def may_try(self, host: str) -> bool:
        """Whether a login may have this host tried before the back-off is over; if so, it does.

        While a host cannot be reached, all accounts share one such try.
        """
        now = _now()
        if host in self._away and now < max(self._away[host], self._tried.get(host, 0.0)):
            return False
        self._tried[host] = now + LOGIN_RETRY
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
