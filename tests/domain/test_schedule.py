"""Back-off and intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.errors import (
    ConsentNeeded,
    ProxyError,
    UpstreamBusy,
    UpstreamRefusedLogin,
    UpstreamUnreachable,
    UpstreamUnusable,
)
from proxy.domain.schedule import (
    FIRST_RETRY,
    FIRST_RETRY_REFUSED,
    LOGIN_RETRY,
    LOGIN_RETRY_BUSY,
    LONGEST_RETRY,
    learnt_interval,
    login_retry_delay,
    next_interval,
    retry_delay,
)

draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), draws)
def test_back_off_grows_and_stays_bounded(failures: int, draw: float) -> None:
    delay = retry_delay(UpstreamUnreachable(), failures, draw)
    assert FIRST_RETRY <= delay <= LONGEST_RETRY * 1.25
    assert retry_delay(UpstreamUnreachable(), failures + 1, draw) >= delay


def test_a_refused_password_is_tried_less_often_than_a_broken_line() -> None:
    assert retry_delay(UpstreamRefusedLogin(), 1, 0) == FIRST_RETRY_REFUSED
    assert retry_delay(UpstreamUnreachable(), 1, 0) == FIRST_RETRY


def test_what_upstream_asked_for_is_the_least() -> None:
    assert retry_delay(UpstreamBusy("later", retry_after=900), 1, 0) == 900


@pytest.mark.parametrize(
    ("error", "shown", "delay", "expected"),
    [
        (UpstreamUnreachable(), False, 3600.0, LOGIN_RETRY),
        (UpstreamUnreachable(), True, 3600.0, LOGIN_RETRY),
        (UpstreamUnusable(), False, 3600.0, LOGIN_RETRY),
        (UpstreamUnusable(), True, 3600.0, 3600.0),
        (UpstreamRefusedLogin(), True, 3600.0, 3600.0),
        (ConsentNeeded(), False, 3600.0, 3600.0),
        (UpstreamBusy("later"), True, 60.0, 60.0),
        (UpstreamBusy("later"), True, 3600.0, LOGIN_RETRY_BUSY),
        (UpstreamBusy("later", retry_after=900), True, 3600.0, 900.0),
    ],
)
def test_a_login_may_have_it_tried_sooner_where_that_does_no_harm(
    error: ProxyError, shown: bool, delay: float, expected: float
) -> None:
    assert login_retry_delay(error, delay, shown=shown) == expected


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 270), (0.5, 300)])
def test_the_interval_is_spread_by_a_tenth(draw: float, expected: float) -> None:
    assert next_interval(300, 0, draw) == pytest.approx(expected)


@given(draws)
def test_login_delay_is_honoured(draw: float) -> None:
    """RFC 2449 §6.5."""
    assert next_interval(300, 900, draw) == 900


@pytest.mark.parametrize(
    ("known", "since", "stated", "learnt"),
    [
        (0, None, None, 300),
        (600, None, None, 600),
        (0, 100, None, 120),
        (0, 299, None, 300),
        (0, 900, None, 1200),
        (0, 5000, None, 3600),
        (0, 60, 900, 900),
        (1800, 60, 900, 1800),
        (0, 60, 90_000, 3600),
    ],
)
def test_a_refusal_teaches_the_next_longer_interval_or_the_one_it_names(
    known: float, since: float | None, stated: float | None, learnt: float
) -> None:
    assert learnt_interval(known, since, stated) == learnt
