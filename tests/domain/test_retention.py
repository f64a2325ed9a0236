"""When a message may leave the upstream, and when the store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.model import Holding
from proxy.domain.policy import DAY, RetentionPolicy, Seconds, UpstreamRetention
from proxy.domain.retention import due_locally, due_upstream, wants_upstream_deletions

NOW = 1_000 * DAY

HELD = Holding(
    message_id=1,
    digest=b"",
    fetched_ran=NOW - 10 * DAY,
    deleted_everywhere=False,
    waiting=0,
    having=1,
    left_ran=None,
    last_delivery_ran=None,
)


def policy(upstream: UpstreamRetention) -> RetentionPolicy:
    return RetentionPolicy(upstream=upstream, upstream_age=Seconds(30 * DAY))


holdings = st.builds(
    Holding,
    message_id=st.just(1),
    digest=st.just(b""),
    fetched_ran=st.floats(NOW - 100 * DAY, NOW),
    deleted_everywhere=st.booleans(),
    waiting=st.integers(0, 3),
    having=st.integers(0, 3),
    left_ran=st.none() | st.floats(NOW - 100 * DAY, NOW),
    last_delivery_ran=st.none() | st.floats(NOW - 100 * DAY, NOW),
)


@given(holdings)
def test_keep_never_deletes_upstream_but_for_a_delete_everywhere(holding: Holding) -> None:
    assert due_upstream(holding, policy("keep"), NOW) == holding.deleted_everywhere


@given(holdings)
def test_delivered_deletes_only_what_some_device_has_and_none_waits_for(holding: Holding) -> None:
    holding = replace(holding, deleted_everywhere=False)
    due = due_upstream(holding, policy("delivered"), NOW)
    assert due == (holding.waiting == 0 and holding.having > 0)


def test_an_account_without_devices_keeps_its_mail_upstream() -> None:
    nobody = replace(HELD, having=0, waiting=0)
    assert not due_upstream(nobody, policy("delivered"), NOW)


@pytest.mark.parametrize(("days", "due"), [(29, False), (30, True), (31, True)])
def test_age_counts_from_the_fetch(days: int, due: bool) -> None:
    old = replace(HELD, fetched_ran=NOW - days * DAY, having=0, waiting=2)
    assert due_upstream(old, policy("age"), NOW) is due
    assert due_upstream(old, policy("delivered-or-age"), NOW) is due


@given(holdings)
def test_delivered_or_age_is_either(holding: Holding) -> None:
    either = due_upstream(holding, policy("delivered"), NOW) or due_upstream(
        holding, policy("age"), NOW
    )
    assert due_upstream(holding, policy("delivered-or-age"), NOW) == either


@given(holdings)
def test_the_store_keeps_what_is_upstream_or_waited_for(holding: Holding) -> None:
    if due_locally(holding, policy("keep"), NOW):
        assert holding.left_ran is not None
        assert holding.waiting == 0


@pytest.mark.parametrize(
    ("left", "delivered", "due"),
    [(31, None, True), (29, None, False), (31, 29, False), (29, 31, False), (31, 31, True)],
)
def test_local_keep_counts_from_the_last_use(left: int, delivered: int | None, due: bool) -> None:
    holding = replace(
        HELD,
        left_ran=NOW - left * DAY,
        last_delivery_ran=None if delivered is None else NOW - delivered * DAY,
    )
    assert due_locally(holding, RetentionPolicy(local_keep=Seconds(30 * DAY)), NOW) is due


def test_only_policies_that_delete_look_for_what_is_due() -> None:
    assert not wants_upstream_deletions(RetentionPolicy())
    assert wants_upstream_deletions(RetentionPolicy(on_delete="everywhere"))
    assert wants_upstream_deletions(RetentionPolicy(upstream="age"))
