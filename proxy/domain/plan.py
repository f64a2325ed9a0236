"""What a listing means, given what is known: pure comparison, no effect.

A listing entry and a known message are the same when the upstream id and the size agree, the id
stands once in the listing, and the message was there last time. Everything else that might be a
known message is doubtful, and is decided by its header or, failing that, by its octets: a message
is never dropped for looking like another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.domain.model import KnownMessage, Upstream


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as upstream lists it in one session."""

    number: int
    octets: int
    uid: str
    """"" where upstream gives none."""


@dataclass(frozen=True, slots=True)
class Plan:
    fetch: list[Entry]
    """Never seen: RETR."""
    repair: list[tuple[Entry, KnownMessage]]
    """Known, but its blob is lost: RETR again."""
    doubtful: list[Entry]
    """Look at the header first."""
    same: dict[int, Entry]
    """Known message id → where it is in this session."""
    unclaimed: list[KnownMessage]
    """Known messages that no entry is certain to be: what doubtful entries may turn out to be."""


def plan_sync(entries: Sequence[Entry], known: Sequence[KnownMessage]) -> Plan:
    """Compare a listing with what is known."""
    times_listed = Counter(entry.uid for entry in entries)
    names = {message.upstream_uid for message in known}
    certain = _certain(known)
    same: dict[int, Entry] = {}
    repair: list[tuple[Entry, KnownMessage]] = []
    unknown: list[Entry] = []
    doubtful: list[Entry] = []
    for entry in entries:
        if not entry.uid or times_listed[entry.uid] > 1:
            doubtful.append(entry)
        elif (message := certain.get((entry.uid, entry.octets))) is not None:
            same[message.id] = entry
            if not message.blob_kept:
                repair.append((entry, message))
        elif entry.uid in names:
            doubtful.append(entry)
        else:
            unknown.append(entry)
    unclaimed = [message for message in known if message.id not in same]
    if _all_changed(same, unknown, known):
        doubtful, unknown = sorted(doubtful + unknown, key=lambda entry: entry.number), []
    return Plan(unknown, repair, doubtful, same, unclaimed)


def _certain(known: Sequence[KnownMessage]) -> dict[tuple[str, int], KnownMessage]:
    """Id and size → the one message that was there with both when we last looked."""
    certain: dict[tuple[str, int], KnownMessage] = {}
    ambiguous: set[tuple[str, int]] = set()
    for message in known:
        if message.upstream is Upstream.PRESENT:
            key = (message.upstream_uid, message.upstream_octets)
            if key in certain:
                ambiguous.add(key)
            certain[key] = message
    for key in ambiguous:
        del certain[key]
    return certain


def _all_changed(
    same: dict[int, Entry], unknown: list[Entry], known: Sequence[KnownMessage]
) -> bool:
    """All that was there is gone and all that is there is new: ids have changed, more likely."""
    return (
        bool(unknown)
        and not same
        and any(message.upstream is Upstream.PRESENT for message in known)
    )


def match_header(
    entry: Entry, header_digest: bytes, candidates: Sequence[KnownMessage]
) -> KnownMessage | None:
    """The unclaimed known message with this header; one of the same id, then size, is preferred."""
    same_header = [c for c in candidates if c.header_digest == header_digest]
    return max(
        same_header,
        key=lambda c: (
            c.upstream_uid == entry.uid,
            c.upstream_octets == entry.octets,
            c.upstream is Upstream.PRESENT,
        ),
        default=None,
    )


def left_upstream(
    known: Sequence[KnownMessage], found: set[int], listed: int
) -> tuple[list[int], bool]:
    """Ids of messages that are no longer listed, and whether that is to be doubted.

    A listing that is suddenly empty is more often a server in trouble than a user who cleared the
    mailbox, so the caller believes it only when it comes a second time.
    """
    gone = [m.id for m in known if m.upstream is Upstream.PRESENT and m.id not in found]
    return gone, bool(gone) and listed == 0
