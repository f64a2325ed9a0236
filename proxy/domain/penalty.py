"""Delays that grow with failures and fade with time; pure bookkeeping, the caller has the clock."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

FREE = 3
"""Failures that cost no waiting: a person mistypes."""
FORGIVEN_AFTER = 600.0
"""Seconds after which one failure is forgotten."""
MOST = 16
"""Failures remembered of one key; more change nothing, and would only last."""
KEYS = 10_000
"""Keys remembered at once; the ones unheard of for longest go first."""


@dataclass(slots=True)
class _Record:
    failures: int = 0
    failed_at: float = 0.0
    free_at: float = 0.0
    """When the next try may be made."""


class Penalties:
    """Who has failed how often. Times are seconds of one clock that does not jump."""

    def __init__(self, first: float, longest: float) -> None:
        """`first` is the delay after the first failure that counts; each further one doubles it."""
        self._first = first
        self._longest = longest
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
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        if len(self._records) > KEYS:
            self._records.popitem(last=False)
        record.failures = min(self._remembered(record, now) + 1, MOST)
        record.failed_at = now
        record.free_at = max(record.free_at, now + self._delay(record, now))

    def _remembered(self, record: _Record, now: float) -> int:
        return max(record.failures - int((now - record.failed_at) / FORGIVEN_AFTER), 0)

    def _delay(self, record: _Record, now: float) -> float:
        counted = self._remembered(record, now) - FREE
        return float(min(self._first * 2.0 ** (counted - 1), self._longest)) if counted > 0 else 0.0


class Budgets:
    """So many tries of each key in a window of time."""

    def __init__(self, limit: int, window: float) -> None:
        """`window` is in seconds."""
        self._limit = limit
        self._window = window
        self._spent: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until this key may try. Changes nothing."""
        spent = self._spent.get(key)
        if not spent or len(spent) < self._limit:
            return 0.0
        return max(spent[-self._limit] + self._window - now, 0.0)

    def spend(self, key: str, now: float) -> None:
        spent = self._spent.setdefault(key, deque(maxlen=self._limit))
        self._spent.move_to_end(key)
        if len(self._spent) > KEYS:
            self._spent.popitem(last=False)
        spent.append(now)

    def refund(self, key: str) -> None:
        """The last try was none of those that count."""
        spent = self._spent.get(key)
        if spent:
            spent.pop()
