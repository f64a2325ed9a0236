"""Accounts and devices of the catalogue in memory: read once, then what changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.adapters.sqlite.connection import Connection, Row
from proxy.adapters.sqlite.database import Database
from proxy.domain.model import Account, Device, Unfetched

ACCOUNT = (
    "SELECT id, name, declared, verifier, created_at, synced_at, failed_at, failure, failure_kind, "
    "upstream_count, keeps_retrieved, login_interval, unfetched FROM account"
)
DEVICE = (
    "SELECT id, account_id, name, view, since, app_password_hash IS NOT NULL, scram_keys, "
    "certificate, created_at, seen_at FROM device"
)


def account_of(row: Row) -> Account:
    id_, name, declared, *rest = row
    rest[-3:] = (
        bool(rest[-3]),
        rest[-2],
        tuple(Unfetched(**one) for one in json.loads(rest[-1])),
    )
    return Account(id_, name, bool(declared), *rest)


def device_of(row: Row) -> Device:
    id_, account_id, name, view, since, has_app_password, *rest = row
    return Device(id_, account_id, name, view, since, bool(has_app_password), *rest)


class People:
    """Both small tables in memory, so that a login costs no query."""

    def __init__(self, accounts: list[Account], devices: list[Device]) -> None:
        self.accounts = {account.name: account for account in accounts}
        self.devices: dict[int, dict[str, Device]] = {}
        """By account id, then by name in lower case; each in order of name."""
        self._names = {account.id: account.name for account in accounts}
        for device in devices:
            self.devices.setdefault(device.account_id, {})[device.name.lower()] = device

    def replace(self, account_id: int, account: Account | None, devices: list[Device]) -> None:
        """What is known of one account; None: it is gone."""
        self.accounts.pop(self._names.pop(account_id, ""), None)
        self.devices.pop(account_id, None)
        if account is not None:
            self.accounts[account.name] = account
            self._names[account_id] = account.name
        if devices:
            self.devices[account_id] = {device.name.lower(): device for device in devices}


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
                accounts = await self._database.fetch(ACCOUNT)
                devices = await self._database.fetch(f"{DEVICE} ORDER BY name")
                self._people = People(
                    [account_of(row) for row in accounts], [device_of(row) for row in devices]
                )
            for account_id, mark in list(self._changed.items()):
                found = await self._database.fetch(f"{ACCOUNT} WHERE id = ?", (account_id,))
                devices = await self._database.fetch(
                    f"{DEVICE} WHERE account_id = ? ORDER BY name", (account_id,)
                )
                self._people.replace(
                    account_id,
                    account_of(found[0]) if found else None,
                    [device_of(row) for row in devices],
                )
                # One that has changed once more meanwhile is left to whoever comes next.
                if self._changed.get(account_id) is mark:
                    del self._changed[account_id]
            return self._people

    @asynccontextmanager
    async def _change_people(
        self, of: int, *, account: int | None = None, device: int | None = None
    ) -> AsyncIterator[Connection]:
        """A transaction that changes the account of this id, or its devices, and no other's.

        `account` and `device` are as in `Database.transaction`.
        """
        try:
            async with self._database.transaction(account=account, device=device) as change:
                yield change
        finally:
            # In any case, since a commit that is cancelled may have gone through.
            self._changed[of] = object()

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
