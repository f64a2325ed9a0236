"""Deleting upstream what the policy wants deleted there: DELE for what is in the store, and proven.

Invariants: that DELE is about to be sent is durable before it is, so that our own deletion is never
taken for somebody else's, whatever becomes of the answers; what DELE asked for counts only when
upstream has answered QUIT with +OK.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from proxy.domain.facts import BlobDamaged
from proxy.domain.model import Account
from proxy.domain.plan import Entry
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.upstream import UpstreamSession


class Deletion:
    """Of one sync."""

    def __init__(
        self,
        session: UpstreamSession,
        store: Store,
        clock: Clock,
        observer: Observer,
        account: Account,
    ) -> None:
        self._session = session
        self._store = store
        self._clock = clock
        self._observer = observer
        self._account = account

    async def delete(
        self, due: Set[int], positions: Mapping[int, Entry], digests: Mapping[int, bytes]
    ) -> list[int]:
        """DELE what of this is proven to be in the store; returns the ids that upstream accepted.

        Raises:
            StoreUnavailable: the session must not go on to QUIT.
        """
        numbers: dict[int, int] = {}
        for message_id in sorted(due & positions.keys()):
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
