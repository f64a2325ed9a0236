"""Accounts, devices and messages by the names that an operator gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.errors import NotFound
from proxy.domain.login_name import canonical
from proxy.domain.model import Account, Device, MessageRecord
from proxy.interfaces.store import Store
from proxy.services.timekeeper import Timekeeper

Row = dict[str, Any]
"""Plain data for a table or for JSON; times are Unix times."""

Report = Callable[[int, int], Awaitable[None]]
"""Told how much of a long command is done, and of how much; any unit."""


async def unheard(_done: int, _total: int) -> None:
    """Nobody waits for a report."""


class Names:
    def __init__(self, store: Store, directory: Directory, timekeeper: Timekeeper) -> None:
        self._store = store
        self._directory = directory
        self._timekeeper = timekeeper

    async def accounts(self) -> list[str]:
        """Those that exist or are declared, in order."""
        names = {account.name for account in await self._store.accounts()}
        for declared in self._directory.all_declared():
            names.add(await self.spelling(declared.name))
        return sorted(names)

    async def spelling(self, name: str) -> str:
        """How an account spells itself; `name`, where there is none."""
        account = await self._store.account(name)
        declared = self._directory.declared(name)
        return account.name if account else declared.name if declared else name

    async def namesakes(self) -> list[list[str]]:
        """Spellings of one name that are an account each: versions before this one made them.

        First the one that the others are best merged into: the declared one, or the oldest.
        """
        alike: dict[str, list[Account]] = defaultdict(list)
        for account in await self._store.accounts():
            alike[canonical(account.name)].append(account)
        found = []
        for accounts in alike.values():
            if len(accounts) > 1:
                declared = [await self.is_declared(account) for account in accounts]
                order = sorted(
                    zip(declared, accounts, strict=True), key=lambda one: (not one[0], one[1].id)
                )
                found.append([account.name for _, account in order])
        return found

    async def account(self, name: str) -> Account:
        """A declared account is made when it is first named.

        Raises:
            NotFound
        """
        account = await self._store.account(name)
        declared = self._directory.declared(name)
        if account is None and declared is not None:
            account = await self._store.ensure_account(
                declared.name, declared=True, at=self._timekeeper.best_now()
            )
        if account is None:
            raise NotFound(f"no account {name}: `pop3-sync-proxy account list` shows them")
        return account

    async def is_declared(self, account: Account) -> bool:
        """Whether it is this one that the configuration means, and not a namesake of it."""
        declared = self._directory.declared(account.name)
        return declared is not None and await self._store.account(declared.name) == account

    def declared(self, name: str) -> DeclaredAccount:
        """Raises:
        NotFound
        """
        declared = self._directory.declared(name)
        if declared is None:
            raise NotFound(f"no [[account]] {name} in the configuration")
        return declared

    async def device(self, account: str, name: str) -> tuple[Account, Device]:
        """Raises:
        NotFound
        """
        known = await self.account(account)
        device = await self._store.device(known.id, name)
        if device is None:
            raise NotFound(f"account {known.name} has no device {name}")
        return known, device

    async def message(self, account: Account, uid: str) -> MessageRecord:
        """Raises:
        NotFound
        """
        record = await self._store.record(account.id, uid)
        if record is None:
            raise NotFound(f"no message {uid} in the store of {account.name}")
        return record
