"""What one sync of an account leaves for the next, in memory: a restart costs one full listing."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.domain.plan import Entry
from proxy.domain.policy import DAY, HOUR, MINUTE

LEFT_OUT_FOR = DAY
"""Seconds after which a message that was left out is tried again."""

BREAKS = 5
FIRST_BREAK = 15 * MINUTE
"""A message over which so many sessions broke is left out: first for so long, then four times as
long each time."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What an unchanged mailbox shows without a listing."""

    count: int
    octets: int
    last: str
    """UIDL of the last message, or the digest of its header where there is no UIDL."""
    listed_at: float
    """Running time."""
    version: int
    """The store's version of the account: a lost blob, say, makes the listing needed again."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    until: float
    """Running time."""
    why: str


@dataclass(slots=True)
class SyncMemory:
    mark: Mark | None = None
    without_uidl: int = 0
    """Sessions in a row in which upstream gave no UIDL, though it had before."""
    left_out: dict[tuple[str, int], LeftOut] = field(default_factory=dict)
    """Messages, by UIDL and size, that are not asked for a while, so that they do not hold up all
    others: too large, or such that upstream breaks the protocol or the connection over them."""
    breaks: dict[tuple[str, int], int] = field(default_factory=dict)
    """Messages over which sessions broke, and how many."""
    longer: dict[tuple[str, int], int] = field(default_factory=dict)
    """Messages for which there was no room, since they are longer than upstream says: octets that
    they need at least."""

    compared_with_others: bool = False
    """Whether it was looked which other account may stand for the same mailbox."""
    compared: dict[int, float] = field(default_factory=dict)
    """Known messages that were retrieved once more before DELE, and not deleted: when."""
    top_breaks: int = 0
    """Sessions in a row that broke before the first TOP before DELE was answered."""
    no_top_until: float = 0.0
    """Until then no TOP is asked for before DELE."""

    def top_broke(self, ran: float, most: int) -> None:
        self.top_breaks += 1
        if self.top_breaks >= most:
            self.top_breaks, self.no_top_until = 0, ran + HOUR

    def why_left_out(self, entry: Entry, ran: float) -> str | None:
        found = self.left_out.get((entry.uid, entry.octets))
        return found.why if found and ran < found.until else None

    def leave_out(self, entry: Entry, why: str, ran: float, seconds: float = LEFT_OUT_FOR) -> None:
        self.left_out[entry.uid, entry.octets] = LeftOut(ran + seconds, why)

    def broke(self, entry: Entry) -> float:
        """A session broke over this message; returns for how many seconds to leave it out."""
        count = self.breaks[entry.uid, entry.octets] = self.times_broken(entry) + 1
        return min(FIRST_BREAK * 4.0 ** (count - BREAKS), DAY) if count >= BREAKS else 0.0

    def times_broken(self, entry: Entry) -> int:
        return self.breaks.get((entry.uid, entry.octets), 0)

    def came(self, entry: Entry) -> None:
        self.breaks.pop((entry.uid, entry.octets), None)
        self.longer.pop((entry.uid, entry.octets), None)

    def needs(self, entry: Entry) -> int:
        """Octets that this message takes, as far as is known."""
        return max(entry.octets, self.longer.get((entry.uid, entry.octets), 0))

    def is_longer(self, entry: Entry, octets: int) -> None:
        self.longer[entry.uid, entry.octets] = octets
