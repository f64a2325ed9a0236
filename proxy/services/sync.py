"""One sync of one account: compare upstream with what is known, fetch, and delete what is due.

Invariants: a message received whole enters the store even when the session breaks right after it;
DELE goes out only for a message whose blob has just been re-read and matches, and never while the
listing is doubted; what DELE asked for counts only when upstream has answered QUIT with +OK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from proxy.domain.errors import UpstreamBusy, UpstreamUnreachable
from proxy.domain.facts import ListingDoubted, SyncFinished, UidlsChanged
from proxy.domain.fingerprint import Fingerprint
from proxy.domain.model import Account, KnownMessage, Upstream
from proxy.domain.plan import Entry, Listing, Plan, left_upstream, plan_sync
from proxy.domain.policy import HOUR, RetentionPolicy
from proxy.domain.reconcile import Reconciliation
from proxy.domain.retention import due_upstream, wants_upstream_deletions
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.deletion import Deletion
from proxy.services.doubts import Doubts
from proxy.services.fetch import Fetch
from proxy.services.kept_back import KeptBack
from proxy.services.room import Room
from proxy.services.same_mailbox import SameMailbox
from proxy.services.sync_memory import Mark, SyncMemory
from proxy.services.timekeeper import Timekeeper
from proxy.services.upstream import Overview, UpstreamSession

FULL_LISTING_EVERY = HOUR
"""Seconds for which STAT and the last UIDL alone may pass for "nothing has changed"."""

WITHOUT_UIDL = 3
"""Sessions in a row without UIDL, until an upstream that had it is believed to have it no more."""

SIGHTINGS = 500
"""Known messages found by their headers, after which that is made durable."""

UNFETCHED = 20
"""Messages that were not fetched, of which `status` tells."""


class AccountSync:
    """One sync; `run` it once."""

    def __init__(
        self,
        session: UpstreamSession,
        store: Store,
        clock: Clock,
        timekeeper: Timekeeper,
        observer: Observer,
        account: Account,
        retention: RetentionPolicy,
        max_message_size: int,
        memory: SyncMemory,
        room: Room,
        kept: KeptBack,
        same_mailbox: SameMailbox,
        retr_hides: bool = False,
        hide_returned: bool = False,
    ) -> None:
        """`retr_hides`: upstream is known not to list a message again once it was retrieved."""
        self._retr_hides = retr_hides
        self._session = session
        self._store = store
        self._clock = clock
        self._timekeeper = timekeeper
        self._observer = observer
        self._account = account
        self._retention = retention
        self._memory = memory
        self._doubts = Doubts(store, account.id)
        self._same_mailbox = same_mailbox
        self._digests: dict[int, bytes] = {}
        self._compared = False
        self._fetch = Fetch(
            session,
            store,
            clock,
            timekeeper,
            observer,
            account,
            memory,
            max_message_size,
            room,
            kept,
            hide_returned=hide_returned,
        )
        self._deletion = Deletion(session, store, clock, observer, account, memory, self._fetch)

    @property
    def progress(self) -> int:
        """Messages that have come whole so far."""
        return self._fetch.messages

    @property
    def to_fetch(self) -> int:
        """How many it will be; 0 while that is not known."""
        return self._fetch.expected

    async def run(self) -> SyncFinished:
        """From the login just made to QUIT.

        Raises:
            UpstreamUnreachable, UpstreamBusy, StoreUnavailable: cut short; what had come down whole
                is kept.
        """
        started, listed_at = asyncio.get_running_loop().time(), self._store.ran
        due = await self._due()
        mark = None if due else self._usable_mark()
        seen = self._session.mailbox
        assert seen is not None  # noqa: S101 - it is logged in
        if mark is not None and await self._is_unchanged(mark, seen):
            await self._note_kept(seen.count > 0)
            await self._quit_and_note([], seen.count)
            return self._result(seen.count, started)
        self._memory.mark = None
        self._compared = True
        listing = await self._session.listing(seen.count)
        known = await self._store.known(self._account.id)
        self._check_uidl(listing, known)
        await self._doubts.load()
        plan = plan_sync(listing, known, left_since=self._doubts.left_since)
        await self._note_unlisted(plan, listing, listed_at)
        found = await self._reconcile(plan)
        if found.fetch:
            # Also should this sync end before it is looked.
            self._memory.compared_with_others = False
        await self._fetch.run(found)
        await self._same_mailbox.look(self._account, self._memory)
        if not listing.sound or self._doubts.doubted or self._fetch.broken_off:
            due = set()
        found, due = await self._deletion.prove(due, plan, found, known)
        left = await self._note_listing(plan, found, known)
        if self._doubts.doubted or self._fetch.broken_off or await self._is_held():
            due = set()
        deleted = await self._deletion.delete(due, found.same, self._digests)
        expunged = await self._quit_and_note(deleted, seen.count)
        fetch = self._fetch
        unsettled = deleted or fetch.refused or fetch.waiting or self._doubts.doubted
        if not (unsettled or await self._lacks_what_is_there()):
            self._memory.mark = self._mark(listing, found, seen)
        return self._result(len(listing.entries), started, expunged, left)

    # --- is there anything to do? ---------------------------------------------------------------

    def _usable_mark(self) -> Mark | None:
        mark = self._memory.mark
        if mark is None or self._store.ran - mark.listed_at > FULL_LISTING_EVERY:
            return None
        return mark if self._store.version(self._account.id) == mark.version else None

    async def _is_unchanged(self, mark: Mark, seen: Overview) -> bool:
        if (seen.count, seen.octets) != (mark.count, mark.octets):
            return False
        if seen.count == 0:
            return True
        uid = await self._session.uid_of(seen.count)
        if uid is not None:
            return uid == mark.last
        async for _, header in self._session.headers([Entry(seen.count, 0, "")]):
            digest = Fingerprint.of(header or b"").header_digest
            return digest is not None and digest.hex() == mark.last
        return False

    async def _note_kept(self, seen_again: bool) -> None:
        if seen_again and not self._account.keeps_retrieved:
            await self._store.note_keeps_retrieved(self._account.id)

    async def _lacks_what_is_there(self) -> bool:
        """Whether a message was lost while this went on, or has not come again."""
        lost = await self._store.lost(self._account.id)
        return any(record.upstream is Upstream.PRESENT for record in lost)

    def _mark(self, listing: Listing, found: Reconciliation, seen: Overview) -> Mark | None:
        """None when this mailbox cannot be recognised without a listing."""
        entries = listing.entries
        last = (entries[-1].uid or found.last_header.hex()) if entries else ""
        if seen.octets is None or not listing.sound or (entries and not last):
            return None
        version = self._store.version(self._account.id)
        return Mark(seen.count, seen.octets, last, self._store.ran, version)

    # --- comparing ------------------------------------------------------------------------------

    def _check_uidl(self, listing: Listing, known: Sequence[KnownMessage]) -> None:
        """Raises:
        UpstreamBusy: there is no UIDL, and there was; that may be for now.
        """
        listed = listing.entries
        if not listed or any(e.uid for e in listed) or not any(m.upstream_uid for m in known):
            self._memory.without_uidl = 0
            return
        self._memory.without_uidl += 1
        if self._memory.without_uidl <= WITHOUT_UIDL:
            raise UpstreamBusy("upstream gives no UIDL, and it did before")

    async def _reconcile(self, plan: Plan) -> Reconciliation:
        """Decide the doubtful entries as far as headers can."""
        found = Reconciliation(plan)
        if plan.doubtful:
            async for entry, header in self._session.headers(plan.doubtful):
                found.judge_header(entry, header)
                if len(found.sightings) >= SIGHTINGS:
                    await self._fetch.note_sightings(found)
        return found

    async def _note_unlisted(self, plan: Plan, listing: Listing, listed_at: float) -> None:
        """What devices had before, and is not here, may come back as other mail's UIDL."""
        uids = [entry.uid for entry in listing.entries]
        if not (plan.suspicious or self._doubts.doubted) and all(uids):
            await self._store.note_unlisted(self._account.id, uids, before=listed_at)

    async def _note_listing(
        self, plan: Plan, found: Reconciliation, known: Sequence[KnownMessage]
    ) -> int:
        """Record what left and what was found again; returns how many left by others' doing.

        Where none of the messages once fetched was ever listed again, RETR may have hidden them.
        """
        gone = left_upstream(known, set(found.same))
        await self._note_kept(bool(found.same))
        hidden = self._retr_hides or not (self._account.keeps_retrieved or found.same)
        # What was not fetched may be what is missing.
        odd = plan.suspicious or bool(plan.doubtful and self._fetch.left)
        hid_before = self._retr_hides or any(m.upstream is Upstream.GONE for m in known)
        doubted = self._doubts.doubted
        # What our own DELE may have taken away is missed by nobody.
        ours = {message.id for message in known if message.deleting}
        missed = len(gone) - len(ours.intersection(gone))
        judgement = self._doubts.judge(
            missed, odd=odd, by_retr=hidden, for_good=hidden and hid_before
        )
        if judgement.spell is not None:
            if not doubted:
                self._observer.observe(ListingDoubted(self._account.name, len(gone)))
            gone = []
        await self._store.note_listing(
            self._account.id,
            gone=gone,
            seen=found.take_sightings(),
            at=self._clock.now(),
            by_retr=hidden,
            at_once=judgement.left_at,
        )
        await self._doubts.keep()
        if again := ours & found.same.keys():
            await self._store.note_not_deleted(again)
        if found.renamed:
            self._observer.observe(
                UidlsChanged(self._account.name, found.renamed, self._fetch.messages)
            )
        return len(set(gone) - ours)

    # --- deleting -------------------------------------------------------------------------------

    async def _is_held(self) -> bool:
        return await self._same_mailbox.holds(self._account)

    async def _due(self) -> set[int]:
        """Ids of messages that the policy wants deleted upstream.

        While the clock is in doubt, those alone that a device has deleted for all.
        """
        retention = self._retention
        if self._timekeeper.in_doubt:
            retention = replace(retention, upstream="keep")
        if not wants_upstream_deletions(retention) or await self._is_held():
            return set()
        ran = self._store.ran
        holdings = await self._store.holdings(
            self._account.id, present=True, retention=retention, ran=ran
        )
        self._digests = {holding.message_id: holding.digest for holding in holdings}
        return {h.message_id for h in holdings if due_upstream(h, retention, ran)}

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
        for message_id in expunged:
            self._memory.compared.pop(message_id, None)
        left = count - len(expunged)
        fetch = self._fetch
        await self._store.note_sync(
            self._account.id,
            at=now,
            upstream_count=left,
            unfetched=fetch.left[:UNFETCHED] if self._compared else None,
        )
        return len(expunged)

    def _result(
        self, listed: int, started: float, expunged: int = 0, left: int = 0
    ) -> SyncFinished:
        fetch = self._fetch
        return SyncFinished(
            account=self._account.name,
            listed=listed,
            fetched=fetch.messages,
            octets=fetch.octets,
            expunged=expunged,
            left=left,
            failed=len(fetch.left),
            seconds=asyncio.get_running_loop().time() - started,
            doubted=self._doubts.doubted,
        )
