"""Facts as Prometheus metrics, in a registry of their own; docs/metrics.md lists them all.

Label values come from closed sets: enumerations, names of error classes, and accounts and devices
that exist. `AccountLabels` bounds how many of those there are.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
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
from proxy.adapters.prometheus_gauges import Gauges
from proxy.adapters.prometheus_labels import PREFIX, AccountLabels
from proxy.adapters.prometheus_submission import SubmissionMetrics
from proxy.domain.facts import (
    AlertFailed,
    AlertSent,
    BlobDamaged,
    CertificateLoaded,
    CertificateUnusable,
    Command,
    DeviceEnrolled,
    DeviceRefused,
    DeviceUsed,
    Ending,
    Fact,
    ListingDoubted,
    LoggedIn,
    LoginPutOff,
    LoginRefused,
    LoginUnasked,
    MessageFetched,
    MessageSkipped,
    Purged,
    Refusal,
    SessionEnded,
    SyncFailed,
    SyncFinished,
    TroubleBegan,
    UidlsChanged,
    Unasked,
    Unexpected,
    UpstreamLoggedIn,
)
from proxy.domain.survey import AccountState, Load, Space
from proxy.domain.trouble import TroubleKind

ACCEPTED, DEVICE, UNAVAILABLE = "accepted", "device", "unavailable"
"""Results of logins, beside `Refusal` and `Unasked`; the second for who may not come as that
device, the third for who is told to try again later."""

# Upper bounds in seconds.
SESSION_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 30, 120, 600, 3600)
"""From a poll that finds nothing to a session that is kept open."""
LOGIN_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60)
"""From a login that needs nobody to one that waits for a sync."""
SYNC_BUCKETS = (0.05, 0.2, 0.5, 1, 2, 5, 10, 30, 120, 600, 3600)
"""From an unchanged mailbox to the first sync of a large one."""
UPSTREAM_LOGIN_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300)
FETCH_BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 2, 10, 60, 600)
"""From a small message that was asked for ahead to a large one over a slow line."""
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)


class PrometheusObserver:
    """Counts facts and shows states; `render` is the page that Prometheus fetches."""

    def __init__(self, label_key: bytes | None) -> None:
        """`label_key`: what labels are made with; None: they name accounts as they are called."""
        self._labels = AccountLabels(label_key)
        self.registry = CollectorRegistry()
        # When each counter began doubles the page and tells nothing the process's start does not.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self.registry)
        Gauge(
            "build_info",
            "The program's version.",
            ["version", "python"],
            namespace=PREFIX,
            registry=self.registry,
        ).labels(__version__, platform.python_version()).set(1)
        self._gauges = Gauges(self._labels)
        self.registry.register(self._gauges)
        self._make_metrics_of_devices()
        self._make_metrics_of_upstreams()
        self._make_metrics_of_the_process()
        self._make_metrics_of_troubles()
        self._submission = SubmissionMetrics(self.registry)

    def _make_metrics_of_devices(self) -> None:
        self._sessions = self._counter(
            "sessions", "Device sessions that ended, by how or by which limit.", "ended"
        )
        self._session_seconds = self._histogram(
            "session_duration_seconds", "Length of device sessions.", SESSION_BUCKETS
        )
        self._logins = self._counter("logins", "Logins of devices, by what came of them.", "result")
        self._login_seconds = self._histogram(
            "login_duration_seconds",
            "Time that accepted logins of devices took, a sync they waited for included.",
            LOGIN_BUCKETS,
        )
        self._commands = self._counter(
            "commands", "Commands of sessions that ended, the refused ones too.", "command"
        )
        self._retrieved = self._counter("messages_retrieved", "Messages sent whole to devices.")
        self._deleted = self._counter("messages_deleted", "Messages that devices deleted.")
        self._octets_in = self._counter("device_received_bytes", "Octets received from devices.")
        self._octets_out = self._counter("device_sent_bytes", "Octets sent to devices.")
        self._enrolled = self._counter("devices_enrolled", "Devices created by their first login.")
        self._unnamed = self._counter(
            "logins_unnamed", "Accepted logins for reading that nothing gave a device's name."
        )
        # A series that appears with its first event shows no rate for it.
        for ended in get_args(Ending):
            self._sessions.labels(ended)
        for result in (ACCEPTED, DEVICE, UNAVAILABLE, *get_args(Refusal), *get_args(Unasked)):
            self._logins.labels(result)
        for command in get_args(Command):
            self._commands.labels(command)

    def _make_metrics_of_upstreams(self) -> None:
        self._syncs = self._counter("syncs", "Syncs, by what came of them.", "account", "result")
        self._sync_seconds = self._histogram(
            "sync_duration_seconds", "Length of successful syncs.", SYNC_BUCKETS
        )
        self._upstream_login_seconds = self._histogram(
            "upstream_login_duration_seconds",
            "Time from connecting to upstream until it accepted the login.",
            UPSTREAM_LOGIN_BUCKETS,
        )
        self._fetch_seconds = self._histogram(
            "fetch_duration_seconds",
            "Time from waiting for a message to its last octet.",
            FETCH_BUCKETS,
        )
        self._fetched = self._counter("messages_fetched", "Messages fetched.", "account")
        self._octets_fetched = self._counter(
            "fetched_bytes", "Octets of the messages fetched.", "account"
        )
        self._expunged = self._counter("messages_expunged", "Messages deleted upstream.", "account")
        self._unfetched = self._counter(
            "messages_unfetched", "Messages upstream listed that a sync did not fetch.", "account"
        )
        self._skipped = self._counter(
            "messages_skipped", "Messages left upstream: too large, or malformed.", "account"
        )
        self._errors = self._counter(
            "upstream_errors", "Syncs that failed, by kind of error.", "account", "kind"
        )
        self._renamed = self._counter(
            "uidls_changed", "Known messages recognised under other UIDLs.", "account"
        )
        self._doubted = self._counter(
            "listings_doubted", "Listings in which most known mail was missing.", "account"
        )
        self._by_account = (
            self._fetched,
            self._octets_fetched,
            self._expunged,
            self._unfetched,
            self._skipped,
            self._renamed,
            self._doubted,
        )

    def _make_metrics_of_the_process(self) -> None:
        self._damaged = self._counter("blobs_damaged", "Stored messages missing or damaged.")
        self._purged = self._counter("messages_purged", "Messages removed from the store.")
        self._octets_purged = self._counter("purged_bytes", "Octets of the messages removed.")
        self._certificate_errors = self._counter(
            "certificate_errors", "Changed certificates that could not be loaded."
        )
        self._unexpected = self._counter("unexpected_errors", "Errors nobody planned for: bugs.")
        self._lag = self._histogram(
            "event_loop_lag_seconds", "How late a timer of one second fires.", LAG_BUCKETS
        )

    def _make_metrics_of_troubles(self) -> None:
        self._notices = self._counter(
            "notices", "Messages put into maildrops about troubles.", "trouble"
        )
        self._alerts = self._counter(
            "alerts", "Mails to the operator, by what came of them.", "result"
        )
        for trouble in get_args(TroubleKind):
            self._notices.labels(trouble)
        for result in ("sent", "failed"):
            self._alerts.labels(result)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

    def follow(self, load: Callable[[], Load], space: Callable[[], Space | None]) -> None:
        """Show these, asked for with every page."""
        self._gauges.load, self._gauges.space = load, space

    def show(self, accounts: Iterable[AccountState]) -> None:
        """Show this state until the next one."""
        for label in self._gauges.show(accounts):
            for result in ("ok", "failed"):
                self._syncs.labels(label, result)
            for counter in self._by_account:
                counter.labels(label)

    def timer_was_late(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def observe(self, fact: Fact) -> None:
        match fact:
            case MessageFetched():
                account = self._labels.of(fact.account)
                self._fetched.labels(account).inc()
                self._octets_fetched.labels(account).inc(fact.octets)
                self._fetch_seconds.observe(fact.seconds)
            case SessionEnded():
                self._session_ended(fact)
            case LoggedIn():
                self._logins.labels(ACCEPTED).inc()
                self._login_seconds.observe(fact.seconds)
            case LoginPutOff():
                self._logins.labels(UNAVAILABLE).inc()
            case LoginRefused():
                self._logins.labels(fact.refusal).inc()
            case LoginUnasked():
                self._logins.labels(fact.why).inc()
            case DeviceRefused():
                self._logins.labels(DEVICE).inc()
            case DeviceUsed():
                self._unnamed.inc(not fact.named)
            case DeviceEnrolled():
                self._enrolled.inc()
            case SyncFinished():
                self._sync_finished(fact)
            case SyncFailed():
                account = self._labels.of(fact.account)
                self._syncs.labels(account, "failed").inc()
                self._errors.labels(account, fact.kind).inc()
            case UpstreamLoggedIn():
                self._upstream_login_seconds.observe(fact.seconds)
            case ListingDoubted():
                self._doubted.labels(self._labels.of(fact.account)).inc()
            case MessageSkipped():
                self._skipped.labels(self._labels.of(fact.account)).inc()
            case UidlsChanged():
                self._renamed.labels(self._labels.of(fact.account)).inc(fact.recognised)
            case BlobDamaged():
                self._damaged.inc()
            case Purged():
                self._purged.inc(fact.messages)
                self._octets_purged.inc(fact.octets)
            case TroubleBegan():
                self._notices.labels(fact.trouble).inc(fact.noticed)
            case AlertSent():
                self._alerts.labels("sent").inc()
            case AlertFailed():
                self._alerts.labels("failed").inc()
            case CertificateLoaded():
                self._gauges.certificate_end = fact.not_after
            case CertificateUnusable():
                self._certificate_errors.inc()
            case Unexpected():
                self._unexpected.inc()
            case _:
                self._submission.observe(fact)

    def _session_ended(self, fact: SessionEnded) -> None:
        self._sessions.labels(fact.ended).inc()
        self._session_seconds.observe(fact.seconds)
        for command, count in fact.commands.items():
            self._commands.labels(command).inc(count)
        self._retrieved.inc(fact.retrieved)
        self._deleted.inc(fact.deleted)
        self._octets_in.inc(fact.octets_in)
        self._octets_out.inc(fact.octets_out)

    def _sync_finished(self, fact: SyncFinished) -> None:
        account = self._labels.of(fact.account)
        self._syncs.labels(account, "ok").inc()
        self._sync_seconds.observe(fact.seconds)
        self._expunged.labels(account).inc(fact.expunged)
        self._unfetched.labels(account).inc(fact.failed)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help, buckets=buckets, namespace=PREFIX, registry=self.registry)
