"""Accounts and devices in the catalogue; see `interfaces.store.Accounts` and `Devices`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, replace

from proxy.adapters.blobs import Blobs, to_the_end
from proxy.adapters.sqlite.connection import Connection, Parameters
from proxy.adapters.sqlite.database import storage_errors
from proxy.adapters.sqlite.freed import note_freed
from proxy.adapters.sqlite.own import insert_own
from proxy.adapters.sqlite.people import DEVICE, PeopleInMemory, device_of
from proxy.domain.errors import AlreadyExists, TooManyDevices
from proxy.domain.login_name import canonical
from proxy.domain.model import Account, Blob, Device, Unfetched
from proxy.domain.policy import ViewKind

_MAKE = """
INSERT INTO account (name, key, declared, created_at) SELECT ?1, ?2, ?3, ?4
WHERE NOT EXISTS (SELECT 1 FROM account WHERE key = ?2)
"""

_OWN_BLOBS = """
SELECT DISTINCT digest FROM message WHERE account_id = ?1 AND purged_at IS NULL
EXCEPT SELECT digest FROM message WHERE account_id <> ?1 AND purged_at IS NULL
"""
"""Blobs that no other account's message names."""


async def _insert_device(change: Connection, row: Parameters, at_most: int | None) -> None:
    """Raises:
    TooManyDevices, sqlite3.IntegrityError: it is not made.
    """
    if at_most is not None:
        ((count,),) = await change.fetch(
            "SELECT count(*) FROM device WHERE account_id = ?", (row[0],)
        )
        if count >= at_most:
            # fetchmail shows a person what has "wait" in it, and takes all else for a wrong
            # password.
            raise TooManyDevices(
                f"this account has {count} devices, and {at_most} are the most it may have: "
                "another one has to wait until one is removed"
            )
    await change.execute(
        "INSERT INTO device "
        "(account_id, name, view, since, app_password_hash, scram_keys, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        row,
    )


class AccountsAndDevices(PeopleInMemory):
    _blobs: Blobs

    async def accounts(self) -> list[Account]:
        known = (await self._known_people()).accounts
        return [known[name] for name in sorted(known)]

    async def account(self, name: str) -> Account | None:
        return (await self._known_people()).account(name)

    async def ensure_account(self, name: str, *, declared: bool, at: float) -> Account:
        account = await self.account(name)
        if account is None:
            key, made = canonical(name), 0
            try:
                async with self._database.transaction() as change:
                    # Another spelling may have come first.
                    await change.execute(_MAKE, (name, key, declared, at))
                    ((made,),) = await change.fetch("SELECT id FROM account WHERE key = ?", (key,))
            finally:
                self._changed[made] = object()
            account = await self.account(name)
            assert account is not None  # noqa: S101 - just made
        if account.declared is not declared:
            async with self._change_people(account.id) as change:
                await change.execute(
                    "UPDATE account SET declared = ? WHERE id = ?", (declared, account.id)
                )
            account = replace(account, declared=declared)
        return account

    async def remove_account(self, account_id: int) -> None:
        # Whole even when cancelled: no file may go once the lock is given up.
        await to_the_end(self._remove_account(account_id))

    async def _remove_account(self, account_id: int) -> None:
        async with self._blobs.lock:
            async with self._change_people(account_id, account=account_id) as change:
                freed = await change.fetch(_OWN_BLOBS, (account_id,))
                await change.execute("DELETE FROM account WHERE id = ?", (account_id,))
                await note_freed(change, [digest for (digest,) in freed])
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
            f"{DEVICE} WHERE account_id = ? AND app_password_hash = ?", (account_id, password_hash)
        )
        return device_of(rows[0]) if rows else None

    async def add_device(
        self,
        account_id: int,
        name: str,
        *,
        since: float | None,
        view: ViewKind | None = None,
        app_password_hash: bytes | None = None,
        scram_keys: bytes | None = None,
        at_most: int | None = None,
        notice: Blob | None = None,
        at: float,
    ) -> Device:
        row = (account_id, name, view, since, app_password_hash, scram_keys, at)
        try:
            if notice is None:
                async with self._change_people(account_id) as change:
                    await _insert_device(change, row, at_most)
            else:
                # Whole even when cancelled, as every message.
                await to_the_end(self._add_device_and_tell(row, at_most, notice))
        except sqlite3.IntegrityError:
            raise AlreadyExists(f"there is a device {name} already") from None
        device = await self.device(account_id, name)
        assert device is not None  # noqa: S101 - just made
        return device

    async def _add_device_and_tell(
        self, row: Parameters, at_most: int | None, notice: Blob
    ) -> None:
        account_id, at = row[0], row[-1]
        async with self._blobs.lock:
            with storage_errors():
                await self._blobs.make_durable([notice])
            try:
                async with self._change_people(account_id, account=account_id) as change:
                    others = await change.fetch(
                        "SELECT id FROM device WHERE account_id = ?", (account_id,)
                    )
                    await _insert_device(change, row, at_most)
                    # One for each: devices to come are not told.
                    for (other,) in others:
                        await insert_own(change, account_id, notice, at, only_device=other)
            except (sqlite3.IntegrityError, TooManyDevices):
                # Nothing was made, and no two notices have the same octets.
                await self._blobs.remove([notice.digest])
                raise

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
            await change.execute("DELETE FROM unconfirmed WHERE device_id = ?", (device_id,))
            await change.execute("DELETE FROM seen_uid WHERE device_id = ?", (device_id,))
            await change.execute("UPDATE device SET since = NULL WHERE id = ?", (device_id,))

    async def note_seen(self, device_id: int, *, at: float) -> None:
        async with self._change_device(device_id) as change:
            await change.execute(
                "UPDATE device SET seen_at = ?, seen_ran = (SELECT ran FROM clock) WHERE id = ?",
                (at, device_id),
            )
