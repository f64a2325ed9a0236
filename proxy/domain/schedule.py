"""When to sync next: pure functions of the past, the policy and one drawn number."""

from __future__ import annotations

from proxy.domain.errors import Permanent, ProxyError, UpstreamBusy, UpstreamUnusable
from proxy.domain.policy import HOUR, MINUTE

FIRST_RETRY = 30.0
"""Seconds after the first failure of the network's kind."""
FIRST_RETRY_REFUSED = 5 * MINUTE
"""Seconds after a refusal: providers lock accounts after a few wrong passwords."""
LONGEST_RETRY = HOUR

LOGIN_RETRY = 30.0
"""Seconds between two tries that logins of devices ask for while syncs of an account fail, or a
host cannot be reached: who looks for mail gets it soon after it is to be had again."""
LOGIN_RETRY_BUSY = 5 * MINUTE
"""The same at most, where upstream says "not now" and names no time."""

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


def login_retry_delay(error: ProxyError, delay: float, *, shown: bool) -> float:
    """Seconds until a login of a device may have it tried again; the background waits for `delay`.

    `shown`: upstream may have seen the password. What it then refuses is not asked again and again
    by an eager mail program, lest the provider lock the account. Times that it names are kept.
    """
    if isinstance(error, Permanent):
        harmless = isinstance(error, UpstreamUnusable) and not shown
        return min(delay, LOGIN_RETRY) if harmless else delay
    if isinstance(error, UpstreamBusy):
        return min(delay, max(LOGIN_RETRY_BUSY, error.retry_after or 0.0))
    return min(delay, LOGIN_RETRY)


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
