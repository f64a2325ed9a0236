"""The one gate that every secret passes before anybody looks at it.

Whatever can say yes stands behind it: the verifier of a password, the configuration, an app
password, a SCRAM proof, upstream. Every end of a try but success counts as a failure, whatever the
cause. After a few failures a place has to wait before its next try is looked at; so have strangers
at an account that has failed from many places. Few tries at once are looked at.

A password that was right lets itself through without waiting, from anywhere, so that nobody is
kept out by those who guess. A place is never exempt.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from proxy.domain.errors import BadLogin, NotJudged, ProxyError, TooManyFailures, TooManyRefusals
from proxy.domain.peers import neighbourhood, region, wider_networks
from proxy.domain.penalty import (
    FREE,
    Budgets,
    Penalties,
    account_allowance,
    host_allowance,
)
from proxy.domain.policy import DAY, MINUTE, LimitsPolicy

PATIENCE = 15.0
"""Seconds a login is held up at most before it is refused; mail programs give up after 20 to 60."""
QUEUE_PATIENCE = 30.0
"""Seconds a login stands in line behind others that are looked at."""

OF_PLACE = 4
"""Tries of one place that are judged at once, upstream included."""
OF_ACCOUNT, OF_ALL = 4, 16
"""Tries of one account, and of all, that make work here at once. A hash takes 64 MiB and a core."""

WINDOW = 15 * MINUTE
"""In which upstream sees no more than so many wrong passwords, and in which it is not asked again
about one that it has refused."""
RIGHT = 7 * DAY
"""How long a password that was right lets itself through."""
LOOKS = 100
"""Passwords of strangers in a window that are compared with those that were right, of one
account; further ones wait for their turn first."""

LONGEST = 45.0
"""Seconds that a refusal is held back at most because upstream was slow to answer others."""
USUAL = 3.0
"""Seconds after which upstream is taken to answer a wrong password before one was seen to: most
servers wait for two."""

REMEMBERED = 10_000


class _Lately:
    """A set whose members are forgotten after a time, and those added longest ago before."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: OrderedDict[object, float] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return self._until.get(key, 0.0) > _now()

    def add(self, key: object) -> None:
        self._until[key] = _now() + self._seconds
        self._until.move_to_end(key)
        if len(self._until) > REMEMBERED:
            self._until.popitem(last=False)

    def discard(self, key: object) -> None:
        self._until.pop(key, None)


class _Slots:
    """So many at once of each key; the others stand in line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots: dict[object, asyncio.Semaphore] = {}
        self._users: Counter[object] = Counter()

    @asynccontextmanager
    async def of(self, key: object) -> AsyncIterator[None]:
        slot = self._slots.setdefault(key, asyncio.Semaphore(self._limit))
        self._users[key] += 1
        try:
            async with slot:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._slots[key]


@dataclass(slots=True)
class Attempt:
    """One login that is to be judged."""

    peer: str
    account: str
    """The same for all spellings of it: the name of an account that exists, or else the canonical
    form. What is remembered hangs on it."""
    name: str
    """The account in its own spelling, or as it was written: what goes upstream."""
    exists: bool
    secret: bytes = field(repr=False)
    """Equal for two tries of the same secret; what a wrong SCRAM proof was made of nobody knows."""
    stamp: str = field(repr=False)
    """What a right secret is right by; another one, and it is looked at anew."""
    began: float
    """When it came, and then when it had its turn; by the loop's time."""

    @property
    def place(self) -> str:
        return neighbourhood(self.peer)


class Gate:
    def __init__(self, limits: LimitsPolicy, key: bytes) -> None:
        """`key` is random: with it secrets are remembered as hashes that mean nothing elsewhere."""
        self._key = key
        self._right = _Lately(RIGHT)
        self._wrong = _Lately(WINDOW)
        """What upstream has refused, or would have if it had been asked."""
        self._failed = _Lately(WINDOW)
        """What has failed from where: a program that tries an old password on and on counts
        once."""
        self._tried = _Lately(WINDOW)
        """What upstream was asked about, or would have been."""
        self._proved = _Lately(RIGHT)
        """From where which account has got in."""
        self._looks = Budgets(WINDOW)
        self._places, self._accounts, self._all = (
            _Slots(OF_PLACE),
            _Slots(OF_ACCOUNT),
            _Slots(OF_ALL),
        )
        self._durations: deque[float] = deque([USUAL], maxlen=32)
        self._no_verdict = False
        """Whether upstream said neither yes nor no the last time that it was asked."""
        self._settled = asyncio.Event()
        self._take(limits)

    def follow(self, limits: LimitsPolicy) -> None:
        """Limits that have changed begin to count anew."""
        if limits != self._limits:
            self._take(limits)

    def _take(self, limits: LimitsPolicy) -> None:
        self._limits = limits
        first, longest = limits.login_delay, limits.max_login_delay
        self._of_place = Penalties(first, longest)
        self._of_networks = [Penalties(first, longest, free=FREE * n) for n in (4, 16)]
        self._of_account = Penalties(first, PATIENCE)
        self._account_budget = Budgets(WINDOW)
        self._host_budget = Budgets(WINDOW)
        self._region_budget = Budgets(WINDOW)

    # --- what is remembered ---------------------------------------------------------------------

    def remembers(self, attempt: Attempt) -> bool:
        """Whether this very secret was right for the account lately."""
        if self._tag(attempt, attempt.stamp) not in self._right:
            return False
        return self.proved_from(attempt) or self._looks.wait(attempt.account, LOOKS, _now()) == 0.0

    def was_refused(self, attempt: Attempt) -> bool:
        """Whether this very secret was wrong for the account lately."""
        return self._tag(attempt) in self._wrong

    def proved_from(self, attempt: Attempt) -> bool:
        """Whether somebody has proved to be this account from there lately."""
        return (attempt.place, attempt.account) in self._proved

    def _tag(self, attempt: Attempt, stamp: str = "") -> bytes:
        return self._tag_of(attempt.account, attempt.secret, stamp)

    def _tag_of(self, account: str, secret: bytes, stamp: str) -> bytes:
        return hmac.digest(self._key, f"{account}\0{stamp}\0".encode() + secret, "sha256")

    # --- one try --------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self, attempt: Attempt) -> AsyncIterator[None]:
        """Wait until this secret may be judged; leaving the context, it has been.

        Raises:
            TooManyFailures: the place has failed too often.
            NotJudged: too many others of the place are judged.
        """
        if self.remembers(attempt):
            yield
            return
        async with _in_line(self._places.of(attempt.place)):
            await self._wait_for_turn(attempt)
            yield

    @asynccontextmanager
    async def looking(self, attempt: Attempt) -> AsyncIterator[None]:
        """Around the work that a secret makes here.

        Raises:
            NotJudged: too many others make it work.
        """
        lane = self.proved_from(attempt)
        async with _in_line(self._accounts.of((attempt.account, lane)), self._all.of(lane)):
            yield

    async def _wait_for_turn(self, attempt: Attempt) -> None:
        now = _now()
        keys = [(self._of_place, attempt.place), *self._networks(attempt)]
        wait = max(penalties.wait(key, now) for penalties, key in keys)
        if wait > PATIENCE:
            raise TooManyFailures(wait)
        for penalties, key in keys:
            penalties.take_turn(key, now)
        wait = max(wait, min(self._of_account.wait(self._lane(attempt), now), PATIENCE))
        attempt.began += wait
        await asyncio.sleep(wait)

    def _networks(self, attempt: Attempt) -> list[tuple[Penalties, str]]:
        return list(zip(self._of_networks, wider_networks(attempt.peer), strict=False))

    def _lane(self, attempt: Attempt) -> str:
        """Who has proved to be the account does not stand behind those who have not."""
        return f"{attempt.account}\0{self.proved_from(attempt)}"

    def succeeded(self, attempt: Attempt, stamp: str) -> None:
        """`stamp` is what the secret is right by from now on."""
        self._right.add(self._tag(attempt, stamp))
        self._wrong.discard(self._tag(attempt))
        self._proved.add((attempt.place, attempt.account))

    def failed(self, attempt: Attempt, error: ProxyError, at: float) -> None:
        """`at` is when it is answered: that, and not when it was judged, is what the next delays
        count from."""
        if isinstance(error, BadLogin):
            self._right.discard(self._tag(attempt, attempt.stamp))
        tag = self._tag(attempt)
        if (attempt.place, tag) in self._failed:
            return
        self._failed.add((attempt.place, tag))
        for penalties, key in [(self._of_place, attempt.place), *self._networks(attempt)]:
            penalties.failed(key, at)
        self._of_account.failed(self._lane(attempt), at)
        if not self.proved_from(attempt):
            self._looks.spend(attempt.account, at)

    def was_wrong(self, account: str, secret: bytes) -> None:
        """For a while nobody is asked about it again. For `account` see `Attempt`."""
        self._wrong.add(self._tag_of(account, secret, ""))

    # --- asking upstream ------------------------------------------------------------------------

    async def ask(self, attempt: Attempt, host: str) -> Guess:
        """Permission to let the upstream `host` judge what nobody here can judge.

        Tries under way may turn out to be right, and are waited for.

        Raises:
            TooManyRefusals: upstream has been shown as many as it is to see for now.
        """
        while True:
            now = _now()
            budgets = self._budgets(attempt, host)
            wait = max(budget.wait(key, allowance, now) for budget, key, allowance in budgets)
            if wait > 0:
                raise TooManyRefusals(wait)
            if all(budget.has_room(key, allowance, now) for budget, key, allowance in budgets):
                break
            self._settled.clear()
            await self._settled.wait()
        self._tried.add(self._tag(attempt))
        spent = [(budget, key) for budget, key, _ in budgets]
        spent.append((self._region_budget, _at(host, region(attempt.peer))))
        for budget, key in spent:
            budget.take(key)
        return Guess(self, spent)

    def _budgets(self, attempt: Attempt, host: str) -> list[tuple[Budgets, str, int]]:
        known = self.proved_from(attempt)
        first_try = self._tag(attempt) not in self._tried
        of_account = account_allowance(
            self._limits.upstream_refusals, known_place=known, first_try=first_try
        )
        of_host = self._host_allowance(attempt, host, known_place=known, exists=attempt.exists)
        return [
            (self._account_budget, _at(host, attempt.account), of_account),
            (self._host_budget, host, of_host),
        ]

    def _host_allowance(
        self, attempt: Attempt, host: str, *, known_place: bool, exists: bool
    ) -> int:
        return host_allowance(
            self._limits.upstream_refusals_per_host,
            known_place=known_place,
            exists=exists,
            unheard=self._region_budget.is_idle(_at(host, region(attempt.peer)), _now()),
        )

    def settle(self, spent: list[tuple[Budgets, str]], *, counts: bool) -> None:
        """See `Guess`."""
        for budget, key in spent:
            budget.settle(key, _now(), counts=counts)
        self._settled.set()

    def answered(self, seconds: float, *, verdict: bool) -> None:
        """How upstream took a password that nobody here could judge; likewise."""
        self._durations.append(seconds)
        self._no_verdict = not verdict

    # --- the answer -----------------------------------------------------------------------------

    def said(self, attempt: Attempt, error: ProxyError, host: str | None) -> ProxyError:
        """What a try that failed is told. It is the same whoever's account it is: where the name of
        nobody would not be judged, none is said to be wrong.

        `host` is the upstream that judges names that are not known here; None: none does.
        """
        if isinstance(error, TooManyFailures | NotJudged):
            return error
        if not isinstance(error, BadLogin):
            return NotJudged(str(error))
        if host is None:
            return error
        allowance = self._host_allowance(attempt, host, known_place=False, exists=False)
        if self._no_verdict or self._host_budget.wait(host, allowance, _now()) > 0:
            return NotJudged(str(error))
        return error

    def answer_at(self, attempt: Attempt, error: ProxyError, host: str | None) -> float:
        """When a try that failed is answered, by the loop's time: at a multiple of the delay after
        it began, and no sooner than upstream would have answered, so that the time tells nothing.
        """
        delay = self._limits.login_delay
        if delay <= 0:
            return _now()
        usual = min(max(self._durations), LONGEST) if host is not None else 0.0
        if isinstance(error, TooManyFailures):
            usual = PATIENCE
        took = _now() - attempt.began
        steps = max(-(-max(took, usual) // delay), 1.0)
        return attempt.began + steps * delay


class Guess:
    """A password that is judged. It counts as wrong until it is known to be right, or not to have
    been shown to upstream."""

    def __init__(self, gate: Gate, spent: list[tuple[Budgets, str]]) -> None:
        self._gate = gate
        self._spent = spent
        self._began = _now()

    def settle(self, *, counts: bool) -> None:
        """It is known. Once."""
        self._gate.settle(self._spent, counts=counts)

    def answered(self, *, verdict: bool, counts: bool) -> None:
        """The same, where upstream was asked; `verdict`: it has said yes or no."""
        self._gate.answered(_now() - self._began, verdict=verdict)
        self.settle(counts=counts)


@asynccontextmanager
async def _in_line(*slots: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    """Raises:
    NotJudged: the line is too long.
    """
    async with AsyncExitStack() as held:
        try:
            async with asyncio.timeout(QUEUE_PATIENCE):
                for slot in slots:
                    await held.enter_async_context(slot)
        except TimeoutError:
            raise NotJudged("too many logins at once") from None
        yield


def _at(host: str, name: str) -> str:
    return f"{host}\0{name}"


def _now() -> float:
    return asyncio.get_running_loop().time()
