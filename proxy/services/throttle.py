"""Holds up who guesses passwords, and nobody else.

Every failed login is answered late, at a multiple of `login_delay` after it came, so that the time
tells nothing about what was wrong. After a few failures an address has to wait before its next try
is looked at. Failures of one account from many addresses make strangers wait a little, too. An
address that has got into an account lately never waits for that account: a stranger who fails in
the owner's name keeps the owner from nothing.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from typing import Generic, TypeVar

from proxy.domain.errors import TooManyFailures, TooManyRefusals, UpstreamRefusedLogin
from proxy.domain.model import Account
from proxy.domain.peers import neighbourhood
from proxy.domain.penalty import Budgets, Penalties
from proxy.domain.policy import MINUTE, LimitsPolicy

PATIENCE = 15.0
"""Seconds a login is held up at most before it is refused; mail programs give up after 20 to 60."""

REFUSALS_WINDOW = 15 * MINUTE

REMEMBERED = 10_000

K = TypeVar("K")


class _Lately(Generic[K]):
    """A set that forgets what was added longest ago."""

    def __init__(self) -> None:
        self._keys: OrderedDict[K, None] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._keys

    def add(self, key: K) -> None:
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)


class Throttle:
    def __init__(self, limits: LimitsPolicy, key: bytes) -> None:
        """`key` is random: with it passwords that failed are remembered as hashes."""
        self._take(limits)
        self._key = key
        self._known: _Lately[tuple[str, str]] = _Lately()
        self._failed: _Lately[bytes] = _Lately()

    def follow(self, limits: LimitsPolicy) -> None:
        """Limits that have changed begin to count anew."""
        if limits != self._limits:
            self._take(limits)

    def _take(self, limits: LimitsPolicy) -> None:
        self._limits = limits
        self._delay = limits.login_delay
        self._addresses = Penalties(limits.login_delay, limits.max_login_delay)
        self._accounts = Penalties(limits.login_delay, PATIENCE)
        self._of_account = Budgets(limits.upstream_refusals, REFUSALS_WINDOW)
        self._of_host = Budgets(limits.upstream_refusals_per_host, REFUSALS_WINDOW)

    def knows(self, peer: str, account: str) -> bool:
        """Whether somebody has got into this account from there lately."""
        return (neighbourhood(peer), account) in self._known

    async def turn(self, peer: str, account: str) -> float:
        """Wait until this login may be looked at; returns for how many seconds.

        Raises:
            TooManyFailures: that would take too long.
        """
        if self.knows(peer, account):
            return 0.0
        now = asyncio.get_running_loop().time()
        place = neighbourhood(peer)
        wait = self._addresses.wait(place, now)
        if wait > PATIENCE:
            raise TooManyFailures(wait)
        self._addresses.take_turn(place, now)
        wait = max(wait, self._accounts.wait(account, now))
        await asyncio.sleep(wait)
        return wait

    def succeeded(self, peer: str, account: str) -> None:
        self._known.add((neighbourhood(peer), account))

    async def failed(self, peer: str, account: str, secret: bytes, came: float) -> None:
        """Count a refused login that came at this time of the loop, and wait until it is answered.

        A forgotten program that tries the same old password over and over counts once.
        """
        now = asyncio.get_running_loop().time()
        place = neighbourhood(peer)
        tried = hmac.digest(self._key, f"{place}\0{account}\0".encode() + secret, "sha256")
        if tried not in self._failed and not self.knows(peer, account):
            self._addresses.failed(place, now)
            self._accounts.failed(account, now)
        self._failed.add(tried)
        if self._delay > 0:
            await asyncio.sleep(self._delay - (now - came) % self._delay)

    def ask_upstream(self, peer: str, account: str, host: str) -> Guess:
        """Permission to let upstream judge a password that nobody here can judge.

        Raises:
            TooManyRefusals: upstream has refused as many as it is to see for now.
        """
        known = self.knows(peer, account)
        budgets = [(self._of_account, f"{account}\0{known}")]
        if not known:
            budgets.append((self._of_host, host))
        now = asyncio.get_running_loop().time()
        wait = max(budget.wait(key, now) for budget, key in budgets)
        if wait > 0:
            raise TooManyRefusals(wait)
        for budget, key in budgets:
            budget.spend(key, now)
        return Guess(budgets)


class Guess:
    """A password on its way upstream. It counts as refused until it is known not to be."""

    def __init__(self, budgets: list[tuple[Budgets, str]]) -> None:
        self._budgets = budgets

    def settle(self, accepted: asyncio.Future[Account]) -> None:
        """Upstream has spoken, or cannot be asked."""
        if not isinstance(accepted.exception(), UpstreamRefusedLogin):
            for budget, key in self._budgets:
                budget.refund(key)
