"""Accounts and devices in the catalogue; see `interfaces.store.Accounts` and `Devices`."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict

from proxy.adapters.blobs import Blobs, to_the_end
from proxy.adapters.sqlite.connection import Connection, Row
from proxy.adapters.sqlite.database import Database
from proxy.domain.errors import AlreadyExists
from proxy.domain.model import Account, Device, Unfetched
from proxy.domain.policy import ViewKind

_ACCOUNT = (
    "SELECT id, name, declared, verifier, created_at, synced_at, failed_at, failure, failure_kind, "
    "upstream_count, keeps_retrieved, login_interval, unfetched FROM account"
)
_DEVICE = (
    "SELECT id, account_id, name, view, since, app_password_hash IS NOT NULL, scram_keys, "
    "certificate, created_at, seen_at FROM device"
)

_ENSURE = """
INSERT INTO account (name, declared, created_at) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET declared = excluded.declared RETURNING id
"""

_OWN_BLOBS = """
SELECT DISTINCT digest FROM message WHERE account_id = ?1 AND purged_at IS NULL
EXCEPT SELECT digest FROM message WHERE account_id <> ?1 AND purged_at IS NULL
"""
"""Blobs that no other account's message names."""


def _account(row: Row) -> Account:
    id_, name, declared, *rest = row
    rest[-3:] = (
        bool(rest[-3]),
        rest[-2],
        tuple(Unfetched(**one) for one in json.loads(rest[-1])),
    )
    return Account(id_, name, bool(declared), *rest)


def _device(row: Row) -> Device:
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


class AccountsAndDevices:
    _database: Database
    _blobs: Blobs
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
                accounts = await self._database.fetch(_ACCOUNT)
                devices = await self._database.fetch(f"{_DEVICE} ORDER BY name")
                self._people = People(
                    [_account(row) for row in accounts], [_device(row) for row in devices]
                )
            for account_id, mark in list(self._changed.items()):
                found = await self._database.fetch(f"{_ACCOUNT} WHERE id = ?", (account_id,))
                devices = await self._database.fetch(
                    f"{_DEVICE} WHERE account_id = ? ORDER BY name", (account_id,)
                )
                self._people.replace(
                    account_id,
                    _account(found[0]) if found else None,
                    [_device(row) for row in devices],
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

    async def accounts(self) -> list[Account]:
        known = (await self._known_people()).accounts
        return [known[name] for name in sorted(known)]

    async def account(self, name: str) -> Account | None:
        return (await self._known_people()).accounts.get(name)

    async def ensure_account(self, name: str, *, declared: bool, at: float) -> Account:
        account = await self.account(name)
        if account is None or account.declared is not declared:
            made = 0
            try:
                async with self._database.transaction() as change:
                    ((made,),) = await change.fetch(_ENSURE, (name, declared, at))
            finally:
                self._changed[made] = object()
            account = await self.account(name)
            assert account is not None  # noqa: S101 - just made
        return account

    async def remove_account(self, account_id: int) -> None:
        # Whole even when cancelled: no file may go once the lock is given up.
        await to_the_end(self._remove_account(account_id))

    async def _remove_account(self, account_id: int) -> None:
        async with self._blobs.lock:
            async with self._change_people(account_id, account=account_id) as change:
                freed = await change.fetch(_OWN_BLOBS, (account_id,))
                await change.execute("DELETE FROM account WHERE id = ?", (account_id,))
            await self._blobs.remove([digest for (digest,) in freed])

    async def set_verifier(self, account_id: int, verifier: str | None) -> None:
        async with self._change_people(account_id) as change:
            await change.execute(
                "UPDATE account SET verifier = ? WHERE id = ?", (verifier, account_id)
            )

    async def note_sync(
        self,
        account_id: int,
        *,
        at: float,
        upstream_count: int | None = None,
        unfetched: Sequence[Unfetched] | None = None,
        failure: str = "",
        failure_kind: str = "",
    ) -> None:
        left_out = None if unfetched is None else json.dumps([asdict(one) for one in unfetched])
        async with self._change_people(account_id) as change:
            if failure:
                await change.execute(
                    "UPDATE account SET failed_at = ?, failure = ?, failure_kind = ? WHERE id = ?",
                    (at, failure, failure_kind, account_id),
                )
            else:
                await change.execute(
                    "UPDATE account SET synced_at = ?, "
                    "failed_at = NULL, failure = '', failure_kind = '', "
                    "upstream_count = coalesce(?, upstream_count), "
                    "unfetched = coalesce(?, unfetched) WHERE id = ?",
                    (at, upstream_count, left_out, account_id),
                )

    async def note_keeps_retrieved(self, account_id: int) -> None:
        async with self._change_people(account_id) as change:
            await change.execute(
                "UPDATE account SET keeps_retrieved = 1 WHERE id = ?", (account_id,)
            )

    async def set_login_interval(self, account_id: int, seconds: float) -> None:
        async with self._change_people(account_id) as change:
            await change.execute(
                "UPDATE account SET login_interval = ? WHERE id = ?", (seconds, account_id)
            )

    async def devices(self, account_id: int) -> list[Device]:
        return list((await self._known_people()).devices.get(account_id, {}).values())

    async def device(self, account_id: int, name: str) -> Device | None:
        return (await self._known_people()).devices.get(account_id, {}).get(name.lower())

    async def device_by_app_password(self, account_id: int, password_hash: bytes) -> Device | None:
        rows = await self._database.fetch(
            f"{_DEVICE} WHERE account_id = ? AND app_password_hash = ?", (account_id, password_hash)
        )
        return _device(rows[0]) if rows else None

    async def add_device(
        self,
        account_id: int,
        name: str,
        *,
        since: float | None,
        view: ViewKind | None = None,
        app_password_hash: bytes | None = None,
        scram_keys: bytes | None = None,
        at: float,
    ) -> Device:
        try:
            async with self._change_people(account_id) as change:
                await change.execute(
                    "INSERT INTO device "
                    "(account_id, name, view, since, app_password_hash, scram_keys, created_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (account_id, name, view, since, app_password_hash, scram_keys, at),
                )
        except sqlite3.IntegrityError:
            raise AlreadyExists(f"there is a device {name} already") from None
        device = await self.device(account_id, name)
        assert device is not None  # noqa: S101 - just made
        return device

    async def device_by_certificate(self, certificate: bytes) -> tuple[Account, Device] | None:
        people = await self._known_people()
        for account in people.accounts.values():
            for device in people.devices.get(account.id, {}).values():
                if device.certificate == certificate:
                    return account, device
        return None

    async def set_certificate(self, device_id: int, certificate: bytes | None) -> None:
        async with self._change_device(device_id) as change:
            await change.execute(
                "UPDATE device SET certificate = ? WHERE id = ?", (certificate, device_id)
            )

    async def secret(self, name: str, *, fresh: bytes) -> bytes:
        known = "SELECT value FROM secret WHERE name = ?"
        if not await self._database.fetch(known, (name,)):
            async with self._database.transaction() as change:
                await change.execute(
                    "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
                    (name, fresh),
                )
        ((value,),) = await self._database.fetch(known, (name,))
        return bytes(value)

    async def kept(self, name: str) -> bytes | None:
        rows = await self._database.fetch("SELECT value FROM secret WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None

    async def keep(self, name: str, value: bytes | None) -> None:
        async with self._database.transaction() as change:
            await change.execute("DELETE FROM secret WHERE name = ?", (name,))
            if value is not None:
                await change.execute(
                    "INSERT INTO secret (name, value) VALUES (?, ?)", (name, value)
                )

    async def rename_device(self, device_id: int, name: str) -> None:
        try:
            async with self._change_device(device_id) as change:
                await change.execute("UPDATE device SET name = ? WHERE id = ?", (name, device_id))
        except sqlite3.IntegrityError:
            raise AlreadyExists(f"there is a device {name} already") from None

    async def remove_device(self, device_id: int) -> None:
        async with self._change_device(device_id) as change:
            await change.execute("DELETE FROM device WHERE id = ?", (device_id,))

    async def reset_device(self, device_id: int) -> None:
        async with self._change_device(device_id, view=True) as change:
            await change.execute("DELETE FROM delivery WHERE device_id = ?", (device_id,))
            await change.execute("DELETE FROM seen_uid WHERE device_id = ?", (device_id,))
            await change.execute("UPDATE device SET since = NULL WHERE id = ?", (device_id,))

    async def note_seen(self, device_id: int, *, at: float) -> None:
        async with self._change_device(device_id) as change:
            await change.execute("UPDATE device SET seen_at = ? WHERE id = ?", (at, device_id))
