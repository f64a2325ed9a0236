"""When to sync next: pure functions of the past, the policy and one drawn number."""

from __future__ import annotations

from proxy.domain.errors import Permanent, ProxyError, UpstreamBusy
from proxy.domain.policy import HOUR, MINUTE

FIRST_RETRY = 30.0
"""Seconds after the first failure of the network's kind."""
FIRST_RETRY_REFUSED = 5 * MINUTE
"""Seconds after a refusal: providers lock accounts after a few wrong passwords."""
LONGEST_RETRY = HOUR

INTERVALS = tuple(minutes * MINUTE for minutes in (1, 2, 3, 5, 10, 15, 20, 30))
"""What providers set as the least time between two logins."""
FIRST_INTERVAL = 5 * MINUTE
LONGEST_INTERVAL = HOUR


def retry_delay(error: ProxyError, failures: int, draw: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1 is the first).

    Doubles with each; `draw` in [0, 1) spreads accounts that failed together by up to a quarter.
    What upstream asked for is the least (RFC 2449 §8.1.2, LOGIN-DELAY).
    """
    first = FIRST_RETRY_REFUSED if isinstance(error, Permanent) else FIRST_RETRY
    delay = min(first * 2.0 ** min(failures - 1, 16), LONGEST_RETRY) * (1 + draw / 4)
    if isinstance(error, UpstreamBusy) and error.retry_after is not None:
        return max(delay, error.retry_after)
    return delay


def learnt_interval(known: float, since_login: float | None, stated: float | None) -> float:
    """Seconds to leave between two logins from now on, after one was refused for coming too soon.

    `known` is what was left so far, `since_login` how long ago the last accepted login was (None:
    not known), `stated` what the refusal says, if it says anything.
    """
    if stated is not None:
        return max(known, min(stated, LONGEST_INTERVAL))
    if since_login is None:
        return max(known, FIRST_INTERVAL)
    return max(known, next((s for s in INTERVALS if s > since_login), LONGEST_INTERVAL))


def next_interval(interval: float, login_delay: float, draw: float) -> float:
    """Seconds between two background syncs: the interval give or take a tenth.

    Never less than upstream's LOGIN-DELAY (RFC 2449 §6.5).
    """
    return max(interval * (0.9 + draw / 5), login_delay)
