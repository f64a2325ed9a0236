"""Deciding anew which message is which before DELE: a UIDL and a size are not proof enough."""

from __future__ import annotations

from collections.abc import Sequence, Set

from proxy.domain.fingerprint import Fingerprint
from proxy.domain.model import KnownMessage
from proxy.domain.plan import Entry, Plan
from proxy.domain.reconcile import Reconciliation, Verdict


def look_alikes(ids: Set[int], certain: dict[int, Entry]) -> set[int]:
    """Messages known by UIDL and size alone, of which one may stand where one of `ids` was.

    A server that calls messages by their numbers gives each another's UIDL when one leaves.
    """
    sizes = {certain[message_id].octets for message_id in ids}
    return {message_id for message_id, entry in certain.items() if entry.octets in sizes}


class SecondLook(Reconciliation):
    """Of messages that were known by UIDL and size; what else was found stays as it is."""

    def __init__(
        self, found: Reconciliation, known: Sequence[KnownMessage], doubted: Set[int]
    ) -> None:
        self._before = {message_id: found.same[message_id] for message_id in doubted}
        self.entries = sorted(self._before.values(), key=lambda entry: entry.number)
        """To be judged, each by its header first."""
        same = {id_: entry for id_, entry in found.same.items() if id_ not in doubted}
        unclaimed = [message for message in known if message.id not in same]
        super().__init__(Plan([], [], self.entries, same, unclaimed, suspicious=False))
        self.sightings = found.take_sightings()
        self.renamed = found.renamed
        self.retrieved: set[int] = set()
        """Known messages that came once more, to be compared."""
        self._last_header = found.last_header
        self._others: set[int] = set()
        """Numbers of entries that are new messages."""

    def judge_octets(
        self, entry: Entry, digest: bytes, fingerprint: Fingerprint
    ) -> tuple[Verdict, int | None]:
        verdict, message_id = super().judge_octets(entry, digest, fingerprint)
        if message_id is None:
            self._others.add(entry.number)
        else:
            self.retrieved.add(message_id)
        return verdict, message_id

    def leave_out(self, entry: Entry) -> None:
        """It need not be fetched, or cannot be."""
        self._fetch.pop(entry.number, None)

    def settle(self) -> set[int]:
        """What did not come is taken for what its UIDL says, as before; returns those messages."""
        self.last_header = self._last_header
        decided = self._others | {entry.number for entry in self.same.values()}
        left = {
            message_id: entry
            for message_id, entry in self._before.items()
            if message_id not in self.same and entry.number not in decided
        }
        self.same |= left
        return left.keys() & self._before.keys()
