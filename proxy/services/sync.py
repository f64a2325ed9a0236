"""One sync of one account: compare upstream with what is known, fetch, and delete what is due.

Invariants: a message received whole enters the store even when the session breaks right after it;
DELE goes out only for a message whose blob has just been re-read and matches; what DELE asked for
counts only when upstream has answered QUIT with +OK.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from proxy.domain import fingerprint
from proxy.domain.errors import UpstreamGarbled, UpstreamUnreachable
from proxy.domain.facts import BlobDamaged, ListingDoubted, SyncFinished
from proxy.domain.model import Account, Fetched, KnownMessage
from proxy.domain.plan import Entry, Plan, left_upstream, plan_sync
from proxy.domain.policy import DAY, HOUR, RetentionPolicy
from proxy.domain.reconcile import Reconciliation, Verdict
from proxy.domain.retention import due_upstream, wants_upstream_deletions
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.upstream import Began, Ended, Refused, Transfer, UpstreamSession
from proxy.wire.pop3_client import Part

BATCH_MESSAGES = 64
BATCH_OCTETS = 4 * 1024 * 1024
BATCH_SECONDS = 1.0
"""A batch of messages is made durable together, as soon as it reaches any of these."""

GARBLED_FOR = DAY
"""Seconds after which a message that broke a session is tried again."""

FULL_LISTING_EVERY = HOUR
"""Seconds for which STAT and the last UIDL alone may pass for "nothing has changed"."""


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


@dataclass(slots=True)
class SyncMemory:
    """What one sync leaves for the next, in memory only; a restart costs one full listing."""

    mark: Mark | None = None
    doubted: bool = False
    """The last listing was empty all of a sudden."""
    garbled: dict[tuple[str, int], float] = field(default_factory=dict)
    """Messages (UIDL and size) that upstream cannot send without breaking the protocol, and when
    that was last seen: left out for a while, so that they do not hold up all others."""


class AccountSync:
    """One sync; `run` it once."""

    def __init__(
        self,
        session: UpstreamSession,
        store: Store,
        clock: Clock,
        observer: Observer,
        account: Account,
        retention: RetentionPolicy,
        memory: SyncMemory,
    ) -> None:
        self._session = session
        self._store = store
        self._clock = clock
        self._observer = observer
        self._account = account
        self._retention = retention
        self._memory = memory
        self._digests: dict[int, bytes] = {}
        self._fetched = self._octets = self._failed = 0

    async def run(self) -> SyncFinished:
        """From the login just made to QUIT.

        Raises:
            UpstreamUnreachable, StoreUnavailable: cut short; what had come down whole is kept.
        """
        started = asyncio.get_running_loop().time()
        count, octets = await self._session.stat()
        due = await self._due()
        if not due and await self._unchanged(count, octets):
            await self._quit_and_note([], count)
            return self._result(count, started)
        self._memory.mark = None
        entries = await self._session.listing()
        known = await self._store.known(self._account.id)
        found = await self._reconcile(plan_sync(entries, known))
        await self._fetch(found)
        left = await self._note_listing(found, known, len(entries))
        deleted = await self._delete(due, found.same)
        expunged = await self._quit_and_note(deleted, count)
        if not (deleted or self._failed or self._memory.doubted):
            self._memory.mark = self._mark(entries, found, count, octets)
        return self._result(len(entries), started, expunged, left)

    # --- is there anything to do? ---------------------------------------------------------------

    async def _unchanged(self, count: int, octets: int) -> bool:
        mark = self._memory.mark
        if mark is None or (mark.count, mark.octets) != (count, octets):
            return False
        if self._clock.now() - mark.listed_at > FULL_LISTING_EVERY:
            return False
        if self._store.version(self._account.id) != mark.version:
            return False
        return count == 0 or await self._last_id(count) == mark.last

    async def _last_id(self, count: int) -> str | None:
        uid = await self._session.uid_of(count)
        if uid is not None:
            return uid
        async for _, header in self._session.headers([Entry(count, 0, "")]):
            digest = fingerprint.header_digest(header or b"")
            return digest.hex() if digest else None
        return None

    def _mark(
        self, entries: Sequence[Entry], found: Reconciliation, count: int, octets: int
    ) -> Mark | None:
        """None when this mailbox cannot be recognised without a listing."""
        last = (entries[-1].uid or found.last_header.hex()) if entries else ""
        if len(entries) != count or (entries and not last):
            return None
        version = self._store.version(self._account.id)
        return Mark(count, octets, last, self._clock.now(), version)

    # --- comparing ------------------------------------------------------------------------------

    async def _reconcile(self, plan: Plan) -> Reconciliation:
        """Decide the doubtful entries as far as headers can."""
        found = Reconciliation(plan)
        if plan.doubtful:
            async for entry, header in self._session.headers(plan.doubtful):
                found.judge_header(entry, header)
        return found

    async def _note_listing(
        self, found: Reconciliation, known: Sequence[KnownMessage], listed: int
    ) -> int:
        """Record what left and what was found again; returns how many left."""
        gone, doubtful = left_upstream(known, set(found.same), listed)
        if doubtful and not self._memory.doubted:
            self._memory.doubted = True
            self._observer.observe(ListingDoubted(self._account.name, len(gone)))
            gone = []
        else:
            self._memory.doubted = False
        await self._store.note_listing(
            self._account.id, gone=gone, seen=found.sightings, at=self._clock.now()
        )
        return len(gone)

    # --- fetching -------------------------------------------------------------------------------

    async def _fetch(self, found: Reconciliation) -> None:
        wanted = found.fetch
        entries = [entry for entry in wanted if not self._is_garbled(entry)]
        self._failed += len(wanted) - len(entries)
        if not entries:
            return
        batch = _Batch(self._store, self._account.id, self._clock)
        try:
            async with aclosing(self._session.retrieve(entries)) as transfers:
                async for transfer in transfers:
                    if isinstance(transfer, Refused):
                        self._failed += 1
                    elif isinstance(transfer, Began):
                        await self._receive(transfer.entry, transfers, found, batch)
                        if batch.is_full:
                            await batch.flush()
        except UpstreamGarbled:
            if (suspect := self._session.suspect) is not None:
                self._memory.garbled[suspect.uid, suspect.octets] = self._clock.now()
            raise
        finally:
            # Messages that came down whole are kept, whatever ended the loop.
            await batch.flush()

    def _is_garbled(self, entry: Entry) -> bool:
        seen = self._memory.garbled.get((entry.uid, entry.octets))
        return seen is not None and self._clock.now() - seen < GARBLED_FOR

    async def _receive(
        self,
        entry: Entry,
        transfers: AsyncGenerator[Transfer, None],
        found: Reconciliation,
        batch: _Batch,
    ) -> None:
        """Take one message whole and put it into the batch, unless the store has it already."""
        writer = self._store.new_blob()
        beginning = bytearray()
        try:
            async for transfer in transfers:
                if isinstance(transfer, Ended):
                    break
                if isinstance(transfer, Part):
                    room = fingerprint.HEADER_LIMIT - len(beginning)
                    beginning += transfer.data[: max(room, 0)]
                    await writer.write(transfer.data)
            blob = await writer.finish()
        except BaseException:
            await writer.abort()
            raise
        self._fetched += 1
        self._octets += blob.octets
        verdict, message_id = found.judge_octets(entry, blob.digest)
        if verdict is Verdict.HELD:
            await writer.abort()
            return
        fetched = Fetched(
            upstream_uid=entry.uid,
            upstream_octets=entry.octets,
            blob=blob,
            header_digest=fingerprint.header_digest(bytes(beginning)),
            received_at=self._arrival(bytes(beginning)),
            repairs=message_id if verdict is Verdict.REPAIR else None,
        )
        batch.add(fetched)

    def _arrival(self, beginning: bytes) -> float:
        """Mail found by the first sync is as old as it says; what comes later came just now."""
        now = self._clock.now()
        if self._account.synced_at is not None:
            return now
        stated = fingerprint.arrival(beginning)
        return self._account.created_at if stated is None else min(stated, now)

    # --- deleting -------------------------------------------------------------------------------

    async def _due(self) -> set[int]:
        """Ids of messages that the policy wants deleted upstream."""
        if not wants_upstream_deletions(self._retention):
            return set()
        now = self._clock.now()
        holdings = await self._store.holdings(
            self._account.id, present=True, retention=self._retention, at=now
        )
        self._digests = {holding.message_id: holding.digest for holding in holdings}
        return {h.message_id for h in holdings if due_upstream(h, self._retention, now)}

    async def _delete(self, due: set[int], positions: dict[int, Entry]) -> list[int]:
        """DELE what is due and proven to be in the store; returns the ids upstream accepted."""
        numbers: dict[int, int] = {}
        for message_id in sorted(due & positions.keys()):
            if await self._store.is_intact(self._digests[message_id]):
                numbers[positions[message_id].number] = message_id
            else:
                self._observer.observe(BlobDamaged(self._account.name, message_id))
        return [numbers[number] for number in await self._session.delete(numbers)]

    async def _quit_and_note(self, deleted: list[int], count: int) -> int:
        """QUIT; returns how many messages upstream has deleted for us.

        Raises:
            UpstreamUnreachable: no answer after DELE; the next listing tells what came of it.
        """
        try:
            confirmed = await self._session.quit()
        except UpstreamUnreachable:
            if deleted:
                raise
            confirmed = True
        now = self._clock.now()
        expunged = deleted if confirmed else []
        if expunged:
            await self._store.note_expunged(expunged, at=now)
        left = count - len(expunged)
        await self._store.note_sync(self._account.id, at=now, upstream_count=left)
        return len(expunged)

    def _result(
        self, listed: int, started: float, expunged: int = 0, left: int = 0
    ) -> SyncFinished:
        return SyncFinished(
            account=self._account.name,
            listed=listed,
            fetched=self._fetched,
            octets=self._octets,
            expunged=expunged,
            left=left,
            failed=self._failed,
            seconds=asyncio.get_running_loop().time() - started,
        )


class _Batch:
    """Messages received whole that are not durable yet."""

    def __init__(self, store: Store, account_id: int, clock: Clock) -> None:
        self._store = store
        self._account_id = account_id
        self._clock = clock
        self._fetched: list[Fetched] = []
        self._octets = 0
        self._since = asyncio.get_running_loop().time()

    def add(self, fetched: Fetched) -> None:
        if not self._fetched:
            self._since = asyncio.get_running_loop().time()
        self._fetched.append(fetched)
        self._octets += fetched.blob.octets

    @property
    def is_full(self) -> bool:
        return (
            len(self._fetched) >= BATCH_MESSAGES
            or self._octets >= BATCH_OCTETS
            or asyncio.get_running_loop().time() - self._since >= BATCH_SECONDS
        )

    async def flush(self) -> None:
        fetched, self._fetched, self._octets = self._fetched, [], 0
        if fetched:
            await self._store.add_messages(self._account_id, fetched, at=self._clock.now())
