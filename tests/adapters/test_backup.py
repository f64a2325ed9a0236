"""What only a fault shows of a backup."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.adapters import backup
from proxy.adapters.backup import back_up, restore
from proxy.adapters.sqlite.schema import migrations
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.errors import AlreadyExists, DataDirInUse, NotFound, StoreTooNew
from proxy.domain.model import Account
from tests.interfaces.store_contract import NOW, add


def nobody_looks(_done: int, _total: int) -> None:
    pass


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_store(tmp_path / "data")
    yield store
    await store.close()


@pytest.fixture
async def alice(store: SqliteStore) -> Account:
    return await store.ensure_account("alice", declared=True, at=NOW)


def refuse_links(*_: object, **__: object) -> None:
    raise OSError("another file system")


async def test_a_copied_backup_leaves_out_what_is_damaged_and_says_so(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    await add(store, alice, b"sound\r\n", "1")
    await add(store, alice, b"damaged\r\n", "2")
    (damaged,) = (p for p in (tmp_path / "data/blobs").glob("??/*") if p.stat().st_size == 9)
    damaged.write_bytes(b"DAMAGED\r\n")
    copied = back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    assert copied.damaged == (damaged.name,)
    assert (copied.blobs, copied.octets) == (1, 7)


async def test_a_message_repaired_since_is_repaired_in_the_next_backup(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    await add(store, alice, b"sound\r\n", "1")
    (blob,) = (tmp_path / "data/blobs").glob("??/*")
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    blob.write_bytes(b"DAMAGED")
    blob.unlink()
    blob.write_bytes(b"sound\r\n")
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    assert back_up(tmp_path / "data", tmp_path / "backup", nobody_looks).octets == 0
    assert restore(tmp_path / "backup", tmp_path / "new", nobody_looks).damaged == ()


async def test_what_was_purged_leaves_the_next_backup(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    message = await add(store, alice, b"a\r\n", "1")
    await add(store, alice, b"b\r\n", "2")
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    await store.purge(alice.id, [message], at=NOW)
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    assert len(list((tmp_path / "backup/blobs").glob("??/*"))) == 1


async def test_a_backup_broken_off_leaves_the_earlier_one_whole(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, alice, b"a\r\n", "1")
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    await add(store, alice, b"b\r\n", "2")

    def full_disk() -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "sync", full_disk)
        with pytest.raises(Exception, match="no space left"):
            back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    assert restore(tmp_path / "backup", tmp_path / "restored", nobody_looks).messages == 1


async def test_a_restore_broken_off_can_be_begun_again(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    for number in range(3):
        await add(store, alice, b"%d\r\n" % number, str(number))
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)

    def break_off(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup", tmp_path / "restored", break_off)
    assert not (tmp_path / "restored/catalogue.db").exists()
    assert restore(tmp_path / "backup", tmp_path / "restored", nobody_looks).blobs == 3
    with pytest.raises(AlreadyExists):
        restore(tmp_path / "backup", tmp_path / "restored", nobody_looks)


async def test_a_restored_blob_is_compared_with_its_digest(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    await add(store, alice, b"a\r\n", "1")
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    (blob,) = (tmp_path / "backup/blobs").glob("??/*")
    blob.unlink()
    blob.write_bytes(b"b\r\n")
    assert restore(tmp_path / "backup", tmp_path / "new", nobody_looks).damaged == (blob.name,)


async def test_a_store_in_use_is_not_restored_over(store: SqliteStore, tmp_path: Path) -> None:
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    with pytest.raises(DataDirInUse):
        restore(tmp_path / "backup", tmp_path / "data", nobody_looks)


async def test_a_backup_of_a_newer_version_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    with closing(sqlite3.connect(tmp_path / "backup/catalogue.db")) as catalogue:
        catalogue.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    with pytest.raises(StoreTooNew):
        restore(tmp_path / "backup", tmp_path / "new", nobody_looks)
    assert not (tmp_path / "new/catalogue.db").exists()


def test_where_there_is_no_store_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    assert not (tmp_path / "backup").exists()


async def test_a_backup_is_for_its_owner_alone(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    await add(store, alice, b"a\r\n")
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    for path in [tmp_path / "backup", *(tmp_path / "backup").rglob("*")]:
        if path.name != backup.MARKER:
            assert path.stat().st_mode & 0o077 == 0, path
