"""Facts as Prometheus metrics, in a registry of their own.

Label values come from closed sets: enumerations, names of error classes, and account names, of
which the facts carry only those that exist. Past `MAX_ACCOUNTS` of them, and for a fact without
one, the label is "other".
"""

from __future__ import annotations

import platform
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

from proxy import __version__
from proxy.adapters.clock import SystemClock
from proxy.domain.facts import (
    BlobDamaged,
    CertificateLoaded,
    CertificateUnusable,
    DeviceEnrolled,
    Ending,
    Fact,
    ListingDoubted,
    LoginRefused,
    MessageSkipped,
    Purged,
    Refusal,
    SessionEnded,
    SyncFailed,
    SyncFinished,
    UidlsChanged,
    Unexpected,
)
from proxy.interfaces.world import Clock

PREFIX = "pop3_sync"

MAX_ACCOUNTS = 1000
"""Accounts with series of their own: each has about ten, and a server has to hold them all."""

OTHER = "other"

SESSION_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 30, 120, 600, 3600)
"""Seconds: from a poll that finds nothing to a session that is kept open."""

SYNC_BUCKETS = (0.05, 0.2, 0.5, 1, 2, 5, 10, 30, 120, 600, 3600)
"""Seconds: from an unchanged mailbox to the first sync of a large one."""


class PrometheusObserver:
    """Counts facts; `render` is the page that Prometheus fetches."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock` dates successful syncs; None: the machine's."""
        self._clock = clock or SystemClock()
        self._accounts: dict[str, str] = {}
        self.registry = CollectorRegistry()
        # When each counter began doubles the page and tells nothing the process's start does not.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self.registry)
        self._sessions = self._counter(
            "sessions", "Device sessions that ended, by how or by which limit.", "ended"
        )
        self._session_seconds = self._histogram(
            "session_seconds", "Length of device sessions.", SESSION_BUCKETS
        )
        self._refused = self._counter(
            "logins_refused", "Logins of devices that were refused, by why.", "why"
        )
        self._enrolled = self._counter("devices_enrolled", "Devices created by their first login.")
        self._retrieved = self._counter("messages_retrieved", "Messages sent whole to devices.")
        self._deleted = self._counter("messages_deleted", "Messages that devices deleted.")
        self._octets_in = self._counter("octets_received", "Octets received from devices.")
        self._octets_out = self._counter("octets_sent", "Octets sent to devices.")
        self._syncs = self._counter("syncs", "Upstream sessions.", "account", "result")
        self._sync_seconds = self._histogram(
            "sync_seconds", "Length of successful syncs.", SYNC_BUCKETS
        )
        self._fetched = self._counter("messages_fetched", "Messages fetched.", "account")
        self._octets_fetched = self._counter("octets_fetched", "Octets of them.", "account")
        self._expunged = self._counter("expunged", "Messages deleted upstream.", "account")
        self._unfetched = self._counter(
            "messages_unfetched", "Messages upstream listed but would not hand out.", "account"
        )
        self._errors = self._counter(
            "upstream_errors", "Syncs that failed, by kind of error.", "account", "kind"
        )
        self._success = self._gauge(
            "last_success_timestamp_seconds", "When the last successful sync ended.", "account"
        )
        self._doubted = self._counter(
            "listings_doubted", "Listings in which all known mail was missing.", "account"
        )
        self._skipped = self._counter(
            "messages_skipped", "Messages left upstream: too large, or malformed.", "account"
        )
        self._consent = self._gauge(
            "consent_needed", "1: a person has to authorize the account.", "account"
        )
        self._renamed = self._counter(
            "uidls_changed", "Known messages recognised under other UIDLs.", "account"
        )
        self._damaged = self._counter("blobs_damaged", "Stored messages missing or damaged.")
        self._purged = self._counter("messages_purged", "Messages removed from the store.")
        self._octets_purged = self._counter("octets_purged", "Octets of them.")
        self._certificate_end = self._gauge(
            "certificate_not_after_timestamp_seconds", "When our certificate expires."
        )
        self._certificate_errors = self._counter(
            "certificate_errors", "Changed certificates that could not be loaded."
        )
        self._unexpected = self._counter("unexpected_errors", "Errors nobody planned for: bugs.")
        # A series that appears with its first event shows no rate for it.
        for ended in get_args(Ending):
            self._sessions.labels(ended)
        for why in get_args(Refusal):
            self._refused.labels(why)
        self._gauge("build_info", "The program's version.", "version", "python").labels(
            __version__, platform.python_version()
        ).set(1)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

    def observe(self, fact: Fact) -> None:
        match fact:
            case SessionEnded():
                self._session_ended(fact)
            case SyncFinished():
                self._sync_finished(fact)
            case SyncFailed():
                account = self._label(fact.account)
                self._syncs.labels(account, "failed").inc()
                self._errors.labels(account, fact.kind).inc()
                self._consent.labels(account).set(fact.kind == "ConsentNeeded")
            case LoginRefused():
                self._refused.labels(fact.refusal).inc()
            case DeviceEnrolled():
                self._enrolled.inc()
            case ListingDoubted():
                self._doubted.labels(self._label(fact.account)).inc()
            case MessageSkipped():
                self._skipped.labels(self._label(fact.account)).inc()
            case UidlsChanged():
                self._renamed.labels(self._label(fact.account)).inc(fact.recognised)
            case BlobDamaged():
                self._damaged.inc()
            case Purged():
                self._purged.inc(fact.messages)
                self._octets_purged.inc(fact.octets)
            case CertificateLoaded():
                self._certificate_end.set(fact.not_after)
            case CertificateUnusable():
                self._certificate_errors.inc()
            case Unexpected():
                self._unexpected.inc()

    def _session_ended(self, fact: SessionEnded) -> None:
        self._sessions.labels(fact.ended).inc()
        self._session_seconds.observe(fact.seconds)
        self._retrieved.inc(fact.retrieved)
        self._deleted.inc(fact.deleted)
        self._octets_in.inc(fact.octets_in)
        self._octets_out.inc(fact.octets_out)

    def _sync_finished(self, fact: SyncFinished) -> None:
        account = self._label(fact.account)
        self._syncs.labels(account, "ok").inc()
        self._sync_seconds.observe(fact.seconds)
        self._fetched.labels(account).inc(fact.fetched)
        self._octets_fetched.labels(account).inc(fact.octets)
        self._expunged.labels(account).inc(fact.expunged)
        self._unfetched.labels(account).inc(fact.failed)
        self._consent.labels(account).set(0)
        if account != OTHER:
            self._success.labels(account).set(self._clock.now())

    def _label(self, account: str) -> str:
        if not account:
            return OTHER
        label = self._accounts.get(account)
        if label is None:
            if len(self._accounts) >= MAX_ACCOUNTS:
                return OTHER
            # A name may hold octets that are no text; the page has to be UTF-8.
            label = account.encode(errors="backslashreplace").decode()
            self._accounts[account] = label
        return label

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, namespace=PREFIX, registry=self.registry)

    def _gauge(self, name: str, help: str, *labels: str) -> Gauge:
        return Gauge(name, help, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help, buckets=buckets, namespace=PREFIX, registry=self.registry)
