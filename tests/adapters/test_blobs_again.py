"""Messages that could not be made durable, and are added again; many files made durable at once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters import blobs
from proxy.adapters.blobs import Blobs, InlineRunner, ThreadRunner
from proxy.adapters.store import SqliteStore
from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import Account, Blob, Fetched
from proxy.interfaces.store import IN_MEMORY, BlobWriter
from tests.interfaces.store_contract import NOW

SIZES = (10, IN_MEMORY - 1, IN_MEMORY, 3 * IN_MEMORY + 17)
"""All in memory, all in the file, and a part in each."""

TOGETHER = 8
"""Files that are synced at a time at least."""


def mail(size: int) -> bytes:
    return (f"{size} ".encode() * (size // 2 + 1))[:size]


async def came(store: SqliteStore, size: int) -> tuple[BlobWriter, Fetched]:
    writer, octets = store.new_blob(), mail(size)
    for at in range(0, size, 100_000):
        await writer.write(octets[at : at + 100_000])
    return writer, Fetched(f"u{size}", size, await writer.finish(), None, None, NOW)


def in_tmp(folder: Path) -> list[Path]:
    return list((folder / "blobs" / "tmp").iterdir())


def failing(name: str, *, folders: bool) -> Callable[..., Any]:
    """Stands in for a function of `os`: fails for folders, or for files."""
    real = getattr(os, name)

    def call(*arguments: Any) -> Any:
        is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
        if is_folder == folders:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    return call


@pytest.mark.parametrize("step", ["file", "rename", "folder", "rows"])
async def test_what_could_not_be_made_durable_can_be_added_again(
    store: SqliteStore,
    alice: Account,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    batch = [await came(store, size) for size in SIZES]
    messages = [fetched for _, fetched in batch]
    for _ in range(2):
        with monkeypatch.context() as patch:
            if step == "rows":

                async def full(*_: object) -> int:
                    raise sqlite3.OperationalError("database or disk is full")

                patch.setattr(store._database._writer, "executemany", full)
            else:
                name = "replace" if step == "rename" else "fsync"
                patch.setattr(os, name, failing(name, folders=step == "folder"))
            with pytest.raises(StoreUnavailable):
                await store.add_messages(alice.id, messages, at=NOW)
        assert await store.messages(alice.id) == ()
        for writer, _ in batch:
            assert await writer.renew()
    await store.add_messages(alice.id, messages, at=NOW)
    for message, size in zip(await store.messages(alice.id), SIZES, strict=True):
        assert message.digest == hashlib.sha256(mail(size)).digest()
        assert await store.is_intact(message.digest)
    assert in_tmp(tmp_path) == []
    assert not store._blobs.staged


async def test_what_waits_in_memory_takes_no_room_on_the_disk(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, fetched = await came(store, IN_MEMORY - 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing("fsync", folders=False))
        with pytest.raises(StoreUnavailable):
            await store.add_messages(alice.id, [fetched], at=NOW)
    assert in_tmp(tmp_path) == []
    await writer.abort()
    assert not store._blobs.staged


@pytest.mark.parametrize("damage", ["gone", "short", "other octets"])
async def test_a_file_that_has_not_kept_its_octets_is_not_added_again(
    store: SqliteStore,
    alice: Account,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    writer, fetched = await came(store, 3 * IN_MEMORY + 17)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing("fsync", folders=False))
        with pytest.raises(StoreUnavailable):
            await store.add_messages(alice.id, [fetched], at=NOW)
    (file,) = in_tmp(tmp_path)
    if damage == "gone":
        file.unlink()
    elif damage == "short":
        os.truncate(file, 1000)
    else:
        octets = bytearray(file.read_bytes())
        octets[1000] ^= 1
        file.write_bytes(octets)
    assert not await writer.renew()
    await writer.abort()
    assert in_tmp(tmp_path) == []
    assert await store.messages(alice.id) == ()


async def test_a_file_is_written_anew_before_it_is_synced_again(
    store: SqliteStore, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync the kernel takes for written what is not on the disk."""
    size = 3 * IN_MEMORY + 17
    writer, fetched = await came(store, size)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing("fsync", folders=False))
        with pytest.raises(StoreUnavailable):
            await store.add_messages(alice.id, [fetched], at=NOW)
    written = 0
    write_all = blobs._write_all

    def counted(file: Any, data: Any) -> None:
        nonlocal written
        written += len(data)
        write_all(file, data)

    monkeypatch.setattr(blobs, "_write_all", counted)
    assert await writer.renew()
    await store.add_messages(alice.id, [fetched], at=NOW)
    assert written == size


# --- many at once -------------------------------------------------------------------------------


async def staged(store: Blobs, count: int) -> list[Blob]:
    batch = []
    for number in range(count):
        writer = store.writer()
        await writer.write(b"%d\r\n" % number)
        batch.append(await writer.finish())
    return batch


def prepared(folder: Path, run: ThreadRunner | InlineRunner) -> Blobs:
    store = Blobs(folder / "blobs", run)
    store.prepare()
    return store


async def test_files_are_synced_many_at_a_time_and_none_is_named_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = prepared(tmp_path, ThreadRunner())
    batch = await staged(store, 4 * TOGETHER)
    together = threading.Barrier(TOGETHER)
    files = 0

    def fsync(descriptor: int) -> None:
        """Returns when so many wait."""
        nonlocal files
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            files += 1
            assert not list((tmp_path / "blobs").glob("??/*"))
            together.wait(30)

    monkeypatch.setattr(os, "fsync", fsync)
    await store.make_durable(batch)
    assert files == len(batch)
    assert len(list((tmp_path / "blobs").glob("??/*"))) == len(batch)


async def test_when_one_file_fails_the_whole_batch_does_and_no_thread_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = prepared(tmp_path, ThreadRunner())
    batch = await staged(store, 20)
    calls = 0
    under_way = 0
    lock = threading.Lock()

    def fsync(descriptor: int) -> None:
        nonlocal calls, under_way
        with lock:
            calls += 1
            under_way += 1
            fails = calls == 3
        os.fstat(descriptor)
        with lock:
            under_way -= 1
        if fails:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        await store.make_durable(batch)
    assert under_way == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("blobs")]
    assert not store.staged
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_without_threads_files_are_synced_in_order_and_on_the_spot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the simulation does, which has to be the same each time."""
    threads = set()
    monkeypatch.setattr(os, "fsync", lambda _: threads.add(threading.get_ident()))

    async def run() -> None:
        store = prepared(tmp_path, InlineRunner())
        await store.make_durable(await staged(store, 20))

    asyncio.run(run())
    assert threads == {threading.get_ident()}
