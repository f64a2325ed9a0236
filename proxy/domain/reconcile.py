"""Deciding the doubtful entries of a plan: by their headers, and where those fall short, by octets.

Pure bookkeeping for one sync; the sync feeds it what upstream shows and reads off what to fetch,
what was found again and where each known message stands in this session.
"""

from __future__ import annotations

from enum import Enum

from proxy.domain.fingerprint import header_digest
from proxy.domain.model import KnownMessage, Sighting, Upstream
from proxy.domain.plan import Entry, Plan, match_header


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
        self.last_header = b""
        """Digest of the header judged last; b"" where it identifies nothing."""
        self._candidates = list(plan.unclaimed)
        self._fetch = {entry.number: entry for entry in plan.fetch}
        self._repairs: dict[int, KnownMessage] = {}
        self._undecided: set[int] = set()
        for entry, message in plan.repair:
            self._refetch(entry, message)

    @property
    def fetch(self) -> list[Entry]:
        """What to RETR, in upstream's order."""
        return [self._fetch[number] for number in sorted(self._fetch)]

    def judge_header(self, entry: Entry, header: bytes | None) -> None:
        """Decide a doubtful entry, once for each; None when upstream would not show its header."""
        digest = header_digest(header) if header is not None else None
        self.last_header = digest or b""
        match = match_header(entry, digest, self._candidates) if digest else None
        if match is None:
            self._undecided.add(entry.number)
            self._fetch[entry.number] = entry
            return
        self._recognise(entry, match)
        if not match.blob_kept:
            self._refetch(entry, match)

    def judge_octets(self, entry: Entry, digest: bytes) -> tuple[Verdict, int | None]:
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
        twins = [candidate for candidate in self._candidates if candidate.digest == digest]
        if not twins:
            return Verdict.NEW, None
        twin = max(twins, key=lambda candidate: candidate.upstream is Upstream.PRESENT)
        self._recognise(entry, twin)
        return (Verdict.HELD if twin.blob_kept else Verdict.REPAIR), twin.id

    def _recognise(self, entry: Entry, message: KnownMessage) -> None:
        self._candidates.remove(message)
        self.same[message.id] = entry
        self.sightings.append(Sighting(message.id, entry.uid, entry.octets))

    def _refetch(self, entry: Entry, message: KnownMessage) -> None:
        self._repairs[entry.number] = message
        self._fetch[entry.number] = entry
