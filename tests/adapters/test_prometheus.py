"""Facts as metrics."""

from __future__ import annotations

from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy import __version__
from proxy.adapters import prometheus
from proxy.adapters.prometheus import PrometheusObserver
from proxy.domain.facts import (
    BlobDamaged,
    CertificateLoaded,
    CertificateUnusable,
    DeviceEnrolled,
    Fact,
    ListingDoubted,
    LoginRefused,
    MessageSkipped,
    Purged,
    SessionEnded,
    SessionStarted,
    SyncFailed,
    SyncFinished,
    SyncStarted,
    UidlsChanged,
    Unexpected,
)

FACTS: list[Fact] = [
    SessionEnded("::1", "alice", "laptop", "TLSv1.3", "quit", 3, 1, 120, 4096, 0.25),
    LoginRefused("::1", "mallory", "credentials", "no such account"),
    DeviceEnrolled("alice", "laptop"),
    SyncFinished("alice", 10, 5, 999, 2, 1, 1, 1.5),
    SyncFailed("alice", "UpstreamBusy", "try later", 60.0),
    MessageSkipped("alice", "u1", 999, "too large"),
    UidlsChanged("alice", 10, 1),
    ListingDoubted("alice", 10),
    BlobDamaged("alice", 7),
    Purged("alice", 3, 99),
    CertificateLoaded("mail.lan", "AB:CD", 1.8e9),
    CertificateUnusable("no certificate"),
    Unexpected("janitor", RuntimeError("boom")),
]

ALICE = {"account": "alice"}


class StoppedClock:
    def now(self) -> float:
        return 1000.0


def observer(*facts: Fact) -> PrometheusObserver:
    made = PrometheusObserver(StoppedClock())
    for fact in facts:
        made.observe(fact)
    return made


def samples(made: PrometheusObserver) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The page as a scraper reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(made.render().decode())
        for sample in family.samples
    }


def value(made: PrometheusObserver, name: str, labels: dict[str, str] | None = None) -> float:
    return samples(made)[f"pop3_sync_{name}", frozenset((labels or {}).items())]


def test_every_kind_of_fact_changes_the_page() -> None:
    assert {type(fact) for fact in FACTS} == set(get_args(Fact)) - {SessionStarted, SyncStarted}
    idle = {key for key, count in samples(observer()).items() if count}
    for fact in FACTS:
        assert {key for key, count in samples(observer(fact)).items() if count} - idle, fact


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("sessions_total", {"ended": "quit"}, 1),
        ("session_seconds_sum", {}, 0.25),
        ("session_seconds_count", {}, 1),
        ("session_seconds_bucket", {"le": "0.1"}, 0),
        ("session_seconds_bucket", {"le": "0.5"}, 1),
        ("logins_refused_total", {"why": "credentials"}, 1),
        ("logins_refused_total", {"why": "too_many_failures"}, 0),
        ("certificate_not_after_timestamp_seconds", {}, 1.8e9),
        ("certificate_errors_total", {}, 1),
        ("devices_enrolled_total", {}, 1),
        ("messages_retrieved_total", {}, 3),
        ("messages_deleted_total", {}, 1),
        ("octets_received_total", {}, 120),
        ("octets_sent_total", {}, 4096),
        ("syncs_total", ALICE | {"result": "ok"}, 1),
        ("syncs_total", ALICE | {"result": "failed"}, 1),
        ("sync_seconds_sum", {}, 1.5),
        ("messages_fetched_total", ALICE, 5),
        ("octets_fetched_total", ALICE, 999),
        ("expunged_total", ALICE, 2),
        ("messages_unfetched_total", ALICE, 1),
        ("upstream_errors_total", ALICE | {"kind": "UpstreamBusy"}, 1),
        ("last_success_timestamp_seconds", ALICE, 1000),
        ("listings_doubted_total", ALICE, 1),
        ("blobs_damaged_total", {}, 1),
        ("messages_purged_total", {}, 3),
        ("octets_purged_total", {}, 99),
        ("unexpected_errors_total", {}, 1),
    ],
)
def test_a_metric_counts_its_facts(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(observer(*FACTS), name, labels) == expected


def test_the_build_is_named() -> None:
    (labels,) = (
        dict(labels) for name, labels in samples(observer()) if name == "pop3_sync_build_info"
    )
    assert labels["version"] == __version__


def test_a_refused_login_adds_no_series() -> None:
    made = observer(LoginRefused("::1", "first", "credentials", "no such account"))
    before = samples(made).keys()
    made.observe(LoginRefused("::2", "second", "credentials", "wrong password"))
    assert samples(made).keys() == before


def test_a_failed_sync_of_nobody_is_counted_under_other() -> None:
    made = observer(SyncFailed("", "UpstreamRefusedLogin", "no", 0.0))
    assert value(made, "syncs_total", {"account": "other", "result": "failed"}) == 1


def test_accounts_past_the_limit_share_one_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "MAX_ACCOUNTS", 2)
    made = observer(*(SyncFinished(name, 1, 1, 9, 0, 0, 0, 1.0) for name in "abcda"))
    fetched = {
        dict(labels)["account"]: count
        for (name, labels), count in samples(made).items()
        if name == "pop3_sync_messages_fetched_total"
    }
    assert fetched == {"a": 2, "b": 1, "other": 2}
    dated = {
        dict(labels)["account"]
        for name, labels in samples(made)
        if name == "pop3_sync_last_success_timestamp_seconds"
    }
    assert dated == {"a", "b"}


@pytest.mark.parametrize("name", ['a"b\nc\\', "\udc80", "caf\xe9"])
def test_a_strange_account_name_does_not_break_the_page(name: str) -> None:
    made = observer(SyncFinished(name, 1, 1, 9, 0, 0, 0, 1.0))
    label = name.encode(errors="backslashreplace").decode()
    assert value(made, "messages_fetched_total", {"account": label}) == 1


def test_two_observers_do_not_share_their_counts() -> None:
    first, second = observer(*FACTS), observer()
    assert value(first, "devices_enrolled_total") == 1
    assert value(second, "devices_enrolled_total") == 0
