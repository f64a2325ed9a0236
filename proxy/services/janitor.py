"""Lets go of what retention no longer keeps: blobs of messages that are done with."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from proxy.domain.directory import Directory
from proxy.domain.errors import StoreUnavailable
from proxy.domain.facts import Purged, Unexpected
from proxy.domain.model import Account
from proxy.domain.policy import HOUR
from proxy.domain.retention import due_locally
from proxy.interfaces.observer import Observer
from proxy.interfaces.store import Store
from proxy.interfaces.world import Clock
from proxy.services.maildrops import Maildrops
from proxy.services.timekeeper import Timekeeper

EVERY = HOUR
"""Seconds between two rounds; retention counts in days."""


class Janitor:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        observer: Observer,
        directory: Directory,
        maildrops: Maildrops,
        timekeeper: Timekeeper,
    ) -> None:
        self._timekeeper = timekeeper
        self._store = store
        self._clock = clock
        self._observer = observer
        self._directory = directory
        self._maildrops = maildrops

    async def work(self) -> None:
        """Make rounds until cancelled."""
        while True:
            try:
                for account in await self._store.accounts():
                    for record in await self._store.lost(account.id):
                        # Somebody may have put it back, or the disk may read it again.
                        await self._store.is_intact(record.digest)
                    await self.clean(account)
                # It is tried again; who cannot do without the store tells of it.
                with suppress(StoreUnavailable):
                    await self._store.settle()
            except Exception as error:
                self._observer.observe(Unexpected("janitor", error))
            await asyncio.sleep(EVERY)

    async def clean(self, account: Account) -> Purged | None:
        """Purge what is due of one account; nothing is while the clock is in doubt.

        None: nothing was, since a session is open that may still show it (promise 5).
        """
        async with self._maildrops.gate(account.id):
            if self._maildrops.has_sessions(account.id):
                return None
            if self._timekeeper.in_doubt:
                return Purged(account.name, 0, 0)
            ran = self._store.ran
            retention = self._directory.policy(account.name).retention
            holdings = await self._store.holdings(
                account.id, present=False, retention=retention, ran=ran
            )
            due = [h.message_id for h in holdings if due_locally(h, retention, ran)]
            now = self._clock.now()
            octets = await self._store.purge(account.id, due, at=now) if due else 0
            purged = Purged(account.name, len(due), octets)
            if due:
                self._observer.observe(purged)
            return purged
