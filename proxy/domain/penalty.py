"""Delays that grow with failures and fade with time, and budgets of tries; pure bookkeeping, the
caller has the clock. Times are seconds of one clock that does not jump."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

FREE = 3
"""Failures that cost no waiting: a person mistypes."""
FORGIVEN_AFTER = 600.0
"""Seconds after which one failure is forgotten."""
COUNTED = 13
"""Failures remembered beyond the free ones; more change nothing, and would only last."""
KEYS = 10_000
"""Keys remembered at once; the ones unheard of for longest go first."""


@dataclass(slots=True)
class _Record:
    failures: int = 0
    failed_at: float = 0.0
    free_at: float = 0.0
    """When the next try may be made."""


class Penalties:
    """Who has failed how often."""

    def __init__(self, first: float, longest: float, *, free: int = FREE) -> None:
        """`first` is the delay after the first failure that counts; each further one doubles it."""
        self._first = first
        self._longest = longest
        self._free = free
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until this key may try. Changes nothing."""
        record = self._records.get(key)
        return max(record.free_at - now, 0.0) if record else 0.0

    def take_turn(self, key: str, now: float) -> None:
        """A try will be made at its time; the next one waits for a delay of its own."""
        record = self._records.get(key)
        if record is not None:
            record.free_at = max(record.free_at, now) + self._delay(record, now)

    def failed(self, key: str, now: float) -> None:
        """`now` may be a moment to come: when the try is answered."""
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        if len(self._records) > KEYS:
            self._records.popitem(last=False)
        record.failures = min(self._remembered(record, now) + 1, self._free + COUNTED)
        record.failed_at = now
        if delay := self._delay(record, now):
            record.free_at = max(record.free_at, now + delay)

    def _remembered(self, record: _Record, now: float) -> int:
        return max(record.failures - int((now - record.failed_at) / FORGIVEN_AFTER), 0)

    def _delay(self, record: _Record, now: float) -> float:
        counted = self._remembered(record, now) - self._free
        return float(min(self._first * 2.0 ** (counted - 1), self._longest)) if counted > 0 else 0.0


class Budgets:
    """So many tries of each key in a window of time. How many is the asker's to say, since some
    may use more of it than others; nobody may use more than is left."""

    def __init__(self, window: float) -> None:
        """`window` is in seconds."""
        self._window = window
        self._spent: OrderedDict[str, deque[float]] = OrderedDict()
        self._under_way: Counter[str] = Counter()

    def wait(self, key: str, allowance: int, now: float) -> float:
        """Seconds until this key may try, by what is spent already. Changes nothing."""
        spent = self._spent.get(key, ())
        if len(spent) < allowance:
            return 0.0
        return max(spent[len(spent) - allowance] + self._window - now, 0.0)

    def has_room(self, key: str, allowance: int, now: float) -> bool:
        """Whether this key may try even if all that are under way count in the end."""
        left = [at for at in self._spent.get(key, ()) if at + self._window > now]
        return len(left) + self._under_way[key] < allowance

    def is_idle(self, key: str, now: float) -> bool:
        """Whether nothing of it is spent or under way."""
        return self.has_room(key, 1, now)

    def take(self, key: str) -> None:
        """A try begins; `settle` it."""
        self._under_way[key] += 1

    def settle(self, key: str, now: float, *, counts: bool) -> None:
        """A try is over."""
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]
        if counts:
            self.spend(key, now)

    def spend(self, key: str, now: float) -> None:
        spent = self._spent.setdefault(key, deque())
        self._spent.move_to_end(key)
        if len(self._spent) > KEYS:
            self._spent.popitem(last=False)
        while spent and spent[0] + self._window <= now:
            spent.popleft()
        spent.append(now)


def account_allowance(limit: int, *, known_place: bool, first_try: bool) -> int:
    """How many of an account's tries may be used up by now for one more.

    A part is kept for those who have proved to be it before, from the place where they did; and
    none of that is spent on a password that was tried already and got no clear answer.
    """
    return limit if known_place and first_try else limit - (limit - 1) // 2


def host_allowance(limit: int, *, known_place: bool, exists: bool, unheard: bool) -> int:
    """The same for all tries at one upstream host.

    Best off is who has proved to be the account before, then who wants an account that exists,
    then who comes from a place that has not failed there of late.
    """
    kept = 0 if known_place else 1 if exists else 2 if unheard else 3
    return limit - kept * (limit // 5)
