"""The store in production, on aiosqlite and inline, and what only it can do wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.blobs import InlineRunner
from proxy.adapters.sqlite.connection import (
    Connection,
    InlineConnection,
    Parameters,
    connect_inline,
)
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.errors import DataDirInUse, StoreTooNew, StoreUnavailable
from proxy.domain.model import Account
from proxy.interfaces.store import Store
from tests.interfaces.store_contract import NOW, StoreContract, add, commit, fetched


class TestOnThreads(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await open_store(tmp_path)
        yield store
        await store.close()


class TestInline(StoreContract):
    """As under simulation."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await open_store(
            tmp_path, connect=connect_inline, run=InlineRunner(), exclusive=False
        )
        yield store
        await store.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def alice(store: SqliteStore) -> Account:
    return await store.ensure_account("alice", declared=True, at=NOW)


class WatchedConnection(InlineConnection):
    """Counts commits, and fails or waits where a test says so."""

    commits = 0
    fail_on = ""
    hold: asyncio.Event | None = None
    """While set and not triggered, COMMIT waits; `reached` tells that it does."""
    reached: asyncio.Event

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        if self.fail_on and sql.startswith(self.fail_on):
            raise sqlite3.OperationalError("database or disk is full")
        if sql == "COMMIT":
            type(self).commits += 1
            if self.hold is not None:
                self.reached.set()
                await self.hold.wait()
        return await super().execute(sql, parameters)


async def open_watched(data_dir: Path) -> tuple[SqliteStore, WatchedConnection]:
    made: list[WatchedConnection] = []

    async def connect(path: Path) -> Connection:
        made.append(WatchedConnection(sqlite3.connect(path, isolation_level=None)))
        return made[-1]

    store = await open_store(data_dir, connect=connect, run=InlineRunner())
    return store, made[0]


async def test_quits_that_come_while_one_is_written_share_the_next_transaction(
    tmp_path: Path,
) -> None:
    store, writer = await open_watched(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    message = await add(store, alice, b"a\r\n")
    devices = [await store.add_device(alice.id, f"d{n}", since=None, at=NOW) for n in range(20)]
    WatchedConnection.commits = 0
    writer.hold, writer.reached = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(commit(store, devices[0], {message}))
    await writer.reached.wait()
    others = [asyncio.create_task(commit(store, device, {message})) for device in devices[1:]]
    await asyncio.sleep(0)
    writer.hold.set()
    await asyncio.gather(first, *others)
    assert WatchedConnection.commits == 2
    assert len(await store.deliveries(message)) == 20
    await store.close()


async def test_a_full_disk_fails_every_quit_of_the_group_and_changes_nothing(
    tmp_path: Path,
) -> None:
    store, writer = await open_watched(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    message = await add(store, alice, b"a\r\n")
    devices = [await store.add_device(alice.id, f"d{n}", since=None, at=NOW) for n in range(3)]
    writer.fail_on = "COMMIT"
    results = await asyncio.gather(
        *(commit(store, device, {message}) for device in devices), return_exceptions=True
    )
    assert all(isinstance(result, StoreUnavailable) for result in results)
    writer.fail_on = ""
    assert await store.deliveries(message) == []
    await commit(store, devices[0], {message})
    assert len(await store.deliveries(message)) == 1
    await store.close()


async def test_an_empty_session_writes_nothing(tmp_path: Path) -> None:
    store, _ = await open_watched(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    device = await store.add_device(alice.id, "d", since=None, at=NOW)
    WatchedConnection.commits = 0
    await commit(store, device)
    assert WatchedConnection.commits == 0
    await store.close()


async def test_a_verb_cancelled_at_any_point_leaves_the_store_usable(
    store: SqliteStore, alice: Account
) -> None:
    for steps in range(12):
        task = asyncio.create_task(store.add_device(alice.id, f"d{steps}", since=None, at=NOW))
        for _ in range(steps):
            await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await store.add_device(alice.id, "after", since=None, at=NOW)
    assert "after" in [device.name for device in await store.devices(alice.id)]


async def test_a_view_never_sees_a_transaction_that_is_not_committed(tmp_path: Path) -> None:
    store, writer = await open_watched(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    one = await fetched(store, b"a\r\n")
    writer.hold, writer.reached = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(store.add_messages(alice.id, [one], at=NOW))
    await writer.reached.wait()
    assert await store.messages(alice.id) == ()
    writer.hold.set()
    await task
    assert len(await store.messages(alice.id)) == 1
    await store.close()


async def test_many_verbs_at_once(store: SqliteStore, alice: Account) -> None:
    device = await store.add_device(alice.id, "d", since=None, at=NOW)

    async def one(number: int) -> None:
        message = await fetched(store, b"%d\r\n" % number, f"u{number}")
        await store.add_messages(alice.id, [message], at=NOW)
        ids = [m.id for m in await store.messages(alice.id)]
        await commit(store, device, set(ids))

    await asyncio.gather(*(one(number) for number in range(30)))
    assert len(await store.messages(alice.id)) == 30
    assert await store.waiting(device.id) == 0


async def test_a_second_process_is_kept_out(tmp_path: Path, store: SqliteStore) -> None:
    with pytest.raises(DataDirInUse, match=str(tmp_path)):
        await open_store(tmp_path)


async def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    await (await open_store(tmp_path)).close()
    with sqlite3.connect(tmp_path / "catalogue.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    before = (tmp_path / "catalogue.db").read_bytes()
    with pytest.raises(StoreTooNew, match="999"):
        await open_store(tmp_path)
    assert (tmp_path / "catalogue.db").read_bytes() == before


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.adapters.sqlite import schema

    scripts = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: [*scripts, "CREATE TABLE x (y); NONSENSE"])
    with pytest.raises(StoreUnavailable):
        await open_store(tmp_path)
    monkeypatch.setattr(schema, "migrations", lambda: [*scripts, "CREATE TABLE x (y)"])
    await (await open_store(tmp_path)).close()


async def test_what_a_crash_left_behind_is_swept_and_what_rows_name_is_kept(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    await add(store, alice, b"kept\r\n")
    await store.close()
    orphan = tmp_path / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"no row names me")
    temporary = tmp_path / "blobs" / "tmp" / "17"
    temporary.write_bytes(b"half a mess")
    store = await open_store(tmp_path)
    assert not orphan.exists()
    assert not temporary.exists()
    (message,) = await store.messages(alice.id)
    assert await store.is_intact(message.digest)
    await store.close()


async def test_files_are_synced_before_they_are_named_and_named_before_their_folder_is_synced(
    store: SqliteStore, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any) -> Any:
            if name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode):
                calls.append("fsync folder")
            else:
                calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    watch("fsync")
    watch("replace")
    await add(store, alice, b"a\r\n")
    assert calls[:2] == ["fsync", "replace"]
    assert set(calls[2:]) == {"fsync folder"}


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_a_full_disk_under_a_blob_stores_nothing_and_leaves_nothing(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    one = await fetched(store, b"x" * size)
    with monkeypatch.context() as patch:

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable):
            await store.add_messages(alice.id, [one], at=NOW)
    assert await store.messages(alice.id) == ()
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []
    await add(store, alice, b"x" * size)


async def test_an_aborted_blob_leaves_nothing(store: SqliteStore, tmp_path: Path) -> None:
    for finish in (False, True):
        writer = store.new_blob()
        await writer.write(b"x" * 1_000_000)
        if finish:
            await writer.finish()
        await writer.abort()
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []


async def test_a_missing_blob_is_told_and_known_to_be_lost(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    await add(store, alice, b"a\r\n")
    (message,) = await store.messages(alice.id)
    before = store.version(alice.id)
    next((tmp_path / "blobs").glob("??/*")).unlink()
    with pytest.raises(StoreUnavailable):
        store.open_blob(message)
    assert store.version(alice.id) > before
    assert not (await store.known(alice.id))[0].blob_kept


async def test_a_damaged_blob_stays_lost_over_a_restart_until_it_is_replaced(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    message_id = await add(store, alice, b"good\r\n")
    (message,) = await store.messages(alice.id)
    path = next((tmp_path / "blobs").glob("??/*"))
    path.write_bytes(b"evil\r\n")
    assert not await store.is_intact(message.digest)
    await store.close()
    store = await open_store(tmp_path)
    assert not (await store.known(alice.id))[0].blob_kept
    repair = await fetched(store, b"good\r\n", repairs=message_id)
    await store.add_messages(alice.id, [repair], at=NOW)
    assert (await store.known(alice.id))[0].blob_kept
    assert await store.is_intact(message.digest)
    await store.close()


async def test_mail_is_readable_by_its_owner_alone(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    await add(store, alice, b"x" * 1_000_000)
    blob = next((tmp_path / "blobs").glob("??/*"))
    assert stat.S_IMODE(blob.stat().st_mode) == 0o600
    assert stat.S_IMODE(blob.parent.stat().st_mode) == 0o700
    await (await open_store(tmp_path / "new")).close()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
