"""How many devices an account may have, and how many accounts a place may make."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.domain.errors import TooManyAccounts
from proxy.domain.peers import LOCAL, neighbourhood
from proxy.domain.penalty import Budgets
from proxy.domain.policy import HOUR, LimitsPolicy


class Newcomers:
    def __init__(self, limits: LimitsPolicy) -> None:
        self.max_devices = limits.max_devices
        """Of one account."""
        self._most = limits.max_new_accounts
        self._made = Budgets(HOUR)

    def follow(self, limits: LimitsPolicy) -> None:
        """A limit of accounts that has changed begins to count anew."""
        self.max_devices = limits.max_devices
        if limits.max_new_accounts != self._most:
            self._most = limits.max_new_accounts
            self._made = Budgets(HOUR)

    @contextmanager
    def one_more(self, peer: str) -> Iterator[None]:
        """Around what may make an account, and raises if it makes none.

        Those under way count, so that many at once are no more than one after the other.

        Raises:
            TooManyAccounts
        """
        if peer == LOCAL:
            yield
            return
        place = neighbourhood(peer)
        if not self._made.has_room(place, self._most, _now()):
            raise TooManyAccounts(f"{self._most} accounts were made from this address in an hour")
        made = self._made
        made.take(place)
        counts = False
        try:
            yield
            counts = True
        finally:
            made.settle(place, _now(), counts=counts)


def _now() -> float:
    return asyncio.get_running_loop().time()
