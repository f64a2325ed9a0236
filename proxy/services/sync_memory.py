"""What one sync of an account leaves for the next, in memory: a restart costs one full listing."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.domain.plan import Entry
from proxy.domain.policy import DAY

LEFT_OUT_FOR = DAY
"""Seconds after which a message that was left out is tried again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What an unchanged mailbox shows without a listing."""

    count: int
    octets: int
    last: str
    """UIDL of the last message, or the digest of its header where there is no UIDL."""
    listed_at: float
    version: int
    """The store's version of the account: a lost blob, say, makes the listing needed again."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    at: float
    """Unix time."""
    why: str


@dataclass(slots=True)
class SyncMemory:
    mark: Mark | None = None
    doubted: bool = False
    """The last listing lacked most of what had been there."""
    without_uidl: int = 0
    """Sessions in a row in which upstream gave no UIDL, though it had before."""
    left_out: dict[tuple[str, int], LeftOut] = field(default_factory=dict)
    """Messages, by UIDL and size, that are not asked for a while, so that they do not hold up all
    others: too large, or such that upstream breaks the protocol over them."""

    def why_left_out(self, entry: Entry, now: float) -> str | None:
        found = self.left_out.get((entry.uid, entry.octets))
        return found.why if found and now - found.at < LEFT_OUT_FOR else None
