"""Whether the store can be written, known from what was written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.adapters import store as module
from proxy.adapters.store import SqliteStore, open_store
from proxy.domain.errors import AlreadyExists, StoreUnavailable


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


async def test_a_write_of_a_moment_ago_saves_another_one(
    store: SqliteStore, tmp_path: Path
) -> None:
    account = await store.ensure_account("alice", declared=True, at=0)
    log = tmp_path / "catalogue.db-wal"
    before = log.stat()
    for _ in range(10):
        assert await store.is_writable()
    assert log.stat().st_mtime_ns == before.st_mtime_ns
    await store.add_device(account.id, "pc", since=None, at=0)
    with pytest.raises(AlreadyExists):
        await store.add_device(account.id, "pc", since=None, at=0)
    # One that has failed, for whatever reason, has it looked at.
    assert await store.is_writable()
    assert log.stat().st_mtime_ns > before.st_mtime_ns


async def test_a_disk_that_takes_nothing_any_more_is_noticed_soon(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.ensure_account("alice", declared=True, at=0)
    monkeypatch.setattr(module, "TELLS_FOR", 0.0)
    assert await store.is_writable()
    await store._database._writer.fetch("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable):
        await store.ensure_account("bob", declared=True, at=0)
    assert not await store.is_writable()
    await store._database._writer.fetch("PRAGMA query_only = OFF")
    assert await store.is_writable()
