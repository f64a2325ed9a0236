"""What only a fault shows of a backup."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters import backup, blob_copy
from proxy.adapters.backup import back_up, restore
from proxy.adapters.folders import Folder
from proxy.adapters.sqlite.schema import migrations
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.errors import (
    AlreadyExists,
    BadRequest,
    DataDirInUse,
    NotFound,
    StoreTooNew,
    StoreUnavailable,
)
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


async def test_what_was_damaged_since_replaces_nothing_in_the_next_backup(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    await add(store, alice, b"sound\r\n", "1")
    (blob,) = (tmp_path / "data/blobs").glob("??/*")
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    blob.unlink()
    blob.write_bytes(b"DAMAGED")
    copied = back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    assert copied.damaged == (blob.name,)
    assert restore(tmp_path / "backup", tmp_path / "new", nobody_looks).damaged == ()


async def test_an_unreadable_block_keeps_no_other_message_out_of_a_backup(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    for name in ("1", "2", "3"):
        await add(store, alice, f"{name}\r\n".encode(), name)
    unreadable = hashlib.sha256(b"2\r\n").hexdigest()
    copy = blob_copy.copy_file

    def failing(source: Folder, name: str, *more: Any) -> bool:
        if name == unreadable:
            raise OSError(5, "Input/output error")
        return copy(source, name, *more)

    monkeypatch.setattr(blob_copy, "copy_file", failing)
    copied = back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    assert (copied.messages, copied.blobs, copied.damaged) == (3, 2, (unreadable,))


async def test_what_was_purged_leaves_the_next_backup(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    message = await add(store, alice, b"a\r\n", "1")
    await add(store, alice, b"b\r\n", "2")
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    await store.purge(alice.id, [message], at=NOW)
    back_up(tmp_path / "data", tmp_path / "backup", nobody_looks)
    assert len(list((tmp_path / "backup/blobs").glob("??/*"))) == 1


async def test_what_comes_in_while_a_backup_is_made_is_in_it(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is in the snapshot, and its blob was not there when blobs were looked for."""
    await add(store, alice, b"a\r\n", "1")
    loop, snapshot = asyncio.get_running_loop(), backup._snapshot

    def mail_comes(catalogue: Path, target: Path) -> None:
        asyncio.run_coroutine_threadsafe(add(store, alice, b"b\r\n", "2"), loop).result()
        snapshot(catalogue, target)

    with monkeypatch.context() as patch:
        patch.setattr(backup, "_snapshot", mail_comes)
        made = await asyncio.to_thread(
            back_up, tmp_path / "data", tmp_path / "backup", nobody_looks
        )
    assert (made.messages, made.blobs, made.damaged) == (2, 2, ())
    restored = restore(tmp_path / "backup", tmp_path / "restored", nobody_looks)
    assert (restored.messages, restored.blobs, restored.damaged) == (2, 2, ())


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
        assert path.stat().st_mode & 0o077 == 0, path


NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to somebody else")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of root's that nobody else may have."""
    path = tmp_path / "shadow"
    path.write_text("root:secret")
    path.chmod(0o600)
    return path


def is_as_it_was(secret: Path) -> bool:
    status = secret.stat()
    untouched = (status.st_uid, status.st_mode & 0o777) == (os.geteuid(), 0o600)
    return untouched and secret.read_text() == "root:secret"


async def backed_up(store: SqliteStore, alice: Account, folder: Path) -> str:
    """A backup of one message and of our own authority; the message's SHA-256."""
    await add(store, alice, b"a\r\n", "1")
    (folder / "data/ca.pem").write_text("ours")
    back_up(folder / "data", folder / "backup", nobody_looks)
    (blob,) = (folder / "backup/blobs").glob("??/*")
    return blob.name


def theirs(folder: Path) -> Path:
    """An empty data directory that belongs to the service's user."""
    made = folder / "theirs"
    made.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(made, NOBODY, NOBODY)
    return made


@root_only
async def test_what_root_restores_belongs_to_the_directory_s_owner_and_nothing_else_does(
    store: SqliteStore, alice: Account, tmp_path: Path, secret: Path
) -> None:
    await backed_up(store, alice, tmp_path)
    target = theirs(tmp_path)
    (target / "innocent").symlink_to(secret)
    (target / "notes").write_text("root's own")
    os.link(secret, target / "hard")
    restore(tmp_path / "backup", target, nobody_looks)
    found = {path.name: path.lstat().st_uid for path in target.rglob("*")}
    assert {name for name, owner in found.items() if owner == 0} == {"innocent", "notes", "hard"}
    assert {"lock", "blobs", "ca.pem", "catalogue.db"} < {n for n, o in found.items() if o}
    assert is_as_it_was(secret)


@pytest.mark.parametrize("kind", ["link", "hard link"])
@pytest.mark.parametrize(
    "name", ["lock", "ca.pem", "ca.pem.part", "catalogue.db.new", "catalogue.db.new.part", "blob"]
)
async def test_what_waits_in_the_target_leads_nowhere(
    store: SqliteStore, alice: Account, tmp_path: Path, secret: Path, name: str, kind: str
) -> None:
    sha256 = await backed_up(store, alice, tmp_path)
    target = theirs(tmp_path)
    trap = target / name
    if name == "blob":
        trap = target / "blobs" / sha256[:2] / sha256
        trap.parent.mkdir(parents=True)
    if kind == "link":
        trap.symlink_to(secret)
    else:
        os.link(secret, trap)
    if (name, kind) == ("lock", "link"):
        with pytest.raises(StoreUnavailable):
            restore(tmp_path / "backup", target, nobody_looks)
    else:
        assert restore(tmp_path / "backup", target, nobody_looks).damaged == ()
        restored = target / "blobs" / sha256[:2] / sha256
        assert restored.read_bytes() == b"a\r\n"
        assert not restored.is_symlink()
    assert is_as_it_was(secret)


@pytest.mark.parametrize("where", ["blobs", "shelf"])
async def test_a_folder_that_is_a_link_is_not_written_into(
    store: SqliteStore, alice: Account, tmp_path: Path, where: str
) -> None:
    sha256 = await backed_up(store, alice, tmp_path)
    (outside := tmp_path / "outside").mkdir()
    target = theirs(tmp_path)
    if where == "blobs":
        (target / "blobs").symlink_to(outside)
    else:
        (target / "blobs").mkdir()
        (target / "blobs" / sha256[:2]).symlink_to(outside)
    with pytest.raises(StoreUnavailable):
        restore(tmp_path / "backup", target, nobody_looks)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("end", ["-wal", "-journal"])
async def test_what_is_left_of_another_catalogue_is_no_part_of_the_restored_one(
    store: SqliteStore, alice: Account, tmp_path: Path, end: str
) -> None:
    await backed_up(store, alice, tmp_path)
    target = theirs(tmp_path)
    (target / f"catalogue.db{end}").write_bytes(b"changes")
    with pytest.raises(AlreadyExists):
        restore(tmp_path / "backup", target, nobody_looks)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device"])
@pytest.mark.parametrize("name", ["ca.pem", "catalogue.db", "blob"])
async def test_a_backup_of_more_than_plain_files_is_refused(
    store: SqliteStore, alice: Account, tmp_path: Path, secret: Path, name: str, kind: str
) -> None:
    sha256 = await backed_up(store, alice, tmp_path)
    trap = tmp_path / "backup" / (f"blobs/{sha256[:2]}/{sha256}" if name == "blob" else name)
    trap.unlink()
    if kind == "link":
        trap.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(trap)
    elif kind == "folder":
        trap.mkdir()
    elif os.geteuid() == 0:
        # /dev/zero
        os.mknod(trap, 0o20666, os.makedev(1, 5))
    else:
        pytest.skip("devices are root's to make")
    with pytest.raises((StoreUnavailable, NotFound)):
        restore(tmp_path / "backup", tmp_path / "new", nobody_looks)
    assert not (tmp_path / "new/catalogue.db").exists()
    assert not any(
        path.is_file() and b"root:secret" in path.read_bytes()
        for path in (tmp_path / "new").rglob("*")
    )


@root_only
@pytest.mark.parametrize("into", ["backup", "data"])
async def test_a_further_name_of_root_s_file_is_not_handed_on(
    store: SqliteStore, alice: Account, tmp_path: Path, secret: Path, into: str
) -> None:
    """Not from a backup into a store, nor from a store into a backup."""
    await backed_up(store, alice, tmp_path)
    folder = tmp_path / into
    os.chown(folder, NOBODY, NOBODY)
    (folder / "ca.pem").unlink()
    os.link(secret, folder / "ca.pem")
    target = tmp_path / "new"
    copy = restore if into == "backup" else back_up
    with pytest.raises(StoreUnavailable, match="not a plain file"):
        copy(folder, target, nobody_looks)
    assert not (target / "ca.pem").exists()


@pytest.mark.parametrize("digest", ["'../../../etc/passwd'", "x'00'", "4711", "NULL"])
async def test_a_catalogue_that_names_what_is_no_digest_is_damaged(
    store: SqliteStore, alice: Account, tmp_path: Path, digest: str
) -> None:
    await backed_up(store, alice, tmp_path)
    with closing(sqlite3.connect(tmp_path / "backup/catalogue.db")) as catalogue:
        catalogue.execute("CREATE TABLE other (digest, purged_at)")
        catalogue.execute(f"INSERT INTO other VALUES ({digest}, NULL)")
        catalogue.execute("DROP TABLE message")
        catalogue.execute("CREATE VIEW message AS SELECT * FROM other")
        catalogue.commit()
    with pytest.raises(StoreUnavailable, match="damaged"):
        restore(tmp_path / "backup", tmp_path / "new", nobody_looks)


@root_only
async def test_a_backup_goes_into_no_folder_that_somebody_else_has_laid_out(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    (target := tmp_path / "backup").mkdir(mode=0o777)
    (target / backup.MARKER).touch()
    os.chown(target, NOBODY, NOBODY)
    with pytest.raises(BadRequest, match="somebody else"):
        back_up(tmp_path / "data", target, nobody_looks)


async def test_a_restore_cut_off_by_a_power_cut_is_made_good_by_the_next(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    """A file may have its name before it has its octets."""
    sha256 = await backed_up(store, alice, tmp_path)
    shelf = tmp_path / "new/blobs" / sha256[:2]
    shelf.mkdir(parents=True)
    (shelf / sha256).touch()
    restore(tmp_path / "backup", tmp_path / "new", nobody_looks)
    assert (shelf / sha256).read_bytes() == b"a\r\n"
