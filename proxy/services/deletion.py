"""Deleting upstream what the policy wants deleted there: DELE for what is in the store, and proven.

Invariants: DELE goes out only for what was shown in this very session to be the message that is in
the store, and whose blob has just been re-read; that it is about to go out is durable before, so
that our own deletion is never taken for somebody else's, whatever becomes of the answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import aclosing

from proxy.domain.deletion import SecondLook, look_alikes
from proxy.domain.errors import UpstreamUnreachable
from proxy.domain.facts import BlobDamaged
from proxy.domain.fingerprint import Fingerprint
from proxy.domain.model import Account, KnownMessage
from proxy.domain.plan import Entry, Plan
from proxy.domain.policy import DAY
from proxy.domain.reconcile import Reconciliation, Verdict
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.fetch import Fetch
from proxy.services.sync_memory import SyncMemory
from proxy.services.upstream import Began, Ended, Refused, UpstreamSession
from proxy.wire.pop3_client import Part

RETRIEVED_AT_ONCE = 100
"""Messages in one session that are retrieved once more, since no header proves what they are: they
are deleted in that session, so that a cut one costs no more than these."""

COMPARED_FOR = DAY
"""Seconds for which a message that was retrieved once more, and then not deleted, is left alone."""

SLACK = 1024 * 1024
"""Octets beyond twice what LIST said, after which a message that is compared is broken off."""

TOP_BREAKS = 3
"""Sessions in a row that broke before the first TOP was answered, until none is asked for before
DELE for an hour."""


class Deletion:
    """Of one sync."""

    def __init__(
        self,
        session: UpstreamSession,
        store: Store,
        clock: Clock,
        observer: Observer,
        account: Account,
        memory: SyncMemory,
        fetch: Fetch,
    ) -> None:
        self._session = session
        self._store = store
        self._clock = clock
        self._observer = observer
        self._account = account
        self._memory = memory
        self._fetch = fetch

    # --- proof ----------------------------------------------------------------------------------

    async def prove(
        self,
        due: Set[int],
        plan: Plan,
        found: Reconciliation,
        known: Sequence[KnownMessage],
    ) -> tuple[Reconciliation, set[int]]:
        """What of this upstream shows to be what it is taken for, and where each message is.

        A UIDL may have been given to other mail of the same size. Headers tell; where they do not,
        the message is retrieved once more. What then proves to be other mail has been fetched.

        Raises:
            UpstreamUnreachable, StoreUnavailable: as `Fetch.run`.
        """
        certain = {id_: entry for id_, entry in found.same.items() if plan.same.get(id_) is entry}
        here = due & found.same.keys()
        asked = here & certain.keys()
        shown = await self._headers(asked, certain, known)
        equal = {id_ for id_, is_equal in shown.items() if is_equal}
        unproven = self._to_retrieve(asked - equal, other=shown.keys() - equal)
        if not unproven:
            return found, here - asked | equal
        others = unproven & shown.keys()
        doubted = unproven | (look_alikes(others, certain) - equal)
        again = SecondLook(found, known, doubted)
        ids = {certain[id_].number: id_ for id_ in doubted}
        await self._look_again(again, ids, unproven, without_header=unproven - others)
        undecided = again.settle()
        return again, here - asked | equal | (unproven & again.same.keys()) - undecided

    async def _headers(
        self, ids: Set[int], positions: Mapping[int, Entry], known: Sequence[KnownMessage]
    ) -> dict[int, bool]:
        """Whether each has the header it had; without those of which that cannot be told."""
        digests = {m.id: m.header_digest for m in known if m.id in ids and m.header_digest}
        by_number = {positions[id_].number: id_ for id_ in digests}
        if not digests or self._store.ran < self._memory.no_top_until:
            return {}
        shown: dict[int, bool] = {}
        entries = [positions[id_] for id_ in sorted(digests)]
        try:
            async for entry, header in self._tops(entries):
                self._memory.top_breaks = 0
                if header is not None:
                    id_ = by_number[entry.number]
                    shown[id_] = Fingerprint.of(header).header_digest == digests[id_]
        except UpstreamUnreachable:
            if not shown:
                self._memory.top_broke(self._store.ran, TOP_BREAKS)
            raise
        return shown

    async def _tops(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, bytes | None]]:
        """Where TOP is not announced, one is tried first: many unknown commands end a session."""
        tried = 0 if "TOP" in self._session.capabilities else 1
        works = True
        async for entry, header in self._session.headers(entries[:tried]):
            works = header is not None
            yield entry, header
        if not works:
            return
        async for entry, header in self._session.headers(entries[tried:]):
            yield entry, header

    def _to_retrieve(self, unproven: Set[int], *, other: Set[int] = frozenset()) -> set[int]:
        """Those with another header come first: they may be new mail."""
        since = self._store.ran - COMPARED_FOR
        compared = self._memory.compared
        left = [id_ for id_ in unproven if compared.get(id_, since) <= since]
        return set(sorted(left, key=lambda id_: (id_ not in other, id_))[:RETRIEVED_AT_ONCE])

    async def _look_again(
        self,
        again: SecondLook,
        ids: Mapping[int, int],
        unproven: Set[int],
        *,
        without_header: Set[int],
    ) -> None:
        """Decide by headers what they can decide, and all else by octets; `ids` has all messages
        by their numbers."""
        asked = [entry for entry in again.entries if ids[entry.number] not in without_header]
        async for entry, header in self._session.headers(asked):
            again.judge_header(entry, header)
        beside = {ids[e.number]: e for e in again.fetch if ids[e.number] not in unproven}
        for id_ in beside.keys() - self._to_retrieve(beside.keys()):
            again.leave_out(beside[id_])
        # What turns out to be known needs no room.
        compared = await self._fetch.without_room(again.fetch)
        for entry in again.entries:
            if ids[entry.number] in without_header:
                again.judge_header(entry, None)
                compared.append(entry)
        await self._compare(again, compared, ids)
        try:
            await self._fetch.run(again)
        finally:
            self._memory.compared |= dict.fromkeys(again.retrieved, self._store.ran)

    async def _compare(
        self, again: SecondLook, entries: Sequence[Entry], ids: Mapping[int, int]
    ) -> None:
        """By RETR, to a digest only: what the store has needs no room. Other mail is fetched then.

        Raises:
            UpstreamUnreachable
        """
        digest, fingerprint, octets = hashlib.sha256(), Fingerprint(), 0
        async with aclosing(self._session.retrieve(entries)) as transfers:
            async for transfer in transfers:
                match transfer:
                    case Began(entry=entry):
                        # Should the session break over it, the next one goes on with others.
                        self._memory.compared[ids[entry.number]] = self._store.ran
                        digest, fingerprint, octets = hashlib.sha256(), Fingerprint(), 0
                        limit = 2 * entry.octets + SLACK
                    case Part(data=data):
                        octets += len(data)
                        if octets > limit:
                            raise UpstreamUnreachable("a message without end")
                        digest.update(data)
                        fingerprint.feed(data)
                    case Ended(entry=entry):
                        verdict, _ = again.judge_octets(entry, digest.digest(), fingerprint)
                        # A lost blob may have been fetched again a moment ago; if not, it is
                        # found out before DELE.
                        if verdict is not Verdict.NEW:
                            again.leave_out(entry)
                    case Refused(entry=entry):
                        self._memory.compared[ids[entry.number]] = self._store.ran
                        again.leave_out(entry)

    # --- DELE -----------------------------------------------------------------------------------

    async def delete(
        self, proven: Set[int], positions: Mapping[int, Entry], digests: Mapping[int, bytes]
    ) -> list[int]:
        """DELE what of this is in the store; returns the ids that upstream accepted.

        Raises:
            StoreUnavailable: the session must not go on to QUIT.
        """
        numbers: dict[int, int] = {}
        for message_id in sorted(proven):
            if await self._store.is_intact(digests[message_id]):
                numbers[positions[message_id].number] = message_id
            else:
                self._observer.observe(BlobDamaged(self._account.name, message_id))
        if not numbers:
            return []
        # Some servers delete at once, and some at the end of a session that broke.
        await self._store.note_deleting(numbers.values(), at=self._clock.now())
        accepted = [numbers[number] for number in await self._session.delete(numbers)]
        if refused := set(numbers.values()) - set(accepted):
            await self._store.note_not_deleted(refused)
        return accepted
