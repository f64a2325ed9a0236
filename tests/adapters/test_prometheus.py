"""Facts and states as metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy import __version__
from proxy.adapters import prometheus_gauges, prometheus_labels
from proxy.adapters.prometheus import PrometheusObserver
from proxy.domain.facts import (
    AlertFailed,
    AlertSent,
    BlobDamaged,
    CertificateLoaded,
    CertificateUnusable,
    DeviceEnrolled,
    DeviceRefused,
    DeviceUsed,
    Fact,
    ListingDoubted,
    LoggedIn,
    LoginPutOff,
    LoginRefused,
    LoginUnasked,
    MessageFetched,
    MessageSkipped,
    MessagesSetAside,
    Purged,
    SentCopyMissing,
    SentCopyStored,
    SessionEnded,
    SessionStarted,
    SmtpSessionEnded,
    SubmissionEnded,
    SyncFailed,
    SyncFinished,
    TroubleBegan,
    TroubleOver,
    UidlsChanged,
    Unexpected,
    UpstreamLoggedIn,
)
from proxy.domain.labels import metrics_label
from proxy.domain.survey import AccountState, DeviceState, Load, Space

FACTS: list[Fact] = [
    SessionEnded("::1", "alice", "laptop", "", "quit", 3, 1, 120, 4096, 0.25, {"RETR": 3}),
    LoggedIn("alice", "laptop", 0.03),
    LoginPutOff("::1", "alice", "UpstreamUnreachable", "refused"),
    LoginRefused("::1", "mallory", "credentials", "no such account"),
    LoginUnasked("::1", "alice", "too_many_upstream", "asked again in 9 s"),
    DeviceRefused("::1", "alice", "name this device"),
    DeviceUsed("::1", "alice", "default", named=False),
    DeviceEnrolled("alice", "laptop"),
    UpstreamLoggedIn("alice", 0.2),
    MessageFetched("alice", 999, 0.04),
    SyncFinished("alice", 10, 5, 999, 2, 1, 1, 1.5),
    SyncFailed("alice", "UpstreamBusy", "try later", 60.0),
    MessageSkipped("alice", "u1", 999, "too large"),
    UidlsChanged("alice", 10, 1),
    ListingDoubted("alice", 10),
    BlobDamaged("alice", 7),
    Purged("alice", 3, 99),
    TroubleBegan("alice", "no_sync", True),
    AlertSent(1),
    AlertFailed("no connection", 60.0),
    CertificateLoaded("mail.lan", "AB:CD", 1.8e9),
    CertificateUnusable("no certificate"),
    SmtpSessionEnded("::1", "alice", "laptop", "", "quit", 1, 999, 120, 0.5),
    SubmissionEnded("alice", "laptop", "accepted", "250 2.0.0 fine", 1, 888, 0.4),
    SentCopyStored("alice", "laptop"),
    SentCopyMissing("alice", "laptop", "StoreUnavailable: disk full"),
    Unexpected("janitor", RuntimeError("boom")),
]

LAPTOP = DeviceState("laptop", 3, 1_700_000_000.0)

STATE = AccountState(
    name="alice",
    messages=7,
    octets=7000,
    upstream_messages=9,
    synced_at=1_700_000_100.0,
    sync_interval=300.0,
    consent_needed=True,
    login_refused=False,
    devices=(LAPTOP, DeviceState("new", 7, None)),
)

LOAD = Load(1, 2, 3, 4, 5)

ALICE = {"account": "alice"}

Labels = dict[str, str]


def observer(*facts: Fact, label_key: bytes | None = None) -> PrometheusObserver:
    made = PrometheusObserver(label_key)
    for fact in facts:
        made.observe(fact)
    return made


def showing(*states: AccountState) -> PrometheusObserver:
    made = observer()
    made.follow(lambda: LOAD, lambda: Space(10, 100))
    made.show(states)
    return made


def samples(made: PrometheusObserver) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The page as a scraper reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(made.render().decode())
        for sample in family.samples
    }


def values(made: PrometheusObserver, name: str, label: str = "account") -> dict[str, float]:
    """The series of a metric, by one of its labels."""
    return {
        dict(labels)[label]: value
        for (key, labels), value in samples(made).items()
        if key == f"pop3_sync_{name}"
    }


def value(made: PrometheusObserver, name: str, labels: Labels | None = None) -> float:
    return samples(made)[f"pop3_sync_{name}", frozenset((labels or {}).items())]


def test_every_kind_of_fact_changes_the_page() -> None:
    assert {type(fact) for fact in FACTS} == set(get_args(Fact)) - {
        SessionStarted,
        MessagesSetAside,
        TroubleOver,
    }
    idle = {key for key, count in samples(observer()).items() if count}
    for fact in FACTS:
        assert {key for key, count in samples(observer(fact)).items() if count} - idle, fact


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("sessions_total", {"ended": "quit"}, 1),
        ("session_duration_seconds_sum", {}, 0.25),
        ("session_duration_seconds_count", {}, 1),
        ("session_duration_seconds_bucket", {"le": "0.1"}, 0),
        ("session_duration_seconds_bucket", {"le": "0.5"}, 1),
        ("logins_total", {"result": "accepted"}, 1),
        ("logins_total", {"result": "unavailable"}, 1),
        ("logins_total", {"result": "credentials"}, 1),
        ("logins_total", {"result": "too_many_failures"}, 0),
        ("login_duration_seconds_sum", {}, 0.03),
        ("commands_total", {"command": "RETR"}, 3),
        ("commands_total", {"command": "STAT"}, 0),
        ("certificate_not_after_timestamp_seconds", {}, 1.8e9),
        ("certificate_errors_total", {}, 1),
        ("devices_enrolled_total", {}, 1),
        ("messages_retrieved_total", {}, 3),
        ("messages_deleted_total", {}, 1),
        ("device_received_bytes_total", {}, 120),
        ("device_sent_bytes_total", {}, 4096),
        ("syncs_total", ALICE | {"result": "ok"}, 1),
        ("syncs_total", ALICE | {"result": "failed"}, 1),
        ("sync_duration_seconds_sum", {}, 1.5),
        ("upstream_login_duration_seconds_sum", {}, 0.2),
        ("fetch_duration_seconds_sum", {}, 0.04),
        ("messages_fetched_total", ALICE, 1),
        ("fetched_bytes_total", ALICE, 999),
        ("messages_expunged_total", ALICE, 2),
        ("messages_unfetched_total", ALICE, 1),
        ("messages_skipped_total", ALICE, 1),
        ("upstream_errors_total", ALICE | {"kind": "UpstreamBusy"}, 1),
        ("uidls_changed_total", ALICE, 10),
        ("listings_doubted_total", ALICE, 1),
        ("blobs_damaged_total", {}, 1),
        ("messages_purged_total", {}, 3),
        ("purged_bytes_total", {}, 99),
        ("unexpected_errors_total", {}, 1),
        ("smtp_sessions_total", {"ended": "quit"}, 1),
        ("submissions_total", {"result": "accepted"}, 1),
        ("submissions_total", {"result": "failed"}, 0),
        ("submitted_bytes_total", {}, 888),
        ("sent_copies_total", {"result": "stored"}, 1),
        ("sent_copies_total", {"result": "missing"}, 1),
        ("submission_duration_seconds_sum", {}, 0.4),
    ],
)
def test_a_metric_counts_its_facts(name: str, labels: Labels, expected: float) -> None:
    assert value(observer(*FACTS), name, labels) == expected


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("sessions_open", {"state": "logged_in"}, 1),
        ("sessions_open", {"state": "stranger"}, 2),
        ("upstream_sessions_open", {}, 3),
        ("syncs_waiting", {}, 4),
        ("store_commits_waiting", {}, 5),
        ("store_free_bytes", {}, 10),
        ("store_size_bytes", {}, 100),
        ("store_messages", ALICE, 7),
        ("store_bytes", ALICE, 7000),
        ("upstream_messages", ALICE, 9),
        ("last_sync_success_timestamp_seconds", ALICE, 1_700_000_100),
        ("sync_interval_seconds", ALICE, 300),
        ("consent_needed", ALICE, 1),
        ("upstream_login_refused", ALICE, 0),
        ("backlog_messages", ALICE | {"device": "laptop"}, 3),
        ("device_last_seen_timestamp_seconds", ALICE | {"device": "laptop"}, 1_700_000_000),
        ("backlog_messages", ALICE | {"device": "new"}, 7),
    ],
)
def test_a_gauge_shows_the_state(name: str, labels: Labels, expected: float) -> None:
    assert value(showing(STATE), name, labels) == expected


def test_what_is_not_known_has_no_series() -> None:
    made = showing(replace(STATE, upstream_messages=None, sync_interval=None))
    made.follow(lambda: LOAD, lambda: None)
    names = {name for name, _ in samples(made)}
    for name in ("upstream_messages", "sync_interval_seconds", "store_free_bytes"):
        assert f"pop3_sync_{name}" not in names
    assert "pop3_sync_certificate_not_after_timestamp_seconds" not in names
    assert values(made, "device_last_seen_timestamp_seconds", "device").keys() == {"laptop"}


def test_an_account_that_was_never_synced_says_zero() -> None:
    made = showing(replace(STATE, synced_at=0.0))
    assert value(made, "last_sync_success_timestamp_seconds", ALICE) == 0


def test_what_is_gone_has_no_gauge_any_more() -> None:
    made = showing(STATE, replace(STATE, name="bob"))
    made.show([replace(STATE, devices=(LAPTOP,))])
    assert values(made, "store_messages") == {"alice": 7}
    assert values(made, "backlog_messages", "device") == {"laptop": 3}


def test_an_account_has_its_counters_before_the_first_event() -> None:
    made = showing(STATE)
    assert value(made, "syncs_total", ALICE | {"result": "failed"}) == 0
    assert value(made, "messages_fetched_total", ALICE) == 0


def test_how_late_the_event_loop_is_is_counted() -> None:
    made = observer()
    made.timer_was_late(0.3)
    assert value(made, "event_loop_lag_seconds_bucket", {"le": "0.1"}) == 0
    assert value(made, "event_loop_lag_seconds_bucket", {"le": "0.5"}) == 1


def test_the_build_is_named() -> None:
    assert values(observer(), "build_info", "version") == {__version__: 1}


# --- labels -------------------------------------------------------------------------------------


def test_names_of_accounts_are_not_shown_unless_that_is_wanted() -> None:
    made = observer(*FACTS, label_key=b"key")
    made.show([STATE])
    assert "alice" not in made.render().decode()
    # printf %s alice | openssl dgst -sha256 -hmac key
    assert values(made, "messages_fetched_total") == {"76fb55e9": 1}
    assert values(made, "store_messages") == {"76fb55e9": 7}


def test_who_has_not_the_key_cannot_tell_whose_label_it_is() -> None:
    labels = {metrics_label("alice", key) for key in (b"one store's", b"another's")}
    assert len(labels) == 2
    assert hashlib.sha256(b"alice").hexdigest()[:8] not in labels


def test_a_refused_login_adds_no_series() -> None:
    made = observer(LoginRefused("::1", "first", "credentials", "no such account"))
    before = samples(made).keys()
    made.observe(LoginRefused("::2", "second", "credentials", "wrong password"))
    made.observe(LoginPutOff("::2", "third", "UpstreamBusy", "later"))
    assert samples(made).keys() == before


def test_a_failed_sync_of_nobody_is_counted_under_other() -> None:
    made = observer(SyncFailed("", "UpstreamRefusedLogin", "no", 0.0))
    assert value(made, "syncs_total", {"account": "other", "result": "failed"}) == 1


def test_accounts_past_the_limit_share_one_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_labels, "MAX_ACCOUNTS", 2)
    made = observer(*(MessageFetched(name, 9, 1.0) for name in "abcda"))
    assert values(made, "messages_fetched_total") == {"a": 2, "b": 1, "other": 2}
    made.show([replace(STATE, name=name) for name in "abcd"])
    assert values(made, "store_messages").keys() == {"a", "b"}


def test_devices_past_the_limit_have_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_gauges, "MAX_DEVICES", 3)
    made = showing(STATE, replace(STATE, name="bob"))
    page = made.render().decode()
    assert page.count("pop3_sync_backlog_messages{") == 3


def one_label(_: str, key: bytes | None) -> str:
    return "same"


def test_accounts_that_happen_to_share_a_label_do_not_break_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prometheus_labels, "metrics_label", one_label)
    made = showing(STATE, replace(STATE, name="bob"))
    assert made.render().decode().count("pop3_sync_store_messages{") == 1


@pytest.mark.parametrize("name", ['a"b\nc\\', "\udc80", "caf\xe9"])
@pytest.mark.parametrize("key", [None, b"key"])
def test_a_strange_account_name_does_not_break_the_page(name: str, key: bytes | None) -> None:
    made = observer(MessageFetched(name, 9, 1.0), label_key=key)
    assert values(made, "messages_fetched_total") == {metrics_label(name, key): 1}


def test_two_observers_do_not_share_their_counts() -> None:
    first, second = observer(*FACTS), observer()
    assert value(first, "devices_enrolled_total") == 1
    assert value(second, "devices_enrolled_total") == 0


@pytest.mark.parametrize("page", [lambda: observer(*FACTS), lambda: showing(STATE)])
def test_the_page_is_utf_8_text_that_ends_a_line(page: Callable[[], PrometheusObserver]) -> None:
    assert page().render().decode().endswith("\n")
