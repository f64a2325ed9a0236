"""Room for the messages of one sync: on the disk, and within what the account may have."""

from __future__ import annotations

from proxy.domain.model import Account
from proxy.domain.plan import Entry
from proxy.domain.room import ACCOUNT_FULL, NO_ROOM
from proxy.interfaces.store import Store
from proxy.services.room import Claim, Room
from proxy.services.sync_memory import SyncMemory


class OutOfRoom(Exception):
    """A message that is under way cannot be stored; the text says why."""


class Quota:
    """What was admitted keeps its room until it is settled; `close` settles all."""

    def __init__(self, room: Room, memory: SyncMemory, left: int | None) -> None:
        """`left`: octets that the account may still have; None: any number."""
        self._room = room
        self._memory = memory
        self._left = left
        self._claims: dict[int, Claim] = {}
        """By the number of the message."""

    def admit(self, entry: Entry) -> str:
        """Have room for a message that is about to be asked for; "", or why there is none."""
        octets = self._memory.needs(entry)
        if self._left is not None and octets > self._left:
            return ACCOUNT_FULL
        claim = self._room.claim(octets)
        if claim is None:
            return NO_ROOM
        self._claims[entry.number] = claim
        self._take(octets)
        return ""

    def came(self, entry: Entry, octets: int) -> None:
        """So many more octets of it have come.

        Raises:
            OutOfRoom
        """
        claim = self._claims[entry.number]
        beyond = claim.beyond
        fits = claim.takes(octets)
        self._take(claim.beyond - beyond)
        why = "" if fits else NO_ROOM
        if self._left is not None and self._left < 0:
            why = ACCOUNT_FULL
        if why:
            # It is not to be asked for again while there is no more room than this.
            self._memory.is_longer(entry, claim.octets if why == NO_ROOM else claim.came)
            raise OutOfRoom(why)

    def settle(self, entry: Entry) -> None:
        """It is on the disk, or it will not come."""
        if (claim := self._claims.pop(entry.number, None)) is not None:
            claim.end()

    def close(self) -> None:
        for claim in self._claims.values():
            claim.end()
        self._claims.clear()

    def _take(self, octets: int) -> None:
        if self._left is not None:
            self._left -= octets


async def quota_of(account: Account, store: Store, room: Room, memory: SyncMemory) -> Quota:
    """For a sync of this account that begins."""
    return Quota(room, memory, await _left(account.id, store, room))


async def check_fits(account_id: int, octets: int, store: Store, room: Room) -> None:
    """Raises:
    OutOfRoom: the account may not have so much more.
    """
    left = await _left(account_id, store, room)
    if left is not None and octets > left:
        raise OutOfRoom(ACCOUNT_FULL)


async def _left(account_id: int, store: Store, room: Room) -> int | None:
    """Octets that the account may still have; None: any number."""
    limit = room.policy.max_account_size
    return limit - (await store.size(account_id)).octets if limit else None
