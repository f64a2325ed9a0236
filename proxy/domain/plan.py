"""What a listing means, given what is known: pure comparison, no effect.

A listing entry and a known message are the same when the upstream id and the size agree, the id
stands once in the listing, and the message was there last time. Everything else that might be a
known message is doubtful, and is decided by its header or, failing that, by its octets: a message
is never dropped for looking like another.

An id that nobody knows may be a known message as well, while known messages are missing, or when
many have left at once not long ago: providers that move to other software give every message a new
one, and the mailbox may be empty for a while before.
"""

from __future__ import annotations

import math
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
class Listing:
    entries: list[Entry]
    """By number; no number twice."""
    sound: bool
    """Whether STAT, LIST and UIDL agree. If not, nothing is known of what is missing."""


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
    suspicious: bool
    """Most of what was there is not: a server in trouble, or all ids changed, more likely than a
    user who cleared the mailbox. Nothing is deleted on the strength of such a listing."""


def plan_sync(
    listing: Listing, known: Sequence[KnownMessage], *, left_since: float = math.inf
) -> Plan:
    """Compare a listing with what is known.

    Messages that left at once after `left_since`, a running time, may have come under any id.
    """
    entries = listing.entries
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
    missing = [message for message in unclaimed if message.upstream is Upstream.PRESENT]
    if missing or any(_may_come_back(message, left_since) for message in unclaimed):
        doubtful, unknown = sorted(doubtful + unknown, key=lambda entry: entry.number), []
    expected = sum(message.upstream is Upstream.PRESENT for message in known)
    # What our own DELE may have taken away is missed by nobody.
    ours = sum(message.deleting for message in missing)
    suspicious = not listing.sound or 2 * (len(missing) - ours) > expected - ours
    return Plan(unknown, repair, doubtful, same, unclaimed, suspicious)


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


def _may_come_back(message: KnownMessage, left_since: float) -> bool:
    left = message.left_at_once
    return message.upstream is not Upstream.PRESENT and left is not None and left > left_since


def left_upstream(known: Sequence[KnownMessage], found: set[int]) -> list[int]:
    """Ids of messages that are no longer listed."""
    return [m.id for m in known if m.upstream is Upstream.PRESENT and m.id not in found]
