"""Opening a store: what is not named stays, and a catalogue that is not the last is refused."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from proxy.adapters.backup import back_up, restore
from proxy.adapters.blobs import GUARD, Blobs
from proxy.adapters.sqlite.schema import RUNNING_TIME, migrations
from proxy.adapters.store import SqliteStore, open_store
from proxy.adapters.store_note import NOTE, read_note
from proxy.app import administer, running
from proxy.config.schema import Address, HttpSettings, Pop3Settings, Settings
from proxy.domain.errors import BadRequest, StoreUnavailable, WrongCatalogue
from proxy.domain.model import Upstream
from tests.interfaces.store_contract import NOW, add


def nobody_looks(_done: int, _total: int) -> None:
    pass


@asynccontextmanager
async def serving(data_dir: Path, *, accept: bool = False) -> AsyncIterator[SqliteStore]:
    """As `serve` opens it, and closes it."""
    store = await open_store(data_dir, accept=accept)
    try:
        await store.clean_up()
        yield store
    finally:
        await store.close()


async def come(store: SqliteStore, *names: str) -> None:
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    for name in names:
        await add(store, alice, f"Subject: {name}\r\n\r\n".encode(), name)


def blobs(data_dir: Path) -> set[str]:
    return {path.name for path in (data_dir / "blobs").glob("??/*")}


def aside(data_dir: Path) -> set[str]:
    return {path.name for path in (data_dir / "blobs" / "orphans").glob("*")}


def put_back(data_dir: Path, copy: Path) -> None:
    shutil.copy(copy, data_dir / "catalogue.db")
    for end in ("-wal", "-shm"):
        (data_dir / f"catalogue.db{end}").unlink(missing_ok=True)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A store of yesterday's three messages and today's two; yesterday's catalogue lies beside."""
    folder = tmp_path / "data"
    async with serving(folder) as store:
        await come(store, "1", "2", "3")
    shutil.copy(folder / "catalogue.db", tmp_path / "yesterday.db")
    async with serving(folder) as store:
        await come(store, "4", "5")
    shutil.copy(folder / "catalogue.db", tmp_path / "today.db")
    return folder


async def refused(data_dir: Path) -> str:
    before = blobs(data_dir) | aside(data_dir)
    with pytest.raises(WrongCatalogue) as raised:
        await (await open_store(data_dir)).close()
    assert blobs(data_dir) | aside(data_dir) == before
    assert "verify --adopt" in str(raised.value)
    return str(raised.value)


async def test_an_older_catalogue_is_refused_and_what_it_lacks_is_set_aside_once_accepted(
    data: Path, tmp_path: Path
) -> None:
    put_back(data, tmp_path / "yesterday.db")
    assert "older" in await refused(data)
    async with serving(data, accept=True) as store:
        assert len(blobs(data)) == 3
        assert len(await store.orphans()) == 2
    async with serving(data) as store:
        assert len(await store.orphans()) == 2


async def test_what_was_set_aside_is_back_with_the_catalogue_that_names_it(
    data: Path, tmp_path: Path
) -> None:
    put_back(data, tmp_path / "yesterday.db")
    async with serving(data, accept=True):
        pass
    put_back(data, tmp_path / "today.db")
    await refused(data)
    async with serving(data, accept=True) as store:
        assert len(blobs(data)) == 5
        assert await store.orphans() == []
        for digest in await store.blobs():
            assert await store.is_intact(digest)


@pytest.mark.parametrize("state", ["missing", "empty", "of no tables"])
async def test_a_catalogue_that_is_gone_is_not_made_anew_beside_mail(
    data: Path, state: str
) -> None:
    catalogue = data / "catalogue.db"
    catalogue.unlink()
    if state == "empty":
        catalogue.touch()
    if state == "of no tables":
        with closing(sqlite3.connect(catalogue)) as made:
            made.execute("PRAGMA journal_mode = WAL")
    (data / NOTE).unlink()
    assert "missing or empty" in await refused(data)
    assert catalogue.exists() == (state != "missing")


async def test_an_empty_catalogue_keeps_the_log_beside_it(data: Path) -> None:
    """SQLite would drop it."""
    (data / "catalogue.db").write_bytes(b"")
    (data / "catalogue.db-wal").write_bytes(b"changes")
    await refused(data)
    assert (data / "catalogue.db-wal").read_bytes() == b"changes"


@pytest.mark.parametrize("there", [True, False])
async def test_a_name_mistyped_accepts_no_catalogue(
    data: Path, tmp_path: Path, there: bool
) -> None:
    put_back(data, tmp_path / "yesterday.db")
    if not there:
        (data / "catalogue.db").unlink()
    settings = Settings(data_dir=data)
    with pytest.raises(BadRequest, match="no account alcie"):
        await administer(settings, "verify", {"adopt": True, "account": "alcie"})
    assert (data / "catalogue.db").exists() == there
    await refused(data)
    if there:
        found = await administer(settings, "verify", {"adopt": True, "account": "Alice"})
        assert found["adopted"]["adopted"] == 2


async def test_a_catalogue_of_another_store_is_refused(data: Path, tmp_path: Path) -> None:
    async with serving(tmp_path / "other") as store:
        await come(store, "9")
    put_back(data, tmp_path / "other" / "catalogue.db")
    assert "another store" in await refused(data)


async def test_a_write_ahead_log_that_is_gone_makes_a_catalogue_older(
    data: Path, tmp_path: Path
) -> None:
    store = await open_store(data, exclusive=False)
    await store.clean_up()
    await come(store, "6")
    shutil.copytree(data, tmp_path / "killed")
    await store.close()
    (tmp_path / "killed" / "catalogue.db-wal").unlink()
    await refused(tmp_path / "killed")


@pytest.mark.parametrize("note", [None, b"", b"nonsense", b"\xff" * 99])
async def test_a_note_that_is_lost_says_nothing_against_the_store(
    data: Path, note: bytes | None
) -> None:
    (data / NOTE).unlink()
    if note is not None:
        (data / NOTE).write_bytes(note)
    async with serving(data) as store:
        assert await store.orphans() == []
    assert read_note(data) is not None


async def test_a_note_that_cannot_be_written_keeps_nobody_from_serving(data: Path) -> None:
    (data / NOTE).unlink()
    (data / NOTE).mkdir()
    async with serving(data) as store:
        await come(store, "6")
    assert len(blobs(data)) == 6


async def test_a_catalogue_that_is_newer_than_the_note_is_the_right_one(
    data: Path, tmp_path: Path
) -> None:
    before = (data / NOTE).read_bytes()
    async with serving(data) as store:
        await come(store, "6")
        await store.settle()
    (data / NOTE).write_bytes(before)
    async with serving(data) as store:
        assert await store.orphans() == []


async def test_a_copy_made_before_an_upgrade_is_refused_beside_what_came_after(
    data: Path, tmp_path: Path
) -> None:
    """It may be of a version that took no notes."""
    old = data / "catalogue-v4.db"
    with closing(sqlite3.connect(old)) as made:
        for script in migrations()[:4]:
            made.executescript(script)
        made.execute("PRAGMA user_version = 4")
        made.execute("INSERT INTO account (name, declared, created_at) VALUES ('alice', 1, 0)")
        made.commit()
    put_back(data, old)
    await refused(data)
    async with serving(data, accept=True) as store:
        assert len(await store.orphans()) == 5


async def test_a_version_that_would_delete_mail_stops_before_it_does(data: Path) -> None:
    """What such versions do when they open a store."""
    (guard,) = (data / "blobs" / "tmp").iterdir()
    with pytest.raises(OSError, match=GUARD):
        guard.unlink()


async def test_who_only_looks_moves_nothing(data: Path) -> None:
    stray = data / "blobs" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"whose?")
    (data / "blobs" / "tmp" / "0").write_bytes(b"half a mess")
    store = await open_store(data)
    await come(store, "6")
    await store.close()
    assert stray.exists()
    assert (data / "blobs" / "tmp" / "0").exists()


async def test_what_was_set_aside_keeps_its_age(data: Path) -> None:
    stray = data / "blobs" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"whose?")
    os.utime(stray, (NOW, NOW))
    async with serving(data):
        pass
    assert (data / "blobs" / "orphans" / stray.name).stat().st_mtime == NOW


async def test_what_a_crash_left_goes_once_it_has_come_again(data: Path) -> None:
    async with serving(data) as store:
        await come(store, "6")
        with closing(sqlite3.connect(data / "catalogue.db")) as crashed:
            crashed.execute("DELETE FROM message WHERE uid = '6'")
            crashed.commit()
    async with serving(data) as store:
        assert len(await store.orphans()) == 1
        await come(store, "6")
        assert await store.orphans() == []


def no_blob_can_go(patch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def busy(path: Path, missing_ok: bool = False) -> None:
        if path.parent.parent.name == "blobs":
            raise OSError(16, "Device or resource busy")
        unlink(path, missing_ok=missing_ok)

    patch.setattr(Path, "unlink", busy)


async def test_what_a_purge_could_not_unlink_goes_some_day(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(data) as store:
        alice = await store.account("alice")
        assert alice is not None
        first, second, *_ = await store.messages(alice.id)
        with monkeypatch.context() as patch:
            no_blob_can_go(patch)
            await store.purge(alice.id, [first.id], at=NOW)
            await store.settle()
        assert len(blobs(data)) == 5
        await store.settle()
        assert len(blobs(data)) == 4
    with monkeypatch.context() as patch:
        no_blob_can_go(patch)
        async with serving(data) as store:
            await store.purge(alice.id, [second.id], at=NOW)
    assert len(blobs(data)) == 4
    async with serving(data) as store:
        assert len(blobs(data)) == 3
        assert await store.orphans() == []


async def test_a_disk_that_reads_nothing_of_what_is_let_go_of_leaves_it_noted(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(data) as store:
        alice = await store.account("alice")
        assert alice is not None
        first, *_ = await store.messages(alice.id)
        with monkeypatch.context() as patch:
            no_blob_can_go(patch)
            patch.setattr(Path, "exists", unreadable)
            await store.purge(alice.id, [first.id], at=NOW)
            await store.settle()
        await store.settle()
        assert len(blobs(data)) == 4


async def test_a_folder_that_cannot_be_cleaned_up_keeps_nobody_from_serving(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Blobs, "set_aside", unreadable)
    before = read_note(data)
    pop3, http = Pop3Settings(listen=()), HttpSettings(listen=Address(""))
    settings = Settings(data_dir=data, pop3=pop3, http=http)
    async with running(settings):
        pass
    after = read_note(data)
    assert before is not None
    assert after is not None
    assert before.is_older_than(after)


def unreadable(*_: object, **__: object) -> bool:
    raise OSError(errno.EIO, "Input/output error")


async def test_what_an_older_catalogue_let_go_of_is_not_unlinked(
    data: Path, tmp_path: Path
) -> None:
    """The newer one may have had it again."""
    with closing(sqlite3.connect(tmp_path / "yesterday.db")) as older:
        older.execute("INSERT INTO freed_blob SELECT digest FROM message WHERE uid = '1'")
        older.execute("UPDATE message SET purged_at = 1 WHERE uid = '1'")
        older.commit()
    put_back(data, tmp_path / "yesterday.db")
    async with serving(data, accept=True) as store:
        assert len(await store.orphans()) == 3


async def test_an_account_removed_takes_along_what_could_not_be_unlinked(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(data) as store:
        alice = await store.account("alice")
        assert alice is not None
        with monkeypatch.context() as patch:
            no_blob_can_go(patch)
            await store.remove_account(alice.id)
        assert len(blobs(data)) == 5
    assert blobs(data) == aside(data) == set()


async def test_a_damaged_catalogue_says_what_to_do_and_destroys_nothing(data: Path) -> None:
    catalogue = data / "catalogue.db"
    pages = catalogue.read_bytes()
    for damaged in (
        pages[:8192] + b"rubbish!" * ((len(pages) - 8192) // 8),
        b"not a database at all, by no means" * 200,
    ):
        catalogue.write_bytes(damaged)
        with pytest.raises(StoreUnavailable, match="restore a backup"):
            async with serving(data) as store:
                await store.accounts()
        assert len(blobs(data)) == 5


async def test_a_copy_beside_a_whole_blob_goes_and_wakes_nothing(data: Path) -> None:
    async with serving(data) as store:
        alice = await store.account("alice")
        assert alice is not None
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        first, *rest = await store.messages(alice.id)
        await add(store, bob, b"Subject: 1\r\n\r\n", "1")
        await store.purge(bob.id, [one.id for one in await store.messages(bob.id)], at=NOW)
        name = first.digest.hex()
        copy = data / "blobs" / "orphans" / name
        shutil.copy(data / "blobs" / name[:2] / name, copy)
        orphan = await store.orphan(first.digest)
        assert orphan is not None
        assert await store.adopt(orphan, None, upstream=Upstream.EXPUNGED, at=NOW)
        assert await store.messages(bob.id) == ()
        assert await store.messages(alice.id) == (first, *rest)
        blob = data / "blobs" / name[:2] / name
        shutil.copy(blob, copy)
        blob.write_bytes(b"damaged")
        await store.set_aside()
        assert await store.orphans() == [first.digest]
        shutil.copy(copy, blob)
        await store.set_aside()
        assert await store.orphans() == []
        assert await store.is_intact(first.digest)


async def test_a_uidl_that_a_merge_has_used_up_stays_so(data: Path) -> None:
    async with serving(data) as store:
        alice = await store.account("alice")
        assert alice is not None
        bob = await store.ensure_account("bob", declared=True, at=NOW)
        octets = b"Subject: 1\r\n\r\n"
        await add(store, bob, octets, "another UIDL")
        await store.merge_accounts(bob.id, alice.id, at=NOW)
        messages = await store.messages(alice.id)
        first, *_ = messages
        await store.purge(alice.id, [first.id], at=NOW)
        (data / "blobs" / "orphans" / first.digest.hex()).write_bytes(octets)
        orphan = await store.orphan(first.digest)
        assert orphan is not None
        assert await store.adopt(orphan, None, upstream=Upstream.EXPUNGED, at=NOW)
        assert await store.messages(alice.id) == messages


async def test_a_catalogue_recovered_without_its_clock_goes_on_from_the_latest_stamp(
    data: Path,
) -> None:
    for column in ("fetched_ran", "left_ran"):
        with closing(sqlite3.connect(data / "catalogue.db")) as catalogue:
            latest = 500.0 if column == "fetched_ran" else 700.0
            catalogue.execute(f"UPDATE message SET {column} = ? WHERE uid = '2'", (latest,))
            catalogue.execute("DELETE FROM clock")
            catalogue.commit()
        async with serving(data) as store:
            assert store.ran >= latest
            await come(store, column)
            await store.keep_time(store.timekeeping)
        async with serving(data) as store:
            assert store.ran >= latest


async def test_every_stamp_of_running_time_is_looked_at_where_the_clock_is_lost(
    data: Path,
) -> None:
    with closing(sqlite3.connect(data / "catalogue.db")) as catalogue:
        tables = catalogue.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        stamps = {
            (table, column)
            for (table,) in tables
            for _, column, *_ in catalogue.execute(f"PRAGMA table_info({table})")
            if column == "ran" or column.endswith("_ran") or column == "left_at_once"
            if table != "clock"
        }
    assert stamps | {("spell", "since")} == set(RUNNING_TIME)


async def test_a_restored_backup_is_the_right_catalogue(data: Path, tmp_path: Path) -> None:
    back_up(data, tmp_path / "backup", nobody_looks)
    async with serving(data) as store:
        await come(store, "6")
    (data / "catalogue.db").unlink()
    assert restore(tmp_path / "backup", data, nobody_looks).messages == 5
    async with serving(data) as store:
        assert len(blobs(data)) == 5
        assert len(await store.orphans()) == 1


async def test_a_backup_loses_nothing_to_a_catalogue_that_is_not_its_successor(
    data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    back_up(data, target, nobody_looks)
    put_back(data, tmp_path / "yesterday.db")
    with pytest.raises(WrongCatalogue):
        back_up(data, target, nobody_looks)
    (data / NOTE).unlink()
    with pytest.raises(BadRequest, match="choose another folder"):
        back_up(data, target, nobody_looks)
    async with serving(tmp_path / "fresh") as store:
        await come(store, "9")
    with pytest.raises(BadRequest, match="choose another folder"):
        back_up(tmp_path / "fresh", target, nobody_looks)
    assert restore(target, tmp_path / "restored", nobody_looks).messages == 5


async def test_a_store_that_went_another_way_never_writes_over_the_backup_of_what_was(
    data: Path, tmp_path: Path
) -> None:
    """However often it counts."""
    back_up(data, tmp_path / "old", nobody_looks)
    back_up(data, tmp_path / "same count", nobody_looks)
    async with serving(data) as store:
        await come(store, "6")
        back_up(data, tmp_path / "new", nobody_looks)
    restore(tmp_path / "old", tmp_path / "restored", nobody_looks)
    put_back(data, tmp_path / "yesterday.db")
    for folder, accept in ((tmp_path / "restored", False), (data, True)):
        async with serving(folder, accept=accept) as store:
            for _ in range(9):
                await store.settle()
            for name in ("new", "same count"):
                with pytest.raises(BadRequest, match="choose another folder"):
                    back_up(folder, tmp_path / name, nobody_looks)
    assert restore(tmp_path / "new", tmp_path / "again", nobody_looks).messages == 6


async def test_a_restored_store_goes_on_in_the_backup_that_it_came_from(
    data: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    back_up(data, backup, nobody_looks)
    for name in ("one", "other"):
        restore(backup, tmp_path / name, nobody_looks)
    async with serving(tmp_path / "one") as store:
        await come(store, "7")
        for _ in range(2):
            assert back_up(tmp_path / "one", backup, nobody_looks).messages == 6
    for folder in (tmp_path / "other", data):
        with pytest.raises(BadRequest, match="choose another folder"):
            back_up(folder, backup, nobody_looks)


async def test_a_catalogue_that_needed_no_accepting_goes_on_in_its_backup(
    data: Path, tmp_path: Path
) -> None:
    back_up(data, tmp_path / "backup", nobody_looks)
    await (await open_store(data, accept=True)).close()
    assert back_up(data, tmp_path / "backup", nobody_looks).messages == 5


async def test_what_is_set_aside_is_taken_in_once_and_is_what_its_name_says(
    data: Path, tmp_path: Path
) -> None:
    put_back(data, tmp_path / "yesterday.db")
    async with serving(data, accept=True) as store:
        alice = await store.account("alice")
        assert alice is not None
        first, second = await store.orphans()
        (data / "blobs" / "orphans" / first.hex()).write_bytes(b"damaged")
        assert await store.orphan(first) is None
        orphan = await store.orphan(second)
        assert orphan is not None
        assert not await store.adopt(orphan, None, upstream=Upstream.EXPUNGED, at=NOW)
        version = store.version(alice.id)
        assert await store.adopt(orphan, alice.id, upstream=Upstream.EXPUNGED, at=NOW)
        assert store.version(alice.id) > version
        messages = await store.messages(alice.id)
        assert [m.digest for m in messages][3:] == [second]
        assert await store.is_intact(second)
        assert await store.orphans() == [first]


async def test_a_message_let_go_of_comes_back_for_devices_alone_that_never_had_it(
    data: Path,
) -> None:
    async with serving(data) as store:
        alice = await store.account("alice")
        assert alice is not None
        had = await store.add_device(alice.id, "had", since=None, at=NOW)
        waits = await store.add_device(alice.id, "waits", since=None, at=NOW)
        message, *_ = await store.messages(alice.id)
        await store.commit_session(
            had.id, retrieved={message.id}, deleted=set(), everywhere=False, at=NOW
        )
        kept = (data / "blobs" / message.digest.hex()[:2] / message.digest.hex()).read_bytes()
        await store.purge(alice.id, [message.id], at=NOW)
        (data / "blobs" / "orphans" / message.digest.hex()).write_bytes(kept)
        orphan = await store.orphan(message.digest)
        assert orphan is not None
        assert await store.adopt(orphan, None, upstream=Upstream.EXPUNGED, at=NOW)
        assert message in await store.messages(alice.id)
        assert message.id in await store.hidden(had.id, "all")
        assert message.id not in await store.hidden(waits.id, "all")
