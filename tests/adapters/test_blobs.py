"""Messages as files: durable before visible, whole or not at all, lost only when they are."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.adapters import blobs
from proxy.adapters.blobs import Blobs, InlineRunner
from proxy.adapters.sqlite.connection import connect_inline
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import Account, Fetched
from tests.interfaces.store_contract import NOW, add, fetched

T = TypeVar("T")


def full_disk(descriptor: int) -> None:
    """Stands in for `os.fsync`."""
    raise OSError(28, "No space left on device")


@given(st.lists(st.text(alphabet="\r\n.a", max_size=6).map(str.encode), max_size=12))
def test_octets_are_the_same_however_they_are_split(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)

    async def store_and_read(folder: Path) -> None:
        store = Blobs(folder / "blobs", InlineRunner())
        store.prepare()
        writer = store.writer()
        for piece in pieces:
            await writer.write(piece)
        blob = await writer.finish()
        assert blob.digest == hashlib.sha256(whole).digest()
        assert blob.octets == len(whole)
        assert blob.dots == any(line.startswith(b".") for line in whole.split(b"\r\n"))
        await store.make_durable([blob])
        reader = store.open(blob.digest, blob.octets)
        assert reader.read(len(whole) + 1) == whole
        reader.close()

    # So small that most messages go by way of a temporary file.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(blobs, "IN_MEMORY", 5)
        asyncio.run(store_and_read(Path(folder)))


async def test_what_a_crash_left_behind_is_set_aside_and_what_rows_name_is_kept(
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
    assert await store.clean_up() == 1
    assert not orphan.exists()
    assert (tmp_path / "blobs" / "orphans" / orphan.name).read_bytes() == b"no row names me"
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
    writer = store.new_blob()
    await writer.write(b"x" * size)
    one = Fetched("uid", size, await writer.finish(), None, None, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StoreUnavailable):
            await store.add_messages(alice.id, [one], at=NOW)
    await writer.abort()
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


async def test_a_folder_whose_first_batch_failed_is_synced_by_the_next(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await fetched(store, b"a\r\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StoreUnavailable):
            await store.add_messages(alice.id, [one], at=NOW)
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((status.st_dev, status.st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    await add(store, alice, b"a\r\n")
    folder = (tmp_path / "blobs").stat()
    assert (folder.st_dev, folder.st_ino) in synced


class Held:
    """Stands in for a function: done, and then stuck in its thread until a test lets it go."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._reached = threading.Event()
        self._released = threading.Event()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        result = self._function(*arguments, **options)
        self._reached.set()
        assert self._released.wait(30)
        return result

    async def cancel(self, verb: Coroutine[Any, Any, Any]) -> None:
        """Cancel a verb while its thread is stuck: it must not be over before the thread is."""
        task = asyncio.create_task(verb)
        assert await asyncio.to_thread(self._reached.wait, 30)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        over = task.done()
        self._released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not over


async def test_a_batch_whose_sync_is_cancelled_is_kept_and_harms_no_twin(
    store: SqliteStore, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await store.ensure_account("bob", declared=True, at=NOW)
    await add(store, alice, b"twin\r\n")
    batch = [await fetched(store, o, o.decode().strip()) for o in (b"first\r\n", b"twin\r\n")]
    version = store.version(bob.id)
    with monkeypatch.context() as patch:
        replace = Held(os.replace)
        patch.setattr(os, "replace", replace)
        await replace.cancel(store.add_messages(bob.id, batch, at=NOW))
    for account in (alice, bob):
        for message in await store.messages(account.id):
            assert await store.is_intact(message.digest)
    assert [message.uid for message in await store.messages(bob.id)] == ["first", "twin"]
    assert store.version(bob.id) > version


async def test_a_cancelled_purge_is_over_only_when_its_files_are_gone(
    store: SqliteStore, alice: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await add(store, alice, octets, octets.decode()) for octets in (b"a", b"b")]
    with monkeypatch.context() as patch:
        unlink = Held(Path.unlink)
        patch.setattr(Path, "unlink", lambda path, **options: unlink(path, **options))
        await unlink.cancel(store.purge(alice.id, ids, at=NOW))
    assert list((tmp_path / "blobs").glob("??/*")) == []


class HoldsWrites(InlineRunner):
    """Blobs that are written are in their places, but nobody hears of it before `go`."""

    def __init__(self) -> None:
        self.written, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, function: Callable[..., T], *arguments: Any) -> T:
        result = function(*arguments)
        if function.__name__ == "_write":
            self.written.set()
            await self.go.wait()
        return result


async def test_a_purge_waits_for_an_equal_blob_that_is_coming_in(tmp_path: Path) -> None:
    run = HoldsWrites()
    run.go.set()
    store = await open_store(tmp_path, connect=connect_inline, run=run)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    bob = await store.ensure_account("bob", declared=True, at=NOW)
    message = await add(store, alice, b"twin\r\n")
    run.written.clear()
    run.go.clear()
    twin = await fetched(store, b"twin\r\n")
    coming = asyncio.create_task(store.add_messages(bob.id, [twin], at=NOW))
    await run.written.wait()
    purge = asyncio.create_task(store.purge(alice.id, [message], at=NOW))
    for _ in range(100):
        await asyncio.sleep(0)
    run.go.set()
    await asyncio.gather(coming, purge)
    (kept,) = await store.messages(bob.id)
    assert await store.is_intact(kept.digest)
    await store.close()


async def test_a_blob_cancelled_while_its_file_is_made_leaves_none_when_aborted(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = store.new_blob()
    with monkeypatch.context() as patch:
        made = Held(os.open)
        patch.setattr(os, "open", made)
        await made.cancel(writer.write(b"x" * 1_000_000))
    await writer.abort()
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []


async def test_a_lost_blob_is_back_for_all_when_another_account_brings_its_octets(
    store: SqliteStore, alice: Account, tmp_path: Path
) -> None:
    await add(store, alice, b"a\r\n")
    (message,) = await store.messages(alice.id)
    next((tmp_path / "blobs").glob("??/*")).unlink()
    assert not await store.is_intact(message.digest)
    bob = await store.ensure_account("bob", declared=True, at=NOW)
    await add(store, bob, b"a\r\n")
    assert (await store.known(alice.id))[0].blob_kept


@pytest.mark.parametrize("exists", [False, True])
async def test_what_is_stored_is_readable_by_its_owner_alone(tmp_path: Path, exists: bool) -> None:
    data_dir = tmp_path / "data"
    if exists:
        data_dir.mkdir(mode=0o755)
    store = await open_store(data_dir)
    alice = await store.ensure_account("alice", declared=True, at=NOW)
    await add(store, alice, b"x" * 1_000_000)
    made = [*data_dir.rglob("*"), *([] if exists else [data_dir])]
    assert {stat.S_IMODE(p.stat().st_mode) for p in made if p.is_file()} == {0o600}
    assert {stat.S_IMODE(p.stat().st_mode) for p in made if p.is_dir()} == {0o700}
    await store.close()


def test_work_that_must_end_is_never_begun_on_a_loop_that_does_not_run() -> None:
    """A coroutine that is collected runs its `finally` outside of any loop; asyncio would make one
    for it, and the work would lie there."""
    work = asyncio.sleep(0)
    driven = blobs.to_the_end(work)
    with pytest.raises(RuntimeError, match="no running event loop"):
        driven.send(None)
    work.close()
