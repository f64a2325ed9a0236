"""Accounts and devices in memory: always what the catalogue says, read no more of than changed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.adapters.sqlite.connection import Connection, InlineConnection, Parameters, Row
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.model import Account, Device

ACCOUNTS, NAMES = 50, ("default", "desktop", "laptop")


@dataclass
class Reader:
    """What queries have brought, and where one may be held up."""

    rows: int = 0
    hold: asyncio.Event | None = None

    async def look(self, store: SqliteStore, name: str) -> tuple[Account | None, list[Device], int]:
        """As a login does it; with the rows that were read for it."""
        before = self.rows
        account = await store.account(name)
        devices = await store.devices(account.id) if account else []
        return account, devices, self.rows - before


class CountingConnection(InlineConnection):
    reader: Reader

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        found = await super().fetch(sql, parameters)
        if sql.startswith("SELECT"):
            self.reader.rows += len(found)
            if self.reader.hold is not None:
                await self.reader.hold.wait()
        return found


async def full_house(folder: Path) -> tuple[SqliteStore, Reader]:
    reader = Reader()

    async def connect(path: Path) -> Connection:
        made = CountingConnection(sqlite3.connect(path, isolation_level=None))
        made.reader = reader
        return made

    store = await open_store(folder, connect=connect)
    for number in range(ACCOUNTS):
        account = await store.ensure_account(f"user{number:02}", declared=False, at=0)
        for name in NAMES:
            await store.add_device(account.id, name, since=None, at=0)
    await store.accounts()
    return store, reader


async def test_a_change_of_one_account_has_nobody_read_the_others(tmp_path: Path) -> None:
    store, reader = await full_house(tmp_path)
    one = await store.account("user07")
    assert one is not None
    laptop = await store.device(one.id, "laptop")
    assert laptop is not None
    changes: list[Callable[[], Awaitable[object]]] = [
        lambda: store.note_seen(laptop.id, at=1),
        lambda: store.set_certificate(laptop.id, b"c" * 32),
        lambda: store.reset_device(laptop.id),
        lambda: store.rename_device(laptop.id, "office"),
        lambda: store.add_device(one.id, "phone", since=None, at=1),
        lambda: store.remove_device(laptop.id),
        lambda: store.set_verifier(one.id, "v"),
        lambda: store.note_sync(one.id, at=1),
        lambda: store.set_login_interval(one.id, 9),
        lambda: store.ensure_account("user07", declared=True, at=1),
        lambda: store.ensure_account("somebody new", declared=False, at=1),
        lambda: store.remove_account(one.id),
    ]
    for change in changes:
        await change()
        found, devices, read = await reader.look(store, "user33")
        assert found is not None
        assert [device.name for device in devices] == list(NAMES)
        assert read <= 1 + len(NAMES) + 1, "more than the account that has changed was read"
        assert (await reader.look(store, "user33"))[2] == 0
    await store.close()


async def test_what_is_in_memory_is_what_another_process_would_read(tmp_path: Path) -> None:
    store, _ = await full_house(tmp_path)
    for number, device in enumerate(await store.devices(3)):
        await store.note_seen(device.id, at=number)
    await store.rename_device((await store.devices(4))[0].id, "zebra")
    await store.remove_device((await store.devices(5))[1].id)
    await store.remove_account(6)
    await store.ensure_account("aaron", declared=True, at=5)
    await store.set_verifier(7, "v")
    again = await open_store(tmp_path, exclusive=False)
    assert await store.accounts() == await again.accounts()
    assert (await store.accounts())[0].name == "aaron"
    for account in await again.accounts():
        assert await store.devices(account.id) == await again.devices(account.id)
    await again.close()
    await store.close()


async def test_a_change_that_comes_while_the_account_is_read_is_seen_by_who_comes_after(
    tmp_path: Path,
) -> None:
    store, reader = await full_house(tmp_path)
    await store.note_sync(1, at=1)
    reader.hold = asyncio.Event()
    early = asyncio.create_task(store.account("user00"))
    await asyncio.sleep(0)
    change = asyncio.create_task(store.note_sync(1, at=2))
    await asyncio.sleep(0)
    late = asyncio.create_task(store.account("user00"))
    await asyncio.sleep(0)
    reader.hold.set()
    await change
    assert await early is not None
    found = await late
    assert found is not None
    assert found.synced_at == 2
    await store.close()


async def test_a_look_at_an_account_ends_though_another_one_changes_without_end(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path)
    for name in ("alice", "bob"):
        await store.ensure_account(name, declared=False, at=0)
    changes = 0

    async def keep_changing() -> None:
        nonlocal changes
        while True:
            await store.note_sync(1, at=changes)
            changes += 1

    churn = asyncio.create_task(keep_changing())
    async with asyncio.timeout(20):
        while changes < 50:
            assert await store.account("bob") is not None
            await asyncio.sleep(0)
    churn.cancel()
    await asyncio.gather(churn, return_exceptions=True)
    await store.close()
