"""Room on the disk for mail that is on its way: what is promised to one message is there for it.

The reserve is for what must go on when the disk is full: the catalogue, so that QUIT still commits
and devices still log in. Mail in flight counts from before its first octet until it is on the disk,
so that many accounts at once cannot take together what each of them found free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.domain.policy import StorePolicy
from proxy.domain.room import for_mail, with_reserve
from proxy.domain.survey import Space
from proxy.interfaces.store import IN_MEMORY

LOOK_EVERY = 1.0
LOOK_OCTETS = 4 * 1024**2
"""The file system is asked after so many seconds, or so many octets promised, not more often."""

OVERHEAD = 8 * 1024
"""Octets that a message takes beside its own: the rest of its last block, its rows, its share of
the write-ahead log."""

STEP = 1024**2
"""How much more is promised at a time to a message that is longer than was said."""

UNWRITTEN = 2 * IN_MEMORY
"""Octets of one message that have come and are in no file: as many in memory, and as many just on
their way to the file."""

UNLIMITED = 1 << 62
"""Where the file system does not say what is free."""


class Claim:
    """What is promised to one message; `end` it once that is on disk, or never will be."""

    def __init__(self, room: Room, octets: int) -> None:
        self.octets = octets
        """Promised, or asked for in vain."""
        self.came = 0
        self._room = room
        self._said = octets

    def takes(self, octets: int) -> bool:
        """So many more have come. False: there is no room for them after all."""
        self.came += octets
        if self.came <= self.octets:
            return self._room.holds()
        more = max(self.came - self.octets, STEP)
        self.octets += more
        return self._room.promise(more)

    @property
    def to_come(self) -> int:
        """Octets that may not be in a file yet."""
        return self.octets + OVERHEAD - max(self.came - UNWRITTEN, 0)

    @property
    def beyond(self) -> int:
        """Octets that have come beyond what was said."""
        return max(self.came - self._said, 0)

    def end(self) -> None:
        self._room.forget(self)


class Room:
    """One for a process."""

    def __init__(self, space: Callable[[], Space | None], policy: StorePolicy) -> None:
        """`space`: of the file system that the store is on, asked anew; without a reserve."""
        self._ask = space
        self.policy = policy
        self._claims: set[Claim] = set()
        self._left = 0
        """Octets that can still be promised."""
        self._unspent = True
        """The reserve is whole."""
        self._looked_at: float | None = None
        self._promised = 0
        """Octets since the last look."""

    def space(self) -> Space | None:
        """Of the file system, with the reserve."""
        space = self._ask()
        return space and with_reserve(space, self.policy)

    def follow(self, policy: StorePolicy) -> None:
        self.policy = policy
        self._looked_at = None

    def claim(self, octets: int) -> Claim | None:
        """Room for a message of so many octets; None: there is none."""
        claim = Claim(self, octets)
        if not self.promise(claim.to_come):
            return None
        self._claims.add(claim)
        return claim

    def promise(self, octets: int) -> bool:
        """Whether so many more are to be had; for claims that grow."""
        self._look()
        if octets > self._left:
            return False
        self._left -= octets
        self._promised += octets
        return True

    def holds(self) -> bool:
        """Whether what was promised is still to be had: others write to the disk as well."""
        self._look()
        return self._unspent

    def forget(self, claim: Claim) -> None:
        # What it did not use counts as free from the next look on.
        self._claims.discard(claim)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if (
            self._looked_at is not None
            and now - self._looked_at < LOOK_EVERY
            and self._promised < LOOK_OCTETS
        ):
            return
        space = self.space()
        free = UNLIMITED if space is None else for_mail(space)
        self._left = free - sum(claim.to_come for claim in self._claims)
        self._unspent = free >= 0
        self._looked_at, self._promised = now, 0
