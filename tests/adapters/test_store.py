"""The store in production, on aiosqlite and inline, and what only it can do wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from proxy.adapters.blobs import InlineRunner
from proxy.adapters.sqlite.connection import (
    Connection,
    InlineConnection,
    Parameters,
    ThreadConnection,
    connect_inline,
)
from proxy.adapters.sqlite.schema import migrations
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.errors import DataDirInUse, StoreTooNew, StoreUnavailable
from proxy.domain.model import Account
from proxy.domain.policy import DAY, RetentionPolicy
from proxy.interfaces.store import Store
from tests.interfaces.merge_contract import MergeContract
from tests.interfaces.running import run_for
from tests.interfaces.seen_contract import SeenContract
from tests.interfaces.sent_contract import SentContract
from tests.interfaces.store_contract import NOW, StoreContract, add, commit, fetched
from tests.interfaces.time_contract import TimeContract
from tests.interfaces.trouble_contract import TroubleContract
from tests.interfaces.unconfirmed_contract import UnconfirmedContract


class TestOnThreads(
    StoreContract,
    SeenContract,
    SentContract,
    TroubleContract,
    MergeContract,
    TimeContract,
    UnconfirmedContract,
):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await open_store(tmp_path)
        yield store
        await store.close()


class TestInline(
    StoreContract,
    SeenContract,
    SentContract,
    TroubleContract,
    MergeContract,
    TimeContract,
    UnconfirmedContract,
):
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


async def test_what_was_removed_is_in_no_file_any_more(store: SqliteStore, tmp_path: Path) -> None:
    bob = await store.ensure_account("bob-the-removed", declared=False, at=NOW)
    await store.set_verifier(bob.id, "his-verifier")
    await store.remove_account(bob.id)

    def left() -> set[str]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        texts = {path.name: path.read_bytes() for path in files}
        return {n for n, text in texts.items() if b"bob-the" in text or b"his-ver" in text}

    assert left() == {"catalogue.db-wal"}
    assert await store.erase_traces()
    assert left() == set()


async def test_a_reader_elsewhere_keeps_traces_and_it_is_said(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store._database._writer.fetch("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM account").fetchall()
        await store.ensure_account("bob", declared=False, at=NOW)
        assert not await store.erase_traces()
    assert await store.erase_traces()


async def test_copies_of_before_an_upgrade_are_named_if_an_account_is_in_them(
    store: SqliteStore, tmp_path: Path
) -> None:
    without, with_bob = tmp_path / "catalogue-v3.db", tmp_path / "catalogue-v4.db"
    for copy in (without, with_bob):
        with closing(sqlite3.connect(tmp_path / "catalogue.db")) as catalogue:
            catalogue.execute("VACUUM INTO ?", (str(copy),))
        await store.ensure_account("bob", declared=False, at=NOW)
    broken = tmp_path / "catalogue-v5.db.part"
    broken.write_bytes(b"nothing that SQLite knows")
    for name in ("bob", "Bob"):
        assert await store.copies_with(name) == [str(with_bob), str(broken)]


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


class ThreadWatched(ThreadConnection):
    """Tells when a statement that begins with `awaited` is on its way to the thread."""

    awaited = "nothing"
    sent: asyncio.Event

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        if sql.startswith(self.awaited):
            self.sent.set()
        return await super().execute(sql, parameters)


async def open_thread_watched(data_dir: Path) -> tuple[SqliteStore, ThreadWatched]:
    made: list[ThreadWatched] = []

    async def connect(path: Path) -> Connection:
        made.append(ThreadWatched(await aiosqlite.connect(path, isolation_level=None)))
        return made[-1]

    store = await open_store(data_dir, connect=connect)
    made[0].sent = asyncio.Event()
    return store, made[0]


async def cancel_at(writer: ThreadWatched, statement: str, verb: Coroutine[Any, Any, Any]) -> None:
    """Cancel a verb while the thread has this statement of it."""
    writer.awaited = statement
    task = asyncio.create_task(verb)
    await writer.sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    writer.awaited = "nothing"


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
async def test_a_verb_cancelled_at_any_statement_leaves_the_store_writable(
    tmp_path: Path, statement: str
) -> None:
    store, writer = await open_thread_watched(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    await cancel_at(writer, statement, store.add_device(alice.id, "cut", since=None, at=NOW))
    await store.add_device(alice.id, "after", since=None, at=NOW)
    names = {device.name for device in await store.devices(alice.id)}
    assert names == ({"after", "cut"} if statement == "COMMIT" else {"after"})
    await store.close()


async def test_a_commit_that_went_through_although_cancelled_voids_cached_views(
    tmp_path: Path,
) -> None:
    store, writer = await open_thread_watched(tmp_path)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    message = await add(store, alice, b"a\r\n")
    laptop = await store.add_device(alice.id, "laptop", since=None, at=NOW)
    account, device = store.version(alice.id), store.device_version(laptop.id)
    await cancel_at(writer, "COMMIT", store.note_listing(alice.id, gone=[message], seen=[], at=NOW))
    assert await store.removed_upstream(alice.id) == {message}
    assert store.version(alice.id) > account
    writer.sent.clear()
    await cancel_at(writer, "COMMIT", store.reset_device(laptop.id))
    assert store.device_version(laptop.id) > device
    await store.close()


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


async def test_an_upgrade_keeps_the_catalogue_as_it_was(tmp_path: Path) -> None:
    """From every version there was; its copy can be gone back to."""
    for version in range(1, len(migrations())):
        folder = tmp_path / str(version)
        folder.mkdir()
        with closing(sqlite3.connect(folder / "catalogue.db", isolation_level=None)) as old:
            for script in migrations()[:version]:
                old.executescript(script)
            old.execute(f"PRAGMA user_version = {version}")
            old.execute("INSERT INTO account (name, declared, created_at) VALUES ('alice', 1, 0)")
        store = await open_store(folder)
        assert await store.account("alice") is not None
        await store.close()
        copy = folder / f"catalogue-v{version}.db"
        assert copy.stat().st_mode & 0o077 == 0
        with closing(sqlite3.connect(copy)) as kept:
            assert kept.execute("PRAGMA user_version").fetchone() == (version,)
            assert kept.execute("SELECT name FROM account").fetchall() == [("alice",)]
        store = await open_store(folder)
        await store.close()
        assert len(list(folder.glob("catalogue-v*"))) == 1


async def test_what_was_there_before_running_time_counts_from_the_upgrade_on(
    tmp_path: Path,
) -> None:
    """And what was backlog for a device goes on being that."""
    with closing(sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None)) as old:
        for script in migrations()[:9]:
            old.executescript(script)
        old.execute("PRAGMA user_version = 9")
        old.execute("INSERT INTO account (name, declared, created_at) VALUES ('alice', 1, 0)")
        old.execute(
            "INSERT INTO device (account_id, name, since, created_at, seen_at) "
            "VALUES (1, 'laptop', 50, 0, 7)"
        )
        for uid, received, left in (("old", 40, 5), ("new", 60, None)):
            old.execute(
                "INSERT INTO message (account_id, uid, upstream_uid, upstream_octets, digest, "
                "octets, dots, received_at, fetched_at, upstream, left_upstream_at) "
                "VALUES (1, ?, ?, 3, ?, 3, 0, ?, 1, ?, ?)",
                (uid, uid, uid.encode() * 16, received, "gone" if left else "present", left),
            )
        old.execute("INSERT INTO delivery VALUES (1, 2, 8, NULL)")
    store = await open_store(tmp_path)
    retention = RetentionPolicy()
    (gone,) = await store.holdings(1, present=False, retention=retention, ran=0)
    (here,) = await store.holdings(1, present=True, retention=retention, ran=89 * DAY)
    assert (gone.fetched_ran, gone.left_ran, gone.last_delivery_ran, gone.waiting) == (
        0,
        0,
        None,
        0,
    )
    assert (here.left_ran, here.last_delivery_ran, here.having) == (None, 0, 1)
    laptop = await store.device(1, "laptop")
    assert laptop is not None
    assert await store.hidden(laptop.id, "all") == {1}
    assert [record.left_upstream_at for record in await store.records(1)] == [5, None]
    assert store.ran == 0
    await store.close()


async def test_a_crash_takes_nothing_off_that_was_stamped(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    run_for(store, 1000.0)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    await add(store, alice, b"a\r\n")
    run_for(store, 500.0)
    with closing(sqlite3.connect(tmp_path / "catalogue.db")) as beside:
        assert beside.execute("SELECT ran FROM clock").fetchone() == (1000,)
        assert beside.execute("SELECT fetched_ran FROM message").fetchone() == (1000,)
    await store.close()
    store = await open_store(tmp_path)
    assert store.ran == 1000
    await store.close()


async def test_accounts_that_differ_in_spelling_alone_stay_apart_in_a_store_that_has_them(
    tmp_path: Path,
) -> None:
    with closing(sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None)) as old:
        for script in migrations()[:8]:
            old.executescript(script)
        old.execute("PRAGMA user_version = 8")
        for name, declared in (("Alice@x", 0), ("alice@x", 1), ("ALICE@x", 0), ("Bob", 0)):
            old.execute(
                "INSERT INTO account (name, declared, created_at) VALUES (?, ?, 0)",
                (name, declared),
            )
    for _ in range(2):
        store = await open_store(tmp_path)
        for name in ("Alice@x", "alice@x", "ALICE@x"):
            account = await store.account(name)
            assert account is not None
            assert (account.name, account.salt_name) == (name, name)
            assert await store.ensure_account(name, declared=account.declared, at=NOW) == account
        other = await store.account(" aLICE@x")
        assert other is not None
        assert other.name == "alice@x", "the declared one"
        bob = await store.ensure_account("bob", declared=False, at=NOW)
        assert bob.name == "Bob"
        assert len(await store.accounts()) == 4
        await store.close()


async def test_canonical_names_that_an_older_unicode_made_are_made_anew(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    account = await store.ensure_account("Alice", declared=False, at=NOW)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None)) as old:
        old.execute("UPDATE account SET key = 'another'")
    store = await open_store(tmp_path)
    assert await store.ensure_account("ALICE", declared=False, at=NOW) == account
    await store.close()
    with closing(sqlite3.connect(tmp_path / "catalogue.db")) as old:
        assert old.execute("SELECT key FROM account").fetchall() == [("alice",)]


async def test_a_store_that_cannot_be_copied_is_not_upgraded(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None)) as old:
        old.executescript(migrations()[0])
        old.execute("PRAGMA user_version = 1")
    (tmp_path / "catalogue-v1.db.part").mkdir()
    with pytest.raises(StoreUnavailable):
        await open_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "catalogue.db")) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)


async def test_a_commit_is_on_disk_when_it_returns(store: SqliteStore) -> None:
    """PRAGMA synchronous = FULL is 2; with less, a power cut takes back what QUIT has answered."""
    assert await store._database._writer.fetch("PRAGMA synchronous") == [(2,)]
