"""Deciding the doubtful entries of a plan: by their headers, and where those fall short, by octets.

Pure bookkeeping for one sync; the sync feeds it what upstream shows and reads off what to fetch,
what was found again and where each known message stands in this session.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from enum import Enum

from proxy.domain.fingerprint import Fingerprint
from proxy.domain.model import KnownMessage, Sighting, Upstream
from proxy.domain.plan import Entry, Plan


class Verdict(Enum):
    """What a message that came down whole is."""

    NEW = "new"
    REPAIR = "repair"
    """The lost blob of a known message."""
    HELD = "held"
    """A known message whose blob is in the store."""


class Reconciliation:
    def __init__(self, plan: Plan) -> None:
        self.same: dict[int, Entry] = dict(plan.same)
        """Known message id → the entry it is in this session."""
        self.sightings: list[Sighting] = []
        """Known messages found under another name, size or state."""
        self.renamed = 0
        """How many of them under another id."""
        self.last_header = b""
        """Digest of the header judged last; b"" where it identifies nothing."""
        self._candidates = {message.id: message for message in plan.unclaimed}
        self._by_header: dict[bytes, list[int]] = defaultdict(list)
        self._by_octets: dict[bytes, list[int]] = defaultdict(list)
        self._by_content: dict[bytes, list[int]] = defaultdict(list)
        for message in plan.unclaimed if plan.doubtful else ():
            self._by_octets[message.digest].append(message.id)
            if message.header_digest is not None:
                self._by_header[message.header_digest].append(message.id)
            if message.content_digest is not None:
                self._by_content[message.content_digest].append(message.id)
        self._fetch = {entry.number: entry for entry in plan.fetch}
        self._repairs: dict[int, KnownMessage] = {}
        self._undecided: set[int] = set()
        for entry, message in plan.repair:
            self._refetch(entry, message)

    def take_sightings(self) -> list[Sighting]:
        """Those since the last call."""
        taken, self.sightings = self.sightings, []
        return taken

    @property
    def fetch(self) -> list[Entry]:
        """What to RETR, in upstream's order."""
        return [self._fetch[number] for number in sorted(self._fetch)]

    def judge_header(self, entry: Entry, header: bytes | None) -> None:
        """Decide a doubtful entry, once for each; None when upstream would not show its header."""
        shown = Fingerprint.of(header or b"")
        self.last_header = shown.header_digest or b""
        match = self._match_header(entry, shown) if shown.header_digest else None
        if match is None:
            self._undecided.add(entry.number)
            self._fetch[entry.number] = entry
            return
        self._recognise(entry, match)
        if not match.blob_kept:
            self._refetch(entry, match)

    def judge_octets(
        self, entry: Entry, digest: bytes, fingerprint: Fingerprint
    ) -> tuple[Verdict, int | None]:
        """What these octets are, with the id of the known message they belong to."""
        repaired = self._repairs.get(entry.number)
        if repaired is not None:
            if repaired.digest == digest:
                return Verdict.REPAIR, repaired.id
            # Under this id upstream now shows other octets: the known message is gone.
            del self.same[repaired.id]
            return Verdict.NEW, None
        if entry.number not in self._undecided:
            return Verdict.NEW, None
        if (twin := self._likeliest(entry, self._left(self._by_octets, digest))) is not None:
            self._recognise(entry, twin)
            return (Verdict.HELD if twin.blob_kept else Verdict.REPAIR), twin.id
        # The same mail with another header: servers add fields when they take over a mailbox.
        alike = self._left(self._by_content, fingerprint.content_digest or b"")
        kept = self._likeliest(entry, [message for message in alike if message.blob_kept])
        if kept is None:
            return Verdict.NEW, None
        self._recognise(entry, kept, fingerprint.header_digest)
        return Verdict.HELD, kept.id

    def _match_header(self, entry: Entry, shown: Fingerprint) -> KnownMessage | None:
        """The unclaimed known message with this header; None if that is not certain."""
        alike = self._left(self._by_header, shown.header_digest or b"")
        if not shown.was_received:
            # Nothing tells two mails apart that a program sends with one Message-ID.
            alike = [m for m in alike if _agrees(m, entry)]
        if len({message.digest for message in alike}) > 1:
            alike = [m for m in alike if m.upstream_octets == entry.octets]
        if len({message.digest for message in alike}) > 1:
            return None
        return self._likeliest(entry, alike)

    def _left(self, index: dict[bytes, list[int]], digest: bytes) -> list[KnownMessage]:
        ids = index.get(digest, ())
        return [self._candidates[i] for i in ids if i in self._candidates]

    @staticmethod
    def _likeliest(entry: Entry, alike: Iterable[KnownMessage]) -> KnownMessage | None:
        return max(
            alike,
            key=lambda m: (
                m.upstream_uid == entry.uid,
                m.upstream_octets == entry.octets,
                m.upstream is Upstream.PRESENT,
            ),
            default=None,
        )

    def _recognise(
        self, entry: Entry, message: KnownMessage, header_digest: bytes | None = None
    ) -> None:
        del self._candidates[message.id]
        self.same[message.id] = entry
        self.sightings.append(Sighting(message.id, entry.uid, entry.octets, header_digest))
        self.renamed += message.upstream_uid != entry.uid

    def _refetch(self, entry: Entry, message: KnownMessage) -> None:
        self._repairs[entry.number] = message
        self._fetch[entry.number] = entry


def _agrees(message: KnownMessage, entry: Entry) -> bool:
    same_uid = bool(entry.uid) and message.upstream_uid == entry.uid
    # In the time that a message is gone, another one of its kind and size may well have come.
    was_there = message.upstream is Upstream.PRESENT
    return same_uid or (was_there and message.upstream_octets == entry.octets)
