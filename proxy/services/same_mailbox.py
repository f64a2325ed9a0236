"""Noticing two accounts that stand for one mailbox, before one deletes what the other needs."""

from __future__ import annotations

from proxy.domain.directory import Directory
from proxy.domain.model import Account
from proxy.interfaces.store import Store
from proxy.services.sync_memory import SyncMemory


class SameMailbox:
    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory

    async def look(self, account: Account, memory: SyncMemory) -> None:
        """At the first listing, and when there was something to be fetched.

        Raises:
            StoreUnavailable
        """
        if memory.compared_with_others:
            return
        found = [each for each in await self._store.alike(account.id) if each.is_proof]
        if found:
            names = {each.id: each.name for each in await self._store.accounts()}
            for each in found:
                # It may have been removed meanwhile.
                other = names.get(each.account_id)
                if other and self._host(other) == self._host(account.name):
                    await self._store.note_same_mailbox(account.id, each.account_id)
        memory.compared_with_others = True

    async def holds(self, account: Account) -> bool:
        """Whether nothing may be deleted upstream for this account, until it is known whose the
        mailbox is.

        Raises:
            StoreUnavailable
        """
        return await self._store.may_share_mailbox(account.id)

    def _host(self, name: str) -> str:
        return self._directory.policy(name).upstream.host.lower().rstrip(".")
