"""Facts of sending mail as metrics."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from proxy.adapters.prometheus_labels import PREFIX
from proxy.domain.facts import (
    Ending,
    Fact,
    Outcome,
    SentCopyMissing,
    SentCopyStored,
    SmtpSessionEnded,
    SubmissionEnded,
)

COPIES = ("stored", "missing")

SUBMISSION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300)
"""From a small mail to a server nearby to a large one through content filters."""


class SubmissionMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(name, help, labels, namespace=PREFIX, registry=registry)

        self._sessions = counter(
            "smtp_sessions", "Sessions for handing in mail that ended, by how or why.", "ended"
        )
        self._submissions = counter(
            "submissions", "Mails that devices wanted to send, by what came of them.", "result"
        )
        self._octets = counter("submitted_bytes", "Octets of the mails that upstream accepted.")
        self._copies = counter(
            "sent_copies", "Accepted mails that other devices were to get a copy of.", "result"
        )
        self._seconds = Histogram(
            "submission_duration_seconds",
            "Time from the last octet of a client to the answer.",
            buckets=SUBMISSION_BUCKETS,
            namespace=PREFIX,
            registry=registry,
        )
        # A series that appears with its first event shows no rate for it.
        for ended in get_args(Ending):
            self._sessions.labels(ended)
        for outcome in get_args(Outcome):
            self._submissions.labels(outcome)
        for result in COPIES:
            self._copies.labels(result)

    def observe(self, fact: Fact) -> None:
        match fact:
            case SmtpSessionEnded():
                self._sessions.labels(fact.ended).inc()
            case SubmissionEnded():
                self._submissions.labels(fact.outcome).inc()
                self._seconds.observe(fact.seconds)
                if fact.outcome == "accepted":
                    self._octets.inc(fact.octets)
            case SentCopyStored():
                self._copies.labels("stored").inc()
            case SentCopyMissing():
                self._copies.labels("missing").inc()
