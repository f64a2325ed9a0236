"""Bringing messages into the store: whole or not at all, many at a time, none beyond the limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

from proxy.domain.errors import UpstreamGarbled, UpstreamUnreachable
from proxy.domain.facts import MessageFetched, MessageSkipped
from proxy.domain.fingerprint import Fingerprint
from proxy.domain.message_id import message_id as name_of
from proxy.domain.model import Account, Fetched, Unfetched
from proxy.domain.plan import Entry
from proxy.domain.reconcile import Reconciliation, Verdict
from proxy.domain.trouble import TOO_LARGE
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.batches import Batches
from proxy.services.kept_back import KeptBack, Whole
from proxy.services.quota import OutOfRoom, Quota, quota_of
from proxy.services.room import Room
from proxy.services.sync_memory import LEFT_OUT_FOR, SyncMemory
from proxy.services.timekeeper import Timekeeper
from proxy.services.upstream import Began, Ended, Refused, Transfer, UpstreamSession
from proxy.wire.pop3_client import Part

BATCH_MESSAGES = 32
BATCH_OCTETS = 4 * 1024 * 1024
BATCH_SECONDS = 1.0
"""A batch of messages is made durable together, as soon as it reaches any of these; meanwhile the
next one comes in. A crash can lose two, which are then fetched again."""

SIGHTINGS = 50
"""Known messages found by their octets, after which that is made durable: a crash must not make us
fetch more than these again."""


class Fetch:
    """Of one sync; `run` it for what the listing says, and again for what is found out later."""

    def __init__(
        self,
        session: UpstreamSession,
        store: Store,
        clock: Clock,
        timekeeper: Timekeeper,
        observer: Observer,
        account: Account,
        memory: SyncMemory,
        max_message_size: int,
        room: Room,
        kept: KeptBack,
        *,
        hide_returned: bool,
    ) -> None:
        """`hide_returned`: mail that devices have sent is not shown to them again."""
        self._hide_returned = hide_returned
        self._session = session
        self._store = store
        self._clock = clock
        self._timekeeper = timekeeper
        self._observer = observer
        self._account = account
        self._memory = memory
        self._limit = max_message_size
        self._room = room
        self._quota = Quota(room, memory, None)
        self._batches = Batches(store, clock, account, kept, self._settle)
        self._looked = False
        """For what was kept back: once, in what the listing says."""
        self.messages = 0
        self.octets = 0
        """Both of what came whole."""
        self.skipped: list[Unfetched] = []
        """Not asked for: too large, or broke a session not long ago."""
        self.refused: list[Unfetched] = []
        self.waiting: list[Unfetched] = []
        """Not asked for, or broken off, since there is no room."""
        self.broken_off = False
        """For that reason; the session is of no more use."""
        self.expected = 0
        """Messages that upstream is asked for."""

    @property
    def left(self) -> list[Unfetched]:
        """What was to be fetched, and was not."""
        # Only the first few are kept: what waits for room must not hide all others.
        return [*self.waiting[:10], *self.skipped, *self.refused, *self.waiting[10:]]

    async def run(self, found: Reconciliation) -> None:
        """RETR all that is to be fetched and for which there is room.

        Raises:
            UpstreamUnreachable: what had come whole before is kept.
            StoreUnavailable: what came whole and is not durable is kept back for the next sync.
        """
        try:
            await self._run(found)
        except UpstreamUnreachable as error:
            if self._batches.failed is not None:
                raise self._batches.failed from error
            raise
        if self._batches.failed is not None:
            raise self._batches.failed

    async def without_room(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that `run` would not ask for, since they are too large, or there is no room."""
        quota = await quota_of(self._account, self._store, self._room, self._memory)
        try:
            return [e for e in entries if e.octets > self._limit or quota.admit(e)]
        finally:
            quota.close()

    async def _run(self, found: Reconciliation) -> None:
        entries = [entry for entry in found.fetch if not self._is_left_out(entry)]
        kept = [] if self._looked else await self._batches.kept.listed(self._account.name, entries)
        self._looked = True
        if not entries:
            return
        self._quota = await quota_of(self._account, self._store, self._room, self._memory)
        # What sessions have broken over comes last, so that it holds up nothing else.
        entries.sort(key=self._memory.times_broken)
        now = asyncio.get_running_loop().time
        try:
            entries = await self._bring_back(entries, kept, found)
            self.expected += len(entries)
            waiting_since = now()
            async with aclosing(self._session.retrieve(self._admitted(entries))) as transfers:
                async for transfer in transfers:
                    if isinstance(transfer, Refused):
                        self.refused.append(_unfetched(transfer.entry, transfer.text))
                        self._quota.settle(transfer.entry)
                    elif isinstance(transfer, Began):
                        await self._receive(transfer.entry, transfers, found, waiting_since)
                        await self._flush_if_full()
                    if self._batches.overflow:
                        break
                    waiting_since = now()
        except OutOfRoom:
            self.broken_off = True
            self._session.abort()
        except UpstreamGarbled:
            if (suspect := self._session.suspect) is not None:
                self._leave_out(suspect, "upstream does not send it as POP3 wants")
            raise
        except UpstreamUnreachable as error:
            # Servers that close after so many messages break behind others that came.
            if (broken := self._session.current) is not None and not self.messages:
                pause = self._memory.broke(broken)
                if pause and self._memory.why_left_out(broken, self._store.ran) is None:
                    self._leave_out(broken, f"sessions break over it: {error}", pause)
            raise
        finally:
            try:
                await self._batches.end()
            finally:
                self._quota.close()
            await self.note_sightings(found)

    def _admitted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Small ones may find room where a large one did not."""
        for entry in entries:
            if self._batches.failed is not None:
                return
            if why := self._quota.admit(entry):
                self.waiting.append(_unfetched(entry, why))
            else:
                yield entry

    def _is_left_out(self, entry: Entry) -> bool:
        why = self._memory.why_left_out(entry, self._store.ran)
        if why is None and entry.octets > self._limit:
            self._leave_out(entry, f"{TOO_LARGE}, {self._limit} octets")
            why = self._memory.why_left_out(entry, self._store.ran)
        if why is not None:
            self.skipped.append(_unfetched(entry, why))
        return why is not None

    def _leave_out(self, entry: Entry, why: str, seconds: float = LEFT_OUT_FOR) -> None:
        self._memory.leave_out(entry, why, self._store.ran, seconds)
        self._observer.observe(MessageSkipped(self._account.name, entry.uid, entry.octets, why))

    async def _flush_if_full(self) -> None:
        if self._batches.reaches(BATCH_MESSAGES, BATCH_OCTETS, BATCH_SECONDS):
            await self._batches.flush()

    def _settle(self, entry: Entry) -> None:
        self._quota.settle(entry)

    async def _bring_back(
        self, entries: list[Entry], kept: list[Entry], found: Reconciliation
    ) -> list[Entry]:
        """Store what was kept back, before anything is asked for; returns what is to be."""
        if not kept:
            return entries
        admitted = list(self._admitted(kept))
        settled = {entry.number for entry in kept} - {entry.number for entry in admitted}
        left = await self._batches.kept.take(self._account.name, admitted, self._session)
        try:
            while left:
                if await self._batches.renew(left[0]):
                    settled.add(left[0].entry.number)
                    await self._take_in(left.pop(0), found)
                    await self._flush_if_full()
                else:
                    left.pop(0)
            await self._batches.end()
        finally:
            for whole in left:
                await whole.writer.abort()
        for entry in admitted:
            if entry.number not in settled:
                self._quota.settle(entry)
        return [entry for entry in entries if entry.number not in settled]

    async def _receive(
        self,
        entry: Entry,
        transfers: AsyncGenerator[Transfer, None],
        found: Reconciliation,
        waiting_since: float,
    ) -> None:
        """Take one message whole."""
        writer = self._store.new_blob()
        fingerprint = Fingerprint()
        octets = 0
        try:
            async for transfer in transfers:
                if isinstance(transfer, Ended):
                    break
                if isinstance(transfer, Part):
                    octets += len(transfer.data)
                    self._check_size(entry, octets)
                    self._quota.came(entry, len(transfer.data))
                    fingerprint.feed(transfer.data)
                    await writer.write(transfer.data)
            seconds = asyncio.get_running_loop().time() - waiting_since
            blob = await writer.finish()
        except OutOfRoom as error:
            await writer.abort()
            self.waiting.append(_unfetched(entry, str(error)))
            raise
        except BaseException:
            await writer.abort()
            raise
        self._memory.came(entry)
        self.messages += 1
        self.octets += blob.octets
        self._observer.observe(MessageFetched(self._account.name, blob.octets, seconds))
        await self._take_in(Whole(entry, blob, fingerprint, writer), found)

    async def _take_in(self, whole: Whole, found: Reconciliation) -> None:
        """Put it into the batch, unless the store has it already."""
        entry, blob, fingerprint = whole.entry, whole.blob, whole.fingerprint
        verdict, message_id = found.judge_octets(entry, blob.digest, fingerprint)
        if verdict is Verdict.HELD:
            await whole.writer.abort()
            self._quota.settle(entry)
            if len(found.sightings) >= SIGHTINGS:
                await self.note_sightings(found)
            return
        received_at, dated = self._arrival(fingerprint)
        await self._batches.add(
            whole,
            Fetched(
                upstream_uid=entry.uid,
                upstream_octets=entry.octets,
                blob=blob,
                header_digest=fingerprint.header_digest,
                content_digest=fingerprint.content_digest,
                received_at=received_at,
                dated=dated,
                repairs=message_id if verdict is Verdict.REPAIR else None,
                sent_as=name_of(fingerprint.header) if self._hide_returned else "",
            ),
        )

    def _check_size(self, entry: Entry, octets: int) -> None:
        """Raises:
        UpstreamUnreachable: the message is larger than it may be, whatever LIST said.
        """
        if octets > self._limit:
            self._leave_out(entry, f"{TOO_LARGE}, {self._limit} octets")
            raise UpstreamUnreachable("a message larger than max_message_size was broken off")

    def _arrival(self, fingerprint: Fingerprint) -> tuple[float, bool]:
        """When it came, and whether that is what it says of itself.

        Mail found by the first sync is as old as it says; what comes later came just now, unless a
        server's stamp tells that it is older than the account.
        """
        now, account = self._timekeeper.best_now(), self._account
        stated, in_doubt = fingerprint.arrival, self._timekeeper.in_doubt
        if account.synced_at is None:
            if stated is None:
                return (now, False) if in_doubt else (account.created_at, True)
            # A date in the future is wrong, or the clock is; and its stamps are put right later.
            return (stated, True) if in_doubt or stated <= now else (now, False)
        # A wrong clock may have made the account, and then new mail would seem to be older.
        sure = fingerprint.was_received and not in_doubt
        if sure and stated is not None and stated < account.created_at:
            return stated, True
        return now, False

    async def note_sightings(self, found: Reconciliation) -> None:
        """Make durable which known messages were found so far."""
        await self._store.note_listing(
            self._account.id,
            gone=(),
            seen=found.take_sightings(),
            at=self._clock.now(),
        )


def _unfetched(entry: Entry, why: str) -> Unfetched:
    return Unfetched(entry.uid, entry.octets, why)
