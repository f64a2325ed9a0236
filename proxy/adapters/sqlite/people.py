"""Accounts and devices of the catalogue in memory: read once, then what changes."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from proxy.adapters.sqlite.connection import Connection, Row
from proxy.adapters.sqlite.database import Database
from proxy.domain.login_name import canonical
from proxy.domain.model import Account, Device, Unfetched

ACCOUNT = (
    "SELECT id, name, declared, verifier, created_at, synced_at, failed_at, failure, failure_kind, "
    "upstream_count, salt_name, keeps_retrieved, login_interval, unfetched FROM account"
)
DEVICE = (
    "SELECT id, account_id, name, view, since, app_password_hash IS NOT NULL, scram_keys, "
    "certificate, created_at, seen_at, seen_ran, backlog_to FROM device"
)
_OTHER_NAMES = "SELECT account_id, name FROM other_name"


def account_of(row: Row) -> Account:
    id_, name, declared, *rest, salt_name, keeps, interval, unfetched = row
    left_out = tuple(Unfetched(**one) for one in json.loads(unfetched))
    rest += [bool(keeps), interval, left_out, salt_name]
    return Account(id_, name, bool(declared), *rest)


def device_of(row: Row) -> Device:
    id_, account_id, name, view, since, has_app_password, *rest = row
    return Device(id_, account_id, name, view, since, bool(has_app_password), *rest)


class People:
    """Accounts, their names and their devices in memory, so that a login costs no query."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        """By their own names."""
        self.devices: dict[int, dict[str, Device]] = {}
        """By account id, then by name in lower case; each in order of name."""
        self._names: dict[int, list[str]] = {}
        """Of each account by its id: its own, then those of accounts that became part of it."""
        self._alike: dict[str, dict[int, str]] = {}
        """By canonical name: which accounts have it, and how their own names are spelled."""

    def replace(
        self,
        account_id: int,
        account: Account | None,
        devices: Iterable[Device],
        other_names: Iterable[str],
    ) -> None:
        """What is known of one account; None: it is gone."""
        for number, name in enumerate(self._names.pop(account_id, ())):
            if number == 0:
                self.accounts.pop(name, None)
            self._alike.get(canonical(name), {}).pop(account_id, None)
        self.devices.pop(account_id, None)
        if account is None:
            return
        self.accounts[account.name] = account
        self._names[account_id] = [account.name, *other_names]
        for name in self._names[account_id]:
            self._alike.setdefault(canonical(name), {})[account_id] = account.name
        if named := {device.name.lower(): device for device in devices}:
            self.devices[account_id] = named

    def account(self, name: str) -> Account | None:
        """See `interfaces.store.Accounts.account`."""
        exact = self.accounts.get(name)
        if exact is not None:
            return exact
        key = canonical(name)
        alike = [self.accounts[own] for own in self._alike.get(key, {}).values()]
        # An account's own name comes before that of one which has become part of another.
        return max(
            alike,
            key=lambda one: (canonical(one.name) == key, one.declared, -one.id),
            default=None,
        )


class PeopleInMemory:
    _database: Database
    _people: People | None = None
    _changed: dict[int, object]
    """Accounts that are to be read anew, each with a mark of its last change."""
    _reading: asyncio.Lock
    """Held while the tables, or an account of theirs, are read into memory."""

    async def _known_people(self) -> People:
        """With every change that has returned by now."""
        if self._people is not None and not self._changed:
            return self._people
        async with self._reading:
            if self._people is None:
                self._changed.clear()
                self._people = await self._read_all()
            for account_id, mark in list(self._changed.items()):
                found = await self._database.fetch(f"{ACCOUNT} WHERE id = ?", (account_id,))
                devices = await self._database.fetch(
                    f"{DEVICE} WHERE account_id = ? ORDER BY name", (account_id,)
                )
                others = await self._database.fetch(
                    f"{_OTHER_NAMES} WHERE account_id = ?", (account_id,)
                )
                self._people.replace(
                    account_id,
                    account_of(found[0]) if found else None,
                    [device_of(row) for row in devices],
                    [name for _, name in others],
                )
                # One that has changed once more meanwhile is left to whoever comes next.
                if self._changed.get(account_id) is mark:
                    del self._changed[account_id]
            return self._people

    async def _read_all(self) -> People:
        devices: dict[int, list[Device]] = defaultdict(list)
        for row in await self._database.fetch(f"{DEVICE} ORDER BY name"):
            device = device_of(row)
            devices[device.account_id].append(device)
        others: dict[int, list[str]] = defaultdict(list)
        for account_id, name in await self._database.fetch(_OTHER_NAMES):
            others[account_id].append(name)
        people = People()
        for row in await self._database.fetch(ACCOUNT):
            account = account_of(row)
            people.replace(account.id, account, devices[account.id], others[account.id])
        return people

    @asynccontextmanager
    async def _change_people(
        self, *of: int, account: int | None = None, device: int | None = None
    ) -> AsyncIterator[Connection]:
        """A transaction that changes the accounts of these ids, or their devices, and no others.

        `account` and `device` are as in `Database.transaction`.
        """
        try:
            async with self._database.transaction(account=account, device=device) as change:
                yield change
        finally:
            # In any case, since a commit that is cancelled may have gone through.
            self._changed.update((one, object()) for one in of)

    @asynccontextmanager
    async def _change_device(
        self, device_id: int, *, view: bool = False
    ) -> AsyncIterator[Connection]:
        """The same for one device; `view`: what it sees may change."""
        rows = await self._database.fetch(
            "SELECT account_id FROM device WHERE id = ?", (device_id,)
        )
        # A device that is gone has nothing to change, and its id is never used again.
        of = rows[0][0] if rows else 0
        async with self._change_people(of, device=device_id if view else None) as change:
            yield change
